"""All that differs between the versions of Rasa, and nothing else.

Every other module talks to Rasa through the names defined here or through names
that all supported versions share.

Supported: Rasa Open Source 3.6 (read and tested: 3.6.21).
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, Sequence, Type

from rasa.shared.core.constants import ACTION_SESSION_START_NAME
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import ActionExecuted, Event
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.exceptions import ConnectionException, RasaException
from rasa.shared.utils.common import all_subclasses

try:
    from rasa.core.tracker_stores.tracker_store import TrackerStore
except ImportError:  # Rasa Open Source
    from rasa.core.tracker_store import TrackerStore

if TYPE_CHECKING:
    from rasa.core.brokers.broker import EventBroker

logger = logging.getLogger(__name__)

__all__ = [
    "SESSION_START_TEXT",
    "ConnectionException",
    "DialogueStateTracker",
    "Domain",
    "Event",
    "RasaException",
    "TrackerStore",
    "broker_messages",
    "event_classes",
    "starts_session",
    "tracker_from_events",
]

#: Whether a tracker says whose it is. Since Rasa Pro 3.16.
KNOWS_USERS = "user_id" in inspect.signature(DialogueStateTracker.__init__).parameters

#: Text that the stored JSON of an event which starts a session always holds; events
#: without it need no decoding to know that they start none.
SESSION_START_TEXT = ACTION_SESSION_START_NAME


def starts_session(event: Event) -> bool:
    """Whether a session begins at ``event``.

    The condition by which ``get_trackers_for_conversation_sessions`` in
    ``rasa.shared.core.trackers`` (3.6.21) splits a conversation.
    """
    return (
        isinstance(event, ActionExecuted)
        and event.action_name == ACTION_SESSION_START_NAME
    )


def tracker_from_events(
    store: TrackerStore, sender_id: str, events: Iterable[Event]
) -> DialogueStateTracker:
    """A tracker to which ``events`` were applied, in order.

    As ``DialogueStateTracker.from_events`` (3.6.21), but one event that cannot be
    applied costs no more than what it would have set.
    """
    tracker: DialogueStateTracker = store.init_tracker(sender_id)
    for event in events:
        try:
            tracker.update(event)
        except Exception as error:  # noqa: BLE001
            # Any error: the event comes from a database that others write to.
            logger.warning(
                "An event of type '%s' of conversation %r could not be applied (%s: "
                "%s). It stays stored: restore it from a backup, or delete it.",
                event.type_name,
                sender_id,
                type(error).__name__,
                error,
            )
    return tracker


def event_classes() -> Dict[str, Type[Event]]:
    """Every event type that is loaded now, by its ``type_name``.

    The first class of a name wins, as in ``Event.resolve_by_type`` (3.6.21).
    """
    classes: Dict[str, Type[Event]] = {}
    for event_class in all_subclasses(Event):
        classes.setdefault(event_class.type_name, event_class)
    return classes


def broker_messages(
    broker: EventBroker, tracker: DialogueStateTracker, events: Sequence[Event]
) -> Iterator[Dict[str, Any]]:
    """What ``broker`` is to be sent for ``events``, one message an event.

    As ``TrackerStore._stream_new_events`` (3.6.21) makes them.
    """
    for event in events:
        yield {"sender_id": tracker.sender_id, **event.as_dict()}
