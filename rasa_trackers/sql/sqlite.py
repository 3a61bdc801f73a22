"""SQLite: one file, any number of threads and processes."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection
from sqlalchemy.engine.url import URL
from sqlalchemy.pool import QueuePool, StaticPool

from rasa_trackers.event_log import START, Entry, Failure, User
from rasa_trackers.sql.connection import create_engine
from rasa_trackers.sql.log import SQLEventLog, fetch_from_driver, row

#: What SQLite's messages mean, by a part of their text (sqlite.org/rescode.html; the
#: codes themselves reach Python from 3.11 on only).
FAILURES: Dict[str, Failure] = {
    "is locked": Failure(
        True,
        "Another process holds the file for long: look for open transactions and "
        "backups of it, or raise the option 'timeout'.",
    ),
    "database or disk is full": Failure(False, "Free space on the disk."),
    "unable to open database file": Failure(
        False,
        "Check that the folder of the option 'db' exists and that the user who runs "
        "Rasa may write there.",
    ),
    "readonly database": Failure(
        False, "Give the user who runs Rasa write access to the file and its folder."
    ),
    "not a database": Failure(
        False, "The option 'db' names a file of another kind: correct it."
    ),
    "malformed": Failure(
        False, "The file is damaged: restore a backup, or use sqlite3's .recover."
    ),
    "no such table": Failure(False, "Restart Rasa: it creates missing tables."),
    "no such column": Failure(
        False, "The table 'events' is not Rasa's: use another file as 'db'."
    ),
}

#: What Python says of a text that is no UTF-8; with the text behind it.
_UNDECODABLE = "Could not decode to UTF-8"

#: Events that go into one statement; SQLite before 3.32 takes 999 parameters in it.
_LARGEST_STATEMENT = 100


class DamagedText(Exception):
    """A text is no UTF-8. What it is has no place in a message."""

    def __init__(self) -> None:
        super().__init__("a text in it is damaged")


class SQLiteEventLog(SQLEventLog):
    """Event logs in a SQLite file.

    In WAL mode: readers and the writer do not wait for each other, and an append
    costs one write to the disk.

    Python refuses all rows of which one has a damaged text. Such a text must be no
    reason to lose the others: after the first one, texts are read leniently.
    """

    def __init__(self, engine: sa.engine.Engine, *args: Any, **kwargs: Any) -> None:
        super().__init__(engine, *args, **kwargs)
        self._has_damaged = threading.Event()
        sa.event.listen(engine, "handle_error", self._on_error)
        sa.event.listen(engine, "checkout", self._on_checkout)

    def open(self) -> None:
        with self._engine.connect() as connection:
            # Lasts in the file. A file system that cannot do it (some network ones)
            # keeps the mode it has, which is as safe and only slower.
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.rollback()
        super().open()

    @contextmanager
    def _setup(self) -> Iterator[Connection]:
        with self._immediate() as connection:
            yield connection

    def _create_tables(self, connection: Connection) -> None:
        super()._create_tables(connection)
        # Such an index ends with the row's id here, so Rasa's own serves to read
        # backwards; a table that was copied by hand may lack it.
        connection.exec_driver_sql(
            "CREATE INDEX IF NOT EXISTS ix_events_sender_id ON events (sender_id)"
        )

    @contextmanager
    def _writing(self, sender_id: str) -> Iterator[Connection]:
        with self._immediate() as connection:
            yield connection

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        if (
            self._record_exp is not None
            or user is not None
            or not 0 < len(entries) <= _LARGEST_STATEMENT
        ):
            return super().append(sender_id, entries, after, user)
        # One statement is a transaction of its own, and one that writes holds the
        # file's write lock from its beginning.
        values = ",".join(["(?,?,?,?,?,?)"] * len(entries))
        statement = (
            "INSERT INTO events "  # noqa: S608
            "(sender_id, type_name, timestamp, intent_name, action_name, data) "
            f"SELECT * FROM (VALUES {values}) WHERE coalesce((SELECT id FROM events "
            f"WHERE sender_id = ? ORDER BY id DESC LIMIT 1), {START}) = ?"
        )
        parameters: List[Any] = []
        for entry in entries:
            parameters += row(sender_id, entry).values()
        parameters += [sender_id, after]
        with self._engine.connect() as connection:
            inserted = connection.exec_driver_sql(statement, tuple(parameters))
            return inserted.lastrowid if inserted.rowcount else None

    @contextmanager
    def _immediate(self) -> Iterator[Connection]:
        """A transaction that holds the file's write lock from its beginning.

        One that begins by reading and writes later fails at once where another one
        has written in between, whatever the busy timeout.
        """
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def classify(self, error: Exception) -> Optional[Failure]:
        if isinstance(error, DamagedText):
            return Failure(True)  # it is read leniently from now on
        return super().classify(error)

    def _fetch(self, result: Any) -> Sequence[Any]:
        try:
            return fetch_from_driver(result, self._engine.dialect)
        except sqlalchemy.exc.DBAPIError as error:
            self._refuse_damaged(error.orig)
            raise

    def _on_error(self, context: Any) -> None:
        self._refuse_damaged(context.original_exception)

    def _refuse_damaged(self, error: object) -> None:
        if _UNDECODABLE in str(error):
            self._has_damaged.set()
            raise DamagedText from None

    def _on_checkout(self, connection: Any, _record: Any, _proxy: Any) -> None:
        # Four times as slow (Python 3.11), so only where there is a need.
        connection.text_factory = _lenient if self._has_damaged.is_set() else str

    def _now(self) -> Any:
        return sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Float)

    def _classify_driver(self, error: sqlalchemy.exc.DBAPIError) -> Failure:
        message = str(error.orig)
        for part, failure in FAILURES.items():
            if part in message:
                return failure
        return super()._classify_driver(error)


def sqlite_engine(url: URL, *, timeout: float, workers: int) -> sa.engine.Engine:
    """An engine for a SQLite file, or for a database in memory.

    Args:
        url: The database's URL.
        timeout: Seconds to wait for another writer.
        workers: Connections at the most.
    """
    in_memory = url.database in (None, "", ":memory:")
    pool: Dict[str, Any] = {
        "poolclass": QueuePool,
        "pool_size": workers,
        "max_overflow": 0,
    }
    if in_memory:
        # Every connection would have a database of its own.
        pool = {"poolclass": StaticPool}
    engine = create_engine(
        url,
        connect_args={
            "timeout": timeout,
            "check_same_thread": False,
            # Python's sqlite3 does not begin transactions then; this module does.
            "isolation_level": None,
        },
        # There is no server that could have gone away.
        pool_pre_ping=False,
        **pool,
    )

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        # FULL: a commit is on the disk when it returns. WAL's usual NORMAL may lose
        # the last ones when the power fails.
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "replace")
