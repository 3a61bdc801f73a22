"""Connections to a SQLite file, and transactions on them."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import threading
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.engine.url import URL
from sqlalchemy.pool import QueuePool, StaticPool

from rasa_trackers.errors import store_error
from rasa_trackers.sql.connection import create_engine

logger = logging.getLogger(__name__)

#: What ``query`` may have: options of Python's sqlite3, and with ``uri`` those of SQLite
#: (sqlite.org/uri.html). SQLAlchemy drops others without a word.
_DRIVER_OPTIONS = {"cached_statements", "detect_types", "uri"}
_URI_OPTIONS = {"cache", "immutable", "mode", "nolock", "psow", "vfs"}

#: Seconds that a fork waits for calls under way.
_FORK_PATIENCE = 5.0


class FilePool(QueuePool):  # type: ignore[misc]
    """A pool whose process can fork.

    SQLite keeps one list of its locks for all connections of a process to a file. A
    child inherits the list, but not the locks: it would take none for its own
    connections, and another process could remove the write-ahead log under it
    (sqlite.org/howtocorrupt.html, 2.6). So no connection is open during a fork.
    """

    # Pools log errors at DEBUG; SQLAlchemy keeps its own loggers at WARN.
    _sqla_logger_namespace = "sqlalchemy.pool.FilePool"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._changed = threading.Condition()
        self._beginning = 0
        self._is_forking = False

    def connect(self) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_forking)
            self._beginning += 1
        try:
            return super().connect()
        finally:
            with self._changed:
                self._beginning -= 1

    def before_fork(self, name: str) -> None:
        """Close all connections.

        Args:
            name: How messages name the database.
        """
        with self._changed:
            self._is_forking = True
        deadline = time.monotonic() + _FORK_PATIENCE
        while self._beginning or self.checkedout():
            if time.monotonic() > deadline:
                logger.warning(
                    "%s: this process forks while a call is under way that does not "
                    "end. The child must not use the tracker store.",
                    name,
                )
                return
            time.sleep(0.001)
        self.dispose()

    def after_fork(self) -> None:
        """Let connections be made again."""
        with self._changed:
            self._is_forking = False
            self._changed.notify_all()


def is_in_memory(url: URL) -> bool:
    """Whether a URL names a database in memory, and no file."""
    return url.database in (None, "", ":memory:")


def sqlite_engine(url: URL, *, timeout: float, workers: int) -> sa.engine.Engine:
    """An engine for a SQLite file, or for a database in memory.

    Args:
        url: The database's URL.
        timeout: Seconds to wait for another writer.
        workers: Connections at the most.
    """
    pool: Dict[str, Any] = {
        "poolclass": FilePool,
        "pool_size": workers,
        "max_overflow": 0,
    }
    if is_in_memory(url):
        # Each connection would have a database of its own.
        pool = {"poolclass": StaticPool}
    engine = create_engine(
        url,
        connect_args={
            "timeout": timeout,
            "check_same_thread": False,
            # Python's sqlite3 begins no transactions then; immediate() does.
            "isolation_level": None,
        },
        # No server can go away.
        pool_pre_ping=False,
        **pool,
    )

    _check_driver_options(url)

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        # FULL: a commit is on the disk when it returns. With NORMAL, usual in WAL mode,
        # a power failure may lose the last commits.
        connection.execute("PRAGMA synchronous=FULL")
        # Erased text is overwritten, however SQLite was built.
        connection.execute("PRAGMA secure_delete=ON")

    return engine


def _check_driver_options(url: URL) -> None:
    known = {*_DRIVER_OPTIONS, *(_URI_OPTIONS if "uri" in url.query else ())}
    for name in url.query:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise store_error(
            f"'query' of the tracker store must not have '{name}' for SQLite: it may "
            f"have {', '.join(sorted(known))}.{hint} How long to wait for another "
            f"writer is the option 'timeout'. Correct it in endpoints.yml."
        )


def create_private_file(url: URL) -> None:
    """Create the file, if it is missing, for its owner alone.

    SQLite would give everybody the right to read it that the umask leaves. The files
    beside it get its rights.
    """
    if is_in_memory(url) or "uri" in url.query:
        return
    # SQLite says itself what is wrong.
    with contextlib.suppress(OSError):
        os.close(os.open(str(url.database), os.O_CREAT | os.O_RDWR, 0o600))


def cut_log(engine: sa.engine.Engine, name: str) -> None:
    """Empty the write-ahead log, in which erased text stands.

    Args:
        engine: The engine.
        name: How messages name the database.
    """
    with engine.connect() as connection:
        cut = "PRAGMA wal_checkpoint(TRUNCATE)"
        if connection.exec_driver_sql(cut).one()[0]:
            logger.warning(
                "%s: erased text remains in the write-ahead log, because a reader holds "
                "it up. The next erasure removes it.",
                name,
            )


@contextmanager
def immediate(engine: sa.engine.Engine) -> Iterator[Connection]:
    """A transaction that holds the file's write lock from its beginning.

    A transaction that reads first and writes later fails at once, whatever the busy
    timeout, if another one has written in between.
    """
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
