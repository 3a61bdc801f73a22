"""Connections to a SQLite file, and transactions on them."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
from contextlib import contextmanager
from typing import Any, Dict, Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.engine.url import URL
from sqlalchemy.pool import StaticPool

from rasa_trackers.errors import store_error
from rasa_trackers.sql.connection import create_engine
from rasa_trackers.sql.forking import ForkablePool

logger = logging.getLogger(__name__)

#: What ``query`` may have: options of Python's sqlite3, and with ``uri`` those of SQLite
#: (sqlite.org/uri.html). SQLAlchemy drops others without a word.
_DRIVER_OPTIONS = {"cached_statements", "detect_types", "uri"}
_URI_OPTIONS = {"cache", "immutable", "mode", "nolock", "psow", "vfs"}


class FilePool(ForkablePool):
    """A pool of connections to a file, none of which is open during a fork.

    SQLite keeps one list of its locks for all connections of a process to a file. A
    child inherits the list, but not the locks: it would take none for its own
    connections, and another process could remove the write-ahead log under it
    (sqlite.org/howtocorrupt.html, 2.6).
    """

    _sqla_logger_namespace = "sqlalchemy.pool.FilePool"

    def before_fork(self, name: str) -> bool:
        """As :meth:`ForkablePool.before_fork`, and close all connections."""
        is_quiet = super().before_fork(name)
        if is_quiet:
            self.dispose()
        return is_quiet


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
