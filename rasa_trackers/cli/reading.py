"""Reading many conversations: several at a time, in bounded memory, in order."""

from __future__ import annotations

import contextlib
import json
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import (
    Any,
    Callable,
    Deque,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    TypeVar,
)

from rasa_trackers.cli.selection import Selection
from rasa_trackers.cli.stores import Store, whole
from rasa_trackers.event_log import START, Page, User, timestamp_of
from rasa_trackers.retries import DeadlineLog

T = TypeVar("T")

#: Chunks that are under way at a time. More do not help: one processor decodes.
_AT_ONCE = 8
#: Characters that a chunk of conversations is to have.
_CHUNK = 1_000_000
#: Conversations in a chunk.
_FEWEST, _MOST = 1, 100
_FIRST = 10


class Whole(NamedTuple):
    """A whole conversation, as it was read."""

    sender_id: str
    #: The texts of its events, in order.
    events: List[str]
    user_id: Optional[str]
    #: The position of its last event.
    end: int
    #: When it expires, in seconds since the epoch; ``None`` for never or unknown.
    expires_at: Optional[float] = None

    def latest(self) -> float:
        """The time of its latest event; minus infinity where none has a time."""
        times = map(_finite_time, self.events)
        return max((each for each in times if each is not None), default=-math.inf)

    def started(self) -> Optional[float]:
        """The time of its first event."""
        return _finite_time(self.events[0]) if self.events else None

    def user(self) -> Optional[User]:
        """The user whose conversation it is."""
        return None if self.user_id is None else User(self.user_id, self.started())

    def size(self) -> int:
        """Characters of its events."""
        return sum(map(len, self.events))


def _finite_time(data: str) -> Optional[float]:
    # A damaged event may say NaN or Infinity.
    found = timestamp_of(data)
    return found if math.isfinite(found) else None


def canonical(data: str) -> str:
    """The text of an event as every format of Rasa's own gives it back.

    Those keep JSON objects, so white space and escapes of the text are not kept.
    """
    try:
        return json.dumps(json.loads(data))
    except (ValueError, RecursionError):
        return data


def read(log: DeadlineLog, sender_id: str) -> Whole:
    """A whole conversation; without events where there is none."""
    return of_page(sender_id, whole(log, sender_id))


def of_page(sender_id: str, page: Page) -> Whole:
    """A whole conversation, of its only page."""
    return Whole(
        sender_id,
        [event.data for event in page.events],
        page.user_id,
        page.events[-1].position if page.events else START,
    )


def sender_ids(store: Store, selection: Selection) -> Sequence[str]:
    """The conversations to look at; their events may still exclude some."""
    return selection.senders or store.sender_ids()


def conversations(
    store: Store,
    selection: Selection,
    sender_ids: Sequence[str],
    looked_at: Callable[[int], object],
) -> Iterator[Whole]:
    """The conversations of a selection that have events.

    Args:
        store: The store.
        selection: Which conversations.
        sender_ids: Those to look at.
        looked_at: Called with numbers of conversations that were looked at.
    """

    def read_chunk(chunk: Sequence[str]) -> Part:
        return store.call(read_part, chunk, store)

    chunks = Chunks(sender_ids)
    for part in in_parallel(read_chunk, chunks):
        chunks.were_read(part.found)
        found, left = part
        while found:
            yield from chosen(found, selection)
            looked_at(len(found))
            found, left = read_chunk(left) if left else Part([], [])


def chosen(found: List[Whole], selection: Selection) -> List[Whole]:
    """Those of a selection that have events."""
    return [
        each
        for each in found
        if each.events
        and (not selection.has_times() or selection.includes(each.latest()))
    ]


class Part(NamedTuple):
    """Some of several conversations."""

    found: List[Whole]
    #: The sender ids of the others, which would not fit into memory beside these.
    left: Sequence[str]


def read_part(log: DeadlineLog, sender_ids: Sequence[str], store: Store) -> Part:
    """Conversations, with their expiry dates where the store tells them."""
    pages = store.bulk.read(log, sender_ids)
    found: List[Whole] = []
    size = 0
    for sender_id in sender_ids:
        if size > _CHUNK:
            break
        page = pages.pop(sender_id, None)
        each = read(log, sender_id) if page is None else of_page(sender_id, page)
        found.append(each)
        size += each.size()
    known = store.dates.expires_at(
        log, [each.sender_id for each in found if each.events]
    )
    if known:
        found = [each._replace(expires_at=known.get(each.sender_id)) for each in found]
    return Part(found, sender_ids[len(found) :])


class Chunks:
    """Parts of a list of sender ids, whose conversations fit into memory."""

    def __init__(self, sender_ids: Sequence[str]) -> None:
        """Begin with few conversations, whose size is not known yet."""
        self._sender_ids = iter(sender_ids)
        self._size = _FIRST

    def were_read(self, found: List[Whole]) -> None:
        """Learn from a chunk how many conversations the next one may have."""
        if found:
            mean = sum(each.size() for each in found) / len(found)
            wanted = int(_CHUNK / max(mean, 1))
            # Carefully upwards: long conversations may stand together.
            self._size = max(_FEWEST, min(_MOST, wanted, 2 * self._size))

    def __iter__(self) -> Iterator[List[str]]:
        while True:
            chunk = list(islice(self._sender_ids, self._size))
            if not chunk:
                return
            yield chunk


def in_parallel(
    function: Callable[[Any], T], arguments: Any, at_once: int = _AT_ONCE
) -> Iterator[T]:
    """The results of a function, in the order of its arguments.

    Few calls are under way at a time, so that nobody reads ahead of a slow consumer. When
    the consumer stops, calls that have begun come to their end and no other begins.
    """
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="rasa-trackers")
    under_way: Deque[Future[T]] = deque()
    try:
        for argument in arguments:
            under_way.append(pool.submit(function, argument))
            if len(under_way) > at_once:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
        with contextlib.suppress(KeyboardInterrupt):
            pool.shutdown(wait=True)
