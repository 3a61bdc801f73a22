"""Reading a conversation back to where its last session begins."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import Iterator, List, NamedTuple, Optional, Sequence

from rasa_trackers import rasa_versions
from rasa_trackers.codec import DECODER, UndecodableEvent
from rasa_trackers.computing import in_slices
from rasa_trackers.event_log import Page, Stored
from rasa_trackers.paging import FIRST_PAGE, pages_newest_first
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
    """How many events the sessions had when they were read last.

    A session of known length is read in one round trip. The length is only a guess:
    another process may have begun a new session.
    """

    def __init__(self) -> None:
        self._lengths: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def expected(self, sender_id: str) -> int:
        """How many events to ask for first."""
        return _grown(self._lengths.get(sender_id, 0))

    def note(self, sender_id: str, length: int) -> None:
        """Remember the length of a session, if it is a long one."""
        with self._lock:
            self._lengths.pop(sender_id, None)
            if _grown(length) > FIRST_PAGE:
                self._lengths[sender_id] = length
                if len(self._lengths) > _LONG_SESSIONS:
                    self._lengths.popitem(last=False)


def _grown(length: int) -> int:
    return max(FIRST_PAGE, length + length // 8 + _TURN)


class ReadTracker(NamedTuple):
    """A tracker made of stored events."""

    tracker: DialogueStateTracker
    #: The position of the log's last event.
    position: int
    user_id: Optional[str]


def read_last_session(
    log: DeadlineLog, store: TrackerStore, sender_id: str, lengths: SessionLengths
) -> Optional[ReadTracker]:
    """The tracker of the last session; ``None`` for an unknown conversation.

    Where the last session cannot be replayed by itself, the tracker has as many of the
    sessions before it as that takes.
    """
    boundary = rasa_versions.session_boundary(store)
    pages = pages_newest_first(log, sender_id, lengths.expected(sender_id))
    read = _tracker_of(log, store, sender_id, _sessions(pages, boundary))
    if read is not None:
        lengths.note(sender_id, len(read.tracker.events))
    return read


def read_all_sessions(
    log: DeadlineLog, store: TrackerStore, sender_id: str
) -> Optional[ReadTracker]:
    """The tracker of a whole conversation; ``None`` for an unknown one."""
    page = log.read_back(sender_id)
    runs = [page._replace(complete=True)] if page.events else []
    return _tracker_of(log, store, sender_id, iter(runs))


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
    log: DeadlineLog, store: TrackerStore, sender_id: str, runs: Iterator[Page]
) -> Optional[ReadTracker]:
    """A tracker of the first run, or of as many runs as it takes to replay them."""
    events: List[Event] = []
    newest: Optional[Page] = None
    for run in runs:
        newest = newest or run
        events = _decoded(log, sender_id, run.events) + events
        tracker = rasa_versions.new_tracker(store, sender_id, newest.user_id)
        if _applied(log.deadline, tracker, events, is_all=run.complete):
            break
    else:
        if newest is None:
            return None
        tracker = rasa_versions.new_tracker(store, sender_id, newest.user_id)
        _applied(log.deadline, tracker, events, is_all=True)
    return ReadTracker(tracker, newest.events[-1].position, newest.user_id)


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

    def decode(some: Sequence[Stored]) -> List[Event]:
        found, errors = DECODER.decode_all([data for _, data in some])
        skipped.extend(
            f"event {some[index].position}: {error}" for index, error in errors.items()
        )
        return found

    events = in_slices(log.deadline, stored, decode)
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
