"""What MySQL and MariaDB need before the first event: database, tables and columns."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Optional, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rasa_trackers.errors import store_error
from rasa_trackers.sql.mysql.columns import (
    collation_of,
    columns_of,
    corrections,
    create_statement,
    fill_statement,
    tables_there,
)
from rasa_trackers.sql.mysql.statements import LOCKS, LOCKS_TABLE

if TYPE_CHECKING:
    from rasa_trackers.sql.mysql.log import MySQLEventLog

logger = logging.getLogger(__name__)

#: A lock of the server that the process has which changes the tables of a database.
_TAKE_LOCK = "SELECT get_lock(concat('rasa_trackers ', crc32(database())), 2)"


def set_up(log: MySQLEventLog) -> None:
    """Create what is missing, and change columns where that was asked for."""
    if log.login_engine is not None:
        _create_database(log.login_engine, str(log.engine.url.database))
        log.login_engine.dispose()
    if log.may_alter_tables:
        _alter_tables(log)
    with log.engine.connect() as connection:
        _require_transactions(log, connection)
        log.create_tables(connection)


def create_tables(
    log: MySQLEventLog,
    connection: Connection,
    tables: Optional[Sequence[sa.Table]] = None,
) -> None:
    """Create missing tables: those that a log needs, unless others are named.

    Nothing is run where all are there, for a user who has no right to create any.
    """
    collation = ""
    wanted = tables if tables is not None else [log.tables.events, *log.own_tables]
    for name in (*(table.name for table in wanted), LOCKS_TABLE):
        if not columns_of(connection, name):
            collation = collation or collation_of(log, connection)
            connection.exec_driver_sql(create_statement(name, collation))
    rows = connection.exec_driver_sql(f"SELECT count(*) FROM {LOCKS_TABLE}").scalar()  # noqa: S608
    if rows != LOCKS:
        connection.exec_driver_sql(fill_statement())


def _create_database(engine: sa.engine.Engine, database: str) -> None:
    """Create a database, if there is none of that name.

    Args:
        engine: Engine of another database on the same server.
        database: The name, which is quoted.
    """
    with engine.connect() as connection:
        if connection.exec_driver_sql(
            "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s",
            (database,),
        ).scalar():
            return
        quoted = engine.dialect.identifier_preparer.quote_identifier(database)
        connection.exec_driver_sql(
            f"CREATE DATABASE IF NOT EXISTS {quoted} CHARACTER SET utf8mb4"
        )


def _require_transactions(log: MySQLEventLog, connection: Connection) -> None:
    found = connection.exec_driver_sql(
        "SELECT support FROM information_schema.engines WHERE engine = 'InnoDB'"
    ).scalar()
    if found not in ("YES", "DEFAULT"):
        raise store_error(
            f"{log.name} has no InnoDB, the only engine whose tables keep what the "
            f"store promises. Let the server load it."
        )


def _alter_tables(log: MySQLEventLog) -> None:
    """Make columns right that Rasa's own store has made with the server's defaults.

    No value is lost: each type holds all that the one before did. The connection is one
    of its own, whose statements have no limit. ``interrupt`` ends it as all others.
    """
    engine = log.altering_engine()
    with engine.connect() as connection:
        # One process at a time: the next one finds all as it should be. In short waits,
        # so that a server that is gone is noticed.
        while not connection.exec_driver_sql(_TAKE_LOCK).scalar():
            logger.debug("%s: another process changes the columns.", log.name)
        for statement in corrections(log, connection, tables_there(log, connection)):
            logger.info("%s: changing columns. %s;", log.name, statement)
            connection.exec_driver_sql(statement)
            logger.info("%s: the columns are changed.", log.name)
