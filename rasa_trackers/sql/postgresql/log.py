"""Event logs in a PostgreSQL database."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional, Sequence

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.event_log import Entry, Failure, User
from rasa_trackers.sql.connections import OpenConnections, transaction
from rasa_trackers.sql.log import EXPIRED, SQLEventLog
from rasa_trackers.sql.postgresql.engine import (
    LOCK,
    file_descriptor,
    lock_key,
    set_up_connection,
)
from rasa_trackers.sql.postgresql.failures import code_of, of_driver_error
from rasa_trackers.sql.postgresql.sequence import move_sequence
from rasa_trackers.sql.postgresql.setup import set_up
from rasa_trackers.sql.postgresql.statements import (
    NOW,
    NUMBERS_BEHIND,
    AppendStatement,
    PostgreSQLStatements,
)
from rasa_trackers.sql.rows import fetch_from_driver, in_parts, row
from rasa_trackers.sql.schema import Tables

#: Events that go into one message. psycopg2 writes the parameters into it in one go,
#: and nothing else runs in the process meanwhile: 25 ms for 3,000 events.
_LARGEST_MESSAGE = 250


class PostgreSQLEventLog(SQLEventLog):
    """Event logs in a PostgreSQL database.

    Appends to one conversation follow each other under an advisory lock of their
    transaction, so that the ids of its rows have the order of the commits. Without the
    lock, a row could appear before others that a reader has seen already.
    """

    _statements_class = PostgreSQLStatements
    _now = NOW
    _other_tables = "Set 'db' or the environment variable POSTGRESQL_SCHEMA."

    def __init__(
        self,
        engine: sa.engine.Engine,
        tables: Tables,
        *,
        name: str,
        record_exp: Optional[float] = None,
        keeps_users: bool = True,
        login_engine: Optional[sa.engine.Engine] = None,
        connect_args: Optional[Dict[str, Any]] = None,
    ) -> None:
        """Prepare the statements.

        Args:
            engine: Engine of the database, in autocommit mode.
            tables: The tables to use.
            name: How messages name the database.
            record_exp: Seconds after its last append that a conversation expires.
            keeps_users: Whether to keep the users of conversations.
            login_engine: Engine of another database on the server, from which this one
                is created if it is missing.
            connect_args: What the driver gets to connect, for a connection beside the
                engine's.
        """
        super().__init__(
            engine, tables, name=name, record_exp=record_exp, keeps_users=keeps_users
        )
        self.login_engine = login_engine
        self.connect_args = dict(connect_args or {})
        preparer = engine.dialect.identifier_preparer
        #: The table as a value of PostgreSQL's functions. In a statement's text, the
        #: driver would read a "%" in a name.
        self.events_name = preparer.format_table(tables.events).replace("%%", "%")
        # psycopg2 sends several statements as one message, which the server runs as one
        # transaction: one round trip an append.
        self._takes_several = engine.dialect.driver == "psycopg2"
        self._append_statement = AppendStatement(
            tables, engine.dialect, record_exp=record_exp
        )
        self._column_encoding = "utf-8"
        self._connections = OpenConnections(
            engine,
            *([login_engine] if login_engine is not None else []),
            file_descriptor=file_descriptor,
        )
        sa.event.listen(engine, "connect", self._on_connect)

    def _on_connect(self, connection: Any, _record: Any) -> None:
        status = getattr(connection, "get_parameter_status", lambda _name: "UTF8")
        if status("server_encoding") != "UTF8":
            self._column_encoding = "ascii"
        set_up_connection(connection)

    def open(self) -> None:
        set_up(self)

    # Writing

    def _append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        if self._takes_several and len(entries) <= _LARGEST_MESSAGE:
            with self.engine.connect() as connection:
                return self._insert_part(
                    connection, sender_id, entries, after, user, with_lock=True
                )
        with self._writing(sender_id) as connection:
            return self._insert(connection, sender_id, entries, after, user, renew=True)

    def _insert(
        self,
        connection: Connection,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
        *,
        renew: bool = False,
    ) -> Optional[int]:
        for part in in_parts(entries, _LARGEST_MESSAGE):
            end = self._insert_part(
                connection, sender_id, part, after, user, renew=renew
            )
            if end is None or end == EXPIRED:
                return end
            after = end
        return after

    def _insert_part(
        self,
        connection: Connection,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
        *,
        renew: bool = True,
        with_lock: bool = False,
    ) -> Optional[int]:
        """Compare and append, in one statement.

        Args:
            connection: A connection; in a transaction that has the lock, or in none.
            sender_id: The conversation.
            entries: No more than go into one message.
            after: The position that the log must end at.
            user: The user whose conversation it is.
            renew: Whether the conversation's life begins anew.
            with_lock: Whether to take the lock in the same message.
        """
        rows = [
            row(sender_id, entry, encoding=self._column_encoding) for entry in entries
        ]
        sql, parameters = self._append_statement.build(
            sender_id, rows, after, user, renew=renew
        )
        if with_lock:
            sql, parameters = f"{LOCK};{sql}", (lock_key(sender_id), *parameters)
        end, has_expired = connection.exec_driver_sql(sql, parameters).one()
        return EXPIRED if has_expired else end

    @contextmanager
    def _writing(self, sender_id: str) -> Iterator[Connection]:
        with transaction(self.engine) as connection:
            connection.exec_driver_sql(LOCK, (lock_key(sender_id),))
            yield connection

    def _are_numbers_behind(self, error: Exception) -> bool:
        driver_error = getattr(error, "orig", None)
        # 22P02 is the failing cast. 23505 names the key: another event has the id.
        sign = {"22P02": NUMBERS_BEHIND, "23505": "(id)=("}.get(
            code_of(driver_error) or ""
        )
        return sign is not None and sign in str(driver_error)

    def _move_numbers(self, after: int) -> None:
        move_sequence(self, after)

    # Reading

    def _fetch(self, result: Any) -> Sequence[Any]:
        # Other drivers may give a text in another form.
        if not self._takes_several:
            return super()._fetch(result)
        return fetch_from_driver(result, self.engine.dialect)

    def _streamed(self, statement: Any) -> Iterator[Sequence[Any]]:
        # Without a cursor, libpq takes in the whole result before it gives the first
        # row. Other drivers than psycopg2 pass parameters in a way that DECLARE does
        # not take.
        if not self._takes_several:
            yield from super()._streamed(statement)
            return
        compiled = statement.compile(dialect=self.engine.dialect)
        with transaction(self.engine) as connection:
            connection.exec_driver_sql(
                f"DECLARE found NO SCROLL CURSOR FOR {compiled}", compiled.params
            )
            while True:
                rows = connection.exec_driver_sql(
                    f"FETCH {self._fetched} FROM found"
                ).all()
                if not rows:
                    return
                yield rows

    # Errors

    def _of_driver(self, error: sqlalchemy.exc.DBAPIError) -> Optional[Failure]:
        return of_driver_error(error.orig)

    def close(self) -> None:
        super().close()
        # Some may still wait for a pooler to give them a connection.
        self._connections.cut(self.name)

    def interrupt(self) -> None:
        self._connections.cut(self.name)
