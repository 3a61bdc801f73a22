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


def _health(place: Place, *, of_server: bool = False) -> Optional[ModuleType]:
    """The module of a backend.

    Args:
        place: The store.
        of_server: Whether it is asked about the server alone, and not about conversations
            that Rasa's own store keeps there in another form.
    """
    package = _PACKAGES.get(place.store)
    is_other_form = place.rasas_own in ("redis", "mongod")
    if package is None or (is_other_form and not of_server):
        return None
    return importlib.import_module(f"{package}.health")


def facts(store: Store) -> List[Fact]:
    """What is known about the database of a store, which need not be open."""
    health = _health(store.place, of_server=True)
    if health is None:
        return []
    own_log = getattr(store.log, "backends_log", store.log)
    return store.call(_with_errors, lambda log: list(health.facts(log)), own_log)


def count_events(store: Store) -> Optional[int]:
    """How many events are stored; ``None`` where the backend does not say."""
    health = _health(store.place)
    count = getattr(health, "count_events", None)
    if count is None:
        return None
    number: int = store.call(_with_errors, count, store.log)
    return number


def traces(store: Store, sender_id: str) -> Dict[str, int]:
    """What is stored of a conversation: numbers by the names of places."""
    found = {"events": store.call(_count_read, sender_id)}
    look = getattr(_health(store.place), "traces", None)
    if look is None:
        # The logs of Rasa's own formats tell it themselves.
        look = getattr(type(store.log), "traces", None)
    if look is not None:
        found.update(
            store.call(_with_errors, lambda log: look(log, sender_id), store.log)
        )
    return found


def _count_read(log: DeadlineLog, sender_id: str) -> int:
    return len(log.read_back(sender_id, 1).events)


def _with_errors(log: DeadlineLog, function: Any, own_log: EventLog) -> Any:
    """Call a function with the backend's own log; errors read as the log's own do."""
    own_log = getattr(own_log, "inner", own_log)
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
