"""The statements of a log in PostgreSQL that differ from those of other databases."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import sqlalchemy as sa

from rasa_trackers.event_log import START, User
from rasa_trackers.sql.schema import Tables
from rasa_trackers.sql.statements import Statements

NOW = "extract(epoch FROM clock_timestamp())::float8"

#: Stands in the error that an append raises whose ids are too low.
NUMBERS_BEHIND = "rasa_trackers: the id is not greater than the last one"


class PostgreSQLStatements(Statements):
    """Statements that read by the tail index; see ``engine._TAIL_INDEX``."""

    def _in_order(self, statement: Any, *, newest_first: bool = False) -> Any:
        # The tail index has this order, and the primary key has not.
        events = self._tables.events
        sender_id = sa.bindparam("sender_id")
        columns = (events.c.sender_id, events.c.id)
        return statement.where(
            events.c.sender_id.between(sender_id, sender_id)
        ).order_by(*(column.desc() if newest_first else column for column in columns))


class AppendStatement:
    """Appends rows if the log still ends at a position: compare, write, and renew.

    Gives one row: the id of the last new event, or NULL if the log ends elsewhere; and
    whether the log has expired, in which case nothing is written either. If the
    sequence gives ids that are too low, the statement fails and writes nothing.
    """

    def __init__(
        self, tables: Tables, dialect: Any, *, record_exp: Optional[float]
    ) -> None:
        """Write the parts that are the same for every append.

        Args:
            tables: The tables to use.
            dialect: SQLAlchemy's dialect, which knows when to quote a name.
            record_exp: Seconds after its last append that a conversation expires.
        """
        preparer = dialect.identifier_preparer
        self._events = preparer.format_table(tables.events)
        self._expiry = preparer.format_table(tables.expiry)
        self._users = preparer.format_table(tables.users)
        self._record_exp = record_exp

    def build(
        self,
        sender_id: str,
        rows: Sequence[Dict[str, Any]],
        after: int,
        user: Optional[User] = None,
        *,
        renew: bool = True,
    ) -> Tuple[str, Tuple[Any, ...]]:
        """The statement for some rows, and its parameters.

        Args:
            sender_id: The conversation.
            rows: The new rows of ``events``, without ids.
            after: The id of the log's last event as far as the caller knows.
            user: The user whose conversation it is.
            renew: Whether the conversation's life begins anew.
        """
        expires = renew and self._record_exp is not None
        parameters: List[Any] = []
        sql = "WITH "
        if expires:
            sql += (
                f"expired AS (SELECT 1 FROM {self._expiry} "  # noqa: S608
                f"WHERE sender_id = %s AND expires_at <= {NOW} "
                f"AND NOT EXISTS (SELECT 1 FROM {self._events} AS later "
                f"WHERE later.sender_id = %s AND later.id > {self._expiry}.last_id)), "
            )
            parameters += [sender_id, sender_id]
        # The casts in the first row give the columns of VALUES their types.
        values = [
            "(%s::varchar,%s::varchar,%s::float8,%s::varchar,%s::varchar,%s::text)"
        ]
        values += ["(%s,%s,%s,%s,%s,%s)"] * (len(rows) - 1)
        sql += (
            f"appended AS (INSERT INTO {self._events} "  # noqa: S608
            "(sender_id, type_name, timestamp, intent_name, action_name, data) "
            f"SELECT * FROM (VALUES {','.join(values)}) AS new_events "
            # As in PostgreSQLStatements._in_order.
            f"WHERE coalesce((SELECT id FROM {self._events} "
            "WHERE sender_id BETWEEN %s AND %s "
            f"ORDER BY sender_id DESC, id DESC LIMIT 1), {START}) = %s "
            f"{'AND NOT EXISTS (SELECT 1 FROM expired) ' if expires else ''}"
            "RETURNING id)"
        )
        for each in rows:
            parameters += each.values()
        parameters += [sender_id, sender_id, after]
        if expires:
            sql += (
                f", renewed AS (INSERT INTO {self._expiry} "  # noqa: S608
                "(sender_id, expires_at, last_id) "
                f"SELECT %s, {NOW} + %s, max(id) FROM appended "
                "HAVING count(*) > 0 ON CONFLICT (sender_id) DO UPDATE SET "
                "expires_at = EXCLUDED.expires_at, last_id = EXCLUDED.last_id)"
            )
            parameters += [sender_id, self._record_exp]
        if user is not None:
            started = "conversation_started_timestamp"
            sql += (
                f", assigned AS (INSERT INTO {self._users} AS known "  # noqa: S608
                f"(sender_id, user_id, {started}) "
                "SELECT %s::varchar, %s::varchar, %s::float8 FROM appended "
                "HAVING count(*) > 0 ON CONFLICT (sender_id) DO UPDATE SET "
                f"user_id = EXCLUDED.user_id, {started} = "
                f"coalesce(known.{started}, EXCLUDED.{started}))"
            )
            parameters += [sender_id, *user]
        # A text that is no number fails as a bigint, which undoes the statement.
        sql += (
            " SELECT CASE WHEN min(id) > %s THEN max(id) "  # noqa: S608
            f"ELSE (min(id) || ' {NUMBERS_BEHIND}')::bigint END, "
            f"{'EXISTS (SELECT 1 FROM expired)' if expires else 'false'} FROM appended"
        )
        return sql, (*parameters, after)
