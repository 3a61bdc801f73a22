"""pytest plugin: a test's limit counts the time in which nothing happens.

pytest-timeout ends what takes long. A machine that is slow or shared takes long, too,
but it works meanwhile: its processes use processor time. With this plugin the limit of
pytest-timeout, from its option, its setting or its marker, is the time for which a test
neither ends nor uses the processor, in its process or a descendant of it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import Any

import psutil
import pytest
import pytest_timeout

#: Of one processor. Servers that wait use 1 percent all together, and a test that gets
#: no more than this of its machine would take 20 times as long as on its own.
WORKING_SHARE = 0.05
#: How often is looked within a limit.
LOOKS = 10


class Watch:
    """Tells how long a process and its descendants have not worked.

    Args:
        limit: In seconds; who works less than its share of it in processor time hangs.
        root: The process.
    """

    def __init__(self, limit: float, root: psutil.Process) -> None:
        self._limit = limit
        self._root = root
        self._worked_at = time.monotonic()
        self._used = processor_seconds(root)

    def hangs(self) -> bool:
        """Whether nothing has happened for as long as the limit."""
        now, used = time.monotonic(), processor_seconds(self._root)
        # It is less where a process has left the family, and taken its time along.
        if not 0 <= used - self._used < WORKING_SHARE * self._limit:
            self._worked_at, self._used = now, used
        return now - self._worked_at >= self._limit


def processor_seconds(root: psutil.Process) -> float:
    """What a process has used, and its descendants, those that have ended included."""
    used = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
                used += times.children_user + times.children_system
    return used


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Take the place of pytest-timeout's timer, which counts all time."""
    ended = threading.Event()

    def fail(*_: object) -> None:
        __tracebackhide__ = True
        pytest_timeout.timeout_sigalrm(item, settings)

    def interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    def end_all() -> None:
        pytest_timeout.timeout_timer(item, settings)

    def look() -> None:
        pause = settings.timeout / LOOKS
        # A thread that waits in a driver's code takes no notice of the signal.
        for end in (interrupt, end_all):
            # Most tests end before there is anything to watch.
            if ended.wait(pause):
                return
            watch = Watch(settings.timeout, psutil.Process())
            while not watch.hangs():
                if ended.wait(pause):
                    return
            end()

    def cancel() -> None:
        ended.set()
        looking.join()
        signal.signal(signal.SIGALRM, before)

    before = signal.signal(signal.SIGALRM, fail)
    looking = threading.Thread(target=look, name=f"hanging {item.nodeid}", daemon=True)
    looking.start()
    item.cancel_timeout = cancel  # type: ignore[attr-defined]
    return True
