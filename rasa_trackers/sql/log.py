"""Event logs in the rows of a table, for any database that SQLAlchemy speaks to.

How they are written; ``reading`` has how they are read.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Optional, Sequence

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.errors import store_error
from rasa_trackers.event_log import START, Entry, Failure, User
from rasa_trackers.sql import failures
from rasa_trackers.sql.failures import NumbersBehind
from rasa_trackers.sql.forking import ForkablePool
from rasa_trackers.sql.probe import require_sound
from rasa_trackers.sql.reading import SQLReading
from rasa_trackers.sql.rows import row
from rasa_trackers.sql.schema import (
    COLUMN_LENGTH,
    LOCKS,
    PROBE_LOCKS,
    Tables,
    columns_of,
    is_usable,
    locks_table,
    require_columns,
)
from rasa_trackers.sql.statements import Statements

#: What an append gives, instead of a position, that has found an expired conversation.
EXPIRED = -1
#: Times that one write moves the database's numbers on.
_MOST_MOVES = 3
#: Expired conversations that one call of ``purge_expired`` erases.
_PURGE_BATCH = 100


class SQLEventLog(SQLReading):
    """Event logs in the table ``events``; a position is a row's id.

    A subclass for a database overrides :meth:`_append`, :meth:`_insert` and
    :meth:`_writing`, and what else that database does better.
    """

    max_sender_id = COLUMN_LENGTH

    #: Makes the statements.
    _statements_class = Statements
    #: Seconds since the epoch by the database's clock, as SQL; ``None``: by ours.
    _now: Optional[str] = None
    #: How to use other tables, as a sentence.
    _other_tables = "Let 'db' name another database."

    def __init__(
        self,
        engine: sa.engine.Engine,
        tables: Tables,
        *,
        name: str,
        record_exp: Optional[float] = None,
        keeps_users: bool = True,
    ) -> None:
        """Prepare the statements.

        Args:
            engine: Engine of the database, in future mode.
            tables: The tables to use.
            name: How messages name the database.
            record_exp: Seconds after its last append that a conversation expires.
            keeps_users: Whether to keep the users of conversations.
        """
        self.name = name
        self.keeps_users = keeps_users
        self.engine = engine
        self.tables = tables
        self._record_exp = record_exp
        now: Any = sa.bindparam("now", callable_=time.time, type_=sa.Float, unique=True)
        if self._now is not None:
            now = sa.literal_column(self._now, sa.Float)
        self.statements = self._statements_class(
            tables, now=now, record_exp=record_exp, with_users=keeps_users
        )
        self.locks = locks_table(tables.events.schema)
        #: The tables beside ``events`` that this log creates.
        self.own_tables = [
            table
            for table, wanted in (
                (tables.expiry, record_exp is not None),
                (tables.users, keeps_users),
            )
            if wanted
        ]
        #: Those that are known to be there; another log may have created them.
        self._found = set(self.own_tables)

    # Setting up

    def open(self) -> None:
        with self.engine.begin() as connection:
            self.create_tables(connection)
            self.locks.create(connection, checkfirst=True)
        self._fill_locks()
        require_sound(self)

    def _fill_locks(self) -> None:
        """Make the rows that writers lock."""
        locks = self.locks
        with self.engine.connect() as connection:
            there = set(connection.execute(sa.select(locks.c.id)).scalars())
        for number in {*range(LOCKS), *PROBE_LOCKS} - there:
            # Another process may make them at the same time.
            with contextlib.suppress(
                sqlalchemy.exc.IntegrityError
            ), self.engine.begin() as connection:
                connection.execute(sa.insert(locks).values(id=number, writes=0))

    @property
    def _tables_of_events(self) -> List[sa.Table]:
        """The tables that this log keeps events in, and what belongs to them."""
        return [self.tables.events, *self.own_tables]

    def create_tables(
        self, connection: Connection, tables: Optional[Sequence[sa.Table]] = None
    ) -> None:
        """Create missing tables and check those that are there.

        Args:
            connection: A connection.
            tables: Those to create; the log's own unless given.
        """
        wanted = self._tables_of_events if tables is None else tables
        self.tables.events.metadata.create_all(connection, tables=wanted)
        self.check_tables(connection)

    def check_tables(self, connection: Connection) -> None:
        """Refuse tables of another program, and see what other logs have created."""
        for table in self._tables_of_events:
            found = self._columns_of(connection, table)
            require_columns(self.name, table, found, self._other_tables)
        self._find_tables(connection)

    def _columns_of(self, connection: Connection, table: sa.Table) -> Any:
        """The names of a table's columns; ``None`` if there is no such table."""
        found = columns_of(connection, table)
        return None if found is None else set(found)

    def _find_tables(self, connection: Connection) -> None:
        """Look for the tables that only logs with other options create."""
        for table in (self.tables.expiry, self.tables.users):
            if table not in self._found and is_usable(
                table, self._columns_of(connection, table)
            ):
                self._found.add(table)

    # Writing

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        user = user if self.keeps_users else None
        if not entries:
            return self._renew_only(sender_id, after, user)
        end = self._with_greater_ids(
            after, lambda: self._append(sender_id, entries, after, user)
        )
        if end == EXPIRED:
            self._erase_expired([sender_id])
            return self.append(sender_id, entries, after, user)
        return end

    def _append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        """Append to a log as :meth:`append`; ``EXPIRED`` if the log has expired."""
        with self._writing(sender_id) as connection:
            if self._record_exp is not None and self._is_expired(connection, sender_id):
                return EXPIRED
            end = self._insert(connection, sender_id, entries, after)
            if end is not None:
                self._renew(connection, sender_id, end)
                self._assign(connection, sender_id, user)
            return end

    def _renew_only(
        self, sender_id: str, after: int, user: Optional[User]
    ) -> Optional[int]:
        """Append nothing."""
        with self._rewriting(sender_id) as connection:
            if self._end(connection, sender_id) != after:
                return None
            if after != START:
                self._renew(connection, sender_id, after)
                self._assign(connection, sender_id, user)
            return after

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        user = user if self.keeps_users else None
        return self._with_greater_ids(
            after, lambda: self._replace(sender_id, entries, after, user)
        )

    def _replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        with self._rewriting(sender_id) as connection:
            if not entries:
                if self._end(connection, sender_id) != after:
                    return None
                self._erase(connection, sender_id)
                return START
            # New rows first: where ids are counted on from the rows there are, the new
            # ones would get the ids of the old ones.
            end = self._insert(connection, sender_id, entries, after)
            if end is None:
                return None
            if after == START:
                self._renew(connection, sender_id, end)
            else:
                connection.execute(
                    self.statements.delete_replaced,
                    {"sender_id": sender_id, "after": after},
                )
                self._keep_expiry(connection, sender_id, after, end)
            if user is not None:
                mine = {"sender_id": sender_id}
                connection.execute(self.statements.delete_user, mine)
                self._assign(connection, sender_id, user)
            return end

    def delete(self, sender_id: str) -> bool:
        with self._rewriting(sender_id) as connection:
            had_expired = self._is_expired(connection, sender_id)
            return self._erase(connection, sender_id) and not had_expired

    @contextmanager
    def _writing(self, sender_id: str) -> Iterator[Connection]:
        """A transaction that keeps other writers of the conversation out.

        It begins with a write to a row that stands for the conversation: whatever locks
        a database has, it lets no other transaction write to that row.
        """
        number = zlib.crc32(sender_id.encode("utf-8", "surrogatepass")) % LOCKS
        with self.engine.begin() as connection:
            self.lock(connection, number)
            yield connection

    def lock(self, connection: Connection, number: int) -> None:
        """Keep out others who lock the row, until the transaction ends.

        Raises:
            StoreError: if somebody has deleted the row.
        """
        write = sa.update(self.locks).where(self.locks.c.id == number)
        written = connection.execute(write.values(writes=self.locks.c.writes + 1))
        if not written.rowcount:
            raise store_error(
                f"{self.name} has no row {number} in the table rasa_trackers_locks. "
                f"Restart Rasa: it makes the row."
            )

    @contextmanager
    def _rewriting(self, sender_id: str) -> Iterator[Connection]:
        """As :meth:`_writing`, without what is left of an expired conversation.

        Other logs may have created their tables meanwhile. Their rows are erased too, so
        this looks for the tables again. An append does not pay for that.
        """
        self._find_tables_again()
        with self._writing(sender_id) as connection:
            if self._record_exp is not None and self._is_expired(connection, sender_id):
                self._erase(connection, sender_id)
            yield connection

    def _find_tables_again(self) -> None:
        with self.engine.connect() as connection:
            self._find_tables(connection)

    def _with_greater_ids(
        self, after: int, write: Callable[[], Optional[int]]
    ) -> Optional[int]:
        """Write, and where the database's numbers are behind, move them on first."""
        for _ in range(_MOST_MOVES):
            try:
                return write()
            except (NumbersBehind, sqlalchemy.exc.DBAPIError) as error:
                if not self._are_numbers_behind(error):
                    raise
                self._move_numbers(after)
        return write()

    def _are_numbers_behind(self, error: Exception) -> bool:
        """Whether a write failed, and wrote nothing, because of the ids of its rows."""
        return isinstance(error, NumbersBehind)

    def _move_numbers(self, after: int) -> None:
        """Let the next ids be greater than ``after`` and than every id there is.

        Raises:
            StoreError: naming the statement, where this log cannot do it.
        """
        raise store_error(
            f"{self.name} gives new events ids that are not greater than {after}, the "
            f"last one of this conversation. Let an administrator set the counter of "
            f"the table 'events' to more than its highest id."
        )

    def _is_expired(self, connection: Connection, sender_id: str) -> bool:
        if self.tables.expiry not in self._found:
            return False
        found = connection.execute(self.statements.expired, {"sender_id": sender_id})
        return found.first() is not None

    def _end(self, connection: Connection, sender_id: str) -> int:
        newest: Optional[int] = connection.execute(
            self.statements.newest_id, {"sender_id": sender_id}
        ).scalar()
        return START if newest is None else newest

    def _insert(
        self,
        connection: Connection,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
    ) -> Optional[int]:
        """Insert rows if the log ends at ``after``; gives the id of the last one.

        Raises:
            NumbersBehind: if an id is not greater than ``after``.
        """
        if self._end(connection, sender_id) != after:
            return None
        connection.execute(
            self.statements.insert_events, [row(sender_id, entry) for entry in entries]
        )
        end, number = connection.execute(
            self.statements.inserted, {"sender_id": sender_id, "after": after}
        ).one()
        if number != len(entries):
            raise NumbersBehind
        return int(end)

    def _renew(self, connection: Connection, sender_id: str, end: int) -> None:
        """Begin the life of a conversation anew; without ``record_exp``, for ever."""
        if self.tables.expiry in self._found:
            connection.execute(self.statements.delete_expiry, {"sender_id": sender_id})
        if self._record_exp is not None:
            connection.execute(
                self.statements.insert_expiry, {"sender_id": sender_id, "last_id": end}
            )

    def _keep_expiry(
        self, connection: Connection, sender_id: str, after: int, end: int
    ) -> None:
        """Let the expiry date hold for rows that stand in for those up to ``after``."""
        if self.tables.expiry in self._found:
            connection.execute(
                self.statements.keep_expiry,
                {"conversation": sender_id, "after": after, "new_last_id": end},
            )

    def _assign(
        self, connection: Connection, sender_id: str, user: Optional[User]
    ) -> None:
        if user is None:
            return
        values = {
            "conversation": sender_id,
            "new_user_id": user.user_id,
            "started": user.conversation_started,
        }
        if not connection.execute(self.statements.change_user, values).rowcount:
            connection.execute(self.statements.insert_user, values)

    def _erase(self, connection: Connection, sender_id: str) -> bool:
        """Erase a conversation; gives whether it had events."""
        mine = {"sender_id": sender_id}
        erased = connection.execute(self.statements.delete_events, mine)
        if self.tables.expiry in self._found:
            connection.execute(self.statements.delete_expiry, mine)
        if self.tables.users in self._found:
            connection.execute(self.statements.delete_user, mine)
        return bool(erased.rowcount)

    def purge_expired(self) -> int:
        if self._record_exp is None:
            return 0
        with self.engine.connect() as connection:
            overdue = self.statements.overdue.limit(_PURGE_BATCH)
            sender_ids = connection.execute(overdue).scalars().all()
        return self._erase_expired(sender_ids)

    def _erase_expired(self, sender_ids: Sequence[str]) -> int:
        """Erase those that have expired; gives how many rows of expiry are gone.

        Whoever goes on until nothing is gone comes to an end, also where a sender id is
        damaged and names no row.
        """
        gone = 0
        self._find_tables_again()
        for sender_id in sender_ids:
            with self._writing(sender_id) as connection:
                # Checked under the lock: a message may have come in meanwhile.
                if self._is_expired(connection, sender_id):
                    self._erase(connection, sender_id)
                    gone += 1
                # A date that does not hold remains where a log without expiry went on.
                overdue = connection.execute(
                    self.statements.delete_overdue, {"sender_id": sender_id}
                )
                gone += overdue.rowcount
        return gone

    # A fork

    def before_fork(self) -> None:
        if isinstance(self.engine.pool, ForkablePool):
            self.engine.pool.before_fork(self.name)

    def after_fork(self) -> None:
        if isinstance(self.engine.pool, ForkablePool):
            self.engine.pool.after_fork()

    # Errors and end

    def classify(self, error: Exception) -> Optional[Failure]:
        return failures.classify(error, self._of_driver)

    def _of_driver(self, error: sqlalchemy.exc.DBAPIError) -> Optional[Failure]:
        """The failure of an error of the driver; ``None`` for an unknown one."""
        return None

    def close(self) -> None:
        self.engine.dispose()
