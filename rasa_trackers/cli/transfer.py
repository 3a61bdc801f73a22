"""From one store to another: read a few conversations, write them, perhaps compare."""

from __future__ import annotations

import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence

from rasa_trackers.cli.bulk import Beginning
from rasa_trackers.cli.moving import Added, add, first_difference, storable_user
from rasa_trackers.cli.reading import (
    Chunks,
    Whole,
    chosen,
    in_parallel,
    of_page,
    read,
    read_part,
)
from rasa_trackers.cli.selection import Selection
from rasa_trackers.cli.stores import Store
from rasa_trackers.entries import entry_of
from rasa_trackers.errors import is_store_error, is_unavailable
from rasa_trackers.event_log import Page
from rasa_trackers.retries import DeadlineLog

#: The end of the year 9999. Databases take no later date: it stands for never.
_LATEST_DATE = 253_402_300_799.0


class Outcome(NamedTuple):
    """What became of one conversation."""

    sender_id: str
    events: int
    #: Events that were new in the target.
    new: int
    #: Why it is not in the target.
    problem: Optional[str] = None


def transfer(
    source: Store,
    target: Store,
    selection: Selection,
    sender_ids: Sequence[str],
    *,
    verify: bool,
) -> Iterator[List[Outcome]]:
    """Copy the conversations of a selection.

    Args:
        source: Where they are.
        target: Where they go.
        selection: Which conversations.
        sender_ids: Those to look at.
        verify: Whether to read each one again in the target.

    Yields:
        What became of the conversations, some at a time.
    """
    chunks = Chunks(sender_ids)

    def move(chunk: Sequence[str]) -> List[Outcome]:
        outcomes: List[Outcome] = []
        while chunk:
            found, chunk = source.call(read_part, chunk, source)
            chunks.were_read(found)
            wanted = chosen(found, selection)
            outcomes += target.call(write_all, wanted, target, verify)
        return outcomes

    yield from in_parallel(move, chunks)


def write_all(
    log: DeadlineLog, conversations: List[Whole], store: Store, verify: bool
) -> List[Outcome]:
    """Write conversations; a problem with one of them does not stop the others.

    Raises:
        StoreUnavailable: when the server is silent for too long.
    """
    ends = _begun(log, conversations, store)
    others = [each.sender_id for each in conversations if each.sender_id not in ends]
    there = store.bulk.read(log, others)
    outcomes = [
        _write(log, each, store, ends.get(each.sender_id), there.get(each.sender_id))
        for each in conversations
    ]
    if not verify:
        return outcomes
    stored = store.bulk.read(log, [each.sender_id for each in conversations])
    return [
        _verified(log, each, outcome, stored.get(each.sender_id))
        for each, outcome in zip(conversations, outcomes)
    ]


def _begun(
    log: DeadlineLog, conversations: List[Whole], store: Store
) -> Dict[str, int]:
    """Write together those that are not there yet; gives where they end."""
    longest = log.max_sender_id
    beginnings = [
        Beginning(
            each.sender_id, list(map(entry_of, each.events)), storable_user(log, each)
        )
        for each in conversations
        if not _is_gone(each) and (longest is None or len(each.sender_id) <= longest)
    ]
    return store.bulk.begin(log, beginnings)


def _is_gone(conversation: Whole) -> bool:
    expires_at = conversation.expires_at
    return expires_at is not None and expires_at <= time.time()


def _write(
    log: DeadlineLog,
    conversation: Whole,
    store: Store,
    end: Optional[int],
    there: Optional[Page],
) -> Outcome:
    """Write a conversation, unless it is written already.

    Args:
        log: The log of the target.
        conversation: The conversation.
        store: The target.
        end: The position of its last event, if it is written.
        there: What the target has of it, if that is known.
    """
    sender_id, events = conversation.sender_id, conversation.events
    if _is_gone(conversation):
        return Outcome(sender_id, len(events), 0)
    try:
        added = (
            add(log, conversation, there)
            if end is None
            else Added(len(events), end, is_all=True)
        )
        expires_at = conversation.expires_at
        if expires_at is not None and expires_at > _LATEST_DATE:
            expires_at = None
        # Where the conversation has gone on, the target's own date holds.
        if expires_at is not None and added.is_all:
            store.dates.set_expires_at(log, sender_id, added.end, expires_at)
    except Exception as error:
        # Only what the store says of this conversation; a mistake of ours is none.
        if is_unavailable(error) or not is_store_error(error):
            raise
        return Outcome(
            sender_id, len(events), 0, f"Conversation {sender_id!r}: {error}"
        )
    return Outcome(sender_id, len(events), added.new)


def _verified(
    log: DeadlineLog, conversation: Whole, outcome: Outcome, stored: Optional[Page]
) -> Outcome:
    """What became of a conversation, compared with what the target has of it now."""
    if outcome.problem is not None or _is_gone(conversation):
        return outcome
    sender_id, events = conversation.sender_id, conversation.events
    found = read(log, sender_id) if stored is None else of_page(sender_id, stored)
    place = first_difference(found.events, events)
    if place is None:
        return outcome
    return outcome._replace(
        problem=f"Conversation {sender_id!r} differs in {log.name} from event "
        f"{place + 1} of {len(events)} on."
    )
