"""Event logs in SQL databases, without Rasa and without a store."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Dict, Iterator, List

import sqlalchemy as sa

from rasa_trackers.event_log import Entry
from rasa_trackers.sql.log import SQLEventLog
from rasa_trackers.sql.options import SQL
from rasa_trackers.store_options import checked

Options = Dict[str, Any]


def make_log(options: Options, *, users: bool = False, **more: Any) -> Any:
    """A log that is not open yet."""
    values = checked("SQLTrackerStore", SQL.options, {**options, **more})
    return SQL.make_log(values, users).log


def opened(options: Options, **more: Any) -> Any:
    """An open log."""
    log = make_log(options, **more)
    log.open()
    return log


def entries(*names: str) -> List[Entry]:
    return [Entry(f'"{name}"', "slot", 1.0, None, None) for name in names]


def texts(log: SQLEventLog, sender_id: str) -> List[str]:
    return [event.data.strip('"') for event in log.read_back(sender_id).events]


def run(log: SQLEventLog, *statements: str) -> List[Any]:
    """Run SQL on a connection of the log; gives the rows of the last statement."""
    rows: List[Any] = []
    with log.engine.connect() as connection:
        for statement in statements:
            result = connection.execute(sa.text(statement))
            rows = [tuple(row) for row in result] if result.returns_rows else []
        connection.connection.commit()
    return rows


def administer(server: Any, database: str, *statements: str) -> None:
    """Run SQL as PostgreSQL's superuser."""
    with closing(server.administrator(database)) as connection:
        connection.cursor().execute("; ".join(statements))


def sqlite_options(folder: Any) -> Options:
    return {"db": str(folder / "rasa.db")}


def postgresql_options(server: Any) -> Iterator[Options]:
    name = server.create_database()
    yield {
        "dialect": "postgresql",
        "url": server.host,
        "port": server.port,
        "db": name,
        "username": server.username,
        "password": server.password,
    }
    server.drop_database(name)
