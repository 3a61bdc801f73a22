"""The SQL statements that every database takes, as SQLAlchemy writes them for it."""

from __future__ import annotations

from typing import Any, Optional

import sqlalchemy as sa

from rasa_trackers.event_log import START
from rasa_trackers.sql.schema import Tables


class Statements:
    """The statements of one log."""

    def __init__(
        self, tables: Tables, *, now: Any, record_exp: Optional[float], with_users: bool
    ) -> None:
        """Write the statements.

        Args:
            tables: The tables to use.
            now: Seconds since the epoch by the database's clock, as an SQL expression.
            record_exp: Seconds after its last append that a conversation expires.
            with_users: Whether reads give the user of a conversation.
        """
        self._tables = tables
        self._now = now
        self._hides_expired = record_exp is not None
        events, expiry, users = tables.events, tables.expiry, tables.users
        sender_id = sa.bindparam("sender_id", type_=sa.String)
        # Positions are greater than START; the ids of Oracle's rows for locks are not.
        mine = sa.and_(events.c.sender_id == sender_id, events.c.id > START)

        user_id: Any = sa.null()
        if with_users:
            user_id = (
                sa.select(users.c.user_id)
                .where(users.c.sender_id == sender_id)
                .scalar_subquery()
            )
        rows = self._alive(
            sa.select(events.c.id, events.c.data, user_id.label("user_id")), sender_id
        )
        self.read_all = self._in_order(rows)
        self.read_newest = self._in_order(rows, newest_first=True).limit(
            sa.bindparam("limit")
        )
        before = events.c.id < sa.bindparam("before")
        self.read_all_before = self.read_all.where(before)
        self.read_newest_before = self.read_newest.where(before)
        self.newest_id = self._newest_id()

        self.insert_events = sa.insert(events)
        self.inserted = sa.select(
            sa.func.max(events.c.id), sa.func.count(events.c.id)
        ).where(mine, events.c.id > sa.bindparam("after"))
        self.delete_events = sa.delete(events).where(mine)
        self.delete_replaced = self.delete_events.where(
            events.c.id <= sa.bindparam("after")
        )

        self.expired = sa.select(expiry.c.sender_id).where(
            expiry.c.sender_id == sender_id, self._is_over()
        )
        self.overdue = sa.select(expiry.c.sender_id).where(expiry.c.expires_at <= now)
        self.delete_expiry = sa.delete(expiry).where(expiry.c.sender_id == sender_id)
        self.insert_expiry = sa.insert(expiry).values(
            sender_id=sender_id,
            # Named, because SQLAlchemy would make a name of the clock's whole SQL.
            expires_at=now + sa.bindparam("seconds", record_exp, sa.Float),
            last_id=sa.bindparam("last_id", type_=sa.BigInteger),
        )
        # These parameters do not have the columns' names: in an UPDATE, SQLAlchemy
        # takes such a parameter for a new value.
        conversation = sa.bindparam("conversation", type_=sa.String)
        # A date that does not hold any more, because of a lower last_id, stays as it
        # is.
        self.keep_expiry = (
            sa.update(expiry)
            .where(expiry.c.sender_id == conversation)
            .where(expiry.c.last_id >= sa.bindparam("after", type_=sa.BigInteger))
            .values(last_id=sa.bindparam("new_last_id", type_=sa.BigInteger))
        )
        self.delete_overdue = self.delete_expiry.where(expiry.c.expires_at <= now)

        self.delete_user = sa.delete(users).where(users.c.sender_id == sender_id)
        new_values = {
            "user_id": sa.bindparam("new_user_id", type_=sa.String),
            "conversation_started_timestamp": sa.bindparam("started", type_=sa.Float),
        }
        self.insert_user = sa.insert(users).values(sender_id=conversation, **new_values)
        started = users.c.conversation_started_timestamp
        new_values["conversation_started_timestamp"] = sa.func.coalesce(
            started, new_values["conversation_started_timestamp"]
        )
        self.change_user = (
            sa.update(users)
            .where(users.c.sender_id == conversation)
            .values(**new_values)
        )

        # In the order of an index: some databases sort all sender ids otherwise.
        self.sender_ids = self._alive(
            sa.select(events.c.sender_id).distinct(), events.c.sender_id
        ).order_by(events.c.sender_id)
        self.active = (
            self.sender_ids.where(
                events.c.timestamp >= sa.bindparam("since", type_=sa.Float)
            )
            .where(events.c.id >= sa.bindparam("first_id"))
            .where(events.c.id <= sa.bindparam("last_id"))
            .order_by(None)
        )
        self.lowest_id = sa.select(sa.func.min(events.c.id)).where(
            events.c.id > sa.bindparam("after")
        )
        self.texts = (
            sa.select(events.c.sender_id, events.c.data)
            .where(events.c.sender_id.in_(sa.bindparam("sender_ids", expanding=True)))
            .where(events.c.id > START)
            .order_by(events.c.sender_id, events.c.id)
        )

    def conversations_of(self, user_id: str, limit: Optional[int], skip: int) -> Any:
        """The conversations of a user that have events, in the contract's order."""
        users, events = self._tables.users, self._tables.events
        started = users.c.conversation_started_timestamp
        # Rasa Pro's own store also names the user of a conversation without events.
        has_events = (
            sa.exists()
            .where(events.c.sender_id == users.c.sender_id)
            .where(events.c.id > START)
        )
        statement = sa.select(users.c.sender_id, started).where(
            users.c.user_id == user_id, has_events
        )
        return (
            self._alive(statement, users.c.sender_id)
            .order_by(sa.func.coalesce(started, 0.0), users.c.sender_id)
            .limit(limit)
            .offset(skip or None)
        )

    def _in_order(self, statement: Any, *, newest_first: bool = False) -> Any:
        """Let a statement give the events of ``:sender_id`` in the log's order."""
        events = self._tables.events
        mine = events.c.sender_id == sa.bindparam("sender_id")
        order = events.c.id.desc() if newest_first else events.c.id
        return statement.where(mine).order_by(order)

    def _newest_id(self) -> Any:
        newest = self._in_order(sa.select(self._tables.events.c.id), newest_first=True)
        return newest.limit(1)

    def _alive(self, statement: Any, sender_id: Any) -> Any:
        """Let a statement leave out expired conversations."""
        if not self._hides_expired:
            return statement
        return statement.where(~self._is_expired(sender_id))

    def _is_expired(self, sender_id: Any) -> Any:
        """Whether a conversation is expired, as an SQL condition."""
        same = self._tables.expiry.c.sender_id == sender_id
        return sa.exists().where(same, self._is_over())

    def _is_over(self) -> Any:
        """Whether the date in a row of the expiry table has passed and still holds."""
        expiry, later = self._tables.expiry, self._tables.events.alias("later")
        has_later_event = (
            sa.exists()
            .where(later.c.sender_id == expiry.c.sender_id)
            .where(later.c.id > expiry.c.last_id)
        )
        return sa.and_(expiry.c.expires_at <= self._now, ~has_later_event)
