"""Expiry dates of conversations in SQL databases, to take them along to another store."""

from __future__ import annotations

from typing import Dict, Sequence

import sqlalchemy as sa

from rasa_trackers.sql.health import has_table
from rasa_trackers.sql.log import SQLEventLog


def expires_at(log: SQLEventLog, sender_ids: Sequence[str]) -> Dict[str, float]:
    """When conversations expire, those that do; in seconds since the epoch."""
    expiry, later = log.tables.expiry, log.tables.events.alias("later")
    has_later = (
        sa.exists()
        .where(later.c.sender_id == expiry.c.sender_id)
        .where(later.c.id > expiry.c.last_id)
    )
    found = sa.select(expiry.c.sender_id, expiry.c.expires_at).where(
        expiry.c.sender_id.in_(list(sender_ids)), ~has_later
    )
    with log.engine.connect() as connection:
        if not has_table(log, connection, expiry):
            return {}
        return {row[0]: float(row[1]) for row in connection.execute(found)}


def set_expires_at(
    log: SQLEventLog, sender_id: str, end: int, expires_at: float
) -> None:
    """Let a conversation expire then, if it still ends at ``end``.

    A later event makes the date void: see ``last_id``.
    """
    expiry = log.tables.expiry
    if expiry not in log._found:  # noqa: SLF001 - of the same package
        with log.engine.begin() as connection:
            log.create_tables(connection, [expiry])
        log._found.add(expiry)  # noqa: SLF001
    mine = expiry.c.sender_id == sender_id
    with log._writing(sender_id) as connection:  # noqa: SLF001 - of the same package
        if log._end(connection, sender_id) == end:  # noqa: SLF001
            connection.execute(sa.delete(expiry).where(mine))
            connection.execute(
                sa.insert(expiry).values(
                    sender_id=sender_id, expires_at=expires_at, last_id=end
                )
            )
