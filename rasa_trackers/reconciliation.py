"""What a tracker and a log have in common, found out by comparing their events.

Asked only where the answer is not known beforehand: which events are new in a tracker
that this store neither gave out nor saved before; whether an append was carried out
that failed; and what is left of a log when a tracker takes its place.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from typing import (
    Any,
    Dict,
    Hashable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
)

T = TypeVar("T", bound=Hashable)


def new_events(
    stored: Sequence[str], events: Sequence[str], *, complete: bool
) -> List[int]:
    """Which of ``events`` the log does not hold.

    Both are serialised events in order. The two sequences are aligned from left to
    right: each event is looked for behind the place where the one before it was
    found, so events of another writer in between do no harm. What was not found is
    new, with two exceptions:

    * An event between two that were found, where the log has one of the same type
      and timestamp instead: that one was changed in the log, by anonymisation, say.
    * What a tracker has before the event with which the log begins: that part of the
      log was erased.

    Args:
        stored: The end of the log.
        events: The events of a tracker.
        complete: Whether ``stored`` is all of the log.

    Returns:
        The indices of the new events, in order.

    >>> new_events(["a", "b"], ["a", "b", "c"], complete=True)     # the usual case
    [2]
    >>> new_events(["a", "other", "b"], ["a", "b", "c"], complete=True)
    [2]
    >>> new_events(["a", "b"], ["c", "d"], complete=True)          # a fresh tracker
    [0, 1]
    >>> new_events(["y", "z"], ["x", "y", "z", "new"], complete=True)
    [3]
    >>> new_events(["w", "y"], ["x", "y"], complete=True)
    [0]
    """
    found = _aligned(stored, events)
    matched = [index for index, place in enumerate(found) if place is not None]
    if not matched:
        return list(range(len(events)))
    first, last = matched[0], matched[-1]
    begin = first if complete and found[first] == 0 else 0
    new = []
    behind = -1
    for index in range(begin, len(events)):
        place = found[index]
        if place is not None:
            behind = place
        elif not (
            first < index < last
            and _changed(stored[behind + 1 : _next(found, index)], events[index])
        ):
            new.append(index)
    return new


class Choice(NamedTuple):
    """One event of a log that a tracker has taken the place of."""

    #: Its place in the tracker; ``None`` for one that only the log has.
    event: Optional[int]
    #: Its place in the log; ``None`` for one that only the tracker has.
    stored: Optional[int]


def rewritten(
    stored: Sequence[Optional[T]], events: Sequence[T], known: Optional[int] = None
) -> List[Choice]:
    """What a log holds after a tracker has taken its place.

    That is the tracker's events, and what it cannot know of: events that others have
    appended since it was read; and such as this Rasa cannot read, unless all before
    them, too, was erased.

    Args:
        stored: What identifies each event of the log; ``None`` for one that this Rasa
            cannot read.
        events: What identifies each event of the tracker.
        known: How many events the log had when the tracker was read. If that is not
            told, the last one that the tracker has was the last one there; and if it
            has none of them, all were meant.

    >>> rewritten(["a", "b", "c"], ["b", "c"])           # older sessions were erased
    [Choice(event=0, stored=1), Choice(event=1, stored=2)]
    >>> rewritten(["a", "b", "other"], ["b"])
    [Choice(event=0, stored=1), Choice(event=None, stored=2)]
    >>> rewritten(["a", "b", "other"], ["a"], known=2)
    [Choice(event=0, stored=0), Choice(event=None, stored=2)]
    >>> rewritten([None, "a", None, "b"], ["a"], known=4)
    [Choice(event=0, stored=1), Choice(event=None, stored=2)]
    >>> rewritten(["a"], ["z"])
    [Choice(event=0, stored=None)]
    """
    found = _aligned(stored, events)
    matched = [place for place in found if place is not None]
    if known is None:
        known = matched[-1] + 1 if matched else len(stored)
    result: List[Choice] = []
    behind = 0

    def pass_by(place: int) -> None:
        nonlocal behind
        for between in range(behind, place):
            is_unreadable = stored[between] is None and between > matched[0]
            if is_unreadable or between >= known:
                result.append(Choice(None, between))
        behind = max(behind, place)

    matched = matched or [len(stored)]
    for index, at in enumerate(found):
        if at is not None:
            pass_by(at)
            behind = at + 1
        result.append(Choice(index, at))
    pass_by(len(stored))
    return result


def _aligned(stored: Sequence[Optional[T]], events: Sequence[T]) -> List[Optional[int]]:
    """Find each event's place in ``stored``; the places ascend."""
    places: Dict[Optional[T], List[int]] = {}
    for place, event in enumerate(stored):
        places.setdefault(event, []).append(place)
    found: List[Optional[int]] = []
    found_at = -1
    for event in events:
        candidates = places.get(event, [])
        behind = bisect_right(candidates, found_at)
        if behind < len(candidates):
            found_at = candidates[behind]
            found.append(found_at)
        else:
            found.append(None)
    return found


def _next(found: Sequence[Optional[int]], index: int) -> int:
    return next(place for place in found[index:] if place is not None)


def _changed(between: Sequence[str], event: str) -> bool:
    identity = _identity(event)
    return identity is not None and any(
        _identity(other) == identity for other in between
    )


def _identity(event: str) -> Optional[Tuple[Any, Any]]:
    try:
        parameters = json.loads(event)
    except ValueError:
        return None
    if not isinstance(parameters, dict):
        return None
    return parameters.get("event"), parameters.get("timestamp")
