"""The options of the SQL stores, and the log that they make."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from sqlalchemy.engine.url import URL

from rasa_trackers.backend import Backend, MadeLog
from rasa_trackers.errors import store_error
from rasa_trackers.sql.connection import (
    DEFAULT_DATABASE,
    check_engine_options,
    create_engine,
    described,
    engine_url,
)
from rasa_trackers.sql.log import SQLEventLog
from rasa_trackers.sql.schema import tables
from rasa_trackers.store_options import Option, flag, mapping, port_number, text

logger = logging.getLogger(__name__)

#: Calls to the database at one time; they take a millisecond each.
WORKERS = 8

#: Makes a log for a URL, from the checked options and ``keep_users``.
_MakeLog = Callable[[URL, Mapping[str, Any], bool], MadeLog]


def _dialect(name: str, value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    raise store_error(
        f"The option '{name}' of the tracker store must name a database, for example "
        f"postgresql or sqlite. Correct it in endpoints.yml."
    )


def _oracle_dialect(name: str, value: Any) -> str:
    if re.fullmatch(r"oracle(\+\w+)?", str(value)):
        return str(value)
    raise store_error(
        f"The option '{name}' of the OracleTrackerStore must be oracle, "
        f"oracle+cx_oracle or oracle+oracledb. Correct it in endpoints.yml."
    )


def _oracle_url(name: str, value: Any) -> Optional[str]:
    url = text(name, value)
    if url and "://" in url and not url.startswith("oracle"):
        raise store_error(
            f"The option '{name}' of the OracleTrackerStore names another kind of "
            f"database. Correct it, or set 'type: rasa_trackers.SQLTrackerStore'."
        )
    return url


def _make_log(values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    url = engine_url(values)
    makers: Dict[str, _MakeLog] = {
        "mariadb": _mysql_log,
        "mysql": _mysql_log,
        "oracle": _oracle_log,
        "postgresql": _postgresql_log,
        "sqlite": _sqlite_log,
    }
    make = makers.get(url.get_backend_name(), _any_log)
    if values.get("login_db") and make not in (_postgresql_log, _mysql_log):
        # Rasa's own store ignores it as well.
        logger.warning(
            "The option 'login_db' only has a meaning for PostgreSQL, MySQL and MariaDB."
        )
    return make(url, values, keep_users)


def _make_oracle_log(values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    query = dict(values["query"])
    for name in ("service_name", "sid", "dsn", "schema"):
        if values[name]:
            query[name] = values[name]
    if not values["create_tables"]:
        query["create_tables"] = "false"
    return _make_log({**values, "query": query}, keep_users)


def _postgresql_log(url: URL, values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    from rasa_trackers.sql.postgresql.engine import connect_options, postgresql_engine
    from rasa_trackers.sql.postgresql.environment import pool_limits, with_tls
    from rasa_trackers.sql.postgresql.log import PostgreSQLEventLog

    timeout, login_db = values["timeout"], values["login_db"]
    pool_size, max_overflow = pool_limits()
    url = with_tls(url)
    login_engine = None
    if login_db:
        login_engine = postgresql_engine(
            url.set(database=login_db), timeout=timeout, pool_size=1, max_overflow=0
        )
    log = PostgreSQLEventLog(
        postgresql_engine(
            url, timeout=timeout, pool_size=pool_size, max_overflow=max_overflow
        ),
        tables(os.environ.get("POSTGRESQL_SCHEMA") or None),
        name=described(url),
        record_exp=values["record_exp"],
        keeps_users=keep_users,
        login_engine=login_engine,
        connect_args=connect_options(url, timeout=timeout),
    )
    # For SQLAlchemy, an overflow of -1 is any number.
    connections = WORKERS if max_overflow == -1 else pool_size + max_overflow
    return _made(log, url, min(WORKERS, connections))


def _mysql_log(url: URL, values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    from rasa_trackers.sql.mysql.engine import mysql_engine, with_driver
    from rasa_trackers.sql.mysql.log import MySQLEventLog

    timeout, login_db = values["timeout"], values["login_db"]
    url = with_driver(url)
    login_engine = None
    if login_db:
        login_engine = mysql_engine(
            url.set(database=login_db), timeout=timeout, pool_size=1
        )
    log = MySQLEventLog(
        mysql_engine(url, timeout=timeout, pool_size=WORKERS),
        tables(),
        name=described(url),
        timeout=timeout,
        record_exp=values["record_exp"],
        keeps_users=keep_users,
        login_engine=login_engine,
        may_alter_tables=values.get("alter_tables", False),
    )
    return _made(log, url, WORKERS)


def _sqlite_log(url: URL, values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    from rasa_trackers.sql.sqlite.engine import is_in_memory, sqlite_engine
    from rasa_trackers.sql.sqlite.log import SQLiteEventLog

    # One writer at a time, but readers do not wait for it.
    workers = 1 if is_in_memory(url) else WORKERS
    if is_in_memory(url):
        logger.warning(
            "Conversations are kept in memory, as %s says, and are lost when Rasa "
            "stops. Set 'db' to the path of a file.",
            described(url),
        )
    log = SQLiteEventLog(
        sqlite_engine(url, timeout=values["timeout"], workers=workers),
        tables(),
        name=described(url),
        record_exp=values["record_exp"],
        keeps_users=keep_users,
    )
    made = _made(log, url, workers)
    return made._replace(outlives_process=not is_in_memory(url))


def _oracle_log(url: URL, values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    from rasa_trackers.sql.oracle.address import place
    from rasa_trackers.sql.oracle.engine import oracle_engine
    from rasa_trackers.sql.oracle.log import OracleEventLog

    target = place(url, values["timeout"])
    log = OracleEventLog(
        oracle_engine(url, target, timeout=values["timeout"], workers=WORKERS),
        tables(target.schema),
        name=target.name,
        record_exp=values["record_exp"],
        keeps_users=keep_users,
        may_create_tables=target.create_tables,
    )
    return _made(log, url, WORKERS)


def _any_log(url: URL, values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    engine = create_engine(
        url, connect_args={}, pool_size=WORKERS, pool_timeout=values["timeout"]
    )
    check_engine_options(engine, url)
    log = SQLEventLog(
        engine,
        tables(),
        name=described(url),
        record_exp=values["record_exp"],
        keeps_users=keep_users,
    )
    return _made(log, url, WORKERS)


def _made(log: SQLEventLog, url: URL, workers: int) -> MadeLog:
    secrets: List[Optional[str]] = [str(url.password) if url.password else None]
    secrets += [
        value
        for name, value in url.query.items()
        if "password" in name and isinstance(value, str)
    ]
    return MadeLog(log, workers, secrets, place=_place(log, url))


def _place(log: SQLEventLog, url: URL) -> str:
    schema = log.tables.events.schema
    if url.get_backend_name() == "sqlite":
        # A relative path is another file in another folder.
        return f"SQLite database '{Path(url.database or '').resolve()}'"
    hosts = url.query.get("host")
    return ", ".join(
        part
        for part in (
            log.name,
            f"of {hosts}" if hosts else "",
            f"schema '{schema}'" if schema else "",
        )
        if part
    )


_USERNAME = Option("username", text, None, "User name at the database server.")
_PASSWORD = Option("password", text, None, "Password at the database server.")

SQL = Backend(
    "SQLTrackerStore",
    (
        Option(
            "dialect",
            _dialect,
            "sqlite",
            "SQLAlchemy dialect: `sqlite`, `postgresql`, `postgresql+psycopg2`, "
            "`mysql+pymysql`, `mysql+mysqldb`, `mariadb+pymysql`.",
        ),
        Option(
            "url",
            text,
            None,
            "Host of the database server, `host:port`, the folder of its socket such as "
            "`/var/run/postgresql` (PostgreSQL), or a complete URL such as "
            "`postgresql://user:password@host:5432/db`. The other options fill in what "
            "a complete URL leaves out.",
        ),
        Option("port", port_number, None, "Port of the database server."),
        Option(
            "db",
            text,
            DEFAULT_DATABASE,
            "Name of the database; for SQLite the path of the file.",
        ),
        _USERNAME,
        _PASSWORD,
        Option(
            "login_db",
            text,
            None,
            "Database to connect to first, to create `db` from there if it is missing "
            "(PostgreSQL, MySQL, MariaDB).",
        ),
        Option(
            "alter_tables",
            flag,
            False,
            "Whether to change, at the start, columns that Rasa's own store has made on "
            "MySQL or MariaDB. They mix conversations whose sender ids differ in case.",
        ),
        Option(
            "query",
            mapping,
            None,
            "Options of the driver, such as `sslmode`. libpq's `require` encrypts "
            "without verifying the server, unless there is an `sslrootcert`; the store "
            "warns of it.",
        ),
    ),
    _make_log,
    environment=("POSTGRESQL_", "SQL_TRACKER_STORE_", "PG"),
)

ORACLE = Backend(
    "OracleTrackerStore",
    (
        Option(
            "dialect",
            _oracle_dialect,
            "oracle",
            "`oracle` takes the driver that is installed; `oracle+cx_oracle`, "
            "`oracle+oracledb`.",
        ),
        Option(
            "url",
            _oracle_url,
            None,
            "Host of the database server, `host:port`, `host:port/service`, an address "
            "`(DESCRIPTION=...)`, or a complete SQLAlchemy URL, in which a database is "
            "a SID.",
        ),
        Option("port", port_number, None, "Port of the listener; 1521 unless given."),
        Option("db", text, None, "Service name of the database."),
        Option("service_name", text, None, "Another name of `db`."),
        Option("sid", text, None, "SID, for a database without a service name."),
        Option(
            "dsn",
            text,
            None,
            "Complete address, `host:port/service`, or a name of `tnsnames.ora`, "
            "instead of `url`, `port` and `db`.",
        ),
        _USERNAME,
        _PASSWORD,
        Option(
            "schema", text, None, "Schema of the tables; the user's own unless given."
        ),
        Option(
            "create_tables",
            flag,
            True,
            "Whether to create what is missing. With `false` no DDL is ever run, and "
            "`rasa_trackers/sql/oracle/oracle.sql` is for the administrator.",
        ),
        Option(
            "query",
            mapping,
            None,
            "`protocol: tcps`, `ssl_server_dn_match`, `ssl_server_cert_dn` and "
            "`wallet_location` go into the address. `thick_mode`, `lib_dir` and "
            "`config_dir` are for Oracle's client. The driver's `connect` gets "
            "`wallet_password` and everything else.",
        ),
    ),
    _make_oracle_log,
)
