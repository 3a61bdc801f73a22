"""The tables.

``events`` is the table of Rasa's own ``SQLTrackerStore`` (3.6.21), column by column,
and ``users`` that of Rasa Pro's (3.21): either store reads and continues what the other
one wrote.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import sqlalchemy as sa
from sqlalchemy.dialects.oracle import BINARY_DOUBLE

from rasa_trackers.rasa_versions import KNOWS_USERS

#: Characters that the text columns hold.
COLUMN_LENGTH = 255


class Tables(NamedTuple):
    """The tables of one store."""

    events: sa.Table
    #: When conversations expire; only exists where ``record_exp`` is set. A table
    #: of its own, since ``events`` must stay as Rasa knows it.
    expiry: sa.Table
    #: Whose conversation is whose; ``None`` where Rasa knows no users. Rasa Pro's own
    #: has two more indexes: one on its primary key, which Oracle refuses (ORA-01408),
    #: and one on a column that nothing is looked up by.
    users: Optional[sa.Table]
    #: What lets the newest events of a conversation be read without the others.
    #: Rasa's own index on ``sender_id`` leaves PostgreSQL to sort all of them.
    tail_index: sa.Index


def tables(schema: Optional[str] = None, *, with_users: bool = KNOWS_USERS) -> Tables:
    """The tables in a database schema, or where the server looks first."""
    metadata = sa.MetaData(schema=schema)
    events = sa.Table(
        "events",
        metadata,
        # The sequence is for databases that do not number rows by themselves.
        sa.Column(
            "id",
            sa.Integer,
            sa.Sequence("events_seq", metadata=metadata, optional=True),
            primary_key=True,
        ),
        sa.Column("sender_id", sa.String(COLUMN_LENGTH), nullable=False, index=True),
        sa.Column("type_name", sa.String(COLUMN_LENGTH), nullable=False),
        # Oracle's FLOAT is decimal, and moves what is bound as one by a microsecond.
        sa.Column("timestamp", sa.Float().with_variant(BINARY_DOUBLE(), "oracle")),
        sa.Column("intent_name", sa.String(COLUMN_LENGTH)),
        sa.Column("action_name", sa.String(COLUMN_LENGTH)),
        sa.Column("data", sa.Text),
        # SQLite else gives the ids of erased rows to new ones.
        sqlite_autoincrement=True,
    )
    expiry = sa.Table(
        "rasa_trackers_expiry",
        metadata,
        sa.Column("sender_id", sa.String(COLUMN_LENGTH), primary_key=True),
        # Seconds since the epoch by the database's clock.
        sa.Column(
            "expires_at",
            sa.Float(53).with_variant(BINARY_DOUBLE(), "oracle"),
            nullable=False,
        ),
        # The conversation's last event then. Where a later one is found, its writer
        # knows nothing of expiry, and the conversation is alive.
        sa.Column("last_id", sa.Integer, nullable=False),
        # Named here, because Oracle before 12.2 takes 30 characters at the most.
        sa.Index("ix_rasa_trackers_expires_at", "expires_at"),
    )
    users = None
    if with_users:
        users = sa.Table(
            "users",
            metadata,
            sa.Column("sender_id", sa.String(COLUMN_LENGTH), primary_key=True),
            sa.Column("user_id", sa.String(COLUMN_LENGTH), nullable=False),
            sa.Column(
                "conversation_started_timestamp",
                sa.Float().with_variant(BINARY_DOUBLE(), "oracle"),
            ),
            sa.Index("ix_users_user_id", "user_id"),
        )
    # Without a table yet, so that creating ``events`` does not create it: databases
    # that Rasa's store has set up need it too.
    tail_index = sa.Index("ix_events_sender_id_id", events.c.sender_id, events.c.id)
    events.indexes.discard(tail_index)
    return Tables(events, expiry, users, tail_index)
