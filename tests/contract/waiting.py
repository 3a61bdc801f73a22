"""Waits that no slow machine can make fail."""

from __future__ import annotations

import time
from typing import Callable, Sequence

import pytest

from rasa_trackers.event_log import Entry, EventLog

#: Seconds by which a conversation may expire too early: the clocks of some databases
#: tell whole seconds.
CLOCK_STEP = 1.0
#: Seconds after which nothing is waited for any more: something does not work.
LIMIT = 60.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {LIMIT:g} seconds")
        time.sleep(0.01)


class TooSlow(Exception):
    """A machine took longer for some steps than a conversation lives."""


class Life:
    """A life of conversations, and whether what is under way is within it."""

    #: Seconds; a story is told again with a longer life where the machine was too slow.
    LENGTHS = (0.4, 2.0, 8.0, 30.0)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = time.monotonic()

    def begins(self) -> None:
        """Called before the first append whose conversation must still live later."""
        self._began = time.monotonic()

    def renewed_by(
        self, log: EventLog, sender_id: str, entries: Sequence[Entry], after: int
    ) -> int:
        """Append to a conversation that lives, which begins its life anew."""
        began = time.monotonic()
        position = log.append(sender_id, entries, after)
        self.check(position is not None)
        assert position is not None
        self._began = began
        return position

    def check(self, holds: object) -> None:
        """Assert what only holds while the conversation lives."""
        if not holds:
            elapsed = time.monotonic() - self._began
            if elapsed >= 0.75 * self.seconds - CLOCK_STEP:
                raise TooSlow
            pytest.fail("a conversation has gone before its time")


def live(story: Callable[[Life], None]) -> None:
    """Tell a story that is about conversations which have not expired yet."""
    for seconds in Life.LENGTHS:
        try:
            return story(Life(seconds))
        except TooSlow:
            continue
    pytest.fail("this machine is too slow to say anything about expiry")
