"""What a tracker knows of the log: up to which event it is saved.

A save appends what comes after that event, and compares nothing. Two marks say so:

* :class:`SavedUpTo` on the tracker that the store gave out or saved. It is exact.
* A position on each saved event. Copies of a tracker have the same events, or copies of
  them, and so they know what is saved as well. A copy of a tracker whose conversation
  was erased meanwhile does not bring it back.

Both name the place (a database and what in it belongs to the store), so that a mark says
nothing to the store of another place.
"""

from __future__ import annotations

import weakref
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

from rasa_trackers.event_log import START
from rasa_trackers.rasa_versions import DialogueStateTracker, Event

_ON_TRACKER = "_rasa_trackers_saved_up_to"
_ON_EVENT = "_rasa_trackers_position"


def _on_event(place: str, sender_id: str) -> str:
    """The attribute that a saved event has for a log.

    Its value is a bare number: an object for each event of a long session would make the
    garbage collector run, which costs more than the marks.
    """
    return f"{_ON_EVENT}:{place}:{sender_id}"


class SavedUpTo:
    """How far a tracker is saved."""

    def __init__(
        self,
        place: str,
        tracker: DialogueStateTracker,
        saved: Sequence[Event],
        position: int,
        user_id: Optional[str],
    ) -> None:
        """Remember how far a tracker is saved.

        Args:
            place: The place where it is saved.
            tracker: The tracker.
            saved: The leading events of ``tracker.events`` that the log holds.
            position: The log's last position.
            user_id: The user whose conversation it is, as the log has it.
        """
        self._place = place
        # A shallow copy shares the mark but gets different events.
        self._tracker = weakref.ref(tracker)
        self._last_event = saved[-1] if saved else None
        self._index = len(saved) - 1
        self.position = position
        self.user_id = user_id
        #: Whether an append of what follows was begun and not seen to end.
        self.is_uncertain = False

    def __reduce__(self) -> Tuple[Callable[[], None], Tuple[()]]:
        """Let deep copies and pickles of a tracker have no such mark."""
        return _no_mark, ()

    def is_of(self, place: str, tracker: DialogueStateTracker) -> bool:
        """Whether the mark was left on this tracker by a store of this place."""
        return self._place == place and self._tracker() is tracker

    def new_events(
        self, tracker: DialogueStateTracker, events: List[Event]
    ) -> Optional[List[Event]]:
        """The events that the log does not hold; ``None`` when that cannot be told."""
        if self._last_event is None:
            return events
        bound = getattr(tracker.events, "maxlen", None)
        if bound is None:
            index = self._index
            if index < len(events) and events[index] is self._last_event:
                return events[index + 1 :]
            return None
        # The events of a bounded deque move to the left, and out of it.
        indices = [n for n, event in enumerate(events) if event is self._last_event]
        if len(indices) == 1:
            return events[indices[0] + 1 :]
        # The event fell out of a full deque; all events in the deque came later.
        return events if not indices and len(events) == bound else None


def _no_mark() -> None:
    return None


def saved_up_to(place: str, tracker: DialogueStateTracker) -> Optional[SavedUpTo]:
    """The mark that a store of this place has left on this tracker."""
    mark: Any = getattr(tracker, _ON_TRACKER, None)
    if isinstance(mark, SavedUpTo) and mark.is_of(place, tracker):
        return mark
    return None


def mark_tracker(tracker: DialogueStateTracker, mark: SavedUpTo) -> None:
    """Leave a mark on a tracker."""
    setattr(tracker, _ON_TRACKER, mark)


def unmark_tracker(tracker: DialogueStateTracker) -> None:
    """Remove the mark: the log may hold more than the tracker."""
    tracker.__dict__.pop(_ON_TRACKER, None)


def mark_events(
    place: str,
    sender_id: str,
    events: Sequence[Event],
    position: int,
    *,
    marked: int = 0,
) -> None:
    """Note on saved events that they are in the log.

    Args:
        place: The place where they are saved.
        sender_id: The conversation.
        events: The events; the last of them is the log's last event.
        position: The position of the last one. Those before it get ascending numbers
            below it, which need not be their positions.
        marked: How many leading events are marked already. A long session costs nothing
            for each of its saves by that.
    """
    mark = _on_event(place, sender_id)
    before = position - len(events) + marked
    if marked and events[marked - 1].__dict__.get(mark, before + 1) > before:
        # What waited in a spool has another position in the database.
        marked, before = 0, position - len(events)
    for number, event in enumerate(events[marked:], before + 1):
        # Not by setattr, which some event classes forbid.
        event.__dict__[mark] = number


class KnownEnd(NamedTuple):
    """Where a log ended when a tracker's events were last read or saved."""

    position: int
    #: The events that came after it.
    new: List[Event]


def known_end(place: str, sender_id: str, events: List[Event]) -> Optional[KnownEnd]:
    """What the marks on the events of a copied tracker say; ``None`` if they are unclear.

    Clear marks ascend from the first event on, and no event behind the last of them has
    one. Otherwise an event was put between saved ones, or stands in the tracker twice.
    """
    mark = _on_event(place, sender_id)
    saved, position = 0, START
    for index, event in enumerate(events):
        number = event.__dict__.get(mark)
        if number is None:
            continue
        if index != saved or (saved and number <= position):
            return None
        saved, position = index + 1, number
    return KnownEnd(position, events[saved:]) if saved else None
