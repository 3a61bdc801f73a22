"""Event logs in a SQLite file."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, Sequence

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.event_log import START, Entry, Failure, User
from rasa_trackers.sql.log import SQLEventLog
from rasa_trackers.sql.rows import fetch_from_driver, in_parts, row
from rasa_trackers.sql.sqlite.damaged import DamagedText, LenientReading
from rasa_trackers.sql.sqlite.engine import cut_log, immediate
from rasa_trackers.sql.sqlite.failures import of_driver
from rasa_trackers.sql.sqlite.setup import KEEP_LAST_ID, LAST_ID, set_up

#: Events that go into one statement; SQLite before 3.32 takes 999 parameters in it.
_LARGEST_STATEMENT = 100


class SQLiteEventLog(SQLEventLog):
    """Event logs in a SQLite file in WAL mode.

    Readers and the writer do not wait for each other, and an append costs one write to
    the disk.
    """

    _now = "(julianday('now') - 2440587.5) * 86400.0"
    _other_tables = "Use another file as 'db'."

    def __init__(self, engine: sa.engine.Engine, *args: Any, **kwargs: Any) -> None:
        super().__init__(engine, *args, **kwargs)
        self._lenient_reading = LenientReading(engine)
        self._gives_no_id_twice = True

    def open(self) -> None:
        self._gives_no_id_twice = set_up(self)

    def _append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        is_one_statement = (
            self._record_exp is None
            and user is None
            and len(entries) <= _LARGEST_STATEMENT
        )
        if not is_one_statement:
            return super()._append(sender_id, entries, after, user)
        # One statement is a transaction of its own. One that writes holds the file's
        # write lock from its beginning.
        with self.engine.connect() as connection:
            return self._insert(connection, sender_id, entries, after)

    @contextmanager
    def _writing(self, sender_id: str) -> Iterator[Connection]:
        with immediate(self.engine) as connection:
            yield connection

    def _insert(
        self,
        connection: Connection,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
    ) -> Optional[int]:
        end = after
        for part in in_parts(entries, _LARGEST_STATEMENT):
            values = ",".join(["(?,?,?,?,?,?,?)"] * len(part))
            parameters: List[Any] = []
            for number, entry in enumerate(part, 1):
                parameters += [number, *row(sender_id, entry).values()]
            new_id = "NULL" if self._gives_no_id_twice else f"{LAST_ID} + column1"
            inserted = connection.exec_driver_sql(
                "INSERT INTO events "  # noqa: S608 - made of question marks
                "(id, sender_id, type_name, timestamp, intent_name, action_name, data) "
                f"SELECT {new_id}, column2, column3, column4, column5, column6, column7 "
                f"FROM (VALUES {values}) WHERE coalesce((SELECT id FROM events "
                f"WHERE sender_id = ? ORDER BY id DESC LIMIT 1), {START}) = ?",
                (*parameters, sender_id, end),
            )
            if not inserted.rowcount:
                return None
            end = inserted.lastrowid
        return end

    def _erase(self, connection: Connection, sender_id: str) -> bool:
        if not self._gives_no_id_twice:
            connection.exec_driver_sql(KEEP_LAST_ID)
        return super()._erase(connection, sender_id)

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        end = super().replace(sender_id, entries, after, user)
        if end is not None:
            cut_log(self.engine, self.name)
        return end

    def delete(self, sender_id: str) -> bool:
        erased = super().delete(sender_id)
        # Also where nothing is found: an earlier attempt may have died before this.
        cut_log(self.engine, self.name)
        return erased

    def _erase_expired(self, sender_ids: Sequence[str]) -> int:
        gone = super()._erase_expired(sender_ids)
        if sender_ids and not gone:
            gone = self._erase_damaged()
        if sender_ids:
            cut_log(self.engine, self.name)
        return gone

    def _erase_damaged(self) -> int:
        """Erase overdue dates whose sender ids are no UTF-8, and so name nothing."""
        with immediate(self.engine) as connection:
            overdue = connection.exec_driver_sql(
                "SELECT rowid, CAST(sender_id AS BLOB) "  # noqa: S608 - a constant
                "FROM rasa_trackers_expiry "
                f"WHERE expires_at <= {self._now}"
            ).all()
            damaged = [rowid for rowid, name in overdue if not _is_utf_8(name)]
            for rowid in damaged:
                connection.exec_driver_sql(
                    "DELETE FROM rasa_trackers_expiry WHERE rowid = ?", (rowid,)
                )
        return len(damaged)

    def _fetch(self, result: Any) -> Sequence[Any]:
        try:
            return fetch_from_driver(result, self.engine.dialect)
        except sqlalchemy.exc.DBAPIError as error:
            self._lenient_reading.refuse(error.orig)
            raise

    def classify(self, error: Exception) -> Optional[Failure]:
        if isinstance(error, DamagedText):
            return Failure(True)  # the log reads leniently from now on
        return super().classify(error)

    def _of_driver(self, error: sqlalchemy.exc.DBAPIError) -> Optional[Failure]:
        return of_driver(error)


def _is_utf_8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
