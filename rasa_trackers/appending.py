"""Appending events so that each of them is stored exactly once."""

from __future__ import annotations

from collections import Counter
from typing import List, Optional, Sequence

from rasa_trackers.errors import store_unavailable
from rasa_trackers.event_log import START, Entry, EventLog, Stored, User
from rasa_trackers.paging import end_of, pages_newest_first, texts_of
from rasa_trackers.retries import DeadlineLog

#: Times that other writers may come first before an append gives up.
_MOST_CONFLICTS = 1000


def append_once(
    log: DeadlineLog,
    sender_id: str,
    entries: Sequence[Entry],
    after: int,
    *,
    user: Optional[User],
    user_of_new_log: Optional[User],
    is_uncertain: bool,
) -> int:
    """Append ``entries``, each exactly once; returns the last position.

    An attempt that failed may still be under way in the server. It names the same
    ``after`` as the next attempt, so that only one of the two takes effect; what the log
    holds after ``after`` tells which.

    Args:
        log: The log.
        sender_id: The conversation.
        entries: What to append, in order.
        after: The log's last position as far as is known.
        user: The user to write.
        user_of_new_log: The user to write if the conversation begins with ``entries``.
        is_uncertain: Whether the log may hold some of ``entries`` after ``after``.

    Raises:
        ConnectionException: when others came first too often; and what ``log`` raises.
    """
    for _ in range(_MOST_CONFLICTS):
        position = log.append(sender_id, entries, after, user)
        if position is not None:
            return position
        # If the log was erased meanwhile, no event may be newer than `after`.
        newer = _read_after(log, sender_id, after) or _read_after(log, sender_id, START)
        if newer and (is_uncertain or log.is_in_doubt):
            entries = _missing(entries, texts_of(newer))
            if not entries and user is None:
                log.confirm(sender_id)
                return newer[-1].position
        after = end_of(newer)
        if after == START:
            user = user_of_new_log or user
    raise store_unavailable(
        f"{log.name}: conversation {sender_id!r} was changed by others {_MOST_CONFLICTS} "
        f"times while it was to be saved. Check that reads do not go to a replica that "
        f"lags behind, and how many processes write to it."
    )


def _missing(entries: Sequence[Entry], stored: Sequence[str]) -> List[Entry]:
    """The entries that are not among the texts which were stored after a position.

    Their order says nothing, unlike that of a tracker (``reconciliation.new_events``). An
    attempt without an answer may have been carried out before an event that comes before
    it here. An event may be there twice; then it counts twice.
    """
    left = Counter(stored)
    missing = []
    for entry in entries:
        if left[entry.data]:
            left[entry.data] -= 1
        else:
            missing.append(entry)
    return missing


def _read_after(log: EventLog, sender_id: str, after: int) -> List[Stored]:
    """The events that come after a position."""
    newer: List[Stored] = []
    for page in pages_newest_first(log, sender_id):
        newer = [event for event in page.events if event.position > after] + newer
        if page.events and page.events[0].position <= after:
            break
    return newer
