"""The tables, and whether those that a database has are the right ones.

``events`` is the table of Rasa's own ``SQLTrackerStore`` (3.6.21), column by column,
and ``users`` is that of Rasa Pro's (3.21). Each store reads and continues what the
other one wrote.
"""

from __future__ import annotations

from typing import AbstractSet, Any, Dict, NamedTuple, Optional

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.dialects.oracle import BINARY_DOUBLE
from sqlalchemy.engine import Connection

from rasa_trackers.errors import store_error

#: Characters that the text columns hold.
COLUMN_LENGTH = 255

#: Rows that stand for conversations while somebody writes to them. Two conversations with
#: one row only wait for each other.
LOCKS = 64
#: More such rows, for the probe: no writer waits for it, and processes that start at once
#: seldom wait for each other.
PROBE_LOCKS = range(LOCKS, LOCKS + 16)


class Tables(NamedTuple):
    """The tables of one store."""

    events: sa.Table
    #: When conversations expire. A table of its own, because ``events`` must stay as
    #: Rasa knows it. Only a log with ``record_exp`` creates it.
    expiry: sa.Table
    #: The users of conversations. Only a log that keeps users creates it. Rasa Pro's
    #: own table has two more indexes: one on its primary key, which Oracle refuses
    #: (ORA-01408), and one on a column that no query uses.
    users: sa.Table
    #: Lets the server read the newest events of a conversation without the others. With
    #: Rasa's own index on ``sender_id``, PostgreSQL reads and sorts all of them.
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
        # Oracle's FLOAT is decimal and moves a timestamp by up to a microsecond.
        sa.Column("timestamp", sa.Float().with_variant(BINARY_DOUBLE(), "oracle")),
        sa.Column("intent_name", sa.String(COLUMN_LENGTH)),
        sa.Column("action_name", sa.String(COLUMN_LENGTH)),
        sa.Column("data", sa.Text),
        # Without it SQLite gives the ids of erased rows to new ones.
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
        # The conversation's last event when the date was set. If a later event exists,
        # its writer knows nothing of expiry and the conversation is permanent. BIGINT,
        # because operators widen events.id.
        sa.Column("last_id", sa.BigInteger, nullable=False),
        # Oracle before 12.2 takes names of at most 30 characters.
        sa.Index("ix_rasa_trackers_expires_at", "expires_at"),
    )
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
    # Not in the table's own indexes: a database that Rasa's store has set up needs this
    # index too, and creating the table does not create it there.
    tail_index = sa.Index("ix_events_sender_id_id", events.c.sender_id, events.c.id)
    events.indexes.discard(tail_index)
    return Tables(events, expiry, users, tail_index)


def locks_table(schema: Optional[str] = None) -> sa.Table:
    """Rows that writers lock, where the store knows no better way of a database."""
    return sa.Table(
        "rasa_trackers_locks",
        sa.MetaData(schema=schema),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("writes", sa.BigInteger, nullable=False),
    )


def columns_of(connection: Connection, table: sa.Table) -> Optional[Dict[str, Any]]:
    """The types of a table's columns by their names; ``None`` if there is no table."""
    try:
        found = sa.inspect(connection).get_columns(table.name, schema=table.schema)
    except sqlalchemy.exc.NoSuchTableError:
        return None
    return {column["name"]: column["type"] for column in found} or None


def is_usable(table: sa.Table, found: Optional[AbstractSet[str]]) -> bool:
    """Whether a database has the table with every column that the log needs."""
    return found is not None and {column.name for column in table.c} <= found


def require_columns(
    name: str, table: sa.Table, found: Optional[AbstractSet[str]], remedy: str
) -> None:
    """Refuse a table of the right name that is another program's.

    Args:
        name: How messages name the database.
        table: The table that the log needs.
        found: The names of the columns that the database's table has.
        remedy: How to use another place, as a sentence.

    Raises:
        StoreError: naming the columns that are missing.
    """
    missing = [column.name for column in table.c if column.name not in (found or ())]
    if missing:
        raise store_error(
            f"{name} has a table '{table.name}' of another program: it has no column "
            f"{', '.join(missing)}. Rasa's SQL event broker, for example, makes a "
            f"table 'events' of its own. {remedy}"
        )
