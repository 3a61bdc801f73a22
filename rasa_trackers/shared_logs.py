"""Open logs, shared by the stores of one process that have equal options.

A process makes a store more than once: Rasa makes one for each model that is loaded and
never closes the one before; Rasa Pro makes one after each call that has failed, on the
event loop, and another for its privacy jobs. All of them mean one place. They share its
connections and threads, the order of saves, and what trackers know of the log. A store in
memory even keeps its conversations by that.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import threading
import time
import uuid
import weakref
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from rasa_trackers import __version__
from rasa_trackers.backend import Backend, MadeLog
from rasa_trackers.errors import is_unavailable
from rasa_trackers.outage.log import OutageLog
from rasa_trackers.outage.probe import Probe
from rasa_trackers.outage.spool import Spool
from rasa_trackers.retries import DeadlineLog
from rasa_trackers.sessions import SessionLengths
from rasa_trackers.store_options import changed
from rasa_trackers.threads import Threads
from rasa_trackers.turns import Turns

logger = logging.getLogger(__name__)

#: Seconds between two searches for expired conversations, at most.
_PURGE_INTERVAL = 60.0

#: What equal stores have in common: the backend, options and environment.
_Key = Tuple[str, str]


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
        self._backend = backend
        self._values = values
        self._keep_users = keep_users
        made = backend.make_log(values, keep_users)
        #: Names the place in marks on trackers and events.
        self.place = (
            _fingerprint(backend, values) if made.outlives_process else uuid.uuid4().hex
        )
        record_exp: Optional[float] = values["record_exp"]
        self._purge_interval = record_exp and min(record_exp, _PURGE_INTERVAL)
        #: Stores that use this log.
        self.stores = 0
        self._begin(made)

    def _begin(self, made: MadeLog, *, in_child: bool = False) -> None:
        """Begin with all that belongs to this process alone."""
        values = self._values
        timeout: float = values["timeout"]
        self.log = made.log
        #: Stands in front of the log; ``None`` for a log that cannot be away.
        self.outage: Optional[OutageLog] = None
        if made.outlives_process:
            self.log = self.outage = OutageLog(
                made.log,
                probe=Probe(self._backend, values, self._keep_users),
                spool=_spool(values, made.place),
                recent_bytes=values["recent_bytes"],
                reads_newer=values["read_newer"],
                record_exp=values["record_exp"],
                timeout=timeout,
                secrets=made.secrets,
            )
        self.threads = Threads(
            self.log,
            timeout=timeout,
            workers=made.workers,
            secrets=made.secrets,
            prepare=self._open_in_child if in_child else None,
        )
        #: How long sessions were when they were read. Anew in the child of a fork: a thread
        #: of the parent may hold the lock.
        self.session_lengths = SessionLengths()
        self._made = made
        if self.outage is not None:
            self.threads.watch(self.outage)
        self.turns = Turns(made.log.name, timeout)
        #: A conversation that many ask for at once gets one thread, and not all.
        self.turns_to_read = Turns(made.log.name, timeout, "read")
        self._is_open = False
        self._opening = threading.Lock()
        self._next_purge = time.monotonic()

    def open(self, startup_timeout: float) -> None:
        """Reach the server and create what is missing, unless that is done.

        With a spool in a file, a database that is away is no reason not to start.

        Args:
            startup_timeout: Seconds to wait for a server that is not up yet.

        Raises:
            ConnectionException: when the server could not be reached in time.
            RasaException: when the server refuses.
        """
        with self._opening:
            if self._is_open:
                return
            try:
                self.threads.run_blocking(_open, timeout=startup_timeout)
            except Exception as error:
                if not self._begins_without_database(error):
                    raise
            self._is_open = True
            self._say_where_conversations_are()

    def _say_where_conversations_are(self) -> None:
        """Let the operator see that Rasa uses this store, and not one in memory."""
        spool = self.outage and self.outage.spool
        names = changed(self._backend.options, self._values)
        logger.info(
            "rasa_trackers %s: %s keeps conversations in %s. %sOptions that differ from "
            "their defaults: %s.",
            __version__,
            self._backend.store,
            self._made.log.name,
            f"{len(spool.sender_ids())} conversations wait in the spool ({spool.name}). "
            if spool
            else "",
            ", ".join(names) or "none",
        )

    def _begins_without_database(self, error: Exception) -> bool:
        return (
            is_unavailable(error)
            and self.outage is not None
            and self.outage.begin_without_database(error)
        )

    # A fork

    def before_fork(self) -> None:
        """Prepare for a fork of this process."""
        self.log.before_fork()

    def after_fork(self) -> None:
        """Go on, in the parent."""
        self.log.after_fork()

    def begin_in_child(self) -> None:
        """Begin anew in the child of a fork.

        Threads, sockets, locks and clocks are the parent's. They are kept, and nothing is
        done with them: a driver that closes a connection would say so to the server.
        """
        if not self._made.outlives_process:
            self.log.after_fork()
            self._begin(self._made)
            self._is_open = True
            return
        _keep_for_ever((self.log, self.threads, self._made))
        self._begin(
            self._backend.make_log(self._values, self._keep_users), in_child=True
        )

    def _open_in_child(self, log: DeadlineLog) -> None:
        """Open the log at the first call: a fork waits for no server."""
        if self._is_open:
            return
        with self._opening:
            if self._is_open:
                return
            try:
                log.open()
            except Exception as error:
                if not self._begins_without_database(error):
                    raise
            self._is_open = True

    def purge_now_and_then(self) -> None:
        """Erase expired conversations in the background, if it is time for that."""
        if self._purge_interval and time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + self._purge_interval
            self.threads.in_background(_purge)

    def close(self) -> threading.Thread:
        """Give up the connections, in a thread that waits for the calls under way."""
        return self.threads.close(then=self.log.close)


def _spool(values: Mapping[str, Any], place: str) -> Optional[Spool]:
    path = values["spool"]
    if path == "off":
        return None
    if path == "memory":
        return Spool(None, values["spool_bytes"])
    spool = Spool(Path(path), values["spool_bytes"])
    spool.claim(place)
    return spool


def _open(log: DeadlineLog) -> None:
    log.open_at_start()


def _purge(log: DeadlineLog) -> None:
    while log.purge_expired():
        pass


_shared: Dict[_Key, SharedLog] = {}
# Reentrant: a collection of garbage may release a store while one is acquired.
_finding = threading.RLock()


def _keep_for_ever(of_parent: object) -> None:
    """Keep what the parent of this process has opened, unused, beyond the last moment.

    Drivers of Oracle end a session on the server when a connection is collected, also
    one of the parent's, and the end of the interpreter collects what its modules hold.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(of_parent))


def _before_fork() -> None:
    _finding.acquire()
    for shared in _shared.values():
        shared.before_fork()


def _after_fork_in_parent() -> None:
    try:
        for shared in _shared.values():
            shared.after_fork()
    finally:
        _finding.release()


def _after_fork_in_child() -> None:
    global _finding  # noqa: PLW0603 - a thread of the parent may wait for it
    _finding = threading.RLock()
    for shared in _shared.values():
        shared.begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


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
    key = (backend.store, _fingerprint(backend, values))
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
        if shared.stores > 0:
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
