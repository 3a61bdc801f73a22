"""Open logs, shared by the stores of one process that have equal options.

A process makes a store more than once: Rasa makes one for each model that is loaded and
never closes the one before; Rasa Pro makes one after each call that has failed, on the
event loop, and another for its privacy jobs. All of them mean one place. They share its
connections and threads, the order of saves, and what trackers know of the log. A store in
memory even keeps its conversations by that.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
import weakref
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from rasa_trackers.backend import Backend
from rasa_trackers.retries import DeadlineLog
from rasa_trackers.threads import Threads
from rasa_trackers.turns import Turns

#: Seconds between two searches for expired conversations, at most.
_PURGE_INTERVAL = 60.0

#: What equal stores have in common: the process, the backend, options and environment.
_Key = Tuple[int, str, str]


class SharedLog:
    """One log with its threads, for all stores of this process that mean the place."""

    def __init__(
        self, backend: Backend, values: Mapping[str, Any], keep_users: bool
    ) -> None:
        """Make the log, and do not open it yet.

        Args:
            backend: The kind of database.
            values: The checked options.
            keep_users: Whether the log is to keep users.
        """
        made = backend.make_log(values, keep_users)
        timeout: float = values["timeout"]
        record_exp: Optional[float] = values["record_exp"]
        self.log = made.log
        #: Names the place in marks on trackers and events.
        self.place = (
            _fingerprint(backend, values) if made.outlives_process else uuid.uuid4().hex
        )
        self.threads = Threads(
            made.log, timeout=timeout, workers=made.workers, secrets=made.secrets
        )
        self.turns = Turns(made.log.name, timeout)
        self._opening = threading.Lock()
        self._is_open = False
        self._purge_interval = record_exp and min(record_exp, _PURGE_INTERVAL)
        self._next_purge = time.monotonic()
        #: Stores that use this log.
        self.stores = 0

    @property
    def is_open(self) -> bool:
        """Whether the server was reached once."""
        return self._is_open

    def open(self, log: DeadlineLog) -> None:
        """Reach the server and create what is missing, unless that is done."""
        with self._opening:
            if not self._is_open:
                log.open()
                self._is_open = True

    def purge_now_and_then(self) -> None:
        """Erase expired conversations in the background, if it is time for that."""
        if self._purge_interval and time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + self._purge_interval
            self.threads.in_background(_purge)

    def close(self) -> threading.Thread:
        """Give up the connections, in a thread that waits for the calls under way."""
        return self.threads.close(then=self.log.close)


def _purge(log: DeadlineLog) -> None:
    while log.purge_expired():
        pass


_shared: Dict[_Key, SharedLog] = {}
# Reentrant: a collection of garbage may release a store while one is acquired.
_finding = threading.RLock()


def _forget_parents_logs() -> None:
    global _finding  # noqa: PLW0603 - a thread of the parent may hold it
    _finding = threading.RLock()
    # Not closed: sockets and threads are the parent's.
    _shared.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_logs)


def acquire(
    store: object, backend: Backend, values: Mapping[str, Any], keep_users: bool
) -> Tuple[SharedLog, Callable[[], Optional[threading.Thread]]]:
    """The log of a store.

    Args:
        store: The store that uses it.
        backend: The kind of database.
        values: The checked options.
        keep_users: Whether the log is to keep users.

    Returns:
        The log, and what gives up its use. That happens by itself as soon as nobody
        refers to the store. The last store closes the log, in the thread that is
        returned then.
    """
    key = (os.getpid(), backend.store, _fingerprint(backend, values))
    with _finding:
        shared = _shared.get(key)
        if shared is None:
            shared = _shared[key] = SharedLog(backend, values, keep_users)
        shared.stores += 1
    release = weakref.finalize(store, _release, key, shared)
    # When the process ends, its connections end with it.
    release.atexit = False
    return shared, release


def _release(key: _Key, shared: SharedLog) -> Optional[threading.Thread]:
    with _finding:
        shared.stores -= 1
        if shared.stores > 0 or key[0] != os.getpid():
            return None
        if _shared.get(key) is shared:
            del _shared[key]
    return shared.close()


def _fingerprint(backend: Backend, values: Mapping[str, Any]) -> str:
    """What the options say, and the environment variables that the backend reads."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(tuple(backend.environment))
    }
    # Hashed, because passwords are among them.
    text = repr([backend.store, sorted(values.items()), sorted(environment.items())])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
