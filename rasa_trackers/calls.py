"""Blocking calls to an event log: off the event loop, with deadline and retries.

Rasa answers all users from one event loop. A driver that waits, or 5,000 events
that are decoded there, stop every conversation (1.9 s a turn with Rasa 3.6.21's own
Redis store); so both happen in threads, and never longer than a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait as wait_for
from typing import Any, Callable, Iterator, Optional, Sequence, TypeVar

from rasa_trackers.event_log import EventLog, Failure
from rasa_trackers.options import redact
from rasa_trackers.rasa_versions import ConnectionException, RasaException

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that a thread gets beyond its deadline to report by itself.
_GRACE = 0.5
_LONGEST_LOOK = 1.0
#: Seconds before the first retry; doubled from one to the next.
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0


class Deadline:
    """Until when a call may take; moved on whenever the server has answered.

    Limits how long a server may stay silent, not how long a big read may take.
    """

    def __init__(self, timeout: float) -> None:
        #: Seconds that the server may stay silent.
        self.timeout = timeout
        self._given_up = False
        self.renew()

    def renew(self) -> None:
        """The server has answered: start anew."""
        self._end = time.monotonic() + self.timeout

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Work that waits for no server takes as long as it takes."""
        self._end = math.inf
        try:
            yield
        finally:
            self.renew()

    def give_up(self) -> None:
        """Let it have passed for good: its caller was told that the call failed."""
        self._given_up = True

    def left(self) -> float:
        """Seconds left; negative when it has passed."""
        return -1 if self._given_up else self._end - time.monotonic()


class Calls:
    """Runs functions that call a log, in a bounded pool of threads of its own.

    A function gets its :class:`Deadline` as the first argument and calls the log
    through :meth:`patiently`.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        timeout: float,
        workers: int,
        secrets: Sequence[Optional[str]] = (),
    ) -> None:
        """Start no thread yet.

        Args:
            log: The log that the functions call.
            timeout: Seconds that the server may stay silent.
            workers: Threads at the most.
            secrets: Passwords that the driver could put into an error's text.
        """
        self._log = log
        self._timeout = timeout
        self._secrets = secrets
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="rasa_trackers")

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run ``function(deadline, *args)`` in a thread and await its result.

        Raises:
            ConnectionException: when the deadline has passed; then the function may
                still be at work, but does not begin anything new.
        """
        deadline = Deadline(self._timeout)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        timer: asyncio.TimerHandle

        def work() -> None:
            result: Any = None
            failure: Optional[BaseException] = None
            try:
                result = function(deadline, *args)
            except BaseException as error:  # noqa: BLE001 - raised where it's awaited
                failure = error
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, answer, result, failure)

        def look() -> None:
            nonlocal timer
            if deadline.left() >= -_GRACE:
                timer = loop.call_later(_patience(deadline), look)
            elif not answer.done():
                answer.set_exception(self._given_up(deadline, future))

        timer = loop.call_later(_patience(deadline), look)
        try:
            # By one future and not by asyncio.wait(), which takes as long as all the
            # rest of the hand-over.
            future = self._pool.submit(work)
            try:
                return await answer
            except asyncio.CancelledError:
                # Also by a loop that ends, and no timer of which runs any more.
                self._watch(future, deadline)
                raise
        finally:
            timer.cancel()

    def run_blocking(
        self, function: Callable[..., T], *args: object, timeout: float
    ) -> T:
        """As :meth:`run`, for a constructor, with a deadline of its own in seconds."""
        deadline = Deadline(timeout)
        future = self._pool.submit(function, deadline, *args)
        while True:
            try:
                return future.result(timeout=_patience(deadline))
            except FutureTimeoutError:
                # It may be an error of the function's own, or be done by now.
                if future.done():
                    return future.result()
                if deadline.left() < -_GRACE:
                    raise self._given_up(deadline, future) from None
            except BaseException:
                if not future.done():  # Ctrl-C
                    self._watch(future, deadline)
                raise

    def in_background(self, function: Callable[..., object]) -> None:
        """Run ``function(deadline)`` some time; failures are only logged."""

        def report(future: Future[object]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                logger.warning("%s", error)

        deadline = Deadline(self._timeout)
        future = self._pool.submit(function, deadline)
        future.add_done_callback(report)
        self._watch(future, deadline)

    def _watch(self, future: Future[Any], deadline: Deadline) -> None:
        """End a call in time for which nobody waits.

        A thread that waits for a silent server is lost to the store else, and keeps
        the process from ending.
        """

        def watch() -> None:
            while not wait_for([future], timeout=_patience(deadline)).done:
                if deadline.left() < -_GRACE:
                    self._given_up(deadline, future)
                    return

        threading.Thread(target=watch, name="rasa_trackers-watch", daemon=True).start()

    def patiently(self, deadline: Deadline, call: Callable[[], T]) -> T:
        """``call()``, tried again after passing failures until the deadline.

        Raises:
            ConnectionException: when the server could not be reached in time, or
                refused the connection.
            RasaException: when the server refused what was asked of it.
        """
        pause = _FIRST_PAUSE
        retried = False
        while True:
            if deadline.left() <= 0:
                raise self._silent(deadline)
            try:
                result = call()
            except Exception as error:
                failure = self._log.classify(error)
                if failure is None:
                    raise
                if not failure.transient or deadline.left() <= pause:
                    raise self._translated(error, failure) from self._cause(error)
                if not retried:
                    logger.warning(
                        "%s: %s. Trying again.", self._log.name, self._text(error)
                    )
                retried = True
                # At random, so that writers that got in each other's way part.
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if retried:
                    logger.info("%s: works again.", self._log.name)
                deadline.renew()
                return result

    def close(self) -> None:
        """Let the threads end when they are done."""
        self._pool.shutdown(wait=False)

    def _given_up(self, deadline: Deadline, future: Future[Any]) -> RasaException:
        deadline.give_up()
        if future.cancel():
            # Not begun: those that are under way have deadlines of their own.
            return ConnectionException(
                f"{self._log.name} was busy with other calls for {deadline.timeout:g} "
                f"seconds. Check that the server is not overloaded; with a small pool "
                f"of connections, raise its size or the option 'timeout'."
            )
        try:
            self._log.interrupt()
        except Exception:
            # Whatever it is, the caller is told.
            logger.exception("%s: calls could not be interrupted.", self._log.name)
        return self._silent(deadline)

    def _silent(self, deadline: Deadline) -> RasaException:
        return ConnectionException(
            f"{self._log.name} did not answer within {deadline.timeout:g} seconds. "
            f"Check that the server runs, can be reached and is not overloaded; the "
            f"option 'timeout' of the tracker store sets how long to wait."
        )

    def _translated(self, error: Exception, failure: Failure) -> RasaException:
        kind = ConnectionException if failure.transient else RasaException
        remedy = failure.remedy or "Check the server's log."
        return kind(f"{self._log.name}: {self._text(error)}. {remedy}")

    def _text(self, error: Exception) -> str:
        driver_error = getattr(error, "orig", None) or error
        text = " ".join(str(driver_error).split()) or type(driver_error).__name__
        return redact(text, self._secrets).rstrip(".")

    def _cause(self, error: Exception) -> Optional[Exception]:
        # A traceback prints the cause's text: only when no password stands in it.
        return error if redact(str(error), self._secrets) == str(error) else None


def _patience(deadline: Deadline) -> float:
    """Seconds until the next look at the deadline, which may have moved by then."""
    return min(max(deadline.left(), 0) + _GRACE, _LONGEST_LOOK)


def _settle(
    answer: asyncio.Future[Any], result: object, failure: Optional[BaseException]
) -> None:
    if answer.done():  # cancelled, or given up
        return
    if failure is None:
        answer.set_result(result)
    else:
        answer.set_exception(failure)
