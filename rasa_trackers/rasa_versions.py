"""All that differs between the versions of Rasa, and nothing else.

Every other module talks to Rasa through the names defined here or through names
that all supported versions share.

Read and tested: Rasa Open Source 3.6.21 and Rasa Pro 3.21.0. What a version can do is
found by looking for it, so that others work as the nearest of the two.
"""

from __future__ import annotations

import inspect
import logging
import os
from importlib import metadata
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
)

from rasa.shared.core import trackers
from rasa.shared.core.constants import ACTION_SESSION_START_NAME
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import ActionExecuted, Event
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.exceptions import ConnectionException, RasaException
from rasa.shared.utils.common import all_subclasses

#: What was tested, by the distribution that brings the module ``rasa``.
_TESTED = {"rasa-pro": "3.21", "rasa": "3.6"}

if TYPE_CHECKING:
    # Types are those of Rasa Open Source, beside which they are checked.
    from rasa.core.brokers.broker import EventBroker
    from rasa.core.tracker_store import TrackerStore

    _rasas: Any
    broker_event_dict_to_event: Any
else:
    try:
        from rasa.core.tracker_stores import tracker_store as _rasas
    except ImportError:
        try:  # Rasa Open Source
            from rasa.core import tracker_store as _rasas
        except ImportError as missing:
            raise ImportError(
                f"it works with Rasa Open Source {_TESTED['rasa']} and Rasa Pro "
                f"{_TESTED['rasa-pro']}, and this is another Rasa ({missing})"
            ) from missing
    try:
        from rasa.events.v1.broker_event_mapper import broker_event_dict_to_event
    except ImportError:  # it has no ProtoJSON
        broker_event_dict_to_event = None

    TrackerStore = _rasas.TrackerStore

logger = logging.getLogger(__name__)

__all__ = [
    "KNOWS_USERS",
    "ConnectionException",
    "DialogueStateTracker",
    "Domain",
    "Event",
    "RasaException",
    "TrackerStore",
    "apply_events",
    "as_stored",
    "broker_messages",
    "conversation_started",
    "current_session_id",
    "event_classes",
    "from_proto_json",
    "new_tracker",
    "serialiser",
    "session_boundary",
    "starts_session",
    "user_id_of",
]

#: Whether a tracker says whose it is: Rasa Pro's does.
KNOWS_USERS = "user_id" in inspect.signature(DialogueStateTracker.__init__).parameters

# Rasa Pro marks events that come out of a store, so that they get no new identity.
_REPLAY: Dict[str, Any] = (
    {"is_replay": True}
    if "is_replay" in inspect.signature(DialogueStateTracker.update).parameters
    else {}
)

#: What applying an event raises that changes a dialogue stack of which older events
#: are missing (``_try_reconstruct_tracker_from_events``, Pro 3.21).
_NEEDS_OLDER_EVENTS: Tuple[Type[Exception], ...] = tuple(
    getattr(trackers, name)
    for name in ("JsonPatchException", "JsonPointerException")
    if hasattr(trackers, name)
)


def untested(distribution: str, version: str) -> Optional[str]:
    """What to tell an operator whose Rasa nobody has tested; ``None`` if it was."""
    tested = _TESTED.get(distribution)
    if tested is not None and version.split(".")[:2] == tested.split("."):
        return None
    return (
        f"rasa_trackers was tested with Rasa Open Source {_TESTED['rasa']} and Rasa "
        f"Pro {_TESTED['rasa-pro']}; this is {distribution} {version}, which is taken "
        f"for the nearest of them. Try it out before you rely on it, and look for a "
        f"newer rasa_trackers."
    )


def _installed() -> Optional[Tuple[str, str]]:
    for distribution in _TESTED:
        try:
            return distribution, metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


# As the module is loaded, so once a process.
if (_found := _installed()) and (_message := untested(*_found)):
    logger.warning("%s", _message)


# Sessions


class Boundary(NamedTuple):
    """What parts sessions."""

    #: Text that the stored JSON of a boundary always holds: events without it need no
    #: decoding to know that they are none.
    text: str
    is_one: Callable[[Event], bool]
    #: Events from the boundary to the first one of the session that it begins.
    offset: int
    #: Whether sessions before the last one are tried, one by one, when the last one
    #: cannot be replayed by itself; else all there is.
    one_by_one: bool


def starts_session(event: Event) -> bool:
    """Whether a session begins at ``event``.

    The condition by which ``get_trackers_for_conversation_sessions`` in
    ``rasa.shared.core.trackers`` (3.6.21) splits a conversation, and
    ``get_latest_replay_safe_session_tracker`` (Pro 3.21).
    """
    return (
        isinstance(event, ActionExecuted)
        and event.action_name == ACTION_SESSION_START_NAME
    )


#: ``ConversationInactive.type_name`` (Pro 3.21).
_INACTIVE = "inactive"

_SESSION_START = Boundary(ACTION_SESSION_START_NAME, starts_session, 0, True)
_USER_IS_GONE = Boundary(
    f'"{_INACTIVE}"', lambda event: event.type_name == _INACTIVE, 1, False
)


def session_boundary(store: TrackerStore) -> Boundary:
    """What parts the sessions of an assistant.

    As ``get_latest_replay_safe_session_tracker`` (Pro 3.21): with the assistant's
    setting ``start_session_after_expiry: false`` a session begins behind the event
    which says that the user has gone quiet.
    """
    if not hasattr(trackers, "get_latest_replay_safe_session_tracker"):
        return _SESSION_START
    domain = store.domain
    if domain is None or getattr(
        domain.session_config, "start_session_after_expiry", True
    ):
        return _SESSION_START
    return _USER_IS_GONE


# Trackers


def new_tracker(
    store: TrackerStore, sender_id: str, user_id: Optional[str]
) -> DialogueStateTracker:
    """A tracker without events.

    Args:
        store: Makes it.
        sender_id: The conversation.
        user_id: The user whose conversation it is.
    """
    tracker: DialogueStateTracker = store.init_tracker(sender_id)
    if KNOWS_USERS:
        tracker.user_id = user_id  # type: ignore[attr-defined]
    return tracker


def apply_events(
    tracker: DialogueStateTracker, events: Iterable[Event], *, is_all: bool
) -> bool:
    """Apply events to a tracker, in order.

    As ``DialogueStateTracker.from_events`` (3.6.21, Pro 3.21), but an event that cannot
    be applied costs no more than what it would have set.

    Args:
        tracker: The tracker.
        events: The events.
        is_all: Whether the conversation has no older events than the tracker gets.

    Returns:
        ``False`` if an event builds upon older ones; the tracker is of no use then.
    """
    for event in events:
        try:
            tracker.update(event, **_REPLAY)
        except Exception as error:  # noqa: BLE001
            if isinstance(error, _NEEDS_OLDER_EVENTS) and not is_all:
                return False
            # Any error: the event comes from a database that others write to.
            logger.warning(
                "An event of type '%s' of conversation %r could not be applied (%s: "
                "%s). It stays stored: restore it from a backup, or delete it.",
                event.type_name,
                tracker.sender_id,
                type(error).__name__,
                error,
            )
    return True


def user_id_of(tracker: DialogueStateTracker) -> Any:
    """Whose conversation a tracker is; ``None`` where Rasa knows no users."""
    return getattr(tracker, "user_id", None) or None


def conversation_started(
    tracker: DialogueStateTracker, events: Sequence[Event]
) -> Optional[float]:
    """When a tracker's conversation began, in seconds since the epoch.

    As ``TrackerStore._get_conversation_started_timestamp`` (Pro 3.21).
    """
    known: Optional[float] = getattr(tracker, "conversation_started_timestamp", None)
    if known is None and events:
        return events[0].timestamp
    return known


def current_session_id(
    store: TrackerStore, events: List[Dict[str, Any]]
) -> Optional[str]:
    """The id of the session that stored events end in (Pro 3.21)."""
    find = getattr(store, "_current_session_id_from_events", None)
    try:
        return find(events) if find is not None else None
    except Exception:  # noqa: BLE001 - of damaged events
        return None


# Events


def event_classes() -> Dict[str, Type[Event]]:
    """Every event type that is loaded now, by its ``type_name``.

    The first class of a name wins, as in ``Event.resolve_by_type`` (3.6.21).
    """
    classes: Dict[str, Type[Event]] = {}
    for event_class in all_subclasses(Event):
        classes.setdefault(event_class.type_name, event_class)
    return classes


def _uses_proto_json(store: TrackerStore) -> bool:
    """Whether Rasa's own stores would write ProtoJSON (Pro 3.21)."""
    uses = getattr(store, "uses_proto_json", None)
    return bool(uses is not None and uses())


def _as_dict(event: Event) -> Dict[str, Any]:
    return event.as_dict()


def serialiser(
    store: TrackerStore, sender_id: str, user_id: Optional[str]
) -> Callable[[Event], Dict[str, Any]]:
    """What gives the form in which events of a conversation are stored.

    As ``serialise_event`` (Pro 3.21). An event that ProtoJSON cannot express keeps its
    older form, which Rasa Pro reads as well.
    """
    if not _uses_proto_json(store):
        return _as_dict

    def serialise(event: Event) -> Dict[str, Any]:
        try:
            form: Dict[str, Any] = _rasas.serialise_event(
                event, sender_id, user_id, use_proto_json=True
            )
        except Exception as error:  # noqa: BLE001 - protobuf's are of many kinds
            logger.warning(
                "An event of type '%s' of conversation %r is stored in its older form, "
                "because ProtoJSON cannot express it (%s: %s).",
                event.type_name,
                sender_id,
                type(error).__name__,
                error,
            )
            return _as_dict(event)
        return form

    return serialise


def from_proto_json(parameters: Dict[str, Any]) -> Optional[Event]:
    """The event of a dictionary that has no key ``event`` (Pro 3.21).

    Raises:
        ValueError: where Rasa knows no such events; and any error of protobuf's.
    """
    if broker_event_dict_to_event is None:
        raise ValueError("it is not a Rasa event")
    event: Optional[Event] = broker_event_dict_to_event(parameters)
    return event


def as_stored(store: TrackerStore, event: Event) -> Event:
    """An event as it comes out of the store: ProtoJSON has no integers, for example."""
    if not _uses_proto_json(store):
        return event
    try:
        form = _rasas.serialise_event(event, "", use_proto_json=True)
        return event if "event" in form else from_proto_json(form) or event
    except Exception:  # noqa: BLE001 - then it is stored in its older form
        return event


# Event brokers


def broker_messages(
    store: TrackerStore,
    broker: EventBroker,
    tracker: DialogueStateTracker,
    events: Sequence[Event],
) -> Iterator[Dict[str, Any]]:
    """What ``broker`` is to be sent for ``events``, one message an event.

    As ``TrackerStore._stream_new_events`` (3.6.21) and ``stream_events`` (Pro 3.21)
    make them: a broker that must not see personal data gets none.
    """
    if not getattr(broker, "stream_pii", True):
        return
    if not KNOWS_USERS:
        for event in events:
            yield {"sender_id": tracker.sender_id, **event.as_dict()}
        return
    sender_id, user_id = tracker.sender_id, user_id_of(tracker)
    if _uses_proto_json(store):
        for event in events:
            try:
                bodies = _rasas.serialise_events_for_broker([event], sender_id, user_id)
            except Exception:
                logger.exception(
                    "An event of conversation %r is stored, but ProtoJSON cannot "
                    "express it, so %s is not told of it.",
                    sender_id,
                    type(broker).__name__,
                )
                continue
            yield from bodies
        return
    environment = os.environ.get("RASA_ENVIRONMENT")
    for event in events:
        body = event.as_dict()
        body["metadata"] = {
            **body.get("metadata", {}),
            "rasa_environment": environment,
        }
        yield {"sender_id": sender_id, "user_id": user_id, **body}
