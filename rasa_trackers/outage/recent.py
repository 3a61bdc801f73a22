"""Copies of the newest events of recent conversations."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Iterator, List, Optional, Sequence, Tuple

from rasa_trackers.event_log import Entry, Page, Stored
from rasa_trackers.outage.spool import Waiting, numbered
from rasa_trackers.paging import characters, end_of

#: Bytes that an event takes in memory beside its text.
_OVERHEAD = 150


class _Copy:
    """The newest events of a conversation."""

    def __init__(self, page: Page, size: int) -> None:
        """Keep a page of ``size`` bytes, in a list of its own."""
        self.events = list(page.events)
        self.complete = page.complete
        self.user_id = page.user_id
        self.size = size
        #: When the conversation was last saved or read, by the monotonic clock.
        self.noted_at = time.monotonic()

    def page(self) -> Page:
        """The copy as it is now, in a list that no later save changes."""
        return Page(list(self.events), self.complete, self.user_id)

    def covers(self, page: Page) -> bool:
        """Whether a page that was read has nothing that the copy lacks.

        Positions only grow, also over an erasure. So a page that ends earlier was read
        before what the copy has.
        """
        return (
            bool(page.events)
            and page.user_id == self.user_id
            and self.events[0].position <= page.events[0].position
            and page.events[-1].position <= self.events[-1].position
        )


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
            return copy.page()

    def note_page(self, sender_id: str, page: Page, before: Optional[int]) -> None:
        """Keep what was read of a conversation."""
        with self._lock:
            copy = self._copies.get(sender_id)
            if before is not None:
                if copy is not None and copy.events[0].position == before:
                    older = Page(page.events + copy.events, page.complete, copy.user_id)
                    self._put(sender_id, _Copy(older, copy.size + _size(page.events)))
            elif copy is not None and copy.covers(page):
                # The usual case: this process has saved all that it reads.
                self._put(sender_id, copy)
            else:
                self._put(sender_id, _Copy(page, _size(page.events)))

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
            if copy is None:
                copy = _Copy(Page([], complete=True), _size([]))
            if end_of(copy.events) != after:
                # A copy without its beginning would be another session.
                self._drop(sender_id)
                return
            new = numbered([entry.data for entry in entries], position)
            # A long session is neither copied nor measured for each of its events.
            self._drop(sender_id)
            copy.events += new
            copy.size += _size(new)
            copy.user_id = user_id or copy.user_id
            self._put(sender_id, copy)

    def note_hand_over(self, sender_id: str, waiting: Waiting, position: int) -> None:
        """Keep what waited in the spool and is in the database now.

        Args:
            sender_id: The conversation.
            waiting: What waited.
            position: The position of the last event in the database.
        """
        with self._lock:
            if waiting.follows_copy:
                page = waiting.stored_page(position)
                self._put(sender_id, _Copy(page, _size(page.events)))
            else:
                self._drop(sender_id)

    def all_newest_first(self) -> Iterator[Tuple[str, Page]]:
        """All copies; that of the most recently used conversation first."""
        with self._lock:
            sender_ids = list(reversed(self._copies))
        for sender_id in sender_ids:
            with self._lock:
                copy = self._copies.get(sender_id)
                page = None if copy is None else copy.page()
            if page is not None:
                yield sender_id, page

    def forget(self, sender_id: str) -> None:
        """Drop the copy of a conversation."""
        with self._lock:
            self._drop(sender_id)

    def _put(self, sender_id: str, copy: _Copy) -> None:
        self._drop(sender_id)
        if not copy.events or copy.size > self._max_bytes:
            return
        copy.noted_at = time.monotonic()
        self._copies[sender_id] = copy
        self._bytes += copy.size
        while self._bytes > self._max_bytes:
            _, oldest = self._copies.popitem(last=False)
            self._bytes -= oldest.size

    def _drop(self, sender_id: str) -> None:
        copy = self._copies.pop(sender_id, None)
        if copy is not None:
            self._bytes -= copy.size


def _size(events: Sequence[Stored]) -> int:
    return characters(events) + _OVERHEAD * (len(events) + 1)


def newest(events: List[Stored], limit: Optional[int], before: Optional[int]) -> Page:
    """The page of a copy that :meth:`EventLog.read_back` would give."""
    if before is not None:
        events = [event for event in events if event.position < before]
    begin = 0 if limit is None else max(0, len(events) - limit)
    return Page(events[begin:], begin == 0)
