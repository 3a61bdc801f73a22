"""Event logs in Redis, without Rasa and without a store."""

from __future__ import annotations

import json
from typing import Any, Dict, List

from rasa_trackers.event_log import Entry
from rasa_trackers.redis.options import REDIS
from rasa_trackers.store_options import checked

Options = Dict[str, Any]


def make_log(options: Options, *, users: bool = True) -> Any:
    """A log that is not open yet."""
    return REDIS.make_log(checked(REDIS.store, REDIS.options, options), users).log


def address(server: Any) -> Options:
    """The options for a server without a password."""
    return {"url": server.host, "port": server.port}


def entries(*names: str) -> List[Entry]:
    return [
        Entry(
            json.dumps({"event": "slot", "name": name, "timestamp": 1.0}),
            *("slot", 1.0, None, name),
        )
        for name in names
    ]


def names(events: Any) -> List[str]:
    """The names of stored events, or of texts of events."""
    return [json.loads(getattr(event, "data", event))["name"] for event in events]


def legacy(name: str, *events: str, **more: Any) -> str:
    """What Rasa's own stores keep; Rasa Pro's has more fields."""
    texts = [json.loads(entry.data) for entry in entries(*events)]
    return json.dumps({"events": texts, "name": name, **more})


def user_ids_indexed(client: Any) -> Dict[str, List[str]]:
    """The sender ids in each user's index, by the key of the index."""
    return {
        key.decode(): sorted(name.decode() for name in client.zrange(key, 0, -1))
        for key in client.scan_iter("*rasa_trackers:users:*")
    }
