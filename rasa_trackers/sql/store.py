"""``SQLTrackerStore``: its options."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from sqlalchemy.engine.url import URL

from rasa_trackers import options
from rasa_trackers.event_log import EventLog
from rasa_trackers.rasa_versions import MAKES_STORES_AGAIN, Domain, RasaException
from rasa_trackers.sql.connection import (
    DEFAULT_DATABASE,
    create_engine,
    described,
    engine_url,
)
from rasa_trackers.sql.log import SQLEventLog
from rasa_trackers.sql.oracle import OracleEventLog
from rasa_trackers.sql.oracle_connection import oracle_engine, place
from rasa_trackers.sql.postgresql import (
    PostgreSQLEventLog,
    connect_options,
    postgresql_engine,
)
from rasa_trackers.sql.schema import tables
from rasa_trackers.sql.sqlite import SQLiteEventLog, sqlite_engine
from rasa_trackers.tracker_store import EventLogTrackerStore, never_falls_back

logger = logging.getLogger(__name__)

#: Makes the log for a URL, ``login_db``, ``timeout`` and ``record_exp``; gives it
#: with the number of calls that it takes at one time.
_MakeLog = Callable[[URL, Optional[str], float, Optional[float]], Tuple[EventLog, int]]

#: Calls to the database at one time; they take a millisecond each.
_WORKERS = 8
# Rasa's own defaults (``rasa.core.tracker_store``, 3.6.21).
_DEFAULT_POOL_SIZE = 50
_DEFAULT_MAX_OVERFLOW = 100


class SQLTrackerStore(EventLogTrackerStore):
    """Keeps conversations in an SQL database, in the tables of Rasa's own store.

    SQLite, PostgreSQL and Oracle have the guarantees of :class:`EventLog` in full.
    Other databases that SQLAlchemy has a dialect for run in plain transactions.
    """

    @never_falls_back
    def __init__(
        self,
        domain: Optional[Domain] = None,
        url: Optional[str] = None,
        event_broker: Optional[Any] = None,
        *,
        dialect: str = "sqlite",
        host: Optional[str] = None,
        port: Optional[int] = None,
        db: str = DEFAULT_DATABASE,
        username: Optional[str] = None,
        password: Optional[str] = None,
        login_db: Optional[str] = None,
        query: Optional[Dict[str, Any]] = None,
        record_exp: Optional[float] = None,
        timeout: float = options.DEFAULT_TIMEOUT,
        startup_timeout: Optional[float] = None,
        retrieve_events_from_previous_conversation_sessions: bool = False,
        **unknown: Any,
    ) -> None:
        """Connect to the database and create what is missing there.

        The environment variables ``POSTGRESQL_SCHEMA``, ``POSTGRESQL_POOL_SIZE``,
        ``POSTGRESQL_MAX_OVERFLOW``, ``SQL_TRACKER_STORE_SSL_MODE`` and
        ``SQL_TRACKER_STORE_SSL_ROOT_CERTIFICATE`` have the meaning that Rasa (Pro)
        gives them.

        Args:
            domain: The assistant's domain; Rasa sets it later.
            url: Host of the database server, ``host:port``, or a complete SQLAlchemy
                URL; the other options fill in what a complete URL leaves out.
            event_broker: Where new events are published, or ``None``.
            dialect: SQLAlchemy dialect: ``sqlite``, ``postgresql``, ...
            host: Another name of ``url``; Rasa 3 passes that one.
            port: Port of the database server.
            db: Name of the database; for SQLite the path of the file.
            username: User name at the database server.
            password: Password at the database server.
            login_db: Database to connect to first, to create ``db`` from there if it
                is missing (PostgreSQL only).
            query: Options for the driver, as in the query of an SQLAlchemy URL.
            record_exp: Seconds after its last message that a conversation is erased.
            timeout: Seconds that the server may stay silent in any call.
            startup_timeout: Seconds to wait now for a server that is not up yet;
                ``timeout`` unless given.
            retrieve_events_from_previous_conversation_sessions: Whether ``retrieve``
                gives all sessions instead of the last one.
            unknown: Refused.

        Raises:
            ConnectionException: when the server could not be reached in time.
            RasaException: for an option that is unknown or has no sensible value, a
                missing driver, and all that the server refuses.
        """
        options.reject_unknown(type(self), unknown)
        timeout = options.timeout(timeout)
        expiry = options.seconds("record_exp", record_exp, None)
        location = engine_url(
            dialect=dialect,
            url=options.url_or_host(url, host),
            port=port,
            db=db or DEFAULT_DATABASE,
            username=username,
            password=password,
            query=query,
        )
        make_log: _MakeLog = _LOGS.get(location.get_backend_name(), _any_log)
        log, workers = make_log(
            location, options.text("login_db", login_db), timeout, expiry
        )
        super().__init__(
            domain,
            event_broker,
            log,
            timeout=timeout,
            startup_timeout=options.timeout(
                startup_timeout, "startup_timeout", timeout
            ),
            workers=workers,
            record_exp=expiry,
            retrieve_events_from_previous_conversation_sessions=options.flag(
                "retrieve_events_from_previous_conversation_sessions",
                retrieve_events_from_previous_conversation_sessions,
            ),
            secrets=[
                str(location.password) if location.password else None,
                *(
                    value
                    for name, value in location.query.items()
                    if "password" in name and isinstance(value, str)
                ),
            ],
        )


class OracleTrackerStore(SQLTrackerStore):
    """Keeps conversations in an Oracle database, 11.2 or later.

    The same as :class:`SQLTrackerStore` with ``dialect: oracle+cx_oracle`` or
    ``oracle+oracledb``, and Oracle's own options beside ``query`` instead of in it.
    """

    @never_falls_back
    def __init__(
        self,
        domain: Optional[Domain] = None,
        url: Optional[str] = None,
        event_broker: Optional[Any] = None,
        *,
        dialect: str = "oracle",
        host: Optional[str] = None,
        port: Optional[int] = None,
        db: str = DEFAULT_DATABASE,
        username: Optional[str] = None,
        password: Optional[str] = None,
        service_name: Optional[str] = None,
        sid: Optional[str] = None,
        dsn: Optional[str] = None,
        schema: Optional[str] = None,
        create_tables: bool = True,
        query: Optional[Dict[str, Any]] = None,
        record_exp: Optional[float] = None,
        timeout: float = options.DEFAULT_TIMEOUT,
        startup_timeout: Optional[float] = None,
        retrieve_events_from_previous_conversation_sessions: bool = False,
        **unknown: Any,
    ) -> None:
        """Connect to the database and create what is missing there.

        Args:
            domain: The assistant's domain; Rasa sets it later.
            url: Host of the database server, ``host:port``, ``host:port/service``, an
                address in Oracle's own form, or a complete SQLAlchemy URL.
            event_broker: Where new events are published, or ``None``.
            dialect: ``oracle`` takes the driver that is installed;
                ``oracle+cx_oracle``, ``oracle+oracledb``.
            host: Another name of ``url``; Rasa 3 passes that one.
            port: Port of the listener; 1521 unless given.
            db: Service name of the database.
            username: User name at the database server.
            password: Password at the database server.
            service_name: Another name of ``db``.
            sid: SID of the database, where it has no service name.
            dsn: A complete address, or a name of ``tnsnames.ora``, instead of ``url``,
                ``port`` and ``db``.
            schema: Schema of the tables; the user's own unless given.
            create_tables: Whether to create the tables, the sequence and the index
                where they are missing. If not, no DDL is ever run, and
                ``rasa_trackers/sql/oracle.sql`` is for the administrator.
            query: ``wallet_location``, ``wallet_password``, ``protocol``,
                ``ssl_server_dn_match``, ``ssl_server_cert_dn``, ``thick_mode``,
                ``lib_dir``, ``config_dir``, and any other option of the driver's
                ``connect``.
            record_exp: Seconds after its last message that a conversation is erased.
            timeout: Seconds that the server may stay silent in any call.
            startup_timeout: Seconds to wait now for a server that is not up yet;
                ``timeout`` unless given.
            retrieve_events_from_previous_conversation_sessions: Whether ``retrieve``
                gives all sessions instead of the last one.
            unknown: Refused.

        Raises:
            ConnectionException: when the server could not be reached in time.
            RasaException: for an option that is unknown or has no sensible value, a
                missing driver or client library, and all that the server refuses.
        """
        options.reject_unknown(type(self), unknown)
        if not re.fullmatch(r"oracle(\+\w+)?", str(dialect)):
            raise RasaException(
                "The option 'dialect' of the OracleTrackerStore must be oracle, "
                "oracle+cx_oracle or oracle+oracledb. Correct it in endpoints.yml."
            )
        complete = options.url_or_host(url, host) or ""
        if "://" in complete and not complete.startswith("oracle"):
            raise RasaException(
                "The option 'url' of the OracleTrackerStore names another kind of "
                "database. Correct it, or set 'type: rasa_trackers.SQLTrackerStore'."
            )
        own = {
            "service_name": options.text("service_name", service_name),
            "sid": options.text("sid", sid),
            "dsn": options.text("dsn", dsn),
            "schema": options.text("schema", schema),
        }
        merged = options.mapping("query", query)
        merged.update({name: value for name, value in own.items() if value})
        if not options.flag("create_tables", create_tables):
            merged["create_tables"] = "false"
        super().__init__(
            domain,
            url,
            event_broker,
            dialect=dialect,
            host=host,
            port=port,
            db=db,
            username=username,
            password=password,
            query=merged,
            record_exp=record_exp,
            timeout=timeout,
            startup_timeout=startup_timeout,
            retrieve_events_from_previous_conversation_sessions=(
                retrieve_events_from_previous_conversation_sessions
            ),
        )


def _postgresql_log(
    url: URL, login_db: Optional[str], timeout: float, record_exp: Optional[float]
) -> Tuple[EventLog, int]:
    schema = os.environ.get("POSTGRESQL_SCHEMA") or None
    pool_size = _from_environment("POSTGRESQL_POOL_SIZE", _DEFAULT_POOL_SIZE, 0)
    max_overflow = _from_environment(
        "POSTGRESQL_MAX_OVERFLOW", _DEFAULT_MAX_OVERFLOW, -1
    )
    connections = pool_size + max_overflow
    if pool_size == max_overflow == 0:
        raise RasaException(
            "POSTGRESQL_POOL_SIZE and POSTGRESQL_MAX_OVERFLOW are both 0, which leaves "
            "the tracker store no connection. Raise one of them."
        )
    url = _with_tls_of_environment(url)
    _warn_of_unverified_server(url)
    engine = postgresql_engine(
        url, timeout=timeout, pool_size=pool_size, max_overflow=max_overflow
    )
    login_engine = None
    if login_db:
        login_engine = postgresql_engine(
            url.set(database=login_db), timeout=timeout, pool_size=1, max_overflow=0
        )
    log = PostgreSQLEventLog(
        engine,
        tables(schema),
        name=described(url),
        record_exp=record_exp,
        login_engine=login_engine,
        connect_args=connect_options(url, timeout=timeout),
    )
    # SQLAlchemy takes -1 for "any number".
    return log, _WORKERS if max_overflow == -1 else min(_WORKERS, connections)


#: libpq's options of TLS, and where Rasa Pro's own store has them from
#: (``get_ssl_args`` in ``rasa.core.tracker_stores.sql_tracker_store``, 3.21).
_TLS_OPTIONS = {
    "sslmode": "SQL_TRACKER_STORE_SSL_MODE",
    "sslrootcert": "SQL_TRACKER_STORE_SSL_ROOT_CERTIFICATE",
}


def _with_tls_of_environment(url: URL) -> URL:
    """``url`` with what the environment says of TLS, unless its query says it."""
    wanted = {
        option: os.environ[variable]
        for option, variable in _TLS_OPTIONS.items()
        if os.environ.get(variable) and option not in url.query
    }
    return url.update_query_dict(wanted) if wanted else url


def _warn_of_unverified_server(url: URL) -> None:
    """Log if TLS is asked for in a way in which anybody can pose as the server.

    (postgresql.org/docs/current/libpq-ssl.html)
    """
    mode = url.query.get("sslmode") or os.environ.get("PGSSLMODE")
    trusted = url.query.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if mode == "require":
        # Verified then, as by verify-ca. The other two go on without TLS.
        if trusted or Path("~/.postgresql/root.crt").expanduser().exists():
            return
    elif mode not in ("allow", "prefer"):
        return
    logger.warning(
        "%s: with sslmode '%s' nothing shows that the server is the one you mean, so "
        "that others could read the conversations. Set 'sslmode: verify-full' and "
        "'sslrootcert', the file with your authority's certificate, in 'query'.",
        described(url),
        mode,
    )


def _from_environment(name: str, default: int, minimum: int) -> int:
    value = options.whole_number(name, os.environ.get(name), minimum)
    return default if value is None else value


def _sqlite_log(
    url: URL, login_db: Optional[str], timeout: float, record_exp: Optional[float]
) -> Tuple[EventLog, int]:
    _ignore_login_db(login_db)
    # One writer at a time, but readers do not wait for it.
    workers = _WORKERS
    if url.database in (None, "", ":memory:"):
        workers = 1
        logger.warning(
            "Conversations are kept in memory, as %s says, and are lost when Rasa "
            "stops%s. Set 'db' to the path of a file.",
            described(url),
            # The store that is made then has a memory of its own.
            " or a call fails" if MAKES_STORES_AGAIN else "",
        )
    engine = sqlite_engine(url, timeout=timeout, workers=workers)
    log = SQLiteEventLog(engine, tables(), name=described(url), record_exp=record_exp)
    return log, workers


def _oracle_log(
    url: URL, login_db: Optional[str], timeout: float, record_exp: Optional[float]
) -> Tuple[EventLog, int]:
    _ignore_login_db(login_db)
    target = place(url, timeout)
    engine = oracle_engine(url, target, timeout=timeout, workers=_WORKERS)
    log = OracleEventLog(
        engine,
        tables(target.schema),
        name=target.name,
        record_exp=record_exp,
        create_tables=target.create_tables,
    )
    return log, _WORKERS


def _any_log(
    url: URL, login_db: Optional[str], timeout: float, record_exp: Optional[float]
) -> Tuple[EventLog, int]:
    _ignore_login_db(login_db)
    engine = create_engine(
        url, connect_args={}, pool_size=_WORKERS, pool_timeout=timeout
    )
    log = SQLEventLog(engine, tables(), name=described(url), record_exp=record_exp)
    return log, _WORKERS


def _ignore_login_db(login_db: Optional[str]) -> None:
    if login_db:
        # As Rasa's own store does.
        logger.warning("The option 'login_db' only has a meaning for PostgreSQL.")


_LOGS: Dict[str, _MakeLog] = {
    "sqlite": _sqlite_log,
    "postgresql": _postgresql_log,
    "oracle": _oracle_log,
}
