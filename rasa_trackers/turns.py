"""Saves of one conversation in this process, one after the other."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import AsyncIterator, Dict

from rasa_trackers.errors import store_unavailable


class Turns:
    """Lets one save of a conversation begin when the one before it has ended."""

    def __init__(self, name: str, timeout: float) -> None:
        """Let nobody wait yet.

        Args:
            name: How messages name the log.
            timeout: Seconds that a save waits for the one before it.
        """
        self._name = name
        self._timeout = timeout
        #: The last save of each conversation, by sender id; done when it has ended.
        self._last: Dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def one_at_a_time(self, sender_id: str) -> AsyncIterator[None]:
        """Hold the turn of a conversation.

        Raises:
            ConnectionException: when the save before takes longer than ``timeout``.
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
                    raise store_unavailable(
                        f"{self._name}: a save of conversation {sender_id!r} waited "
                        f"{self._timeout:g} seconds for the one before it. Check that "
                        f"the server is not overloaded."
                    )
            yield
        finally:
            if before is None or before.done():
                mine.set_result(None)
            else:
                before.add_done_callback(lambda _: mine.set_result(None))
            if self._last.get(sender_id) is mine:
                del self._last[sender_id]
