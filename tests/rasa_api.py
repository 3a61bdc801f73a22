"""Rasa's own classes, wherever the installed Rasa keeps them.

For the tests alone: what the package itself takes from Rasa it has from
``rasa_trackers.rasa_versions``.
"""

from __future__ import annotations

from typing import Any, List

from rasa_trackers.rasa_versions import DialogueStateTracker, Event, starts_session

try:
    from rasa.core.tracker_stores.mongo_tracker_store import MongoTrackerStore
    from rasa.core.tracker_stores.redis_tracker_store import RedisTrackerStore
    from rasa.core.tracker_stores.sql_tracker_store import SQLTrackerStore
    from rasa.core.tracker_stores.tracker_store import (
        FailSafeTrackerStore,
        InMemoryTrackerStore,
        TrackerStore,
        check_if_tracker_store_async,
    )
except ImportError:  # Rasa Open Source
    from rasa.core.tracker_store import (
        FailSafeTrackerStore,
        InMemoryTrackerStore,
        MongoTrackerStore,
        RedisTrackerStore,
        SQLTrackerStore,
        TrackerStore,
    )

    try:
        from rasa.core.tracker_store import check_if_tracker_store_async
    except ImportError:  # before 3.2

        def check_if_tracker_store_async(tracker_store: TrackerStore) -> bool:
            return False


try:
    from rasa.shared.core.trackers import get_trackers_for_conversation_sessions
except ImportError:  # Rasa 1, whose own stores cut at the same event

    def get_trackers_for_conversation_sessions(
        tracker: DialogueStateTracker,
    ) -> List[DialogueStateTracker]:
        """As in Rasa 2 and later."""
        sessions: List[List[Event]] = []
        for event in tracker.events:
            if not sessions or starts_session(event):
                sessions.append([])
            sessions[-1].append(event)
        return [
            DialogueStateTracker.from_events(
                tracker.sender_id, events, tracker.slots.values()
            )
            for events in sessions
        ]


__all__ = [
    "FailSafeTrackerStore",
    "InMemoryTrackerStore",
    "MongoTrackerStore",
    "RedisTrackerStore",
    "SQLTrackerStore",
    "TrackerStore",
    "check_if_tracker_store_async",
    "get_trackers_for_conversation_sessions",
    "unwrapped",
]


def unwrapped(store: TrackerStore) -> TrackerStore:
    """The store that Rasa's loader has put into a wrapper of its own.

    As Rasa Pro does: ``AuthRetryTrackerStore`` (3.21).
    """
    while isinstance(getattr(store, "_tracker_store", None), TrackerStore):
        store = store._tracker_store
    return store


def backend_log(store: Any) -> Any:
    """The log of the backend, behind what stands in front of it for outages."""
    shared = unwrapped(store)._shared
    return shared.log if shared.outage is None else shared.outage._log
