"""Whether the database is there."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable, Optional

from rasa_trackers.errors import is_unavailable
from rasa_trackers.event_log import Failure

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
        on_begin: Callable[[str], None],
        on_return: Callable[[], bool],
        on_end: Callable[[], None],
    ) -> None:
        """Take the database for available.

        Args:
            name: How messages name the database.
            probe: Asks the server for something; raises ``ConnectionException`` if
                there is no answer within a second.
            on_begin: Called when an outage has begun, with its reason.
            on_return: Called when a probe has succeeded during an outage; whether the
                outage is over.
            on_end: Called when the outage is over.
        """
        self._name = name
        self._probe = probe
        self._on_begin = on_begin
        self._on_return = on_return
        self._on_end = on_end
        self._lock = threading.Lock()
        #: When calls began to fail, by the monotonic clock, if none has succeeded since.
        self._failing_since: Optional[float] = None
        self._is_probing = False
        self._is_closed = False
        self._wake = threading.Event()
        #: Whether an outage is under way.
        self.is_away = False
        #: Whether the server answers in an outage, but stores nothing.
        self.is_readable = False
        #: When the outage began, in seconds since the epoch.
        self.away_since = 0.0

    def succeeded(self) -> None:
        """A call was answered."""
        if self._failing_since is not None and not self.is_away:
            self._failing_since = None

    def failed(self, failure: Failure, reason: str) -> None:
        """A call has failed because the database is away.

        Args:
            failure: What the error means.
            reason: The driver's words.
        """
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if not failure.transient or now - self._failing_since >= _PATIENCE:
            self.begin(reason)

    def suspect(self) -> None:
        """A call has been without an answer for long: look whether the server is silent.

        The outage begins if it is. A server that is slow but answers is waited for.
        """
        self._start_probing(pause=0.0)

    def begin(self, reason: str) -> None:
        """Take the database for away."""
        with self._lock:
            if self.is_away or self._is_closed:
                return
            self.is_away = True
            self.is_readable = False
            self.away_since = time.time()
        self._on_begin(reason)
        # Not at once: a server that is only read-only would answer, and what was to be
        # saved is not in the spool yet.
        self._start_probing(pause=_PROBE_INTERVAL)

    def close(self) -> None:
        """Probe no more."""
        self._is_closed = True
        self._wake.set()

    def _start_probing(self, *, pause: float) -> None:
        with self._lock:
            if self._is_probing or self._is_closed:
                return
            self._is_probing = True
        threading.Thread(
            target=self._probe_until_it_is_back,
            args=(pause,),
            name="rasa_trackers-probe",
            daemon=True,
        ).start()

    def _probe_until_it_is_back(self, pause: float) -> None:
        self._wake.wait(pause)
        while not self._is_closed:
            begun_at = time.monotonic()
            try:
                self._probe()
            except Exception as error:  # noqa: BLE001 - a refusal is an answer, too
                if is_unavailable(error):
                    self.begin(str(error))
                elif self._stop_probing():
                    return
            else:
                if self._stop_probing():
                    return
                self.is_readable = True
                if self._is_over():
                    with self._lock:
                        self.is_away = self.is_readable = self._is_probing = False
                        self._failing_since = None
                    self._end()
                    return
            self._wake.wait(max(0.0, begun_at + _PROBE_INTERVAL - time.monotonic()))
        with self._lock:
            self._is_probing = False

    def _stop_probing(self) -> bool:
        """The server answers: stop, unless an outage is under way."""
        with self._lock:
            if not self.is_away:
                self._is_probing = False
            return not self.is_away

    def _is_over(self) -> bool:
        try:
            return self._on_return()
        except Exception:
            # A later probe may succeed.
            logger.exception("%s: what waits could not be stored.", self._name)
            return False

    def _end(self) -> None:
        try:
            self._on_end()
        except Exception as error:  # noqa: BLE001 - the next outage has begun, or will
            logger.debug("%s: not all that waits is stored yet: %s", self._name, error)
