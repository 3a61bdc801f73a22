"""What a backend tells about its database, where it has a module ``health``."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Dict, Iterable, List, Optional

from rasa_trackers.cli.places import Place
from rasa_trackers.cli.stores import Store
from rasa_trackers.event_log import EventLog
from rasa_trackers.health import Fact
from rasa_trackers.retries import DeadlineLog

_PACKAGES = {
    "MongoTrackerStore": "rasa_trackers.mongo",
    "OracleTrackerStore": "rasa_trackers.sql",
    "RedisTrackerStore": "rasa_trackers.redis",
    "SQLTrackerStore": "rasa_trackers.sql",
}


def _health(place: Place) -> Optional[ModuleType]:
    package = _PACKAGES.get(place.store)
    if package is None or place.rasas_own in ("redis", "mongod"):
        return None
    return importlib.import_module(f"{package}.health")


def facts(store: Store) -> List[Fact]:
    """What is known about the database of a store, which need not be open."""
    health = _health(store.place)
    if health is None:
        return []
    return store.call(_with_errors, lambda log: list(health.facts(log)), store.log)


def count_events(store: Store) -> Optional[int]:
    """How many events are stored; ``None`` where the backend does not say."""
    health = _health(store.place)
    count = getattr(health, "count_events", None)
    if count is None:
        return None
    return store.call(_with_errors, count, store.log)


def traces(store: Store, sender_id: str) -> Dict[str, int]:
    """What is stored of a conversation: numbers by the names of places."""
    found = {"events": store.call(_count_read, sender_id)}
    health = _health(store.place)
    look = getattr(health, "traces", None)
    if look is not None:
        found.update(
            store.call(_with_errors, lambda log: look(log, sender_id), store.log)
        )
    return found


def _count_read(log: DeadlineLog, sender_id: str) -> int:
    return len(log.read_back(sender_id, 1).events)


def _with_errors(log: DeadlineLog, function: Any, own_log: EventLog) -> Any:
    """Call a function with the backend's own log; errors read as the log's own do."""
    return log.attempt(lambda: function(own_log))


def left(found: Dict[str, int]) -> Iterable[str]:
    """The places that still have something, as text."""
    return [f"{number} in {place}" for place, number in found.items() if number]


def ping(store: Store) -> None:
    """One round trip to the server."""
    health = _health(store.place)
    own_ping = getattr(health, "ping", None)
    if own_ping is not None:
        store.call(_with_errors, own_ping, store.log)
    else:
        store.call(_count_read, "")


def count_conversations(store: Store) -> int:
    """How many conversations there are; 0 where the store has created nothing yet."""
    health = _health(store.place)
    has_events = getattr(health, "has_events", None)
    if has_events is not None and not store.call(_with_errors, has_events, store.log):
        return 0
    return store.count()
