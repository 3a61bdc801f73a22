"""Between the entries of a log and the rows of ``events``."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional, Sequence

import sqlalchemy.exc

from rasa_trackers.event_log import Entry
from rasa_trackers.sql.schema import COLUMN_LENGTH


def row(sender_id: str, entry: Entry, *, encoding: str = "utf-8") -> Dict[str, Any]:
    """The row of an event, in the order of the table's columns.

    The columns beside ``data`` are for queries. Their texts are cut to fit, so that an
    event with a long name is stored as well.

    Args:
        sender_id: The conversation.
        entry: The event.
        encoding: What the database's text columns can hold.
    """
    return {
        "sender_id": sender_id,
        "type_name": entry.type_name[:COLUMN_LENGTH],
        "timestamp": entry.timestamp,
        "intent_name": _column_text(entry.intent_name, encoding),
        "action_name": _column_text(entry.action_name, encoding),
        "data": entry.data,
    }


def _column_text(text: Optional[str], encoding: str) -> Optional[str]:
    if text is None:
        return None
    storable = text.replace("\0", "\ufffd").encode(encoding, "backslashreplace")
    return storable.decode(encoding)[:COLUMN_LENGTH]


def text_of(data: Any) -> str:
    """The text of an event's row.

    A damaged row may have none. That is no reason to lose the other rows.
    """
    return data if isinstance(data, str) else ""


def in_parts(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    """The entries in runs of at most ``size``."""
    for begin in range(0, len(entries), size):
        yield entries[begin : begin + size]


def fetch_from_driver(result: Any, dialect: Any) -> Sequence[Any]:
    """All rows of a result, as the driver gives them.

    SQLAlchemy's own rows cost half a microsecond each. This way is for drivers whose
    values need no conversion.
    """
    driver_error = dialect.dbapi.Error
    try:
        rows: Sequence[Any] = result.cursor.fetchall()
    except driver_error as error:
        raise sqlalchemy.exc.DBAPIError.instance(
            None, None, error, driver_error, dialect=dialect
        ) from error
    result.close()
    return rows
