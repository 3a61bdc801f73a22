"""Events to append, and what is in a page."""

from __future__ import annotations

import json
from typing import Any, List

from rasa_trackers.event_log import Entry, Page


def entries(*names: str, timestamp: float = 1.0) -> List[Entry]:
    return [
        Entry(
            json.dumps({"event": "slot", "name": name, "timestamp": timestamp}),
            "slot",
            timestamp,
            None,
            name,
        )
        for name in names
    ]


def numbered(count: int, begin: int = 0) -> List[Entry]:
    return entries(*map(str, range(begin, begin + count)))


def names(page: Page) -> List[Any]:
    return [json.loads(event.data)["name"] for event in page.events]


def texts(added: List[Entry]) -> List[str]:
    return [entry.data for entry in added]


def end(log: Any, sender_id: str = "ada") -> int:
    return int(log.read_back(sender_id, 1).events[-1].position)


def all_batches(batches: Any) -> List[Any]:
    return [each for batch in batches for each in batch]
