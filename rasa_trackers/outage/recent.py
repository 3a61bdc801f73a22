"""Copies of the newest events of recent conversations."""

from __future__ import annotations

import operator
import threading
import time
from collections import OrderedDict
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from rasa_trackers.event_log import Entry, Page, Stored
from rasa_trackers.outage.spool import Waiting, numbered
from rasa_trackers.paging import end_of

#: Bytes that an event takes in memory beside its text.
_OVERHEAD = 150
#: The text of an event.
_DATA = operator.attrgetter("data")


class _Copy(NamedTuple):
    """The newest events of a conversation."""

    page: Page
    size: int
    #: When the conversation was last saved or read, by the monotonic clock.
    noted_at: float


class RecentConversations:
    """What this process has read or written lately; bounded by bytes.

    While the database is there, a copy is only ever written. So it need not be right
    beyond doubt: another process may have added events since.
    """

    def __init__(self, max_bytes: int, record_exp: Optional[float]) -> None:
        """Have no copies yet.

        Args:
            max_bytes: Bytes of all copies; the least recently used one is dropped.
            record_exp: Seconds after which a conversation expires.
        """
        self._max_bytes = max_bytes
        self._record_exp = record_exp
        self._copies: OrderedDict[str, _Copy] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, sender_id: str) -> Optional[Page]:
        """The copy of a conversation, if there is one that has not expired."""
        with self._lock:
            copy = self._copies.get(sender_id)
        if copy is None or (
            self._record_exp is not None
            and time.monotonic() - copy.noted_at >= self._record_exp
        ):
            return None
        return copy.page

    def note_page(self, sender_id: str, page: Page, before: Optional[int]) -> None:
        """Keep what was read of a conversation."""
        with self._lock:
            copy = self._copies.get(sender_id)
            if before is None:
                self._put(sender_id, page, _size_after(page.events, copy))
                return
            if copy is not None and copy.page.events[0].position == before:
                older = Page(
                    page.events + copy.page.events, page.complete, copy.page.user_id
                )
                self._put(sender_id, older, copy.size + _size(page.events))

    def note_append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        position: int,
        user_id: Optional[str],
    ) -> None:
        """Keep what was appended to a conversation."""
        with self._lock:
            copy = self._copies.get(sender_id)
            page = Page([], complete=True) if copy is None else copy.page
            if end_of(page.events) != after:
                # A copy without its beginning would be another session.
                self._drop(sender_id)
                return
            new = numbered([entry.data for entry in entries], position)
            self._put(
                sender_id,
                Page(page.events + new, page.complete, user_id or page.user_id),
                # A long session is not measured anew for each of its events.
                size=(0 if copy is None else copy.size) + _size(new),
            )

    def note_hand_over(self, sender_id: str, waiting: Waiting, position: int) -> None:
        """Keep what waited in the spool and is in the database now.

        Args:
            sender_id: The conversation.
            waiting: What waited.
            position: The position of the last event in the database.
        """
        with self._lock:
            if waiting.follows_copy:
                self._put(sender_id, waiting.stored_page(position))
            else:
                self._drop(sender_id)

    def all_newest_first(self) -> Iterator[Tuple[str, Page]]:
        """All copies; that of the most recently used conversation first."""
        with self._lock:
            copies = list(self._copies.items())
        for sender_id, copy in reversed(copies):
            yield sender_id, copy.page

    def forget(self, sender_id: str) -> None:
        """Drop the copy of a conversation."""
        with self._lock:
            self._drop(sender_id)

    def _put(self, sender_id: str, page: Page, size: Optional[int] = None) -> None:
        self._drop(sender_id)
        if size is None:
            size = _size(page.events)
        if not page.events or size > self._max_bytes:
            return
        self._copies[sender_id] = _Copy(page, size, time.monotonic())
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, oldest = self._copies.popitem(last=False)
            self._bytes -= oldest.size

    def _drop(self, sender_id: str) -> None:
        copy = self._copies.pop(sender_id, None)
        if copy is not None:
            self._bytes -= copy.size


def _size(events: Sequence[Stored]) -> int:
    return sum(map(len, map(_DATA, events))) + _OVERHEAD * (len(events) + 1)


def _size_after(events: Sequence[Stored], copy: Optional[_Copy]) -> int:
    """The size of events that were read, of which most are those of a copy."""
    known = [] if copy is None else copy.page.events
    if (
        copy is not None
        and known
        and len(known) <= len(events)
        and events[len(known) - 1].position == known[-1].position
    ):
        return copy.size + _size(events[len(known) :])
    return _size(events)


def newest(events: List[Stored], limit: Optional[int], before: Optional[int]) -> Page:
    """The page of a copy that :meth:`EventLog.read_back` would give."""
    if before is not None:
        events = [event for event in events if event.position < before]
    begin = 0 if limit is None else max(0, len(events) - limit)
    return Page(events[begin:], begin == 0)
