"""What PostgreSQL needs before the first event: database, schema, tables and index."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Optional

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

from rasa_trackers.errors import store_error
from rasa_trackers.sql.connections import transaction
from rasa_trackers.sql.postgresql.engine import LOCK, lock_key
from rasa_trackers.sql.postgresql.sequence import check_sequence
from rasa_trackers.sql.schema import columns_of

if TYPE_CHECKING:
    from rasa_trackers.sql.postgresql.log import PostgreSQLEventLog

logger = logging.getLogger(__name__)


def set_up(log: PostgreSQLEventLog) -> None:
    """Create what is missing; the index of an existing table in the background."""
    if log.login_engine is not None:
        _create_database(log.login_engine, str(log.engine.url.database))
        log.login_engine.dispose()
    with log.engine.connect() as connection:
        _check_schema(log, connection)
    with transaction(log.engine) as connection:
        connection.exec_driver_sql(LOCK, (lock_key("rasa_trackers: create tables"),))
        is_new = columns_of(connection, log.tables.events) is None
        log.create_tables(connection)
        if is_new:
            log.tables.tail_index.create(connection)
    _widen_last_id(log)
    check_sequence(log)
    if not has_tail_index(log):
        # Rasa's own store made the table. The log works meanwhile: for many millions of
        # events, the index takes minutes.
        threading.Thread(
            target=_create_tail_index,
            args=(log,),
            name="rasa_trackers-index",
            daemon=True,
        ).start()


def _create_database(engine: sa.engine.Engine, database: str) -> None:
    """Create a database, if there is none of that name.

    Args:
        engine: Engine of another database on the same server.
        database: The name, which is quoted.
    """
    exists = sa.text("SELECT 1 FROM pg_catalog.pg_database WHERE datname = :name")
    with engine.connect() as connection:
        if connection.execute(exists, {"name": database}).scalar():
            return
        quoted = engine.dialect.identifier_preparer.quote_identifier(database)
        try:
            connection.exec_driver_sql(f"CREATE DATABASE {quoted}")
        except sqlalchemy.exc.DBAPIError:
            # Another worker may have created it at the same time.
            if not connection.execute(exists, {"name": database}).scalar():
                raise


def _check_schema(log: PostgreSQLEventLog, connection: Connection) -> None:
    schema = log.tables.events.schema
    if schema is None:
        return
    found = connection.execute(
        sa.text("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :schema"),
        {"schema": schema},
    ).scalar()
    if not found:
        quoted = log.engine.dialect.identifier_preparer.quote_identifier(schema)
        raise store_error(
            f"{log.name} has no schema '{schema}', which the environment variable "
            f"POSTGRESQL_SCHEMA names. Create it (CREATE SCHEMA {quoted};) or unset "
            f"the variable."
        )


def _widen_last_id(log: PostgreSQLEventLog) -> None:
    """Let ``last_id`` hold every id, where an operator has widened ``events.id``.

    Earlier versions of this package made it an INTEGER.
    """
    expiry = log.tables.expiry
    with log.engine.connect() as connection:
        events_columns = columns_of(connection, log.tables.events) or {}
        expiry_columns = columns_of(connection, expiry) or {}
        if not isinstance(events_columns.get("id"), sa.BigInteger) or isinstance(
            expiry_columns.get("last_id", sa.BigInteger()), sa.BigInteger
        ):
            return
        name = log.engine.dialect.identifier_preparer.format_table(expiry)
        statement = f"ALTER TABLE {name} ALTER COLUMN last_id TYPE bigint"
        try:
            connection.exec_driver_sql(statement)
        except sqlalchemy.exc.ProgrammingError as error:
            if expiry not in log.own_tables:
                return
            raise store_error(
                f"{log.name}: the column last_id of the table '{expiry.name}' is "
                f"narrower than the column id of the table 'events', and the user of "
                f"the tracker store must not change it ({str(error.orig).strip()}). "
                f"Let an administrator run: {statement.replace('%%', '%')};"
            ) from error


def has_tail_index(log: PostgreSQLEventLog) -> bool:
    """Whether the index is there and complete."""
    with log.engine.connect() as connection:
        return _tail_index_state(log, connection) is True


def _tail_index_state(
    log: PostgreSQLEventLog, connection: Connection
) -> Optional[bool]:
    """Whether the index is valid; ``None`` if there is none."""
    state: Optional[bool] = connection.execute(
        sa.text(
            "SELECT i.indisvalid FROM pg_catalog.pg_index i "
            "JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid = to_regclass(:events) AND c.relname = :name"
        ),
        {"events": log.events_name, "name": log.tables.tail_index.name},
    ).scalar()
    return state


def _create_tail_index(log: PostgreSQLEventLog) -> None:
    """Create the index without locking out writers.

    One worker does it, and the others do not wait: CREATE INDEX CONCURRENTLY waits for
    every statement that waits. It has a connection of its own, which no deadline of
    other calls ends, and which a small pool need not spare.
    """
    key = lock_key("rasa_trackers: create index")
    index = log.tables.tail_index
    create = _concurrently(log, sa.schema.CreateIndex(index))
    engine = sa.create_engine(
        log.engine.url,
        future=True,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=log.connect_args,
    )
    try:
        with engine.connect() as connection:
            for limit in ("statement_timeout", "lock_timeout"):
                connection.exec_driver_sql(f"SET {limit} TO 0")
            if not connection.execute(
                sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}
            ).scalar():
                return
            state = _tail_index_state(log, connection)
            if state is False:
                # A build that was broken off has left it.
                drop = _concurrently(log, sa.schema.DropIndex(index))
                connection.exec_driver_sql(drop)
            if not state:
                logger.info("%s: creating an index.", log.name)
                connection.exec_driver_sql(create)
                logger.info("%s: the index is ready.", log.name)
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
    except sqlalchemy.exc.SQLAlchemyError as error:
        logger.warning(
            "%s: the index that makes reading fast could not be created: %s. Let an "
            "administrator run: %s;",
            log.name,
            str(getattr(error, "orig", error)).strip(),
            create,
        )


def _concurrently(
    log: PostgreSQLEventLog, statement: sa.schema.CreateIndex | sa.schema.DropIndex
) -> str:
    text = str(statement.compile(dialect=log.engine.dialect))
    return text.replace(" INDEX ", " INDEX CONCURRENTLY ", 1)
