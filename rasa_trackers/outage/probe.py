"""Looking whether the database is there, on connections of its own."""

from __future__ import annotations

import threading
from typing import Any, Mapping, NamedTuple, Optional

from rasa_trackers.backend import Backend
from rasa_trackers.event_log import EventLog
from rasa_trackers.retries import DeadlineLog
from rasa_trackers.threads import Threads

#: Seconds that the server may stay silent.
_PATIENCE = 0.8


class _Connected(NamedTuple):
    log: EventLog
    threads: Threads


class Probe:
    """Asks the server for something, and waits about a second for the answer.

    The pool of the store is not used: its connections may be stuck.
    """

    def __init__(
        self, backend: Backend, values: Mapping[str, Any], keep_users: bool
    ) -> None:
        """Connect to nothing yet.

        Args:
            backend: The kind of database.
            values: The checked options of the store.
            keep_users: Whether the store keeps users.
        """
        self._backend = backend
        self._values = values
        self._keep_users = keep_users
        self._connected: Optional[_Connected] = None
        self._lock = threading.Lock()

    def read(self, sender_id: str) -> None:
        """Read a conversation's newest event.

        Args:
            sender_id: The conversation.

        Raises:
            ConnectionException: when the server gives no answer.
            RasaException: when the server refuses it.
        """
        self._connection().threads.run_blocking(_read, sender_id)

    def open(self) -> None:
        """Create what is missing, as :meth:`EventLog.open` does.

        Raises:
            ConnectionException: when the server gives no answer.
            RasaException: when the server refuses it.
        """
        self._connection().threads.run_blocking(_open, timeout=self._values["timeout"])

    def close(self) -> None:
        """Give up the connections until the next doubt."""
        with self._lock:
            connected, self._connected = self._connected, None
        if connected is not None:
            connected.threads.close(then=connected.log.close)

    def before_fork(self) -> None:
        """Prepare for a fork of this process."""
        self._lock.acquire()
        if self._connected is not None:
            self._connected.log.before_fork()

    def after_fork(self) -> None:
        """Go on, in the parent."""
        if self._connected is not None:
            self._connected.log.after_fork()
        self._lock.release()

    def _connection(self) -> _Connected:
        with self._lock:
            if self._connected is None:
                made = self._backend.make_log(
                    {**self._values, "timeout": _PATIENCE}, self._keep_users
                )
                threads = Threads(
                    made.log, timeout=_PATIENCE, workers=1, secrets=made.secrets
                )
                self._connected = _Connected(made.log, threads)
            return self._connected


def _read(log: DeadlineLog, sender_id: str) -> None:
    log.read_back(sender_id, limit=1)


def _open(log: DeadlineLog) -> None:
    log.open()
