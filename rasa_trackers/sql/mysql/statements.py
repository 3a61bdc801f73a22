"""The statements of a log in MySQL and MariaDB that other databases write otherwise."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import sqlalchemy as sa

from rasa_trackers.event_log import START, Entry, User
from rasa_trackers.sql.rows import row
from rasa_trackers.sql.schema import Tables
from rasa_trackers.sql.statements import Statements

NOW = "UNIX_TIMESTAMP(NOW(6))"

#: Rasa's own index. In InnoDB each entry of an index ends with the row's primary key, so
#: this one serves to read a conversation backwards.
SENDER_INDEX = "ix_events_sender_id"

#: Left to itself, the optimizer reads the primary key backwards, through all that others
#: have written since: 20 ms for 50,000 events on MySQL 9.7, where the index takes 1 ms.
#: MariaDB 10.11 does the same for pages further back, once the table was analyzed.
_BY_SENDER = f"FORCE INDEX ({SENDER_INDEX})"

#: Rows of the table for locks. Two conversations with the same row only wait for each
#: other.
LOCKS = 1024
LOCKS_TABLE = "rasa_trackers_locks"
#: A write, which a cluster of several masters certifies; it does not certify a lock. Makes
#: a row that somebody has deleted.
LOCK = (
    f"INSERT INTO {LOCKS_TABLE} (id, writes) VALUES (%s, 1) "  # noqa: S608
    "ON DUPLICATE KEY UPDATE writes = writes + 1"
)

#: The beginning of an append.
INSERT = "INSERT INTO events"

#: Lets the server give ids from two after a number on, unless it has come further already.
MOVE_NUMBERS = (
    f"BEGIN; {INSERT} (id, sender_id, type_name) "
    "VALUES (%s + 1, 'rasa_trackers', 'rasa_trackers'); ROLLBACK"
)


class MySQLStatements(Statements):
    """Statements that find a conversation by the index, and lock no other one."""

    def __init__(self, tables: Tables, **options: Any) -> None:
        super().__init__(tables, **options)
        events = tables.events
        self.inserted = self.inserted.with_hint(events, _BY_SENDER)
        self.texts = self.texts.with_hint(events, _BY_SENDER)
        # A DELETE locks each row that it looks at. By the primary key it would wait for
        # the writers of other conversations.
        delete = f"DELETE events FROM events {_BY_SENDER} WHERE sender_id = :sender_id"
        self.delete_events = sa.text(delete)
        self.delete_replaced = sa.text(f"{delete} AND id <= :after")

    def _in_order(self, statement: Any, *, newest_first: bool = False) -> Any:
        found = super()._in_order(statement, newest_first=newest_first)
        return found.with_hint(self._tables.events, _BY_SENDER)

    def sender_ids_after(self, last: Optional[str], limit: int) -> Any:
        """The next sender ids in their order."""
        statement = self.sender_ids.limit(limit)
        if last is None:
            return statement
        return statement.where(self._tables.events.c.sender_id > last)


def append_statement(
    sender_id: str, entries: Sequence[Entry], after: int, *, unless: str = ""
) -> Tuple[str, List[Any]]:
    """Compare and append, in one statement, and its parameters.

    Writes no row if the log does not end at ``after``.

    Args:
        sender_id: The conversation.
        entries: No more than go into one message.
        after: The position that the log must end at.
        unless: A condition in which no row is written either.
    """
    parameters: List[Any] = []
    for entry in entries:
        parameters += row(sender_id, entry).values()
    names = (
        "sender_id",
        "type_name",
        "timestamp",
        "intent_name",
        "action_name",
        "data",
    )
    # The server gives ids in the order of this SELECT. Without ORDER BY, MariaDB reads
    # the rows of a derived table above 16 KB in another order.
    first = ", ".join(["0 AS place", *(f"%s AS {name}" for name in names)])
    more = "".join(
        f" UNION ALL SELECT {place}, %s, %s, %s, %s, %s, %s"
        for place in range(1, len(entries))
    )
    sql = (
        f"{INSERT} ({', '.join(names)}) "  # noqa: S608 - made of placeholders
        f"SELECT {', '.join(names)} FROM (SELECT {first}{more}) AS new_events "
        f"WHERE coalesce("
        f"(SELECT max(id) FROM events {_BY_SENDER} WHERE sender_id = %s), {START}) = %s"
        f"{f' AND NOT {unless}' if unless else ''} ORDER BY place"
    )
    return sql, [*parameters, sender_id, after]


class AppendMessage:
    """A whole append in one message: lock, compare, write, renew, check and commit.

    The server runs the statements one after the other and stops at an error, so that the
    commit is not come to. No lock is held while a message is on its way: a client that is
    cut off between two messages would keep others out until ``wait_timeout``.

    One statement gives a row: the number of events that were written; the id of the last
    one; whether the log has expired, in which case nothing is written.
    """

    def __init__(self, *, record_exp: Optional[float]) -> None:
        """Write the parts that are the same for every append.

        Args:
            record_exp: Seconds after its last append that a conversation expires.
        """
        self._record_exp = record_exp

    def build(
        self,
        lock: int,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
        *,
        ends_expiry: bool,
    ) -> Tuple[str, Tuple[Any, ...]]:
        """The message, and its parameters.

        Args:
            lock: The row of the table for locks.
            sender_id: The conversation.
            entries: No more than go into one message.
            after: The position that the log must end at.
            user: The user whose conversation it is.
            ends_expiry: Whether a date of expiry is removed, which another log has set.
        """
        parts: List[Tuple[str, List[Any]]] = [("BEGIN", []), (LOCK, [lock])]
        expires = self._record_exp is not None
        if expires:
            parts.append((_SET_EXPIRED, [sender_id]))
        unless = "@rasa_expired" if expires else ""
        parts.append(append_statement(sender_id, entries, after, unless=unless))
        parts.append(("SET @rasa_written = row_count()", []))
        if expires:
            parts.append((_RENEW, [self._record_exp, sender_id, after]))
        elif ends_expiry:
            parts.append((_END_EXPIRY, [sender_id]))
        if user is not None:
            parts.append((_ASSIGN, [sender_id, *user]))
        parts.append((_CHECK.format(unless or "0"), [sender_id, after]))
        parts.append(("COMMIT", []))
        return (
            "; ".join(sql for sql, _ in parts),
            tuple(value for _, values in parts for value in values),
        )


_SET_EXPIRED = (
    "SET @rasa_expired = EXISTS (SELECT 1 FROM rasa_trackers_expiry AS mine "  # noqa: S608
    f"WHERE mine.sender_id = %s AND mine.expires_at <= {NOW} AND NOT EXISTS "
    f"(SELECT 1 FROM events AS later {_BY_SENDER} "
    "WHERE later.sender_id = mine.sender_id AND later.id > mine.last_id))"
)
_RENEW = (
    "REPLACE INTO rasa_trackers_expiry (sender_id, expires_at, last_id) "  # noqa: S608
    f"SELECT sender_id, {NOW} + %s, max(id) FROM events {_BY_SENDER} "
    "WHERE sender_id = %s AND id > %s AND @rasa_written > 0 GROUP BY sender_id"
)
_END_EXPIRY = (
    "DELETE FROM rasa_trackers_expiry WHERE sender_id = %s AND @rasa_written > 0"
)
_ASSIGN = (
    "INSERT INTO users (sender_id, user_id, conversation_started_timestamp) "
    "SELECT * FROM (SELECT %s AS sender_id, %s AS new_user_id, %s AS started) AS named "
    "WHERE @rasa_written > 0 ON DUPLICATE KEY UPDATE user_id = new_user_id, "
    "conversation_started_timestamp = coalesce(conversation_started_timestamp, started)"
)
#: The greatest number and one are an error, which undoes the append: some ids are not
#: greater than the last one before, or a program that takes no lock has added an event.
_CHECK = (
    "SELECT @rasa_written, max(id), {}, 18446744073709551615 + "  # noqa: S608
    "(@rasa_written <> 0 AND @rasa_written <> count(*)) "
    f"FROM events {_BY_SENDER} WHERE sender_id = %s AND id > %s"
)
