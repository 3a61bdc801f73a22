"""Event logs in the rows of a table, for any database that SQLAlchemy speaks to."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.event_log import (
    START,
    Answered,
    Conversation,
    Entry,
    EventLog,
    Failure,
    Page,
    Stored,
    User,
    unheard,
)
from rasa_trackers.sql.schema import COLUMN_LENGTH, Tables

#: Expired conversations that one call of ``purge_expired`` erases.
_PURGE_BATCH = 100
#: Conversations that are read by one statement; Oracle takes 1,000 values in an IN.
_READ_BATCH = 200


class SQLEventLog(EventLog):
    """Event logs in the table ``events``; a position is a row's id.

    Databases of their own kind override how a transaction keeps other writers of the
    conversation out, how errors read, and what else they do better.
    """

    max_sender_id = COLUMN_LENGTH

    #: Sender ids that are fetched at a time.
    _fetched = 2_000
    #: Ids of rows that are gone through at a time: 0.2 s.
    _window = 500_000

    def __init__(
        self,
        engine: sa.engine.Engine,
        tables: Tables,
        *,
        name: str,
        record_exp: Optional[float] = None,
    ) -> None:
        """Prepare the statements.

        Args:
            engine: Engine of the database, in future mode.
            tables: The tables to use.
            name: How messages name the database.
            record_exp: Seconds after its last append that a conversation expires.
        """
        self.name = name
        self._engine = engine
        self._record_exp = record_exp
        self._tables = tables
        events = self._events = tables.events
        expiry = self._expiry = tables.expiry
        users = self._users = tables.users

        sender_id = sa.bindparam("sender_id")
        mine = events.c.sender_id == sender_id
        expired = self._is_expired(sender_id)
        user_id: Any = sa.null()
        if users is not None:
            user_id = (
                sa.select(users.c.user_id)
                .where(users.c.sender_id == sender_id)
                .scalar_subquery()
            )
        rows = sa.select(events.c.id, events.c.data, user_id.label("user_id"))
        if record_exp is not None:
            rows = rows.where(~expired)
        newest_first = self._in_order(rows, newest_first=True).limit(
            sa.bindparam("limit")
        )
        self._read_newest = newest_first
        self._read_before = newest_first.where(events.c.id < sa.bindparam("before"))
        self._read_all = self._in_order(rows)
        self._newest_id = self._in_order(
            sa.select(events.c.id), newest_first=True
        ).limit(1)
        # Positions are greater than START; Oracle's rows for locks are not.
        is_event = events.c.id > START
        self._texts = (
            sa.select(events.c.sender_id, events.c.data)
            .where(events.c.sender_id.in_(sa.bindparam("sender_ids", expanding=True)))
            .where(is_event)
            .order_by(events.c.sender_id, events.c.id)
        )
        alive = sa.select(events.c.sender_id).distinct()
        if record_exp is not None:
            alive = alive.where(~self._is_expired(events.c.sender_id))
        # In the order of an index, for databases that would else sort them all first.
        self._sender_ids = alive.order_by(events.c.sender_id)
        self._active = (
            alive.where(events.c.timestamp >= sa.bindparam("since", type_=sa.Float))
            .where(events.c.id >= sa.bindparam("first_id"))
            .where(events.c.id <= sa.bindparam("last_id"))
        )
        self._lowest_id = sa.select(sa.func.min(events.c.id)).where(
            events.c.id > sa.bindparam("after")
        )
        self._insert_events = sa.insert(events)
        self._delete_events = sa.delete(events).where(mine)
        self._delete_expired = sa.delete(events).where(sa.and_(mine, expired))
        self._delete_expiry = sa.delete(expiry).where(expiry.c.sender_id == sender_id)
        self._insert_expiry = sa.insert(expiry).values(
            sender_id=sa.bindparam("sender_id", type_=sa.String),
            # Named: SQLAlchemy's own name for it would be made of the clock's SQL.
            expires_at=self._now() + sa.bindparam("seconds", record_exp, sa.Float),
            last_id=sa.bindparam("last_id", type_=sa.Integer),
        )

        if users is not None:
            my_user = users.c.sender_id == sender_id
            self._delete_user = sa.delete(users).where(my_user)
            self._delete_expired_user = sa.delete(users).where(
                sa.and_(my_user, expired)
            )
            began = sa.bindparam("conversation_started", type_=sa.Float)
            self._insert_user = sa.insert(users).values(
                sender_id=sa.bindparam("conversation", type_=sa.String),
                user_id=sa.bindparam("new_user_id", type_=sa.String),
                conversation_started_timestamp=began,
            )
            known = users.c.conversation_started_timestamp
            # By other names than the columns', which SQLAlchemy takes for new values.
            self._change_user = (
                sa.update(users)
                .where(users.c.sender_id == sa.bindparam("conversation"))
                .values(
                    user_id=sa.bindparam("new_user_id", type_=sa.String),
                    conversation_started_timestamp=sa.func.coalesce(known, began),
                )
            )

    def _is_expired(self, sender_id: Any) -> Any:
        """Whether a conversation is expired, as an SQL condition."""
        later = self._events.alias("later")
        return (
            sa.exists()
            .where(self._expiry.c.sender_id == sender_id)
            .where(self._expiry.c.expires_at <= self._now())
            .where(
                ~sa.exists()
                .where(later.c.sender_id == self._expiry.c.sender_id)
                .where(later.c.id > self._expiry.c.last_id)
            )
        )

    def _in_order(self, statement: Any, *, newest_first: bool = False) -> Any:
        """Let a statement give the events of ``:sender_id`` in the log's order."""
        events = self._events
        return statement.where(
            events.c.sender_id == sa.bindparam("sender_id")
        ).order_by(events.c.id.desc() if newest_first else events.c.id)

    # Setting up

    def open(self) -> None:
        with self._setup() as connection:
            self._create_tables(connection)

    @contextmanager
    def _setup(self) -> Iterator[Connection]:
        """A transaction in which other workers do not create the same tables."""
        with self._engine.begin() as connection:
            yield connection

    def _create_tables(self, connection: Connection) -> None:
        wanted = [self._events]
        if self._record_exp is not None:
            wanted.append(self._expiry)
        if self._users is not None:
            wanted.append(self._users)
        self._events.metadata.create_all(connection, tables=wanted)

    # Writing

    @contextmanager
    def _writing(self, sender_id: str) -> Iterator[Connection]:
        """A transaction that no other writer of the conversation has beside it."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.select(self._events.c.id)
                .where(self._events.c.sender_id == sender_id)
                .order_by(self._events.c.id.desc())
                .limit(1)
                .with_for_update()
            )
            yield connection

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        with self._writing(sender_id) as connection:
            self._erase_if_expired(connection, sender_id)
            if self._end(connection, sender_id) != after:
                return None
            end = after
            if entries:
                end = self._insert(connection, sender_id, entries, after)
            if user is not None and end != START:
                self._assign(connection, sender_id, user)
            return end

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        with self._writing(sender_id) as connection:
            self._erase_if_expired(connection, sender_id)
            if self._end(connection, sender_id) != after:
                return None
            self._erase(
                connection, sender_id, with_user=user is not None or not entries
            )
            if not entries:
                return START
            end = self._insert(connection, sender_id, entries, after)
            if user is not None:
                self._assign(connection, sender_id, user)
            return end

    def delete(self, sender_id: str) -> bool:
        with self._writing(sender_id) as connection:
            return self._erase(connection, sender_id)

    def _end(self, connection: Connection, sender_id: str) -> int:
        newest: Optional[int] = connection.execute(
            self._newest_id, {"sender_id": sender_id}
        ).scalar()
        return START if newest is None else newest

    def _insert(
        self,
        connection: Connection,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
    ) -> int:
        """Insert rows, whose ids must be greater than ``after``.

        Ids that a database gives only ever grow, with few exceptions.
        """
        connection.execute(self._insert_events, self._rows(sender_id, entries))
        end = self._end(connection, sender_id)
        if self._record_exp is not None:
            connection.execute(self._delete_expiry, {"sender_id": sender_id})
            connection.execute(
                self._insert_expiry, {"sender_id": sender_id, "last_id": end}
            )
        return end

    def _rows(self, sender_id: str, entries: Sequence[Entry]) -> List[Dict[str, Any]]:
        return [row(sender_id, entry) for entry in entries]

    def _assign(self, connection: Connection, sender_id: str, user: User) -> None:
        values = {
            "conversation": sender_id,
            "new_user_id": user.user_id,
            "conversation_started": user.conversation_started,
        }
        if not connection.execute(self._change_user, values).rowcount:
            connection.execute(self._insert_user, values)

    def _erase(
        self, connection: Connection, sender_id: str, *, with_user: bool = True
    ) -> bool:
        erased = connection.execute(self._delete_events, {"sender_id": sender_id})
        if self._record_exp is not None:
            connection.execute(self._delete_expiry, {"sender_id": sender_id})
        if self._users is not None and with_user:
            connection.execute(self._delete_user, {"sender_id": sender_id})
        return bool(erased.rowcount)

    def _erase_if_expired(self, connection: Connection, sender_id: str) -> None:
        if self._record_exp is None:
            return
        if self._users is not None:
            # First: without events a conversation is not known to be expired.
            connection.execute(self._delete_expired_user, {"sender_id": sender_id})
        connection.execute(self._delete_expired, {"sender_id": sender_id})

    def purge_expired(self) -> int:
        if self._record_exp is None:
            return 0
        overdue = (
            sa.select(self._expiry.c.sender_id)
            .where(self._expiry.c.expires_at <= self._now())
            .limit(_PURGE_BATCH)
        )
        with self._engine.connect() as connection:
            sender_ids = connection.execute(overdue).scalars().all()
        for sender_id in sender_ids:
            with self._writing(sender_id) as connection:
                # Looked at again: a message may have come in since.
                self._erase_if_expired(connection, sender_id)
                connection.execute(
                    self._delete_expiry.where(self._expiry.c.expires_at <= self._now()),
                    {"sender_id": sender_id},
                )
        return len(sender_ids)

    # Reading

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        parameters: Dict[str, Any] = {"sender_id": sender_id}
        if limit is None and before is None:
            statement = self._read_all
        elif limit is None:
            statement = self._read_all.where(self._events.c.id < sa.bindparam("before"))
            parameters["before"] = before
        elif before is None:
            statement = self._read_newest
            parameters["limit"] = limit
        else:
            statement = self._read_before
            parameters.update(limit=limit, before=before)
        with self._engine.connect() as connection:
            rows = self._fetch(connection.execute(statement, parameters))
        stored = [Stored(position, _text(data)) for position, data, _ in rows]
        if limit is not None:
            stored.reverse()
        return Page(
            stored,
            complete=limit is None or len(stored) < limit,
            user_id=rows[0][2] if rows else None,
        )

    def _fetch(self, result: Any) -> Sequence[Any]:
        """All rows of a result, each of them a sequence."""
        return result.all()  # type: ignore[no-any-return]

    def sender_ids(self, answered: Answered = unheard) -> List[str]:
        sender_ids: List[str] = []
        for rows in self._streamed(self._sender_ids):
            answered()
            sender_ids += (sender_id for (sender_id,) in rows)
        return sender_ids

    def _streamed(self, statement: Any) -> Iterator[Sequence[Any]]:
        """The rows of a statement in parts, each when the server has come so far."""
        with self._engine.connect() as connection:
            yield from connection.execute(statement).partitions(self._fetched)

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        if self._users is None:
            return []
        texts: Dict[str, List[str]] = {}
        with self._engine.connect() as connection:
            found = connection.execute(
                self._users_conversations(user_id, limit, skip)
            ).all()
            for begin in range(0, len(found), _READ_BATCH):
                batch = [each[0] for each in found[begin : begin + _READ_BATCH]]
                for sender_id, data in connection.execute(
                    self._texts, {"sender_ids": batch}
                ):
                    texts.setdefault(sender_id, []).append(_text(data))
        return [
            Conversation(sender_id, began, texts[sender_id])
            for sender_id, began in found
            # Else it was erased in between.
            if sender_id in texts
        ]

    def _users_conversations(
        self, user_id: str, limit: Optional[int], skip: int
    ) -> Any:
        users, events = self._users, self._events
        assert users is not None  # noqa: S101 - asked before
        began = users.c.conversation_started_timestamp
        statement = (
            sa.select(users.c.sender_id, began)
            .where(users.c.user_id == user_id)
            # Rasa Pro's own store names the user of a conversation without events too.
            .where(
                sa.exists()
                .where(events.c.sender_id == users.c.sender_id)
                .where(events.c.id > START)
            )
            .order_by(sa.func.coalesce(began, 0.0), users.c.sender_id)
            .limit(limit)
            .offset(skip or None)
        )
        if self._record_exp is not None:
            statement = statement.where(~self._is_expired(users.c.sender_id))
        return statement

    def count_conversations(
        self, after_timestamp: float, answered: Answered = unheard
    ) -> int:
        active: Set[str] = set()
        with self._engine.connect() as connection:
            for first_id, last_id in self._windows(connection):
                found = connection.execute(
                    self._active,
                    {
                        "since": after_timestamp,
                        "first_id": first_id,
                        "last_id": last_id,
                    },
                ).scalars()
                for sender_ids in found.partitions(self._fetched):
                    active.update(sender_ids)
                answered()
        return len(active)

    def _windows(self, connection: Connection) -> Iterator[Tuple[int, int]]:
        """The first and the last id of runs of ids that hold all events there are.

        So that no statement reads more than the server can in time. A conversation
        that is rewritten meanwhile gets greater ids, and is found there.
        """
        last = START
        while True:
            # Ids may have wide gaps.
            first = connection.execute(self._lowest_id, {"after": last}).scalar()
            if first is None:
                return
            last = first + self._window - 1
            yield first, last

    def _now(self) -> Any:
        """Seconds since the epoch, as an SQL expression of the database's clock."""
        return sa.bindparam("now", callable_=time.time, type_=sa.Float, unique=True)

    # Errors and end

    def classify(self, error: Exception) -> Optional[Failure]:
        if isinstance(error, sqlalchemy.exc.TimeoutError):
            return Failure(
                True,
                "All connections of the pool are in use. Raise POSTGRESQL_POOL_SIZE "
                "or POSTGRESQL_MAX_OVERFLOW.",
            )
        if isinstance(error, sqlalchemy.exc.DBAPIError):
            if error.connection_invalidated:
                return Failure(True, "Check that the server runs and can be reached.")
            return self._classify_driver(error)
        if isinstance(error, sqlalchemy.exc.SQLAlchemyError):
            return Failure(False, "Check the tracker_store section of endpoints.yml.")
        if isinstance(error, OSError):
            return Failure(True, "Check that the server runs and can be reached.")
        if isinstance(error, ValueError):
            # Of a driver that does not take a value: NUL and lone surrogates.
            return Failure(
                False,
                "The database cannot store this text. Let the channel use sender ids "
                "of printable characters.",
            )
        return None

    def _classify_driver(self, error: sqlalchemy.exc.DBAPIError) -> Failure:
        return Failure(
            transient=isinstance(
                error, (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)
            )
        )

    def close(self) -> None:
        self._engine.dispose()


def row(sender_id: str, entry: Entry, *, encoding: str = "utf-8") -> Dict[str, Any]:
    """The row of an event.

    What stands beside ``data`` is for queries and made to fit: an event with a long
    name is stored all the same.

    Args:
        sender_id: The conversation.
        entry: The event.
        encoding: What the database's text columns can hold.
    """
    return {
        "sender_id": sender_id,
        "type_name": entry.type_name[:COLUMN_LENGTH],
        "timestamp": entry.timestamp,
        "intent_name": _column_text(entry.intent_name, encoding),
        "action_name": _column_text(entry.action_name, encoding),
        "data": entry.data,
    }


def _column_text(text: Optional[str], encoding: str) -> Optional[str]:
    if text is None:
        return None
    storable = text.replace("\0", "\ufffd").encode(encoding, "backslashreplace")
    return storable.decode(encoding)[:COLUMN_LENGTH]


def _text(data: Any) -> str:
    # A row without text is a damaged one, and no reason to lose the others.
    return data if isinstance(data, str) else ""


def fetch_from_driver(result: Any, dialect: Any) -> Sequence[Any]:
    """All rows of a result, as the driver gives them.

    SQLAlchemy's own cost half a microsecond each. For drivers whose values need no
    conversion.
    """
    driver_error = dialect.dbapi.Error
    try:
        rows: Sequence[Any] = result.cursor.fetchall()
    except driver_error as error:
        raise sqlalchemy.exc.DBAPIError.instance(
            None, None, error, driver_error, dialect=dialect
        ) from error
    result.close()
    return rows
