"""What a SQLite file needs before the first event: its mode, tables and index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rasa_trackers.sql.sqlite.engine import immediate

if TYPE_CHECKING:
    from rasa_trackers.sql.sqlite.log import SQLiteEventLog


def set_up(log: SQLiteEventLog) -> None:
    """Create what is missing."""
    with log.engine.connect() as connection:
        # The file keeps this mode. Some network file systems cannot have it: there the
        # file keeps its own mode, which is as safe and slower.
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.rollback()
    with immediate(log.engine) as connection:
        log.create_tables(connection)
        # A table that was copied by hand may lack Rasa's index. In SQLite each entry of
        # an index ends with the row's id, so this one serves to read backwards.
        connection.exec_driver_sql(
            "CREATE INDEX IF NOT EXISTS ix_events_sender_id ON events (sender_id)"
        )
