"""Which of a tracker's events does a log hold already?

Asked only where the answer is not known beforehand: for a tracker that this store
neither gave out nor saved before, and after a failure that left open whether an
append was carried out.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from typing import Any, Dict, List, Optional, Sequence, Tuple


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


def _aligned(stored: Sequence[str], events: Sequence[str]) -> List[Optional[int]]:
    """For each event its place in ``stored``; the places found ascend."""
    places: Dict[str, List[int]] = {}
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
