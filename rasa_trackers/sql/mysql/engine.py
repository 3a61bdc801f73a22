"""Connections to MySQL and MariaDB: the drivers, and what a connection is set to."""

from __future__ import annotations

import importlib.util
import math
from typing import Any, Dict, Iterable, Optional, Tuple

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection
from sqlalchemy.engine.url import URL
from sqlalchemy.pool import NullPool

from rasa_trackers.errors import store_error
from rasa_trackers.sql.connection import check_engine_options, create_engine
from rasa_trackers.sql.connections import ping_idle_connections_only
from rasa_trackers.sql.forking import ForkablePool
from rasa_trackers.sql.mysql.failures import is_read_only, without_values

#: The drivers, by the names of SQLAlchemy, with their modules.
_DRIVERS = {"pymysql": "pymysql", "mysqldb": "MySQLdb"}
#: Seconds that a driver or a server takes for a limit at most: a year.
_LONGEST = 31_536_000

#: Several statements in one message; and, as SQLAlchemy has it, an UPDATE counts the rows
#: that it finds, also where it changes nothing.
_CLIENT_FLAG = 0x10000 | 0x2
#: Seconds after which the server ends an idle connection. One that was cut off may hold a
#: lock until then, and the default is eight hours. The pool tests a connection before use.
_IDLE = 120

#: The number of rows that means all of them.
_NO_LIMIT = 18446744073709551615

#: Strict, or the server cuts texts that are too long and says nothing. Without modes
#: that change the meaning of quotes, of backslashes and of empty texts.
_SQL_MODE = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"


def with_driver(url: URL) -> URL:
    """The URL with a driver that the store knows.

    A dialect without a driver means mysqlclient to SQLAlchemy. Where that is not
    installed and PyMySQL is, it means PyMySQL.

    Raises:
        StoreError: for another driver.
    """
    product, _, driver = url.drivername.partition("+")
    if not driver:
        installed = [name for name in _DRIVERS if _is_installed(_DRIVERS[name])]
        driver = "mysqldb" if "mysqldb" in installed else "pymysql"
    if driver not in _DRIVERS:
        raise store_error(
            f"The tracker store does not know the driver of '{url.drivername}': others "
            f"wait for a silent server without an end. Set 'dialect' to "
            f"{product}+pymysql or {product}+mysqldb in endpoints.yml."
        )
    return url.set(drivername=f"{product}+{driver}")


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def connect_options(url: URL, *, timeout: float) -> Dict[str, Any]:
    """The options of the driver beyond the URL.

    Args:
        url: The database's URL; limits in its query come first.
        timeout: Seconds for connecting, and for each read and write.
    """
    # mysqlclient takes whole seconds, and 0 for no limit.
    seconds = max(1, min(math.ceil(timeout), _LONGEST - 1))
    limits = {
        "connect_timeout": seconds,
        # Longer than a wait for a lock, whose own error says more.
        "read_timeout": seconds + 1,
        "write_timeout": seconds + 1,
    }
    wanted = {name: each for name, each in limits.items() if name not in url.query}
    return {**wanted, "charset": "utf8mb4", "client_flag": _CLIENT_FLAG}


def mysql_engine(url: URL, *, timeout: float, pool_size: int) -> sa.engine.Engine:
    """An engine for a MySQL or MariaDB database.

    Args:
        url: The database's URL, with a driver.
        timeout: Seconds for connecting, for each round trip, and for each lock.
        pool_size: Connections at the most.

    Raises:
        StoreError: for a driver that is not installed, or an option that it lacks.
    """
    engine = create_engine(
        url,
        poolclass=ForkablePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout,
        # A rollback costs a round trip. A transaction that fails closes its connection.
        pool_reset_on_return=None,
        connect_args=connect_options(url, timeout=timeout),
        isolation_level="AUTOCOMMIT",
    )
    engine.dialect.do_rollback = _do_nothing
    ping_idle_connections_only(engine)
    _add_hooks(engine, url)
    return engine


def altering_engine(url: URL, *, timeout: float) -> sa.engine.Engine:
    """An engine for statements that may take hours, each on a connection of its own.

    Args:
        url: The database's URL, with a driver.
        timeout: Seconds for connecting.

    Raises:
        StoreError: for a driver that is not installed, or an option that it lacks.
    """
    limits = ("read_timeout", "write_timeout")
    options = connect_options(url, timeout=timeout)
    engine = create_engine(
        url.difference_update_query(limits),
        poolclass=NullPool,
        connect_args={
            name: value for name, value in options.items() if name not in limits
        },
        isolation_level="AUTOCOMMIT",
    )
    _add_hooks(engine, url)
    return engine


def _add_hooks(engine: sa.engine.Engine, url: URL) -> None:
    check_engine_options(engine, url)
    sa.event.listen(engine, "handle_error", _leave_standby)
    sa.event.listen(engine, "handle_error", _hide_values)
    sa.event.listen(engine, "before_cursor_execute", _check_texts)


def set_up_connection(connection: Any, *, timeout: float) -> int:
    """Set what a log's statements rely on, on a new connection of the driver.

    Args:
        connection: The connection.
        timeout: Seconds to wait for a lock.

    Returns:
        The bytes that the server takes in one message.
    """
    # Half of it, so that a call can be made again after a wait that was in vain.
    seconds = max(1, min(math.floor(timeout / 2), _LONGEST))
    cursor = connection.cursor()
    try:
        # After a statement has waited for the lock, the next one must see what was
        # committed meanwhile. REPEATABLE READ, the default, reads from a snapshot; and
        # its locks on the gaps between rows let conversations wait for each other.
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute(
            f"SET SESSION sql_mode = '{_SQL_MODE}', "
            # UNIX_TIMESTAMP reads local time, of which one hour comes twice a year.
            f"SESSION time_zone = '+00:00', "
            # With the server's own limit, a page would end early, and look complete.
            f"SESSION sql_select_limit = {_NO_LIMIT}, "
            # A COMMIT neither begins the next transaction nor ends the connection.
            f"SESSION completion_type = 0, "
            f"SESSION innodb_lock_wait_timeout = {seconds}, "
            f"SESSION wait_timeout = {max(_IDLE, seconds)}"
        )
        cursor.execute("SELECT @@max_allowed_packet")
        return int(cursor.fetchone()[0])
    finally:
        cursor.close()


def run_message(
    connection: Connection, sql: str, parameters: Tuple[Any, ...], *, shown: str
) -> Any:
    """Run several statements as one message.

    Args:
        connection: A connection. It is closed if a statement fails: the transaction that
            an earlier one has begun ends by that.
        sql: The statements, of which one gives a row.
        parameters: Their parameters.
        shown: What errors show instead of the statements, which are long.

    Returns:
        That row.
    """
    driver_error = connection.dialect.dbapi.Error
    try:
        _check_values(parameters)
        cursor = connection.connection.cursor()
        cursor.execute(sql, parameters)
        row = None
        while True:
            row = cursor.fetchone() if cursor.description else row
            if not cursor.nextset():
                cursor.close()
                return row
    except driver_error as error:
        connection.invalidate()
        error.args = _shown(error.args)
        raise sqlalchemy.exc.DBAPIError.instance(
            shown,
            None,
            error,
            driver_error,
            hide_parameters=True,
            dialect=connection.dialect,
        ) from error
    except BaseException:
        connection.invalidate()
        raise


def file_descriptor(connection: Any) -> Optional[int]:
    """That of a driver's connection; ``None`` for a closed one."""
    # PyMySQL has the socket of its connection as an attribute that it does not document.
    connected = getattr(connection, "_sock", connection)
    return None if connected is None else int(connected.fileno())


def _do_nothing(_connection: Any) -> None:
    """Leave out the rollback with which SQLAlchemy ends every use of a connection."""


def _leave_standby(context: Any) -> None:
    # A connection to a server that is not the primary any more stays alive. New ones
    # lead to the new primary as soon as the address does.
    if is_read_only(context.original_exception):
        context.is_disconnect = True


def _hide_values(context: Any) -> None:
    """Remove the words of users from the server's message."""
    error = context.original_exception
    error.args = _shown(error.args)
    wrapped = context.sqlalchemy_exception
    if wrapped is not None:
        wrapped.args = _shown(wrapped.args)


def _shown(arguments: Any) -> Any:
    return tuple(
        without_values(each) if isinstance(each, str) else each for each in arguments
    )


def _check_texts(
    _connection: Any,
    _cursor: Any,
    _statement: str,
    parameters: Any,
    _context: Any,
    _executemany: bool,
) -> None:
    """Refuse half a surrogate pair, of which a driver would make other bytes.

    Raises:
        UnicodeEncodeError: which a log takes for a text that cannot be stored.
    """
    _check_values(parameters.values() if isinstance(parameters, dict) else parameters)


def _check_values(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, str) and not value.isascii():
            value.encode("utf-8")
