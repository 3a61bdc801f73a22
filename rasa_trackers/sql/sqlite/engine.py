"""Connections to a SQLite file, and transactions on them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.engine.url import URL
from sqlalchemy.pool import QueuePool, StaticPool

from rasa_trackers.sql.connection import create_engine


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
        "poolclass": QueuePool,
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

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        # FULL: a commit is on the disk when it returns. With NORMAL, usual in WAL mode,
        # a power failure may lose the last commits.
        connection.execute("PRAGMA synchronous=FULL")

    return engine


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
