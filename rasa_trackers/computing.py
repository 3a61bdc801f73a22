"""Work on many events, in slices.

Threads that encode or decode at the same time gain nothing from each other, but each of
them delays the event loop by one more turn at the interpreter (5 ms). So one thread of a
process computes at a time, and lets others go on after each slice: their conversation
may be a short one.

Long work has a turn of its own, so that short work never waits for it, and pauses after
each slice: a thread that only offers the interpreter gets it back before another one has
woken up. A long session is read and built to its end before the next one is begun: threads
that read beside each other would keep the interpreter among themselves, and each object
that is alive makes each garbage collection longer (130 ms with four trackers of 20,000
events).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import (
    Callable,
    ContextManager,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    TypeVar,
)

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
#: Seconds that long work goes on before it pauses, and for how long it does.
_UNTIL_PAUSE = 0.001
_PAUSE = 0.0003

#: Seconds between two looks at whoever holds the turn of long work.
_LOOK = 0.1
#: Seconds without an answer of a server after which nobody waits for that turn.
_SILENCE = 0.5


class TakesLong(Exception):
    """A call has found that it takes long; it begins again among the long ones."""


def is_long(events: int, characters: int = 0) -> bool:
    """Whether work on so many events, with so much text, is long."""
    return events > LONG_EVENTS or characters > LONG_CHARACTERS


class _TurnOfLong:
    """Lets one thread of the process do long work.

    It may wait for a server meanwhile. Should the server be silent, the others go on:
    each of them is to find out by itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: Optional[int] = None
        self._deadline: Optional[Deadline] = None

    @contextlib.contextmanager
    def held(self, deadline: Deadline) -> Iterator[None]:
        """Hold the turn; once more if this thread has it.

        Args:
            deadline: The deadline of the call. It stands still until it is its turn.
        """
        if self._thread == threading.get_ident():
            yield
            return
        with deadline.suspended():
            while not self._lock.acquire(timeout=_LOOK):
                holder = self._deadline
                if holder is not None and holder.silence() > _SILENCE:
                    break
            else:
                self._thread, self._deadline = threading.get_ident(), deadline
        try:
            yield
        finally:
            if self._thread == threading.get_ident():
                self._thread = self._deadline = None
                self._lock.release()


_turn = threading.Lock()
_turn_of_long = _TurnOfLong()


def _new_turns() -> None:
    global _turn, _turn_of_long
    _turn, _turn_of_long = threading.Lock(), _TurnOfLong()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_turns)


def turn_of_long(deadline: Deadline, *, is_long: bool) -> ContextManager[None]:
    """Hold the turn of long work; nothing for short work.

    Args:
        deadline: The deadline of the call.
        is_long: Whether the work is long.
    """
    return _turn_of_long.held(deadline) if is_long else contextlib.nullcontext()


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
    with turn_of_long(deadline, is_long=takes_long), deadline.suspended():
        paused_at = time.perf_counter()
        for some in _slices(items, lengths):
            if takes_long:
                results.extend(work(some))
                if time.perf_counter() - paused_at > _UNTIL_PAUSE:
                    pause()
                    paused_at = time.perf_counter()
            else:
                with _turn:
                    results.extend(work(some))
                time.sleep(0)
    return results


def pause() -> None:
    """Let other threads run, in long work."""
    time.sleep(_PAUSE)


def _slices(
    items: Sequence[T], lengths: Optional[Sequence[int]]
) -> Iterator[Sequence[T]]:
    if lengths is None or sum(lengths) <= _SLICE_CHARACTERS:
        for begin in range(0, len(items), SLICE):
            yield items[begin : begin + SLICE]
        return
    begin = text = 0
    for index, length in enumerate(lengths):
        text += length
        if index - begin == SLICE or (index > begin and text > _SLICE_CHARACTERS):
            yield items[begin:index]
            begin, text = index, length
    yield items[begin:]
