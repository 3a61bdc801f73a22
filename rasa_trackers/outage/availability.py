"""Whether the database is there, or a part of it that can be away alone."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import Callable, Optional

from rasa_trackers.errors import is_unavailable
from rasa_trackers.event_log import Failure
from rasa_trackers.outage.background import start_thread

logger = logging.getLogger(__name__)

#: Seconds for which every call has failed before the database counts as away: one that
#: restarts a connection, or fails over at once, is no outage.
_PATIENCE = 0.3
#: Seconds between two probes.
_PROBE_INTERVAL = 1.0


class Availability:
    """Knows whether the database is there, by the calls that fail and by probes.

    One thread probes, and only while there is doubt: nothing else waits for the server.
    """

    def __init__(
        self,
        name: str,
        probe: Callable[[], None],
        *,
        timeout: float,
        on_begin: Callable[[str], None],
        on_silence: Callable[[], None],
        on_return: Callable[[], bool],
        on_end: Callable[[], None],
    ) -> None:
        """Take the database for available.

        Args:
            name: How messages name the database.
            probe: Asks the server for something; raises ``ConnectionException`` if
                there is no answer within a second.
            timeout: Seconds that the server may stay silent in a call.
            on_begin: Called when an outage has begun, with its reason.
            on_silence: Called when no call of an outage is answered any more.
            on_return: Called when a probe has succeeded during an outage; whether the
                outage is over.
            on_end: Called when the outage is over, again and again while it raises.
        """
        self.name = name
        self._probe = probe
        # A call is tried again at least three times as long before it is an error.
        self._patience = min(_PATIENCE, timeout / 4)
        self._timeout = timeout
        self._on_begin = on_begin
        self._on_silence = on_silence
        self._on_return = on_return
        self._on_end = on_end
        self._lock = threading.Lock()
        #: When calls began to fail, by the monotonic clock, if none has succeeded since.
        self._failing_since: Optional[float] = None
        #: When a call or a probe was answered last, by the monotonic clock.
        self._answered_at = -math.inf
        self._is_probing = False
        self._is_closed = False
        self._wake = threading.Event()
        self._begun_at = 0.0
        #: Whether an outage is under way.
        self.is_away = False
        #: Whether the outage is over, and what waits is being stored.
        self.is_ending = False
        #: Whether the server answers in an outage, but stores nothing.
        self.is_readable = False
        #: Whether the outage began with a call that was to write.
        self.began_with_write = False
        #: When the outage began, in seconds since the epoch.
        self.away_since = 0.0
        #: Why the database counts as away, in the driver's words, with a remedy.
        self.reason = ""

    def succeeded(self) -> None:
        """A call was answered."""
        self._answered_at = time.monotonic()
        if self._failing_since is not None and not self.is_away:
            self._failing_since = None

    def failed(
        self, failure: Failure, reason: str, *, begun_at: float, writes: bool
    ) -> None:
        """A call has failed because the database is away.

        Args:
            failure: What the error means.
            reason: The driver's words, with a remedy.
            begun_at: When the call began, by the monotonic clock.
            writes: Whether the call was to write.
        """
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        # A driver that waits for a silent server until its own limit fails but once.
        silence = now - max(begun_at, self._answered_at)
        if (
            not failure.transient
            or now - self._failing_since >= self._patience
            or silence >= self._timeout / 2
        ):
            # What the server refuses for good, it has answered.
            self.begin(reason, is_readable=not failure.transient, writes=writes)

    def suspect(self) -> None:
        """A call has been without an answer for long: look whether the server is silent.

        The outage begins if it is. A server that is slow but answers is waited for.
        """
        self._start_probing()

    def is_silent_since(self, begun_at: float) -> bool:
        """Whether neither a call nor a probe was answered since then.

        Args:
            begun_at: By the monotonic clock.
        """
        return self._answered_at < begun_at

    def begin(
        self, reason: str, *, is_readable: bool = False, writes: bool = False
    ) -> None:
        """Take the database for away.

        Args:
            reason: Why, with a remedy.
            is_readable: Whether the server is known to answer.
            writes: Whether a call was to write that has shown it.
        """
        with self._lock:
            if self.is_away or self._is_closed:
                return
            self.is_away = True
            self.is_readable = is_readable
            self.began_with_write = writes
            self.away_since = time.time()
            self._begun_at = time.monotonic()
            self.reason = reason
        try:
            self._on_begin(reason)
        finally:
            self._start_probing()  # without which the outage would have no end

    def end(self) -> None:
        """A call has shown that the outage is over."""
        if self._has_ended():
            self._end_in_time()

    def close(self) -> None:
        """Probe no more."""
        self._is_closed = True
        self._wake.set()

    def _start_probing(self) -> None:
        with self._lock:
            if self._is_probing or self._is_closed:
                return
            self._is_probing = start_thread(self._probe_until_it_is_back, "probe")

    def _probe_until_it_is_back(self) -> None:
        while not self._is_closed:
            begun_at = time.monotonic()
            is_answered = self._is_answered()
            with self._lock:
                if is_answered and not self.is_away:
                    self._is_probing = False
                    return
            # Not at once: a server that is only read-only answers, and what was to be
            # saved is not in the spool yet.
            if (
                is_answered
                and time.monotonic() - self._begun_at >= _PROBE_INTERVAL
                and self._is_over()
                and self._has_ended(stop_probing=True)
            ):
                self._end_in_time()
                return
            self._wake.wait(max(0.0, begun_at + _PROBE_INTERVAL - time.monotonic()))
        with self._lock:
            self._is_probing = False

    def _is_answered(self) -> bool:
        """Probe once; whether there was an answer."""
        try:
            self._probe()
        except Exception as error:  # noqa: BLE001 - a refusal is an answer, too
            if is_unavailable(error):
                self.begin(str(error))
                if self.is_readable:
                    self.is_readable = False
                    self._on_silence()
                return False
            self._answered_at = time.monotonic()
            if not self.is_away:
                return True
            # A server that refuses a read is none to go on with.
            if str(error) != self.reason:
                self.reason = str(error)
                logger.warning("%s answers again, with an error: %s", self.name, error)
            return False
        self._answered_at = time.monotonic()
        self.is_readable = self.is_away
        return True

    def _is_over(self) -> bool:
        try:
            return self._on_return()
        except Exception:
            # A later probe may succeed.
            logger.exception("%s: what waits could not be stored.", self.name)
            return False

    def _has_ended(self, *, stop_probing: bool = False) -> bool:
        """End the outage; ``False`` if there is none."""
        with self._lock:
            if not self.is_away:
                return False
            self.is_away = self.is_readable = False
            self.is_ending = True
            self._failing_since = None
            # One lock for both: the next outage begins to probe anew.
            self._is_probing = self._is_probing and not stop_probing
            return True

    def _end_in_time(self) -> None:
        """Do what is to be done after the outage, unless the next one begins."""
        while not self._is_closed and not self.is_away:
            try:
                self._on_end()
            except Exception as error:  # noqa: BLE001 - tried again
                logger.debug("%s: not all is stored yet: %s", self.name, error)
            else:
                break
            self._wake.wait(_PROBE_INTERVAL)
        self.is_ending = False
