"""Bringing a conversation into a store: each event once, in order, beside other writers."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence

from rasa_trackers.cli.reading import Whole, canonical, of_page, read
from rasa_trackers.entries import entry_of
from rasa_trackers.errors import store_error, store_unavailable
from rasa_trackers.event_log import START, EventLog, Page, User
from rasa_trackers.reconciliation import new_events
from rasa_trackers.retries import DeadlineLog

#: Times that other writers may come first before a conversation is given up.
_MOST_CONFLICTS = 100


class Added(NamedTuple):
    """What became of a conversation in a store."""

    #: How many events were new there.
    new: int
    #: The position of the last event now.
    end: int
    #: Whether the store has no other events of the conversation.
    is_all: bool


def add(log: DeadlineLog, conversation: Whole, there: Optional[Page] = None) -> Added:
    """Append the events that the store does not have yet.

    Repeating it changes nothing: what the store has is compared first. Events that only
    the store has stay where they are.

    Args:
        log: The log of the store.
        conversation: The conversation.
        there: What the store has of it, if that is known.

    Raises:
        StoreError: for a conversation that the store cannot hold.
        StoreUnavailable: when the server is silent for too long.
    """
    sender_id, texts = conversation.sender_id, conversation.events
    check_sender_id(log, sender_id)
    user = storable_user(log, conversation)
    entries = [entry_of(text) for text in texts]
    if there is None:
        # Most conversations are new there: one round trip.
        end = log.append(sender_id, entries, START, user)
        if end is not None:
            return Added(len(entries), end, is_all=True)
    known = None if there is None else of_page(sender_id, there)
    for _ in range(_MOST_CONFLICTS):
        stored = read(log, sender_id) if known is None else known
        known = None
        missing = missing_events(stored.events, texts)
        is_all = len(stored.events) + len(missing) == len(texts)
        new_user = user if user and user.user_id != stored.user_id else None
        if not missing and new_user is None:
            log.confirm(sender_id)
            return Added(0, stored.end, is_all)
        new = [entries[index] for index in missing]
        end = log.append(sender_id, new, stored.end, new_user)
        if end is not None:
            return Added(len(new), end, is_all)
    raise store_unavailable(
        f"{log.name}: conversation {sender_id!r} was changed by others "
        f"{_MOST_CONFLICTS} times while it was written. Run the command again when it is "
        f"quieter."
    )


def missing_events(stored: Sequence[str], events: Sequence[str]) -> List[int]:
    """The places in ``events`` of those that a log does not hold."""
    if len(stored) <= len(events) and stored == events[: len(stored)]:
        return list(range(len(stored), len(events)))
    return new_events(
        [canonical(text) for text in stored],
        [canonical(text) for text in events],
        complete=False,
    )


def first_difference(stored: Sequence[str], events: Sequence[str]) -> Optional[int]:
    """The place of the first event that a log does not hold in order; ``None`` if none.

    A log may hold others in between, which other writers have appended.
    """
    if stored == events:
        return None
    there = iter(map(canonical, stored))
    for index, text in enumerate(map(canonical, events)):
        if text not in there:
            return index
    return None


def check_sender_id(log: EventLog, sender_id: str) -> None:
    """Refuse a sender id that is too long for a store."""
    longest = log.max_sender_id
    if longest is not None and len(sender_id) > longest:
        raise store_error(
            f"{log.name} holds sender ids of up to {longest} characters, and "
            f"{sender_id[:40]!r}... has {len(sender_id)}."
        )


def storable_user(log: EventLog, conversation: Whole) -> Optional[User]:
    """The user of a conversation, unless the store cannot hold the user id."""
    user = conversation.user()
    longest = log.max_sender_id
    if user is None or not log.keeps_users:
        return None
    return user if longest is None or len(user.user_id) <= longest else None
