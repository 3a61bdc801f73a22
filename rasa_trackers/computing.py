"""Work on many events, in slices.

Threads that encode or decode at the same time gain nothing from each other, but each of
them delays the event loop by one more turn at the interpreter (5 ms). So one thread of a
process computes at a time, and lets others go on after each slice: their conversation
may be a short one.

Long work has a turn of its own, so that short work never waits for it, and pauses after
each slice: a thread that only offers the interpreter gets it back before another one has
woken up.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Callable, Iterable, Iterator, List, Optional, Sequence, TypeVar

from rasa_trackers.retries import Deadline

T = TypeVar("T")
R = TypeVar("R")

#: Events in one slice: about 1 ms. A slice has no more characters than these, unless one
#: event alone has.
SLICE = 250
_SLICE_CHARACTERS = 256 * 1024

#: Work on more than that is long.
LONG_EVENTS = 2000
LONG_CHARACTERS = 1024 * 1024
#: Seconds between two slices of long work.
_PAUSE = 0.001

_turn = threading.Lock()
_turn_of_long = threading.Lock()


class TakesLong(Exception):
    """A call has found that it takes long; it begins again among the long ones."""


def is_long(events: int, characters: int = 0) -> bool:
    """Whether work on so many events, with so much text, is long."""
    return events > LONG_EVENTS or characters > LONG_CHARACTERS


def _new_turns() -> None:
    global _turn, _turn_of_long  # noqa: PLW0603 - a child has no thread that holds them
    _turn, _turn_of_long = threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_turns)


def in_slices(
    deadline: Deadline,
    items: Sequence[T],
    work: Callable[[Sequence[T]], Iterable[R]],
    characters_of: Optional[Callable[[T], int]] = None,
) -> List[R]:
    """What ``work`` makes of all items, called with some of them at a time.

    Args:
        deadline: The deadline of the call, which waits for no server meanwhile.
        items: The items, in order.
        work: Gets a slice of the items; its results are put together.
        characters_of: How long the text of an item is, where that is known.
    """
    lengths = None if characters_of is None else list(map(characters_of, items))
    takes_long = is_long(len(items), sum(lengths or ()))
    results: List[R] = []
    with deadline.suspended():
        for some in _slices(items, lengths):
            if not takes_long:
                with _turn:
                    results.extend(work(some))
                time.sleep(0)
                continue
            with _turn_of_long:
                results.extend(work(some))
                time.sleep(_PAUSE)
    return results


def pause() -> None:
    """Let other threads run: for work on one long event, which has no slices."""
    time.sleep(_PAUSE)


def _slices(
    items: Sequence[T], lengths: Optional[Sequence[int]]
) -> Iterator[Sequence[T]]:
    if lengths is None or sum(lengths) <= _SLICE_CHARACTERS:
        for begin in range(0, len(items), SLICE):
            yield items[begin : begin + SLICE]
        return
    begin = characters = 0
    for index, length in enumerate(lengths):
        characters += length
        if index - begin == SLICE or (index > begin and characters > _SLICE_CHARACTERS):
            yield items[begin:index]
            begin, characters = index, length
    yield items[begin:]
