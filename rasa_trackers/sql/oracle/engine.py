"""The engine for an Oracle database: a pool of connections, used without waste."""

from __future__ import annotations

import time
from typing import Any, Dict

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine.url import URL

from rasa_trackers.sql.connection import create_engine
from rasa_trackers.sql.forking import ForkablePool
from rasa_trackers.sql.oracle.address import Place
from rasa_trackers.sql.oracle.client import choose_driver, connector

#: Rows of a page that come in one round trip; SQLAlchemy's 50 make two of a first one.
_ARRAY_SIZE = 250
#: Seconds that a connection may lie unused and is still taken without a test.
_TRUSTED_IDLE = 30.0
#: Keys of ``connection.info``.
_LAST_USED = "rasa_trackers_last_used"
WRITING = "rasa_trackers_writing"


def oracle_engine(
    url: URL, place: Place, *, timeout: float, workers: int
) -> sa.engine.Engine:
    """An engine for an Oracle database.

    Args:
        url: SQLAlchemy's URL, for dialect, user and password.
        place: Where to connect.
        timeout: Seconds for connecting, and for each round trip.
        workers: Connections at the most.

    Raises:
        StoreError: when no driver is installed.
    """
    driver = choose_driver(url.drivername)
    engine = create_engine(
        URL.create(driver.dialect),
        connect_args={},
        module=driver.module,
        creator=connector(driver, place, url, timeout),
        arraysize=_ARRAY_SIZE,
        poolclass=ForkablePool,
        # Both cost a round trip for every page. A connection that has just been used is
        # taken as it is, and a write is safe to repeat.
        pool_pre_ping=False,
        pool_reset_on_return=None,
        pool_size=workers,
        max_overflow=0,
        pool_timeout=timeout,
    )
    _skip_idle_rollbacks(engine)
    sa.event.listen(engine, "do_setinputsizes", _bind_doubles)
    sa.event.listen(engine, "before_cursor_execute", _bind_doubles_of_text)
    sa.event.listen(engine, "checkin", _note_use)
    sa.event.listen(engine, "checkout", _ask_after_idleness)
    return engine


def _skip_idle_rollbacks(engine: sa.engine.Engine) -> None:
    """Leave out the rollback with which SQLAlchemy ends every use of a connection.

    It costs a round trip, as much as the query before it. Oracle's queries begin no
    transaction, and a block that appends commits by itself.
    """
    rollback = engine.dialect.do_rollback

    def do_rollback(connection: Any) -> None:
        try:
            idle = not connection.info.get(WRITING)
        except (AttributeError, NotImplementedError):
            # The connection is not in the pool yet: SQLAlchemy asks a new server for
            # its version, which begins a transaction.
            idle = False
        if not idle:
            rollback(connection)

    engine.dialect.do_rollback = do_rollback


def _bind_doubles(
    sizes: Dict[Any, Any], _cursor: Any, _sql: str, _parameters: Any, context: Any
) -> None:
    """Send doubles as doubles.

    SQLAlchemy leaves a float to the driver. cx_Oracle makes a NUMBER of it, which moves
    a timestamp by up to a microsecond.
    """
    sizes.update(_doubles(context))


def _bind_doubles_of_text(
    _connection: Any,
    cursor: Any,
    _sql: str,
    _parameters: Any,
    context: Any,
    _executemany: bool,
) -> None:
    # For a statement that is given as text, SQLAlchemy does not ask for sizes.
    if context.compiled is not None and context.is_text:
        names = context.compiled.bind_names
        sizes = {names[bound]: type_ for bound, type_ in _doubles(context).items()}
        if sizes:
            cursor.setinputsizes(**sizes)


def _doubles(context: Any) -> Dict[Any, Any]:
    dialect = context.dialect
    double = dialect.dbapi.NATIVE_FLOAT
    return {
        bound: double
        for bound in context.compiled.bind_names
        if bound.type.dialect_impl(dialect).get_dbapi_type(dialect.dbapi) is double
    }


def _note_use(_connection: Any, record: Any) -> None:
    record.info[_LAST_USED] = time.monotonic()


def _ask_after_idleness(connection: Any, record: Any, _proxy: Any) -> None:
    last_used = record.info.get(_LAST_USED)
    if last_used is None or time.monotonic() - last_used < _TRUSTED_IDLE:
        return
    try:
        connection.ping()
    except Exception as error:
        raise sqlalchemy.exc.DisconnectionError from error
