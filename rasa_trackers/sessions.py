"""Reading a conversation back to where its last session begins."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from rasa_trackers import rasa_versions
from rasa_trackers.codec import DECODER, UndecodableEvent
from rasa_trackers.computing import TakesLong, in_slices, is_long, turn_of_long
from rasa_trackers.event_log import Page, Stored
from rasa_trackers.marks import mark_events
from rasa_trackers.paging import (
    FIRST_PAGE,
    characters,
    fitting,
    pages_of_one_state,
    read_one_state,
)
from rasa_trackers.rasa_versions import (
    Boundary,
    DialogueStateTracker,
    Event,
    TrackerStore,
)
from rasa_trackers.retries import Deadline, DeadlineLog

logger = logging.getLogger(__name__)

#: Events that a session gains between two reads.
_TURN = 30
#: Longer sessions whose length is remembered: 1 MB.
_LONG_SESSIONS = 10_000


class SessionLengths:
    """How many events, and how much text, the sessions had when they were read last.

    A session of known length is read in one round trip, and a very long one where long
    calls have their place. The length is only a guess: another process may have begun a
    new session.
    """

    def __init__(self) -> None:
        #: How many events, and how long their texts are together.
        self._lengths: OrderedDict[str, Tuple[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def expected(self, sender_id: str) -> int:
        """How many events to ask for first."""
        events, text = self._lengths.get(sender_id, (0, 0))
        return fitting(_grown(events), events, text)

    def is_long(self, sender_id: str) -> bool:
        """Whether it takes long to read the session."""
        return is_long(*self._lengths.get(sender_id, (0, 0)))

    def note(self, sender_id: str, events: int, text: int) -> None:
        """Remember the length of a session, if it is a long one."""
        with self._lock:
            self._lengths.pop(sender_id, None)
            if _grown(events) > FIRST_PAGE or is_long(events, text):
                self._lengths[sender_id] = (events, text)
                if len(self._lengths) > _LONG_SESSIONS:
                    self._lengths.popitem(last=False)


def _grown(length: int) -> int:
    return max(FIRST_PAGE, length + length // 8 + _TURN)


class ReadTracker(NamedTuple):
    """A tracker made of stored events."""

    tracker: DialogueStateTracker
    #: The events of the tracker.
    events: List[Event]
    #: The position of the log's last event.
    position: int
    user_id: Optional[str]


class Reading(NamedTuple):
    """How a conversation is read."""

    #: The place of the log, for marks.
    place: str
    lengths: SessionLengths
    #: How many of the newest events to read; ``None`` for no limit.
    most: Optional[int] = None


def read_last_session(
    log: DeadlineLog, store: TrackerStore, sender_id: str, reading: Reading
) -> Optional[ReadTracker]:
    """The tracker of the last session; ``None`` for an unknown conversation.

    Where the last session cannot be replayed by itself, the tracker has as many of the
    sessions before it as that takes.

    Raises:
        TakesLong: when the session is a long one, and the call not among the long ones.
    """
    boundary = rasa_versions.session_boundary(store)
    return _read(
        *(log, store, sender_id, reading), lambda pages: _sessions(pages, boundary)
    )


def read_all_sessions(
    log: DeadlineLog, store: TrackerStore, sender_id: str, reading: Reading
) -> Optional[ReadTracker]:
    """The tracker of a whole conversation; ``None`` for an unknown one.

    Raises:
        TakesLong: when it is a long one, and the call not among the long ones.
    """
    return _read(log, store, sender_id, reading, _joined)


def _read(
    log: DeadlineLog,
    store: TrackerStore,
    sender_id: str,
    reading: Reading,
    runs_of: Callable[[Iterator[Page]], Iterator[Page]],
) -> Optional[ReadTracker]:
    pages = _Pages(log, sender_id, reading)
    with turn_of_long(log.deadline, is_long=log.is_long):
        return read_one_state(
            *(log, sender_id),
            lambda: _tracker_of(log, store, pages, runs_of(iter(pages))),
        )


class _Pages:
    """The pages of a conversation, as far as they are asked for."""

    def __init__(self, log: DeadlineLog, sender_id: str, reading: Reading) -> None:
        self.sender_id = sender_id
        self.reading = reading
        self._log = log

    def __iter__(self) -> Iterator[Page]:
        events = text = 0
        most = self.reading.most
        limit = self.reading.lengths.expected(self.sender_id)
        for whole in pages_of_one_state(self._log, self.sender_id, limit):
            page = whole
            if most is not None and events + len(page.events) >= most:
                # What is older stays stored. For the tracker, the log begins here.
                page = Page(page.events[events - most :], True, page.user_id)
            events += len(page.events)
            text += characters(page.events)
            if is_long(events, text) and not self._log.is_long:
                self.reading.lengths.note(self.sender_id, events, text)
                raise TakesLong
            yield page
            if page.complete:
                return


def _joined(pages: Iterator[Page]) -> Iterator[Page]:
    """One run of all events."""
    newest_first = list(pages)
    events = [event for page in reversed(newest_first) for event in page.events]
    if events:
        yield newest_first[0]._replace(events=events, complete=True)


def _sessions(pages: Iterator[Page], boundary: Boundary) -> Iterator[Page]:
    """The last session; then, on demand, each session before it.

    Where no session was ever begun, one run of all events.
    """
    unread: List[Stored] = []
    parted = False
    for page in pages:
        begin = len(page.events)
        # Events from ``end`` on were given already.
        end = len(page.events)
        while not parted and begin > 0:
            begin -= 1
            if not _is_boundary(boundary, page.events[begin]):
                continue
            start = begin + boundary.offset
            session = page.events[start:end] + unread
            if session:
                is_all = page.complete and start == 0
                yield page._replace(events=session, complete=is_all)
                if is_all:
                    return
                end, unread = start, []
            parted = not boundary.one_by_one
        unread = page.events[:end] + unread
        if unread and (page.complete or not page.events):
            yield page._replace(events=unread)


def _is_boundary(boundary: Boundary, stored: Stored) -> bool:
    if boundary.text not in stored.data:
        return False
    try:
        event = DECODER.decode(stored.data)
    except UndecodableEvent:
        return False
    return event is not None and boundary.is_one(event)


def _tracker_of(
    log: DeadlineLog, store: TrackerStore, pages: _Pages, runs: Iterator[Page]
) -> Optional[ReadTracker]:
    """A tracker of the first run, or of as many runs as it takes to replay them."""
    sender_id = pages.sender_id
    events: List[Event] = []
    text = 0
    newest: Optional[Page] = None
    for run in runs:
        newest = newest or run
        text += characters(run.events)
        events = _decoded(log, sender_id, run.events) + events
        tracker = rasa_versions.new_tracker(store, sender_id, newest.user_id)
        if _applied(log.deadline, tracker, events, is_all=run.complete):
            break
    else:
        if newest is None:
            return None
        tracker = rasa_versions.new_tracker(store, sender_id, newest.user_id)
        _applied(log.deadline, tracker, events, is_all=True)
    place, lengths, _ = pages.reading
    lengths.note(sender_id, len(events), text)
    # A bounded tracker has the newest ones alone.
    events = list(tracker.events)
    position = newest.events[-1].position
    _mark_events(log.deadline, place, sender_id, events, position)
    return ReadTracker(tracker, events, position, newest.user_id)


def _mark_events(
    deadline: Deadline, place: str, sender_id: str, events: List[Event], position: int
) -> None:
    """Note on the events of a new tracker that they are in the log."""
    if not is_long(len(events)):
        mark_events(place, sender_id, events, position)
        return
    first = position - len(events)

    def mark(some: Sequence[Event]) -> Iterator[None]:
        nonlocal first
        first += len(some)
        mark_events(place, sender_id, some, first)
        return iter(())

    in_slices(deadline, events, mark)


def _applied(
    deadline: Deadline,
    tracker: DialogueStateTracker,
    events: Sequence[Event],
    *,
    is_all: bool,
) -> bool:
    """Apply events to a tracker; ``False`` if they build upon older ones."""

    def apply(some: Sequence[Event]) -> List[bool]:
        return [rasa_versions.apply_events(tracker, some, is_all=is_all)]

    return all(in_slices(deadline, events, apply))


def _decoded(log: DeadlineLog, sender_id: str, stored: List[Stored]) -> List[Event]:
    """The events of stored texts. Damaged ones are skipped, with a warning."""
    skipped: List[str] = []
    begin = 0

    def decode(some: Sequence[str]) -> List[Event]:
        nonlocal begin
        found, errors = DECODER.decode_all(some)
        skipped.extend(
            f"event {stored[begin + index].position}: {error}"
            for index, error in errors.items()
        )
        begin += len(some)
        return found

    events = in_slices(log.deadline, [data for _, data in stored], decode, len)
    if skipped:
        logger.warning(
            "%s: %d of the events of conversation %r were skipped: %s%s. They stay "
            "stored. Install the component that defines an unknown event type; restore a "
            "damaged event from a backup, or delete it.",
            log.name,
            len(skipped),
            sender_id,
            "; ".join(skipped[:3]),
            "; ..." if len(skipped) > 3 else "",
        )
    return events
