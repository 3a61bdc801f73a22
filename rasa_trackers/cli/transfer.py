"""From one store to another: read a few conversations, write them, perhaps compare."""

from __future__ import annotations

import time
from typing import Iterator, List, NamedTuple, Optional

from rasa_trackers.cli.dates import Dates
from rasa_trackers.cli.moving import add, first_difference
from rasa_trackers.cli.reading import (
    Chunks,
    Whole,
    in_parallel,
    read,
    read_all,
    sender_ids,
)
from rasa_trackers.cli.selection import Selection
from rasa_trackers.cli.stores import Store
from rasa_trackers.errors import is_store_error, is_unavailable
from rasa_trackers.retries import DeadlineLog


class Outcome(NamedTuple):
    """What became of one conversation."""

    sender_id: str
    events: int
    #: Events that were new in the target.
    new: int
    #: Why it is not in the target.
    problem: Optional[str] = None


def transfer(
    source: Store, target: Store, selection: Selection, *, verify: bool
) -> Iterator[List[Outcome]]:
    """Copy the conversations of a selection.

    Args:
        source: Where they are.
        target: Where they go.
        selection: Which conversations.
        verify: Whether to read each one again in the target.

    Yields:
        What became of the conversations, some at a time.
    """
    chunks = Chunks(sender_ids(source, selection))

    def move(chunk: List[str]) -> List[Outcome]:
        found = source.call(read_all, chunk, source.dates)
        chunks.were_read(found)
        chosen = [
            each
            for each in found
            if each.events
            and (not selection.has_times() or selection.includes(each.latest()))
        ]
        return target.call(write_all, chosen, verify, target.dates)

    yield from in_parallel(move, chunks)


def write_all(
    log: DeadlineLog, conversations: List[Whole], verify: bool, dates: Dates
) -> List[Outcome]:
    """Write conversations; a problem with one of them does not stop the others.

    Raises:
        StoreUnavailable: when the server is silent for too long.
    """
    return [_write(log, each, verify, dates) for each in conversations]


def _write(
    log: DeadlineLog, conversation: Whole, verify: bool, dates: Dates
) -> Outcome:
    sender_id, events = conversation.sender_id, conversation.events
    expires_at = conversation.expires_at
    if expires_at is not None and expires_at <= time.time():
        return Outcome(sender_id, len(events), 0)  # it is gone by now
    try:
        new, end = add(log, conversation)
        if new and expires_at is not None:
            dates.set_expires_at(log, sender_id, end, expires_at)
        if verify:
            stored = read(log, sender_id).events
            place = first_difference(stored, events)
            if place is not None:
                problem = (
                    f"Conversation {sender_id!r} differs in {log.name} from event "
                    f"{place + 1} of {len(events)} on."
                )
                return Outcome(sender_id, len(events), new, problem)
    except Exception as error:
        # Only what the store says of this conversation; a mistake of ours is none.
        if is_unavailable(error) or not is_store_error(error):
            raise
        return Outcome(
            sender_id, len(events), 0, f"Conversation {sender_id!r}: {error}"
        )
    return Outcome(sender_id, len(events), new)
