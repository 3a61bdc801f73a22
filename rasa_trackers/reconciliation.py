"""Which of a tracker's events does a log hold already?

Asked only where the answer is not known beforehand: for a tracker that this store
neither gave out nor saved before, and after a failure that left open whether an
append was carried out.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Dict, List, Sequence


def count_stored(stored: Sequence[str], events: Sequence[str]) -> int:
    """How many leading ``events`` are in the log; those that follow are new.

    Both are serialised events in order. The two sequences are aligned from left to
    right: each event is looked for behind the place where the one before it was
    found. Everything up to the last event found counts as stored. So an event of
    another writer in between, a beginning that was erased from the log or that
    a bounded tracker has dropped, and an event that was changed in the log (by
    anonymisation, say) do not make the rest look new.

    >>> count_stored(["a", "b"], ["a", "b", "c"])       # the usual case
    2
    >>> count_stored(["a", "other", "b"], ["a", "b", "c"])
    2
    >>> count_stored(["y", "z"], ["x", "y", "z", "new"])  # "x" was erased
    3
    >>> count_stored(["a", "b"], ["c", "d"])              # a fresh tracker
    0
    """
    places: Dict[str, List[int]] = {}
    for place, event in enumerate(stored):
        places.setdefault(event, []).append(place)
    count, found_at = 0, -1
    for number, event in enumerate(events, start=1):
        candidates = places.get(event)
        if candidates is None:
            continue
        behind = bisect_right(candidates, found_at)
        if behind < len(candidates):
            found_at = candidates[behind]
            count = number
    return count
