"""Blocking calls to an event log in threads, each until a deadline.

Rasa answers all users from one event loop. A driver that waits there, or 5,000 events
that are decoded there, stop every conversation (1.9 s a turn with Rasa 3.6.21's own
Redis store). So both happen in threads, and no caller waits longer than a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import os
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Deque,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
)

from rasa_trackers.computing import TakesLong
from rasa_trackers.errors import release_frames, store_unavailable
from rasa_trackers.event_log import EventLog
from rasa_trackers.retries import Deadline, DeadlineLog, silent

if TYPE_CHECKING:
    from rasa_trackers.outage.log import OutageLog

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Takes the result of a call, or its failure; called once.
_Settle = Callable[[Any, Optional[BaseException]], None]

#: Seconds that a thread gets beyond its deadline to report by itself.
_GRACE = 0.5
#: Seconds between two looks at a deadline, which may move on.
_LONGEST_LOOK = 0.5
#: Seconds without an answer after which somebody looks whether the server is silent.
_SUSPICIOUS = 0.8
#: Seconds without any call after which the thread of the watchdog ends.
_IDLE = 5.0


class _Call:
    """One call that is under way, or waits for a thread."""

    def __init__(
        self,
        threads: Threads,
        log: DeadlineLog,
        function: Callable[..., object],
        args: Sequence[object],
        settle: _Settle,
    ) -> None:
        self.threads = threads
        self.log = log
        self.function = function
        self.args = args
        self.settle = settle
        #: Set by the pool once the call has a place in its queue.
        self.future: Optional[Future[None]] = None
        #: The thread that carries it out, once it has begun.
        self.thread: Optional[int] = None

    def run(self, watchdog: _Watchdog) -> None:
        """Call the function in this thread, and settle unless that was done meanwhile."""
        self.thread = threading.get_ident()
        result, failure = self._outcome()
        if isinstance(failure, TakesLong):
            release_frames(failure)
            del result, failure
            self.thread = None
            self.log.is_long = True
            self.threads.begin(self, watchdog)
            return
        if failure is not None:
            # No caller holds the failure, and with it the store, in a variable.
            release_frames(failure)
        if watchdog.forget(self):
            self.settle(result, failure)
            # Frames below the failure's refer to this call, which must not hold it.
            del self.function, self.args, self.settle
        del result, failure

    def _outcome(self) -> Tuple[object, Optional[BaseException]]:
        try:
            if self.threads.prepare is not None:
                self.threads.prepare(self.log)
            return self.function(self.log, *self.args), None
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            return None, error

    def give_up(self) -> None:
        """Tell the caller that the deadline has passed, and free the thread."""
        deadline = self.log.deadline
        deadline.give_up()
        # A call that has not begun waits for others, which have deadlines of their own.
        is_waiting = self.future is not None and self.future.cancel()
        self.settle(
            None,
            _busy(self.log.name, deadline)
            if is_waiting
            else silent(self.log.name, deadline),
        )
        if not is_waiting:
            _interrupt(self.log)


def _interrupt(log: EventLog) -> None:
    """Free the threads that wait for a silent server."""
    try:
        log.interrupt()
    except Exception:
        # Whatever the driver raises: the callers know already.
        logger.exception("%s: calls could not be interrupted.", log.name)


class _Watchdog:
    """Gives up calls whose deadline has passed: one thread for a whole process.

    A thread that waits for a silent server would be lost to its store, and would keep
    the process from ending. Whoever removes a call from the watchdog settles it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: Set[_Call] = set()
        self._is_running = False
        self._next_look = math.inf

    def watch(self, call: _Call) -> None:
        """Begin to watch a call."""
        look = time.monotonic() + _until_next_look(call)
        with self._changed:
            self._calls.add(call)
            if not self._is_running:
                self._is_running = True
                threading.Thread(
                    target=self._run, name="rasa_trackers-watchdog", daemon=True
                ).start()
            elif look < self._next_look:
                self._changed.notify()

    def forget(self, call: _Call) -> bool:
        """Stop watching a call; ``False`` if it was given up before."""
        with self._changed:
            if call not in self._calls:
                return False
            self._calls.remove(call)
            return True

    def has(self, call: _Call) -> bool:
        """Whether a call is still watched."""
        with self._changed:
            return call in self._calls

    def silent_calls(self, threads: Threads) -> List[_Call]:
        """Take away the calls of ``threads`` that have no answer, to settle them."""
        with self._changed:
            found = [
                call
                for call in self._calls
                if call.threads is threads and _is_suspicious(call)
            ]
            self._calls.difference_update(found)
            return found

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._wait():
                    self._is_running = False
                    return
                overdue = [
                    call for call in self._calls if call.log.deadline.left() < -_GRACE
                ]
                suspicious = {
                    call.threads
                    for call in self._calls.difference(overdue)
                    # One that has not begun waits for others, which may just be long.
                    if call.thread is not None and _is_suspicious(call)
                }
            for call in overdue:
                # In an outage it begins again, and is no error.
                if not call.threads.meets_outage(call) and self.forget(call):
                    call.give_up()
            for threads in suspicious:
                threads.on_silence()

    def _wait(self) -> bool:
        """Wait until the next look; ``False`` if there has been no call for long."""
        pause = min(map(_until_next_look, self._calls), default=_IDLE)
        self._next_look = time.monotonic() + pause
        is_idle = not self._calls
        self._changed.wait(pause)
        return not is_idle or bool(self._calls)


def _is_suspicious(call: _Call) -> bool:
    return _until_suspicious(call) <= 0


def _until_suspicious(call: _Call) -> float:
    """Seconds until a call has been without an answer for long."""
    deadline = call.log.deadline
    return min(_SUSPICIOUS, deadline.timeout) - deadline.silence()


def _until_next_look(call: _Call) -> float:
    """Seconds until a call can be overdue; less where its deadline may move."""
    pause = min(max(call.log.deadline.left(), 0) + _GRACE, _LONGEST_LOOK)
    until_suspicious = _until_suspicious(call)
    return min(pause, until_suspicious) if until_suspicious > 0 else pause


_watchdog = _Watchdog()


def _forget_parents_calls() -> None:
    global _watchdog  # noqa: PLW0603 - a child has none of its parent's threads
    _watchdog = _Watchdog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_calls)


class _Pool:
    """A bounded pool of threads, of which long calls have one half at most.

    A few long sessions that are read in a loop would take all threads otherwise, and
    each short call would wait for them.
    """

    def __init__(self, workers: int, name: str) -> None:
        #: Threads at most.
        self.workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._lock = threading.Lock()
        #: How many more long calls may begin now.
        self._left_for_long = max(1, workers // 2)
        self._waiting: Deque[Tuple[Future[None], Callable[[], None]]] = deque()

    def submit(self, work: Callable[[], None], *, is_long: bool) -> Future[None]:
        """Let a thread do the work; the future can be cancelled until it begins."""
        if not is_long:
            return self._threads.submit(work)
        future: Future[None] = Future()
        with self._lock:
            self._waiting.append((future, work))
            if not self._left_for_long:
                return future
            self._left_for_long -= 1
        try:
            self._threads.submit(self._work_through_long)
        except RuntimeError:  # it is closed: whoever runs now is the last
            self._work_through_long()
        return future

    def _work_through_long(self) -> None:
        """Do long work, one after the other, until none waits."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._left_for_long += 1
                    return
                future, work = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    work()
                except BaseException as error:  # noqa: BLE001 - the next one begins
                    future.set_exception(error)
                else:
                    future.set_result(None)
            del future, work

    def shutdown(self, *, wait: bool = True) -> None:
        """Begin nothing new; what waits is still done."""
        self._threads.shutdown(wait=wait)


class Threads:
    """Runs functions on an event log, in a bounded pool of threads.

    A function gets the log as its first argument, bound to the deadline of the call. One
    that raises ``TakesLong`` is called again where long calls have their place.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        timeout: float,
        workers: int,
        secrets: Sequence[Optional[str]] = (),
        prepare: Optional[Callable[[DeadlineLog], object]] = None,
    ) -> None:
        """Start no thread yet.

        Args:
            log: The log that the functions call.
            timeout: Seconds that the server may stay silent.
            workers: Threads at most.
            secrets: Passwords that the driver could put into an error's text.
            prepare: Called before each function, in its thread.
        """
        self._log = log
        self.prepare = prepare
        self._timeout = timeout
        self._secrets = secrets
        self._pool = _Pool(workers, "rasa_trackers")
        # While the database is away, calls mostly touch what is kept here; the threads of
        # the pool may still wait for the server.
        self._spare = _Pool(workers, "rasa_trackers-spare")
        self._outage: Optional[OutageLog] = None

    def watch(self, outage: OutageLog) -> None:
        """Tell the log which calls are silent, and begin them again in an outage."""
        self._outage = outage
        outage.on_outage = self._begin_silent_calls_again

    def on_silence(self) -> None:
        """A call has had no answer for long."""
        if self._outage is not None:
            self._outage.suspect_silence()

    def meets_outage(self, call: _Call) -> bool:
        """Whether a call without an answer is one of an outage, and begins again."""
        return (
            self._outage is not None
            and self._outage.begin_if_silent(call.thread)
            and not _watchdog.has(call)
        )

    def _begin_silent_calls_again(self) -> None:
        """Begin the calls that have no answer anew: the database is away.

        The thread that waits for the server begins nothing new afterwards.
        """
        silent_calls = _watchdog.silent_calls(self)
        for call in silent_calls:
            call.log.deadline.give_up()
            if call.future is not None:
                call.future.cancel()
            # What is under way may be carried out yet.
            self._begin(
                call.function, call.args, self._timeout, call.settle, is_in_doubt=True
            )
        if silent_calls:
            _interrupt(self._log)

    async def run(
        self, function: Callable[..., T], *args: object, is_long: bool = False
    ) -> T:
        """Run ``function(log, *args)`` in a thread and await its result.

        Args:
            function: The function.
            *args: Its arguments beside the log.
            is_long: Whether it is known beforehand that it takes long.

        Raises:
            ConnectionException: when the deadline has passed. Then the function may
                still be at work, but does not begin anything new.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        settle = functools.partial(_settle_on_loop, loop, answer)
        self._begin(function, args, self._timeout, settle, is_long=is_long)
        try:
            return await answer
        finally:
            # A failure's traceback holds this frame, and must not be held by it.
            del answer, settle

    def run_blocking(
        self,
        function: Callable[..., T],
        *args: object,
        timeout: Optional[float] = None,
        is_long: bool = False,
    ) -> T:
        """As :meth:`run`, for a caller without an event loop.

        Args:
            function: The function.
            *args: Its arguments beside the log.
            timeout: Seconds that the server may stay silent, where they differ.
            is_long: Whether it is known beforehand that it takes long.
        """
        answer: Future[T] = Future()

        settle = functools.partial(_settle_future, answer)
        self._begin(function, args, timeout or self._timeout, settle, is_long=is_long)
        try:
            return answer.result()
        finally:
            # A failure's traceback holds this frame, and must not be held by it.
            del answer, settle

    def in_background(self, function: Callable[..., object]) -> None:
        """Run ``function(log)`` some time; a failure is only logged."""

        def settle(_: object, failure: Optional[BaseException]) -> None:
            if failure is not None:
                logger.warning("%s", failure)

        self._begin(function, (), self._timeout, settle, is_long=True)

    def close(self, *, then: Callable[[], object]) -> threading.Thread:
        """Let the threads end once the calls under way are done.

        Args:
            then: Called after that.

        Returns:
            The thread in which this happens.
        """
        for pool in (self._pool, self._spare):
            pool.shutdown(wait=False)

        def wait() -> None:
            self._pool.shutdown(wait=True)
            then()

        thread = threading.Thread(
            target=wait, name="rasa_trackers-closing", daemon=True
        )
        # The interpreter starts no thread any more while it ends.
        with contextlib.suppress(RuntimeError):
            thread.start()
        return thread

    def _begin(
        self,
        function: Callable[..., object],
        args: Sequence[object],
        timeout: float,
        settle: _Settle,
        *,
        is_in_doubt: bool = False,
        is_long: bool = False,
    ) -> None:
        log = DeadlineLog(self._log, Deadline(timeout), self._secrets)
        log.is_in_doubt = is_in_doubt
        log.is_long = is_long
        call = _Call(self, log, function, args, settle)
        watchdog = _watchdog

        watchdog.watch(call)
        try:
            self.begin(call, watchdog)
        except BaseException:
            watchdog.forget(call)
            raise

    def begin(self, call: _Call, watchdog: _Watchdog) -> None:
        """Let a thread carry out a call, now or later."""
        is_away = self._outage is not None and self._outage.is_away
        call.future = (self._spare if is_away else self._pool).submit(
            functools.partial(call.run, watchdog), is_long=call.log.is_long
        )


def _busy(name: str, deadline: Deadline) -> Exception:
    return store_unavailable(
        f"{name} was busy with other calls for {deadline.timeout:g} seconds. Check that "
        f"the server is not overloaded; with a small pool of connections, raise its size "
        f"or the option 'timeout'."
    )


def _settle_on_loop(
    loop: asyncio.AbstractEventLoop,
    answer: asyncio.Future[Any],
    result: object,
    failure: Optional[BaseException],
) -> None:
    # A closed loop has nobody who waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_answer, answer, result, failure)


def _settle_future(
    answer: Future[Any], result: object, failure: Optional[BaseException]
) -> None:
    if failure is None:
        answer.set_result(result)
    else:
        answer.set_exception(failure)


def _answer(
    answer: asyncio.Future[Any], result: object, failure: Optional[BaseException]
) -> None:
    if answer.done():  # cancelled
        return
    if failure is None:
        answer.set_result(result)
    else:
        answer.set_exception(failure)
