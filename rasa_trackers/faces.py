"""The two forms in which Rasa calls a tracker store: coroutines and plain methods.

The store is written once, as coroutines that wait for nothing but the methods of a face.
From Rasa 3.2 on Rasa awaits them. Before, Rasa calls plain methods on its event loop, or
where no event loop is. There the methods of the face block instead of waiting, so that a
coroutine runs from its beginning to its end in one step, and no event loop takes part.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from typing import (
    Any,
    AsyncContextManager,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Set,
    Type,
    TypeVar,
)

from rasa_trackers.shared_logs import SharedLog

logger = logging.getLogger(__name__)

T = TypeVar("T")
Store = TypeVar("Store")


class AsyncFace:
    """For a Rasa that awaits: the event loop goes on while a call waits."""

    def __init__(self, shared: SharedLog) -> None:
        """Serve one store.

        Args:
            shared: The log that the store calls.
        """
        self._shared = shared
        #: Saves that are under way: the event loop itself does not hold on to them.
        self._saves: Set[asyncio.Future[None]] = set()

    @staticmethod
    def shown(store: Type[Store]) -> Type[Store]:
        """Give a store class the methods that Rasa calls: its coroutines."""
        return store

    async def run(
        self, function: Callable[..., T], *args: object, is_long: bool = False
    ) -> T:
        """Run ``function(log, *args)`` in a thread."""
        return await self._shared.threads.run(function, *args, is_long=is_long)

    def turn(self, sender_id: str) -> AsyncContextManager[None]:
        """Hold the turn of a conversation, to write to it."""
        return self._shared.turns.one_at_a_time(sender_id)

    def turn_to_read(self, sender_id: str) -> AsyncContextManager[None]:
        """Hold the turn of a conversation, to read it."""
        return self._shared.turns_to_read.one_at_a_time(sender_id)

    async def to_the_end(self, saving: Awaitable[None], sender_id: str) -> None:
        """Save a conversation, also where the caller is cancelled.

        A channel that closes cancels its handler. The events that are stored must still
        be published, and no other save of the conversation may begin before.
        """
        save = asyncio.ensure_future(saving)
        self._saves.add(save)
        save.add_done_callback(self._saves.discard)
        try:
            await asyncio.shield(save)
        except asyncio.CancelledError:
            save.add_done_callback(functools.partial(_report, sender_id))
            raise
        finally:
            # A failure's traceback holds this frame, and must not be held by it.
            del save


class PlainFace:
    """For a Rasa that calls plain methods: each blocks, no longer than its deadline."""

    def __init__(self, shared: SharedLog) -> None:
        """Serve one store.

        Args:
            shared: The log that the store calls.
        """
        self._shared = shared

    @staticmethod
    def shown(store: Type[Store]) -> Type[Store]:
        """Give a store class the methods that Rasa calls: plain ones."""
        for name, method in list(vars(store).items()):
            if inspect.iscoroutinefunction(method) and not name.startswith("_"):
                setattr(store, name, _plain(method))
        return store

    async def run(
        self, function: Callable[..., T], *args: object, is_long: bool = False
    ) -> T:
        """Run ``function(log, *args)`` in a thread, whose deadline ends it."""
        return self._shared.threads.run_blocking(function, *args, is_long=is_long)

    @contextlib.asynccontextmanager
    async def turn(self, sender_id: str) -> AsyncIterator[None]:
        """Hold the turn of a conversation among the threads that write to it."""
        with self._shared.turns.one_at_a_time_blocking(sender_id):
            yield

    @contextlib.asynccontextmanager
    async def turn_to_read(self, sender_id: str) -> AsyncIterator[None]:
        """Hold the turn of a conversation among the threads that read it."""
        with self._shared.turns_to_read.one_at_a_time_blocking(sender_id):
            yield

    async def to_the_end(self, saving: Awaitable[None], sender_id: str) -> None:
        """Save a conversation; nobody can cancel a plain method."""
        await saving


def _plain(method: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., T]:
    """A plain method that runs a coroutine which never waits for an event loop."""

    @functools.wraps(method)
    def plain(*args: Any, **kwargs: Any) -> T:
        running = method(*args, **kwargs)
        try:
            running.send(None)
        except StopIteration as stopped:
            result: T = stopped.value
            return result
        running.close()
        raise AssertionError(f"{method.__qualname__} waits for an event loop")

    return plain


def _report(sender_id: str, save: asyncio.Future[None]) -> None:
    """Log how a save failed that nobody waits for any more."""
    error = None if save.cancelled() else save.exception()
    if error is not None:
        logger.error("Conversation %r was not saved: %s", sender_id, error)
