"""The tables.

``events`` is the table of Rasa's own ``SQLTrackerStore`` (3.6.21), column by column:
either store reads and continues what the other one wrote.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import sqlalchemy as sa

#: Characters that the text columns hold.
COLUMN_LENGTH = 255


class Tables(NamedTuple):
    """The tables of one store."""

    events: sa.Table
    #: When conversations expire; only exists where ``record_exp`` is set. A table
    #: of its own, since ``events`` must stay as Rasa knows it.
    expiry: sa.Table
    #: What lets the newest events of a conversation be read without the others.
    #: Rasa's own index on ``sender_id`` leaves PostgreSQL to sort all of them.
    tail_index: sa.Index


def tables(schema: Optional[str] = None) -> Tables:
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
        sa.Column("timestamp", sa.Float),
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
        sa.Column("expires_at", sa.Float(53), nullable=False, index=True),
        # The conversation's last event then. Where a later one is found, its writer
        # knows nothing of expiry, and the conversation is alive.
        sa.Column("last_id", sa.Integer, nullable=False),
    )
    # Without a table yet, so that creating ``events`` does not create it: databases
    # that Rasa's store has set up need it too.
    tail_index = sa.Index("ix_events_sender_id_id", events.c.sender_id, events.c.id)
    events.indexes.discard(tail_index)
    return Tables(events, expiry, tail_index)
