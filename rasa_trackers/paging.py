"""Reading a log back page by page."""

from __future__ import annotations

from typing import Iterator, Optional, Sequence

from rasa_trackers.event_log import START, EventLog, Page, Stored

#: Events that the first page asks for. Most sessions are shorter, and the events before
#: them are not decoded. Each further page asks for four times more.
FIRST_PAGE = 100


def pages_newest_first(
    log: EventLog, sender_id: str, limit: int = FIRST_PAGE
) -> Iterator[Page]:
    """A log page by page; the last page is complete."""
    before: Optional[int] = None
    while True:
        page = log.read_back(sender_id, limit, before)
        yield page
        if page.complete or not page.events:
            return
        before = page.events[0].position
        limit *= 4


def end_of(events: Sequence[Stored]) -> int:
    """The position after which such a log ends."""
    return events[-1].position if events else START
