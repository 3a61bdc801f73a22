"""How long an event loop stands still."""

from __future__ import annotations

import asyncio
import time
from typing import Any


class Pulse:
    """Measures the longest stall of the event loop while its block runs."""

    def __init__(self, interval: float = 0.0) -> None:
        """Measure nothing yet.

        Args:
            interval: Seconds between two beats, for a load that is not to be disturbed.
        """
        self._interval = interval
        #: Seconds of the longest stall, beyond the interval.
        self.longest = 0.0

    async def __aenter__(self) -> Pulse:
        self._task = asyncio.ensure_future(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_exception: Any) -> None:
        # A stall that has just ended is noted by the next beat.
        await asyncio.sleep(0)
        self._task.cancel()

    async def _beat(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(self._interval)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last - self._interval)
            last = now
