"""Copies of the newest events of recent conversations.

While the database is away, conversations go on from them. While it is there, a read of a
long session asks for the newest events alone, and takes the older ones from the copy.
That is what the log has, if the log still has the copy's last event at the same position
and with the same text: a log only grows, ``replace`` and ``delete`` give new positions,
and no position is used again. A row that somebody has changed by hand is not noticed,
unless it is among the newest ones.
"""

from __future__ import annotations

import sys
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from typing import Iterator, List, Optional, Sequence, Tuple

from rasa_trackers.event_log import PAGE_SLACK, Entry, Page, Stored
from rasa_trackers.outage.spool import Guessed, Waiting, numbered
from rasa_trackers.paging import end_of, texts_of

#: Bytes that an event takes in memory beside its text, and a conversation beside its
#: events.
_OVERHEAD = 100
#: Events to read of a conversation that has a copy: more than others add in between.
NEWER = 30
#: Erasures that are remembered, for reads that are under way meanwhile.
_MOST_ERASED = 1_000
#: Events from which on a copy saves more than it costs.
_WORTH_IT = 2 * NEWER


class _Copy:
    """The newest events of a conversation."""

    def __init__(self, page: Page, size: int, *, is_certain: bool = True) -> None:
        """Keep a page of ``size`` bytes, in a list of its own.

        Args:
            page: The newest events.
            size: About how many bytes its events take.
            is_certain: Whether the log is known to have had just these events at its end.
        """
        self.is_certain = is_certain
        self.events = list(page.events)
        self.complete = page.complete
        self.user_id = page.user_id
        self.size = size + _OVERHEAD
        #: When the conversation was last saved or read, by the monotonic clock.
        self.noted_at = time.monotonic()

    def page(self) -> Page:
        """The copy as it is now, in a list that no later save changes."""
        return Page(list(self.events), self.complete, self.user_id)

    def newest(self, limit: Optional[int], end: int) -> Optional[Page]:
        """The page of the events before the index ``end``; ``None`` if they are too few.

        It begins at an event whose position is known, because the next page ends there.
        """
        wanted = 0 if limit is None else end - limit
        if not self.complete and (limit is None or wanted < 0):
            return None
        begin = wanted = max(0, wanted)
        while begin and isinstance(self.events[begin], Guessed):
            begin -= 1
        if wanted - begin > PAGE_SLACK:
            return None
        is_all = self.complete and begin == 0
        return Page(self.events[begin:end], is_all, self.user_id if end else None)

    def index_of(self, position: int) -> Optional[int]:
        """Where the event at a position is; ``None`` if it is not known to be here."""
        index = bisect_left(self.events, (position,))
        if index == len(self.events) or self.events[index].position != position:
            return None
        # The number of a guessed position may be the position of another event.
        return None if isinstance(self.events[index], Guessed) else index

    def learn(self, page: Page) -> None:
        """Learn positions that were guessed, from a page that was read."""
        begin = len(self.events) - len(page.events)
        if begin < 0 or self.events[-1] != page.events[-1]:
            return
        self.events[begin:] = page.events
        # The guesses before it were too high.
        while begin and isinstance(self.events[begin - 1], Guessed):
            below = self.events[begin].position - 1
            begin -= 1
            self.events[begin] = Guessed(below, self.events[begin].data)

    def covers(self, page: Page) -> bool:
        """Whether a page that was read has nothing that the copy lacks.

        Positions only grow, also over an erasure. So a page that ends earlier was read
        before what the copy has.
        """
        return (
            self.is_certain
            and bool(page.events)
            and page.user_id == self.user_id
            and self.events[0].position <= page.events[0].position
            and page.events[-1].position <= self.events[-1].position
        )

    def is_continued_by(self, page: Page) -> bool:
        """Whether a page that was read follows the copy, which goes further back."""
        return self.is_certain and not page.complete and self.newer_in(page) is not None

    def newer_in(self, page: Page) -> Optional[List[Stored]]:
        """The events of a page that follow the copy; ``None`` if that is not known.

        Args:
            page: The newest events of the log.
        """
        events = reversed(list(enumerate(page.events, 1)))
        known = next((at for at, event in events if event == self.events[-1]), 0)
        # Texts, because the positions of the copy may be guessed.
        if not known or texts_of(page.events[:known]) != texts_of(self.events[-known:]):
            return None
        return page.events[known:]


class RecentConversations:
    """What this process has read or written lately; bounded by bytes.

    A copy may lack what another process has added since.
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
        #: How many conversations have been erased or rewritten by this process.
        self.erasures = 0
        #: The number of the last erasure of each conversation; the latest ones.
        self._erased: OrderedDict[str, int] = OrderedDict()
        #: The greatest of the numbers that are not there any more.
        self._forgotten_erasures = 0

    def get(self, sender_id: str) -> Optional[Page]:
        """The copy of a conversation, if there is one that has not expired."""
        with self._lock:
            copy = self._live(sender_id)
            return None if copy is None else copy.page()

    def reaches(self, sender_id: str, limit: int) -> bool:
        """Whether it is enough to read :data:`NEWER` of the ``limit`` newest events."""
        with self._lock:
            copy = self._live(sender_id)
            return (
                copy is not None
                and copy.is_certain
                and len(copy.events) >= _WORTH_IT
                and (copy.complete or len(copy.events) >= limit)
            )

    def join(
        self, sender_id: str, page: Page, limit: int, erasures: int
    ) -> Optional[Page]:
        """Continue the copy by the newest events of the log.

        Args:
            sender_id: The conversation.
            page: What was read now.
            limit: How many events are wanted.
            erasures: :attr:`erasures` before that.

        Returns:
            The page that :meth:`EventLog.read_back` would give; ``None`` if the copy is
            not what the log has.
        """
        with self._lock:
            copy = self._live(sender_id)
            # Another thread may have put another copy there since `reaches` was asked.
            if copy is None or not copy.is_certain:
                return None
            if self._was_erased_after(sender_id, erasures):
                return None
            newer = copy.newer_in(page)
            if newer is None:
                return None
            self._insert(sender_id, copy, len(copy.events), newer)
            copy.user_id = page.user_id
            return copy.newest(limit, len(copy.events))

    def older(
        self, sender_id: str, limit: Optional[int], before: int
    ) -> Optional[Page]:
        """The page that ends before an event of the copy; ``None`` if it has too little.

        Whoever names that event has read it in the log, and all before it was then as it
        is in the copy.
        """
        with self._lock:
            copy = self._live(sender_id)
            if copy is None or not copy.is_certain:
                return None
            end = copy.index_of(before)
            return None if end is None else copy.newest(limit, end)

    def note_page(
        self,
        sender_id: str,
        page: Page,
        before: Optional[int],
        erasures: Optional[int] = None,
    ) -> None:
        """Keep what was read of a conversation, unless it may have been erased since.

        Args:
            sender_id: The conversation.
            page: What was read.
            before: Where the page ends, as for :meth:`EventLog.read_back`.
            erasures: :attr:`erasures` before the read; ``None`` if none can have come
                between.
        """
        with self._lock:
            copy = self._copies.get(sender_id)
            if erasures is not None and self._was_erased_after(sender_id, erasures):
                return
            if before is not None:
                self._note_older_page(sender_id, copy, page, before)
            elif copy is not None and copy.covers(page):
                # The usual case: this process has saved all that it reads.
                copy.learn(page)
                self._put(sender_id, copy)
            elif copy is not None and copy.is_continued_by(page):
                # A save reads a few events to compare them. The session before them is
                # needed in an outage.
                newer = copy.newer_in(page) or []
                known = page.events[: len(page.events) - len(newer)]
                copy.learn(page._replace(events=known))
                self._insert(sender_id, copy, len(copy.events), newer)
                copy.user_id = page.user_id
            else:
                self._put(sender_id, _Copy(page, _size(page.events)))

    def _note_older_page(
        self, sender_id: str, copy: Optional[_Copy], page: Page, before: int
    ) -> None:
        """Keep a page that ends before an event of the copy."""
        # How many events of the copy the page has, too.
        known = None if copy is None else copy.index_of(before)
        if copy is None or known is None:
            return
        older = len(page.events) - known
        if (page.events and older <= 0) or (copy.complete and older == 0):
            return  # all of it is in the copy
        if (
            older > 0
            and not copy.complete
            and texts_of(page.events[older:]) == texts_of(copy.events[:known])
        ):
            copy.events[:known] = page.events[older:]
            copy.complete = page.complete
            self._insert(sender_id, copy, 0, page.events[:older])
        else:
            self._drop(sender_id)  # the log has been rewritten

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
            self._insert(sender_id, copy, len(copy.events), new)
            copy.user_id = user_id or copy.user_id

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
                # Others may have written in between.
                copy = _Copy(page, _size(page.events), is_certain=False)
                self._put(sender_id, copy)
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
        """Drop the copy of a conversation, which is erased or rewritten."""
        with self._lock:
            self._drop(sender_id)
            self.erasures += 1
            self._erased.pop(sender_id, None)
            self._erased[sender_id] = self.erasures
            if len(self._erased) > _MOST_ERASED:
                _, self._forgotten_erasures = self._erased.popitem(last=False)

    def _was_erased_after(self, sender_id: str, erasures: int) -> bool:
        """Whether a conversation may have been erased after that many erasures."""
        return self._erased.get(sender_id, self._forgotten_erasures) > erasures

    def _live(self, sender_id: str) -> Optional[_Copy]:
        """The copy of a conversation, unless it has expired."""
        copy = self._copies.get(sender_id)
        if (
            copy is not None
            and self._record_exp is not None
            and time.monotonic() - copy.noted_at >= self._record_exp
        ):
            return None
        return copy

    def _insert(
        self, sender_id: str, copy: _Copy, at: int, events: List[Stored]
    ) -> None:
        """Add events to a copy, before the index ``at``."""
        self._drop(sender_id)
        # A long session is neither copied nor measured for each of its events.
        copy.events[at:at] = events
        copy.size += _size(events)
        self._put(sender_id, copy)

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
    texts = sum(map(sys.getsizeof, texts_of(events)))
    return texts + _OVERHEAD * len(events)


def newest(events: List[Stored], limit: Optional[int], before: Optional[int]) -> Page:
    """The page of a copy that :meth:`EventLog.read_back` would give."""
    if before is not None:
        events = [event for event in events if event.position < before]
    begin = 0 if limit is None else max(0, len(events) - limit)
    return Page(events[begin:], begin == 0)
