"""Several conversations in one message, for the command line; on PostgreSQL alone."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from rasa_trackers.event_log import Page
from rasa_trackers.sql.log import SQLEventLog


def read(log: SQLEventLog, sender_ids: Sequence[str], limit: int) -> Dict[str, Page]:
    """The newest events of conversations, as ``read_back`` gives them."""
    if not _is_postgresql(log):
        return {}
    from rasa_trackers.sql.postgresql import bulk

    return bulk.read(log, sender_ids, limit)  # type: ignore[arg-type]


def begin(log: SQLEventLog, beginnings: Sequence[Any]) -> Dict[str, int]:
    """Append to conversations without events; gives the ends of those that had none."""
    if not _is_postgresql(log):
        return {}
    from rasa_trackers.sql.postgresql import bulk

    return bulk.begin(log, beginnings)  # type: ignore[arg-type]


def _is_postgresql(log: SQLEventLog) -> bool:
    dialect = log.engine.dialect
    return bool(dialect.name == "postgresql" and dialect.driver == "psycopg2")
