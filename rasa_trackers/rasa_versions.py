"""All that differs between the versions of Rasa, and nothing else.

Every other module talks to Rasa through the names defined here or through names
that all supported versions share.

Tested: Rasa Open Source 1.10.26, 2.8.34, 3.1.7, 3.3.8 and 3.6.21, and Rasa Pro 3.21.0. The
whole suite runs on the last two, its part that Rasa calls on all. What a version can do is
found by looking for it, so that the versions between them work as well. A tracker store
has one of two forms: up to 3.1 Rasa calls plain methods, from 3.2 on it awaits coroutines.
A Rasa with another form is an error.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
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

from rasa_trackers.errors import StoreError, StoreUnavailable, store_error

#: What was tested, by the distribution that brings the module ``rasa``.
_TESTED = {"rasa": ("1.10", "2.8", "3.1", "3.3", "3.6"), "rasa-pro": ("3.21",)}
_TESTED_NAMES = (
    f"Rasa Open Source {', '.join(_TESTED['rasa'])} and "
    f"Rasa Pro {', '.join(_TESTED['rasa-pro'])}"
)

if TYPE_CHECKING:
    # Types are those of Rasa Open Source 3.6, beside which they are checked.
    from rasa.core.brokers.broker import EventBroker
    from rasa.core.tracker_store import TrackerStore
    from rasa.shared.core import trackers
    from rasa.shared.core.constants import ACTION_SESSION_START_NAME
    from rasa.shared.core.domain import Domain
    from rasa.shared.core.events import ActionExecuted, Event
    from rasa.shared.core.trackers import DialogueStateTracker
    from rasa.shared.exceptions import ConnectionException, RasaException
    from rasa.shared.utils.common import all_subclasses

    _rasas: Any
    broker_event_dict_to_event: Any
else:

    def _module(*places):
        """The first of some modules that this Rasa has; ``None`` if it has none."""
        for place in places:
            try:
                return importlib.import_module(place)
            except ModuleNotFoundError as error:
                if error.name == "rasa" or not place.startswith(error.name or "?"):
                    raise  # Rasa is not installed, or misses what it needs
        return None

    def _name(name, *places):
        """A name out of the first of some modules that this Rasa has."""
        try:
            return getattr(_module(*places), name)
        except AttributeError as error:
            raise store_error(
                f"This Rasa has no {name} where other versions have it "
                f"({', '.join(places)}). rasa_trackers was tested with {_TESTED_NAMES}: "
                f"install one of these, or look for a newer rasa_trackers."
            ) from error

    # In the order of Rasa Pro, Rasa Open Source 2 and 3, and Rasa 1.
    _STORES = ("rasa.core.tracker_stores.tracker_store", "rasa.core.tracker_store")
    _TRACKERS = ("rasa.shared.core.trackers", "rasa.core.trackers")
    _EVENTS = ("rasa.shared.core.events", "rasa.core.events")
    _rasas = _module(*_STORES)
    TrackerStore = _name("TrackerStore", *_STORES)
    trackers = _module(*_TRACKERS)
    DialogueStateTracker = _name("DialogueStateTracker", *_TRACKERS)
    Event = _name("Event", *_EVENTS)
    ActionExecuted = _name("ActionExecuted", *_EVENTS)
    Domain = _name("Domain", "rasa.shared.core.domain", "rasa.core.domain")
    ACTION_SESSION_START_NAME = _name(
        "ACTION_SESSION_START_NAME",
        "rasa.shared.core.constants",
        "rasa.core.actions.action",
    )
    all_subclasses = _name(
        "all_subclasses", "rasa.shared.utils.common", "rasa.core.utils"
    )
    # Rasa 1 has no exceptions of its own.
    _exceptions = _module("rasa.shared.exceptions")
    RasaException = getattr(_exceptions, "RasaException", StoreError)
    ConnectionException = getattr(_exceptions, "ConnectionException", StoreUnavailable)
    # Only Rasa Pro has ProtoJSON.
    broker_event_dict_to_event = getattr(
        _module("rasa.events.v1.broker_event_mapper"),
        "broker_event_dict_to_event",
        None,
    )

logger = logging.getLogger(__name__)

__all__ = [
    "IS_ASYNC",
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
    "wants_all_sessions",
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


# Versions

#: What Rasa calls on a tracker store. Rasa 1 has neither of the last two.
_CALLED = (
    "save",
    "retrieve",
    "keys",
    "get_or_create_tracker",
    "exists",
    "retrieve_full_tracker",
)


def awaits_stores(tracker_store: type) -> bool:
    """Whether Rasa awaits what it calls on a tracker store: from 3.2 on.

    Args:
        tracker_store: Rasa's own base class of tracker stores.

    Raises:
        RasaException: when it is neither so nor the other way round.
    """
    coroutines = {
        name: inspect.iscoroutinefunction(getattr(tracker_store, name))
        for name in _CALLED
        if callable(getattr(tracker_store, name, None))
    }
    if {"save", "retrieve"} <= set(coroutines) and len(set(coroutines.values())) == 1:
        return coroutines["save"]
    awaited = ", ".join(name for name in coroutines if coroutines[name])
    called = ", ".join(name for name in coroutines if not coroutines[name])
    raise store_error(
        f"rasa_trackers does not know the tracker stores of this Rasa: coroutines are "
        f"{awaited or 'none'}, plain methods are {called or 'none'}. It was tested with "
        f"{_TESTED_NAMES}: install one of these, or look for a newer rasa_trackers."
    )


def untested(distribution: str, version: str) -> Optional[str]:
    """What to tell an operator whose Rasa nobody has tested; ``None`` if it was."""
    if ".".join(version.split(".")[:2]) in _TESTED.get(distribution, ()):
        return None
    return (
        f"rasa_trackers was not tested with {distribution} {version}, but with "
        f"{_TESTED_NAMES}. This version calls a tracker store in a known way. Try it out "
        f"before you rely on it, and look for a newer rasa_trackers."
    )


def _installed() -> Optional[Tuple[str, str]]:
    try:
        from importlib import metadata
    except ImportError:  # Python 3.7, for which there is no Rasa Pro
        return "rasa", importlib.import_module("rasa").__version__
    for distribution in reversed(list(_TESTED)):
        try:
            return distribution, metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


# As the module is loaded, so once a process.

#: Whether a tracker store has coroutines; otherwise it has plain methods.
IS_ASYNC = awaits_stores(TrackerStore)

_found = _installed()
_message = untested(*_found) if _found else None
if _message:
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


def wants_all_sessions(store: TrackerStore) -> bool:
    """Whether Rasa has told a store that exists to give all sessions.

    As ``rasa export`` does in Rasa 1 (``Exporter.__init__``, 1.10.26), which has no
    ``retrieve_full_tracker``.
    """
    return bool(
        getattr(store, "load_events_from_previous_conversation_sessions", False)
    )


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
                "An event of type '%s' of conversation %r could not be applied (%s). "
                "It stays stored: restore it from a backup, or delete it.",
                event.type_name,
                tracker.sender_id,
                # Its text may have what a user has said.
                type(error).__name__,
            )
    return True


def user_id_of(tracker: DialogueStateTracker) -> Any:
    """The user of a tracker's conversation; ``None`` where Rasa knows no users."""
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
                "because ProtoJSON cannot express it (%s).",
                event.type_name,
                sender_id,
                # Its text may have what a user has said.
                type(error).__name__,
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
            except Exception as error:  # noqa: BLE001 - protobuf's are of many kinds
                logger.error(  # noqa: TRY400 - a traceback may show it
                    "An event of conversation %r is stored, but ProtoJSON cannot "
                    "express it (%s), so %s is not told of it.",
                    sender_id,
                    type(error).__name__,
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
