"""Event logs in a MySQL or MariaDB database."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, Sequence

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.event_log import Entry, Failure, User
from rasa_trackers.sql.connections import OpenConnections, transaction
from rasa_trackers.sql.failures import NumbersBehind
from rasa_trackers.sql.log import EXPIRED, SQLEventLog
from rasa_trackers.sql.mysql.columns import columns_of, require_right_columns
from rasa_trackers.sql.mysql.engine import (
    altering_engine,
    file_descriptor,
    run_message,
    set_up_connection,
)
from rasa_trackers.sql.mysql.failures import (
    FAILURES,
    is_taken_id,
    number_of,
    of_driver_error,
)
from rasa_trackers.sql.mysql.setup import create_tables, set_up
from rasa_trackers.sql.mysql.statements import (
    INSERT,
    LOCK,
    LOCKS,
    MOVE_NUMBERS,
    NOW,
    AppendMessage,
    MySQLStatements,
    append_statement,
)
from rasa_trackers.sql.rows import fetch_from_driver, row
from rasa_trackers.sql.schema import Tables

#: Events that go into one message, and their bytes unless the server takes fewer.
_LARGEST_MESSAGE = 250
_LARGEST_TEXTS = 2_000_000
#: Bytes of a message beside the values of its events: the sender id stands there up to
#: six times and the user id once, each of them with up to 255 characters.
_OVERHEAD = 12_000
#: Bytes of a row beside its texts: commas, quotes, the time, and the words around them.
_ROW = 150

#: The number of the error with which the check of an append fails.
_OUT_OF_RANGE = 1690


class _TooLarge(ValueError):
    """An event that does not go into a message to the server."""


class MySQLEventLog(SQLEventLog):
    """Event logs in a MySQL or MariaDB database, in tables of InnoDB.

    Appends to one conversation follow each other by the lock of a row, one of 1,024 in a
    table of its own. The rows of a conversation itself cannot do that: one that begins
    has none; and locks on the gaps between rows, which InnoDB has for it, keep two
    writers out by a deadlock, and those of other new conversations too.

    An append is one message. With the lock, the ids of a conversation's rows have the
    order of the commits, whatever innodb_autoinc_lock_mode is.
    """

    _statements_class = MySQLStatements
    _now = NOW
    _other_tables = "Let 'db' name another database."
    statements: MySQLStatements

    def __init__(
        self,
        engine: sa.engine.Engine,
        tables: Tables,
        *,
        name: str,
        timeout: float,
        record_exp: Optional[float] = None,
        keeps_users: bool = True,
        login_engine: Optional[sa.engine.Engine] = None,
        may_alter_tables: bool = False,
    ) -> None:
        """Prepare the statements.

        Args:
            engine: Engine of the database, in autocommit mode.
            tables: The tables to use.
            name: How messages name the database.
            timeout: Seconds to wait for a lock.
            record_exp: Seconds after its last append that a conversation expires.
            keeps_users: Whether to keep the users of conversations.
            login_engine: Engine of another database on the server, from which this one
                is created if it is missing.
            may_alter_tables: Whether to change columns that Rasa's own store has made.
        """
        super().__init__(
            engine, tables, name=name, record_exp=record_exp, keeps_users=keeps_users
        )
        self.login_engine = login_engine
        self.may_alter_tables = may_alter_tables
        self._timeout = timeout
        self._append_message = AppendMessage(record_exp=record_exp)
        #: Bytes that the server takes in one message; the default of MariaDB until then.
        self._largest_packet = 16 * 1024 * 1024
        self._connections = OpenConnections(
            engine,
            *([login_engine] if login_engine is not None else []),
            file_descriptor=file_descriptor,
        )
        sa.event.listen(engine, "connect", self._on_connect)

    def _on_connect(self, connection: Any, _record: Any) -> None:
        self._largest_packet = set_up_connection(connection, timeout=self._timeout)

    def altering_engine(self) -> sa.engine.Engine:
        """An engine for statements that change tables, which may take long."""
        engine = altering_engine(self.engine.url, timeout=self._timeout)
        self._connections.watch(engine)
        sa.event.listen(engine, "connect", self._on_connect)
        return engine

    def open(self) -> None:
        set_up(self)

    def create_tables(
        self, connection: Connection, tables: Optional[Sequence[sa.Table]] = None
    ) -> None:
        create_tables(self, connection, tables)
        self.check_tables(connection)

    def check_tables(self, connection: Connection) -> None:
        super().check_tables(connection)
        require_right_columns(self, connection)

    def _columns_of(self, connection: Connection, table: sa.Table) -> Any:
        return {each.name for each in columns_of(connection, table.name)} or None

    # Writing

    def _append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        first, *more = self._in_messages(sender_id, entries)
        if more:
            return super()._append(sender_id, entries, after, user)
        sql, parameters = self._append_message.build(
            _lock_of(sender_id),
            sender_id,
            first,
            after,
            user,
            ends_expiry=self.tables.expiry in self._found,
        )
        with self.engine.connect() as connection:
            written, end, has_expired, _ = run_message(
                connection, sql, parameters, shown=INSERT
            )
        if has_expired:
            return EXPIRED
        return int(end) if written else None

    @contextmanager
    def _writing(self, sender_id: str) -> Iterator[Connection]:
        with transaction(self.engine) as connection:
            connection.exec_driver_sql(LOCK, (_lock_of(sender_id),))
            yield connection

    def _insert(
        self,
        connection: Connection,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
    ) -> Optional[int]:
        for part in self._in_messages(sender_id, entries):
            sql, parameters = append_statement(sender_id, part, after)
            inserted = connection.exec_driver_sql(sql, tuple(parameters))
            if not inserted.rowcount:
                return None
            end, number = inserted.lastrowid, 1
            if len(part) > 1:
                # Several masters number in steps, and the id of the first row is known.
                end, number = connection.execute(
                    self.statements.inserted, {"sender_id": sender_id, "after": after}
                ).one()
            if end is None or end <= after or number != len(part):
                raise NumbersBehind
            after = int(end)
        return after

    def _in_messages(
        self, sender_id: str, entries: Sequence[Entry]
    ) -> Iterator[Sequence[Entry]]:
        """The entries in runs that the server takes in one message.

        Raises:
            _TooLarge: for an event that is too large alone.
        """
        largest = self._largest_packet - _OVERHEAD
        run: List[Entry] = []
        size = 0
        for entry in entries:
            texts = [each for each in row(sender_id, entry).values() if _is_text(each)]
            own = _ROW + sum(map(_most_bytes, texts))
            if own > largest:
                own = _ROW + sum(map(_bytes, texts))
                if own > largest:
                    # The server ends the connection of a message that is too large,
                    # which looks like a connection that was lost.
                    raise _TooLarge(
                        f"the event takes {own} bytes, and max_allowed_packet of the "
                        f"server is {self._largest_packet}"
                    )
            if run and (
                len(run) == _LARGEST_MESSAGE
                or size + own > min(largest, _LARGEST_TEXTS)
            ):
                yield run
                run, size = [], 0
            run.append(entry)
            size += own
        yield run

    def _are_numbers_behind(self, error: Exception) -> bool:
        if isinstance(error, NumbersBehind):
            return True
        # Of the tables, this one alone has ids that the server gives.
        if INSERT not in str(getattr(error, "statement", "")):
            return False
        driver_error = getattr(error, "orig", None)
        return is_taken_id(driver_error) or number_of(driver_error) == _OUT_OF_RANGE

    def _move_numbers(self, after: int) -> None:
        """Let the next ids be greater than ``after`` and than every id there is.

        A row with a greater id moves the server's counter, which stays where it is when
        the row is rolled back, and never goes back. ALTER TABLE would set the counter
        to less where the newest events were erased, and needs a right.
        """
        with self.engine.connect() as connection:
            highest = sa.select(sa.func.max(self.tables.events.c.id))
            last = max(after, connection.execute(highest).scalar() or 0)
            try:
                run_message(connection, MOVE_NUMBERS, (last,), shown=INSERT)
            except sqlalchemy.exc.DBAPIError as error:
                # Somebody has just stored an event with that id.
                if not is_taken_id(error.orig):
                    raise

    # Reading

    def _fetch(self, result: Any) -> Sequence[Any]:
        return fetch_from_driver(result, self.engine.dialect)

    def sender_ids(self) -> Iterator[Sequence[str]]:
        # Drivers take in a whole result before they give its first row.
        last: Optional[str] = None
        with self.engine.connect() as connection:
            while True:
                found = connection.execute(
                    self.statements.sender_ids_after(last, self._fetched)
                )
                sender_ids = found.scalars().all()
                if sender_ids:
                    yield sender_ids
                if len(sender_ids) < self._fetched:
                    return
                last = sender_ids[-1]

    # Errors

    def classify(self, error: Exception) -> Optional[Failure]:
        if isinstance(error, _TooLarge):
            return FAILURES[1153]
        return super().classify(error)

    def _of_driver(self, error: sqlalchemy.exc.DBAPIError) -> Optional[Failure]:
        return of_driver_error(error.orig)

    def close(self) -> None:
        super().close()
        self._connections.cut(self.name)

    def interrupt(self) -> None:
        self._connections.cut(self.name)


def _lock_of(sender_id: str) -> int:
    """The row whose lock the writers of a conversation take."""
    return zlib.crc32(sender_id.encode("utf-8", "surrogatepass")) % LOCKS


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _most_bytes(text: str) -> int:
    """No fewer bytes than a text takes in a message; quick to find."""
    # One byte and a backslash, or four bytes of UTF-8.
    return len(text) * (2 if text.isascii() else 4)


def _bytes(text: str) -> int:
    """The bytes that a text takes in a message."""
    # Drivers put a backslash before each of these.
    return len(text.encode("utf-8")) + sum(map(text.count, "\0\n\r\032\"'\\"))
