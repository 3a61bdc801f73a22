"""Reading a log back page by page."""

from __future__ import annotations

import operator
from typing import Iterator, Optional, Sequence

from rasa_trackers.computing import LONG_CHARACTERS, LONG_EVENTS
from rasa_trackers.event_log import START, EventLog, Page, Stored

#: Events that the first page asks for. Most sessions are shorter, and the events before
#: them are not decoded. Each further page asks for four times more, up to what is still
#: one short piece of work for the server and for this process.
FIRST_PAGE = 100

_DATA = operator.attrgetter("data")


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


def fitting(limit: int, events: int, text: int) -> int:
    """How many events to ask for, at most ``limit``.

    Args:
        limit: How many are wanted.
        events: A number of events of the conversation.
        text: How long their texts are together.
    """
    return max(1, min(limit, LONG_CHARACTERS * events // text)) if text else limit


def characters(events: Sequence[Stored]) -> int:
    """How long the texts of stored events are together."""
    return sum(map(len, map(_DATA, events)))


def end_of(events: Sequence[Stored]) -> int:
    """The position after which such a log ends."""
    return events[-1].position if events else START
