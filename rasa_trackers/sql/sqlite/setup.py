"""What a SQLite file needs before the first event: its mode, tables and index.

In a table with AUTOINCREMENT, no id is used twice. A table that Rasa's own store has made
lacks it, and SQLite gives the ids of the last erased rows to new ones there. So this
package keeps the highest id that it erases in a table of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rasa_trackers.sql.sqlite.engine import create_private_file, immediate

if TYPE_CHECKING:
    from rasa_trackers.sql.sqlite.log import SQLiteEventLog


#: Keeps the highest id of ``events``, before rows are erased.
KEEP_LAST_ID = (
    "UPDATE rasa_trackers_last_id SET last_id = "
    "max(last_id, (SELECT coalesce(max(id), 0) FROM events))"
)
#: The highest id that a row has or had.
LAST_ID = (
    "(SELECT max(last_id, (SELECT coalesce(max(id), 0) FROM events)) "
    "FROM rasa_trackers_last_id)"
)


def set_up(log: SQLiteEventLog) -> bool:
    """Create what is missing.

    Returns:
        Whether the table ``events`` never gives an id twice.
    """
    create_private_file(log.engine.url)
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
        definition = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE name = 'events'"
        ).scalar_one()
        if "AUTOINCREMENT" in definition.upper():
            return True
        connection.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS rasa_trackers_last_id (last_id INTEGER NOT NULL)"
        )
        connection.exec_driver_sql(
            "INSERT INTO rasa_trackers_last_id SELECT 0 "
            "WHERE NOT EXISTS (SELECT 1 FROM rasa_trackers_last_id)"
        )
        return False
