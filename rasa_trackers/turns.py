"""Saves, or reads, of one conversation in this process, one after the other."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, wait
from contextlib import asynccontextmanager, contextmanager
from typing import AsyncIterator, Dict, Iterator

from rasa_trackers.errors import store_unavailable


class Turns:
    """Lets one call for a conversation begin when the one before it has ended.

    A store has such turns for its saves, and others for its reads.
    """

    def __init__(self, name: str, timeout: float, what: str = "save") -> None:
        """Let nobody wait yet.

        Args:
            name: How messages name the log.
            timeout: Seconds that a call waits for the one before it.
            what: What the calls do, for messages.
        """
        self._name = name
        self._timeout = timeout
        self._what = what
        #: The last call of each conversation, by sender id; done when it has ended.
        self._last: Dict[str, asyncio.Future[None]] = {}
        #: The same, where no event loop takes part.
        self._last_blocking: Dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    @asynccontextmanager
    async def one_at_a_time(self, sender_id: str) -> AsyncIterator[None]:
        """Hold the turn of a conversation.

        Raises:
            ConnectionException: when the call before takes longer than ``timeout``.
        """
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        before = self._last.get(sender_id)
        self._last[sender_id] = mine
        if before is not None and before.get_loop() is not loop:
            before = None  # that loop has ended
        try:
            if before is not None:
                await asyncio.wait({before}, timeout=self._timeout)
                if not before.done():
                    raise self._waited_too_long(sender_id)
            yield
        finally:
            if before is None or before.done():
                mine.set_result(None)
            else:
                before.add_done_callback(lambda _: mine.set_result(None))
            if self._last.get(sender_id) is mine:
                del self._last[sender_id]

    @contextmanager
    def one_at_a_time_blocking(self, sender_id: str) -> Iterator[None]:
        """As :meth:`one_at_a_time`, for threads that call without an event loop.

        Raises:
            ConnectionException: when the call before takes longer than ``timeout``.
        """
        mine: Future[None] = Future()
        with self._lock:
            before = self._last_blocking.get(sender_id)
            self._last_blocking[sender_id] = mine
        try:
            if before is not None and not wait([before], self._timeout).done:
                raise self._waited_too_long(sender_id)
            yield
        finally:
            if before is None or before.done():
                mine.set_result(None)
            else:
                before.add_done_callback(lambda _: mine.set_result(None))
            with self._lock:
                if self._last_blocking.get(sender_id) is mine:
                    del self._last_blocking[sender_id]

    def _waited_too_long(self, sender_id: str) -> Exception:
        return store_unavailable(
            f"{self._name}: a {self._what} of conversation {sender_id!r} waited "
            f"{self._timeout:g} seconds for the one before it. Check that the server is "
            f"not overloaded."
        )
