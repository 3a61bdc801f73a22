"""What an SQL database says about itself, for an operator."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rasa_trackers.event_log import START
from rasa_trackers.health import ERROR, Fact
from rasa_trackers.sql.log import SQLEventLog

#: Conversations that one statement looks for; Oracle takes 1,000 values in an IN.
_TRACED = 500

#: Facts of one kind of database, given a connection to it.
_Facts = Callable[[Any, Connection], Iterator[Fact]]


def facts(log: SQLEventLog) -> Iterator[Fact]:
    """What is known about the database of a log."""
    with log.engine.connect() as connection:
        yield from _own_facts(log)(log, connection)
        yield from _tables(log, connection)


def _own_facts(log: SQLEventLog) -> _Facts:
    name = log.engine.dialect.name
    if name == "sqlite":
        from rasa_trackers.sql.sqlite import health as sqlite

        return sqlite.facts
    if name in ("mysql", "mariadb"):
        from rasa_trackers.sql.mysql import health as mysql

        return mysql.facts
    if name == "postgresql":
        from rasa_trackers.sql.postgresql import health as postgresql

        return postgresql.facts
    return _any_facts


def _any_facts(log: SQLEventLog, connection: Connection) -> Iterator[Fact]:
    version = ".".join(map(str, log.engine.dialect.server_version_info or ()))
    yield Fact("server", f"{log.engine.dialect.name} {version}".strip())
    if log.engine.dialect.name == "oracle" or not has_table(log, connection, log.locks):
        return
    yield Fact(
        "probe",
        "made at each start of the store, and not here: it writes, and rolls back",
    )


def _tables(log: SQLEventLog, connection: Connection) -> Iterator[Fact]:
    for table in (log.tables.events, log.tables.users, log.tables.expiry):
        found = _columns(log, connection, table)
        if found is None:
            is_needed = table is log.tables.events
            yield Fact(
                f"table {table.name}",
                "missing; the store creates it at its start"
                if is_needed
                else "missing; created when it is needed",
            )
            continue
        missing = [column.name for column in table.c if column.name not in found]
        if missing:
            yield Fact(
                f"table {table.name}",
                f"another program's: no column {', '.join(missing)}",
                ERROR,
                "Let the store use another database or schema.",
            )
        else:
            yield Fact(f"table {table.name}", "as it should be")


def has_table(log: SQLEventLog, connection: Connection, table: sa.Table) -> bool:
    """Whether a database has a table."""
    return _columns(log, connection, table) is not None


def _columns(log: SQLEventLog, connection: Connection, table: sa.Table) -> Any:
    return log._columns_of(connection, table)  # noqa: SLF001 - of the same package


def ping(log: SQLEventLog) -> None:
    """One round trip to the server."""
    is_oracle = log.engine.dialect.name == "oracle"
    with log.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1 FROM dual" if is_oracle else "SELECT 1")


def has_events(log: SQLEventLog) -> bool:
    """Whether the database has the table ``events``."""
    with log.engine.connect() as connection:
        return has_table(log, connection, log.tables.events)


def count_events(log: SQLEventLog) -> Iterator[int]:
    """How many events are stored, those of expired conversations included."""
    events = log.tables.events
    with log.engine.connect() as connection:
        if not has_table(log, connection, events):
            return
        counted = sa.select(sa.func.count()).select_from(events)
        for first, last in log.windows(connection):
            window = counted.where(events.c.id.between(first, last))
            yield int(connection.execute(window).scalar() or 0)


def traces(
    log: SQLEventLog, sender_ids: Sequence[str]
) -> Iterator[Dict[str, Dict[str, int]]]:
    """How many rows each table has of conversations."""
    with log.engine.connect() as connection:
        for table in (log.tables.events, log.tables.users, log.tables.expiry):
            if not has_table(log, connection, table):
                continue
            counted = sa.select(table.c.sender_id, sa.func.count())
            counted = counted.group_by(table.c.sender_id)
            if "id" in table.c:
                counted = counted.where(table.c.id > START)
            for begin in range(0, len(sender_ids), _TRACED):
                some = list(sender_ids[begin : begin + _TRACED])
                rows = connection.execute(counted.where(table.c.sender_id.in_(some)))
                yield {
                    sender_id: {f"table {table.name}": number}
                    for sender_id, number in rows
                }
