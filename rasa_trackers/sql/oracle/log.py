"""Event logs in an Oracle database, from 11.2 on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional, Sequence

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.errors import store_error
from rasa_trackers.event_log import Entry, Failure, User
from rasa_trackers.sql.failures import NumbersBehind
from rasa_trackers.sql.log import SQLEventLog
from rasa_trackers.sql.oracle.engine import WRITING
from rasa_trackers.sql.oracle.failures import (
    NO_OBJECT,
    NUMBERS_BEHIND,
    has_code,
    of_driver,
    of_network,
)
from rasa_trackers.sql.oracle.setup import probe, set_up
from rasa_trackers.sql.oracle.statements import (
    NOW,
    AppendBlock,
    OracleStatements,
    lock_id,
)
from rasa_trackers.sql.rows import row
from rasa_trackers.sql.schema import Tables

#: Events of one block. Each has seven bind variables, and each number of events is a
#: statement of its own in the server's cache.
_LARGEST_BLOCK = 50
#: Characters of a text that drivers give to PL/SQL as VARCHAR2, which holds 32,767
#: bytes. Oracle's client counts four for each character (``dpiVar.c`` of ODPI-C, on
#: which cx_Oracle and python-oracledb's thick mode rest). A longer text gets a CLOB of
#: its own in the server, and round trips to fill it.
LONGEST_VARCHAR = 32767 // 4


class OracleEventLog(SQLEventLog):
    """Event logs in an Oracle database.

    Appends to one conversation follow each other by means of the primary key: each
    first inserts a row whose negative id stands for the conversation, and deletes it
    again before its commit. Another append with the same id waits until that commit.
    Nobody ever sees the row, and neither a lock table nor a privilege is needed.
    (DBMS_LOCK takes a grant; a conversation without rows has none to lock; locking the
    table stops every conversation.)

    An append is one anonymous block, and so one round trip. If its events do not go
    into a block, several statements of one transaction do the same.
    """

    _statements_class = OracleStatements
    _now = NOW
    _other_tables = "Let 'schema' name another one."
    statements: OracleStatements

    def __init__(
        self,
        engine: sa.engine.Engine,
        tables: Tables,
        *,
        name: str,
        record_exp: Optional[float] = None,
        keeps_users: bool = True,
        may_create_tables: bool = True,
    ) -> None:
        """Prepare the statements.

        Args:
            engine: Engine of the database.
            tables: The tables to use.
            name: How messages name the database.
            record_exp: Seconds after its last append that a conversation expires.
            keeps_users: Whether to keep the users of conversations.
            may_create_tables: Whether missing tables are created. If not, no statement
                that creates or changes one is ever run.
        """
        super().__init__(
            engine, tables, name=name, record_exp=record_exp, keeps_users=keeps_users
        )
        self.may_create_tables = may_create_tables
        self.append_block = AppendBlock(tables, engine.dialect, record_exp=record_exp)

    def open(self) -> None:
        set_up(self)

    def _columns_of(self, connection: Connection, table: sa.Table) -> Any:
        # A query, which also finds what a synonym stands for.
        try:
            names = connection.execute(probe(table)).keys()
        except sqlalchemy.exc.DBAPIError as error:
            if has_code(error, NO_OBJECT):
                return None
            raise
        return {name.lower() for name in names}

    # Writing

    def _append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        # A user is named once in a conversation, so that may take more round trips.
        if (
            user is not None
            or len(entries) > _LARGEST_BLOCK
            or any(len(entry.data) > LONGEST_VARCHAR for entry in entries)
        ):
            return super()._append(sender_id, entries, after, user)
        parameters: Dict[str, Any] = {"lock_id": lock_id(sender_id)}
        for number, entry in enumerate(entries):
            values = row(sender_id, entry)
            del values["sender_id"]
            for name, value in values.items():
                parameters[f"{name}_{number}"] = value
        with self.engine.connect() as connection:
            block = self.append_block.whole(len(entries))
            return self._run(connection, block, sender_id, after, parameters)

    def _insert(
        self,
        connection: Connection,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
    ) -> Optional[int]:
        block = self.append_block.comparison()
        if self._run(connection, block, sender_id, after, {}) is None:
            return None
        rows = [row(sender_id, entry) for entry in entries]
        connection.execute(self.statements.insert_events, rows)
        return self._end(connection, sender_id)

    def _run(
        self,
        connection: Connection,
        block: Any,
        sender_id: str,
        after: int,
        parameters: Dict[str, Any],
    ) -> Optional[int]:
        result = connection.execute(
            block, {"sender_id": sender_id, "after_id": after, **parameters}
        )
        position: Optional[int] = result.out_parameters["new_id"]
        return position

    def delete(self, sender_id: str) -> bool:
        # Oracle keeps an empty text as NULL, so no conversation has it as its name.
        return bool(sender_id) and super().delete(sender_id)

    @contextmanager
    def _writing(self, sender_id: str) -> Iterator[Connection]:
        lock = {"lock_id": lock_id(sender_id)}
        with self.engine.connect() as connection:
            info = connection.connection.info
            info[WRITING] = True
            try:
                connection.execute(
                    self.statements.lock, {"sender_id": sender_id, **lock}
                )
                yield connection
                connection.execute(self.statements.unlock, lock)
                connection.commit()
            except BaseException:
                try:
                    connection.rollback()
                except BaseException:
                    # A later commit on this connection must not commit this part.
                    connection.invalidate()
                    raise
                raise
            finally:
                info.pop(WRITING, None)

    def _are_numbers_behind(self, error: Exception) -> bool:
        return isinstance(error, NumbersBehind) or has_code(
            error, (NUMBERS_BEHIND, "ORA-00001")
        )

    def _move_numbers(self, after: int) -> None:
        # The block has drawn many numbers already; to set a sequence takes DDL.
        with self.engine.connect() as connection:
            highest = sa.select(sa.func.max(self.tables.events.c.id))
            first = max(after, connection.execute(highest).scalar() or 0) + 1
        preparer = self.engine.dialect.identifier_preparer
        sequence = preparer.format_sequence(self.tables.events.c.id.default)
        raise store_error(
            f"{self.name}: the sequence {sequence} gives numbers that the table "
            f"'events' has passed already. Let an administrator run: DROP SEQUENCE "
            f"{sequence}; CREATE SEQUENCE {sequence} START WITH {first} ORDER;"
        )

    # Errors

    def classify(self, error: Exception) -> Optional[Failure]:
        if isinstance(error, OSError):
            return of_network(error) or super().classify(error)
        return super().classify(error)

    def _of_driver(self, error: sqlalchemy.exc.DBAPIError) -> Optional[Failure]:
        return of_driver(error)
