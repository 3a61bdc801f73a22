"""Putting a tracker in the place of what is stored, for erasure and anonymisation."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from rasa_trackers import rasa_versions
from rasa_trackers.codec import encode, unreadable
from rasa_trackers.comparing import encoded, events_of, texts_of
from rasa_trackers.errors import store_unavailable
from rasa_trackers.event_log import START, Entry, Stored, User, timestamp_of
from rasa_trackers.identities import checked_sender_id
from rasa_trackers.marks import SavedUpTo
from rasa_trackers.rasa_versions import DialogueStateTracker, Event, TrackerStore
from rasa_trackers.reconciliation import Choice, rewritten
from rasa_trackers.retries import DeadlineLog

#: Times that other writers may come first before a rewrite gives up.
_MOST_CONFLICTS = 1000


def rewrite(
    log: DeadlineLog,
    store: TrackerStore,
    tracker: DialogueStateTracker,
    events: List[Event],
    mark: Optional[SavedUpTo],
    user_id: Optional[str],
) -> None:
    """Put ``events`` in the place of what is stored of a conversation.

    Args:
        log: The log.
        store: Says in which form events are stored.
        tracker: The tracker that has the events.
        events: What is to be left.
        mark: How far the tracker is saved, if that is known.
        user_id: The user whose conversation it is.

    Raises:
        ConnectionException: when the server could not be reached in time.
        RasaException: when an event cannot be stored.
    """
    sender_id = checked_sender_id(log, tracker.sender_id)
    serialise = rasa_versions.serialiser(store, sender_id, user_id)
    entries = encoded(store, log.deadline, events, serialise)
    texts = texts_of(store, log.deadline, events)
    for _ in range(_MOST_CONFLICTS):
        stored = log.read_back(sender_id).events
        stored_events = events_of(store, log.deadline, stored)
        known = None
        # A position that is not in the log (any more) says nothing about the others.
        if mark is not None and any(each.position == mark.position for each in stored):
            known = sum(each.position <= mark.position for each in stored)
        choices = rewritten(
            [event and _identity(event) for event in stored_events],
            [_identity(event) for event in events],
            known,
        )
        with log.deadline.suspended():
            left = merge_rewrite(choices, stored, stored_events, entries, texts)
        end = stored[-1].position if stored else START
        if log.replace(sender_id, left, end, _user(user_id, left)) is not None:
            return
    raise store_unavailable(
        f"{log.name}: conversation {sender_id!r} was changed by others {_MOST_CONFLICTS} "
        f"times while it was to be rewritten. Check how many processes write to it."
    )


def merge_rewrite(
    choices: Sequence[Choice],
    stored: Sequence[Stored],
    stored_events: Sequence[Optional[Event]],
    entries: Sequence[Entry],
    texts: Sequence[str],
) -> List[Entry]:
    """The new content of a log. An event that has not changed keeps its text.

    Args:
        choices: What to take from where.
        stored: The log.
        stored_events: The events of the log; ``None`` for what this Rasa cannot read.
        entries: The events of the tracker, as they would be written.
        texts: The same events, as they would come out of the log again.
    """
    left = []
    for index, at in choices:
        event = None if at is None else stored_events[at]
        text = None if event is None else encode(event).data
        entry = None if index is None else entries[index]
        if at is not None and (index is None or text == texts[index]):
            data = stored[at].data
            kept = entry or (unreadable(data) if event is None else encode(event))
            entry = kept._replace(data=data)
        assert entry is not None  # noqa: S101 - each choice names one of the two
        left.append(entry)
    return left


def _identity(event: Event) -> Tuple[str, Optional[float]]:
    """What stays the same of an event that is anonymised."""
    return event.type_name, event.timestamp


def _user(user_id: Optional[str], left: Sequence[Entry]) -> Optional[User]:
    if user_id is None:
        return None
    started = timestamp_of(left[0].data) if left else -1.0
    return User(user_id, started if started >= 0 else None)
