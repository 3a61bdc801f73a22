"""Reading a log back page by page."""

from __future__ import annotations

import contextlib
import operator
from typing import Callable, Iterator, List, Optional, Sequence, TypeVar

from rasa_trackers.computing import LONG_CHARACTERS, LONG_EVENTS
from rasa_trackers.errors import store_unavailable
from rasa_trackers.event_log import START, EventLog, Page, Stored

#: Events that the first page asks for. Most sessions are shorter, and the events before
#: them are not decoded. Each further page asks for four times more, up to what is still
#: one short piece of work for the server and for this process.
FIRST_PAGE = 100

T = TypeVar("T")

_DATA = operator.attrgetter("data")
#: Times that a conversation is read anew because it was rewritten meanwhile.
_MOST_READS = 5


class Rewritten(Exception):
    """A conversation was rewritten or erased between two of its pages."""


def pages_newest_first(
    log: EventLog, sender_id: str, limit: int = FIRST_PAGE
) -> Iterator[Page]:
    """A log page by page; the last page is complete."""
    before: Optional[int] = None
    while True:
        page = log.read_back(sender_id, min(limit, LONG_EVENTS), before)
        yield page
        if page.complete or not page.events:
            return
        before = page.events[0].position
        limit = fitting(limit * 4, len(page.events), characters(page.events))


def pages_of_one_state(
    log: EventLog, sender_id: str, limit: int = FIRST_PAGE
) -> Iterator[Page]:
    """As :func:`pages_newest_first`, but never half of a log that was rewritten.

    Raises:
        Rewritten: when the pages so far are not there any more.
    """
    is_first = True
    for page in pages_newest_first(log, sender_id, limit):
        if not page.events and not is_first:
            # The log had older events. All that it has now has greater positions.
            raise Rewritten
        is_first = False
        yield page


def read_one_state(log: EventLog, sender_id: str, read: Callable[[], T]) -> T:
    """Call ``read``, which uses :func:`pages_of_one_state`, until it gets one state.

    Raises:
        ConnectionException: when the conversation is rewritten again and again.
    """
    for _ in range(_MOST_READS):
        with contextlib.suppress(Rewritten):
            return read()
    raise store_unavailable(
        f"{log.name}: conversation {sender_id!r} was rewritten {_MOST_READS} times while "
        f"it was read. Let one job after the other erase or change it."
    )


def fitting(limit: int, events: int, text: int) -> int:
    """How many events to ask for, at most ``limit``.

    Args:
        limit: How many are wanted.
        events: A number of events of the conversation.
        text: How long their texts are together.
    """
    return max(1, min(limit, LONG_CHARACTERS * events // text)) if text else limit


def texts_of(events: Sequence[Stored]) -> List[str]:
    """The texts of stored events."""
    return list(map(_DATA, events))


def characters(events: Sequence[Stored]) -> int:
    """How long the texts of stored events are together."""
    return sum(map(len, map(_DATA, events)))


def end_of(events: Sequence[Stored]) -> int:
    """The position after which such a log ends."""
    return events[-1].position if events else START
