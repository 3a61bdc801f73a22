"""What a backend tells about its database, where it has a module ``health``."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence

from rasa_trackers.cli.abilities import ability
from rasa_trackers.cli.places import Place
from rasa_trackers.cli.stores import Store
from rasa_trackers.event_log import EventLog
from rasa_trackers.health import Fact
from rasa_trackers.retries import DeadlineLog


def _health(place: Place, *, of_server: bool = False) -> Optional[ModuleType]:
    """The module of a backend.

    Args:
        place: The store.
        of_server: Whether it is asked about the server alone, and not about conversations
            that Rasa's own store keeps there in another form.
    """
    if place.rasas_own in ("redis", "mongod") and not of_server:
        return None
    return ability(place.store, "health")


def facts(store: Store) -> List[Fact]:
    """What is known about the database of a store, which need not be open."""
    health = _health(store.place, of_server=True)
    if health is None:
        return []
    own_log = getattr(store.log, "backends_log", store.log)
    return store.call(_all, health.facts, own_log)


def count_events(store: Store) -> Optional[int]:
    """How many events are stored; ``None`` where the backend does not say."""
    count = getattr(_health(store.place), "count_events", None)
    # The logs of Rasa's own formats tell it themselves.
    count = count or getattr(type(store.log), "count_events", None)
    return None if count is None else sum(store.call(_all, count, store.log))


def traces(store: Store, sender_ids: Sequence[str]) -> Dict[str, Dict[str, int]]:
    """What is stored of conversations: numbers by the names of places.

    A conversation of which nothing is stored may be missing.
    """
    found: Dict[str, Dict[str, int]] = {}
    look = getattr(_health(store.place), "traces", None)
    look = look or getattr(type(store.log), "traces", _events_of)
    for part in store.call(_all, look, store.log, sender_ids):
        for sender_id, places in part.items():
            known = found.setdefault(sender_id, {})
            for place, number in places.items():
                known[place] = known.get(place, 0) + number
    return found


def _events_of(log: EventLog, sender_ids: Sequence[str]) -> Iterator[Any]:
    """What a log alone says of conversations."""
    for sender_id in sender_ids:
        yield {sender_id: {"events": len(log.read_back(sender_id, 1).events)}}


def _count_read(log: DeadlineLog, sender_id: str) -> int:
    return len(log.read_back(sender_id, 1).events)


def _all(log: DeadlineLog, function: Any, own_log: EventLog, *arguments: Any) -> Any:
    """All that a function yields that gets the backend's own log.

    Errors read as the log's own do.
    """
    own_log = getattr(own_log, "inner", own_log)
    return log.all_batches(lambda: function(own_log, *arguments))


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
    return len(store.sender_ids())
