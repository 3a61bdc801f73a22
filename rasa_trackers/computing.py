"""Work on many events, in slices.

Threads that encode or decode at the same time gain nothing from each other, but each of
them delays the event loop by one more turn at the interpreter (5 ms). So one thread of a
process computes at a time, and lets others go on after each slice: their conversation
may be a short one.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Callable, Iterable, List, Sequence, TypeVar

from rasa_trackers.retries import Deadline

T = TypeVar("T")
R = TypeVar("R")

#: Events in one slice: about 1 ms.
SLICE = 250

_turn = threading.Lock()


def _new_turn() -> None:
    global _turn  # noqa: PLW0603 - the thread that holds it is not there after a fork
    _turn = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_turn)


def in_slices(
    deadline: Deadline, items: Sequence[T], work: Callable[[Sequence[T]], Iterable[R]]
) -> List[R]:
    """What ``work`` makes of all items, called with some of them at a time.

    Args:
        deadline: The deadline of the call, which waits for no server meanwhile.
        items: The items, in order.
        work: Gets a slice of the items; its results are put together.
    """
    results: List[R] = []
    with deadline.suspended():
        for begin in range(0, len(items), SLICE):
            with _turn:
                results.extend(work(items[begin : begin + SLICE]))
            time.sleep(0)
    return results
