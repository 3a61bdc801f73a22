"""The sequence that numbers the rows of ``events``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.errors import store_error
from rasa_trackers.sql.connections import transaction
from rasa_trackers.sql.postgresql.engine import LOCK, lock_key
from rasa_trackers.sql.postgresql.failures import code_of

if TYPE_CHECKING:
    from rasa_trackers.sql.postgresql.log import PostgreSQLEventLog

#: SQLSTATE of a right that is missing.
_NO_RIGHT = "42501"

# An old table may take its ids from a sequence that it does not own.
_FIND = """
SELECT s.seqrelid::regclass::text, s.seqcache, s.seqincrement
FROM pg_catalog.pg_sequence s
WHERE s.seqrelid = coalesce(
  pg_get_serial_sequence(:events, 'id'),
  (SELECT substring(pg_get_expr(d.adbin, d.adrelid) FROM 'nextval\\(''(.*)''::regclass')
   FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a
   ON a.attrelid = d.adrelid AND a.attnum = d.adnum
   WHERE d.adrelid = to_regclass(:events) AND a.attname = 'id')
)::regclass
"""


class _Sequence(NamedTuple):
    #: As SQL names it.
    name: str
    #: Numbers that each connection takes at a time.
    cache: int
    increment: int


def _find(log: PostgreSQLEventLog, connection: Connection) -> Optional[_Sequence]:
    found = connection.execute(sa.text(_FIND), {"events": log.events_name}).first()
    return found and _Sequence(*found)


def check_sequence(log: PostgreSQLEventLog) -> None:
    """Refuse a sequence whose numbers would not follow the order of appends.

    Raises:
        StoreError: naming the statement that corrects it.
    """
    with log.engine.connect() as connection:
        sequence = _find(log, connection)
    if sequence and sequence.cache > 1:
        raise store_error(
            f"{log.name}: the sequence {sequence.name} gives each connection its "
            f"numbers in blocks of {sequence.cache}, so that they do not follow the "
            f"order of events. Run: ALTER SEQUENCE {sequence.name} CACHE 1;"
        )


def move_sequence(log: PostgreSQLEventLog, after: int) -> None:
    """Let the next numbers be greater than ``after`` and than every id in the table.

    The sequence was reset, or events came from elsewhere: a data-only restore, logical
    replication, or another server with numbers of its own.

    Raises:
        StoreError: naming the statement, if this user must not do it.
    """
    with transaction(log.engine) as connection:
        # One process at a time: a second one finds the numbers as they should be.
        connection.exec_driver_sql(LOCK, (lock_key("rasa_trackers: sequence"),))
        highest = sa.select(sa.func.max(log.tables.events.c.id))
        wanted = max(after, connection.execute(highest).scalar() or 0)
        sequence = _find(log, connection)
        if sequence is None or sequence.increment < 1:
            raise store_error(
                f"{log.name}: the default of the column 'id' of the table 'events' "
                f"gives numbers that are not greater than {after}, the last event of "
                f"this conversation. Let an administrator make the next one "
                f"{wanted + 1}."
            )
        drawn = _number(connection, "SELECT nextval(%s::regclass)", sequence.name)
        if drawn > wanted:
            return
        # Several servers may share the numbers in steps; each keeps its own remainder.
        steps = -(-(wanted - drawn) // sequence.increment)
        target = drawn + steps * sequence.increment
        try:
            _number(
                connection, "SELECT setval(%s::regclass, %s)", sequence.name, target
            )
        except sqlalchemy.exc.DBAPIError as error:
            if code_of(error.orig) != _NO_RIGHT:
                raise
            raise store_error(
                f"{log.name}: the sequence {sequence.name} gives numbers up to "
                f"{wanted}, which the table 'events' has passed already, and the user "
                f"of the tracker store must not change it. Let an administrator run: "
                f"SELECT setval('{sequence.name}', {target});"
            ) from error


def _number(connection: Connection, statement: str, *parameters: Any) -> int:
    return int(connection.exec_driver_sql(statement, parameters).scalar_one())
