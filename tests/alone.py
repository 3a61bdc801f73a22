"""pytest plugin: tests marked ``alone`` run while none of the other workers runs any.

With ``pytest -n 2`` (pytest-xdist) two processes share the tests. What measures a time
must not measure the other's load; what loads the machine must not spoil a measurement.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Generator

import pytest

# Any two files that all workers have.
_ROOM = Path(__file__)
_DOOR = Path(__file__).with_name("conftest.py")
#: Says which room the test is in, to the tests that it runs itself: they would wait for
#: it, as soon as another worker waits for it to be over.
_INSIDE = "TESTS_RUN_INSIDE"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: runs while no other test does")


# Outside of all others, so that the wait is not part of the test's time.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if os.environ.get(_INSIDE) == str(_ROOM):
        return (yield)
    exclusive = item.get_closest_marker("alone") is not None
    with _DOOR.open() as door, _ROOM.open() as room:
        # Whoever waits for the room keeps the door, so that the others cannot take
        # turns in it for ever.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        os.environ[_INSIDE] = str(_ROOM)
        try:
            return (yield)
        finally:
            del os.environ[_INSIDE]
