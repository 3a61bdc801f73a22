"""Connections to Oracle: which driver, where to, and until when.

Two drivers speak to Oracle. cx_Oracle needs Oracle's Instant Client; python-oracledb
needs it only in its thick mode. SQLAlchemy 1.4 (Rasa 3.6) knows the first, 2.0 both.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import re
import socket
import sys
import threading
import time
import types
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine.url import URL

from rasa_trackers import options
from rasa_trackers.rasa_versions import RasaException
from rasa_trackers.sql.connection import create_engine

logger = logging.getLogger(__name__)

_DEFAULT_PORT = 1521
#: Rows of a page that come in one round trip; SQLAlchemy's 50 make two of a first one.
_ARRAY_SIZE = 250
#: Seconds that a connection may lie unused and is still taken without asking it.
_TRUSTED_IDLE = 30.0
#: Attempts to connect of one store that may hang in Oracle's client at a time. It
#: cannot be made to give one up.
_MOST_ATTEMPTS = 32
#: What ``connection.info`` says of one.
_LAST_USED = "rasa_trackers_last_used"
WRITING = "rasa_trackers_writing"

_INSTALL = {
    "cx_Oracle": (
        "pip install cx_Oracle (Python 3.8 to 3.10; it needs Oracle Instant Client), "
        "or pip install oracledb, which needs no client from Oracle 12.1 on"
    ),
    "oracledb": "pip install oracledb",
}


#: The simple form of an address, which has no room for a deadline before client 19.
_EASY_CONNECT = re.compile(
    r"(?://)?(?P<host>[\w.-]+)(?::(?P<port>\d+))?/(?P<service_name>[\w.$#-]+)"
)


class Place(NamedTuple):
    """Where an Oracle database is, and how its driver is to connect."""

    #: A complete address for the driver.
    dsn: str
    #: How messages name it.
    name: str
    #: The schema of the tables; ``None`` for the user's own.
    schema: Optional[str]
    #: Whether missing tables are created.
    create_tables: bool
    #: Whether python-oracledb is to use Oracle's client; ``None``: where it must.
    thick_mode: Optional[bool]
    #: Folder of Oracle's client libraries, if the loader does not find them.
    lib_dir: Optional[str]
    #: Folder of ``tnsnames.ora`` and ``sqlnet.ora``.
    config_dir: Optional[str]
    #: More keyword arguments for the driver's ``connect``.
    driver_options: Dict[str, Any]


def place(url: URL, timeout: float) -> Place:
    """Read an address.

    Args:
        url: SQLAlchemy's URL. A database in it is a SID, as in SQLAlchemy. Of its
            query, ``service_name``, ``sid`` and ``dsn`` say where to, ``schema`` and
            ``create_tables`` what to use there, ``protocol``, ``wallet_location``,
            ``ssl_server_dn_match`` and ``ssl_server_cert_dn`` go into the address,
            ``thick_mode``, ``lib_dir`` and ``config_dir`` are for Oracle's client, and
            the driver gets the rest.
        timeout: Seconds for connecting.

    Raises:
        RasaException: for an address that names no database, or two.
    """
    query = dict(url.query)
    service_name = _taken(query, "service_name")
    sid = _taken(query, "sid") or url.database or None
    dsn = _taken(query, "dsn")
    if url.host and url.host.startswith("("):
        dsn = dsn or url.host
    port = url.port or _DEFAULT_PORT
    host = url.host or "localhost"
    easy = _EASY_CONNECT.fullmatch(dsn or "")
    if easy and not service_name and not sid:
        host, port = easy["host"], int(easy["port"] or _DEFAULT_PORT)
        service_name, dsn = easy["service_name"], None
    if dsn is None and bool(service_name) == bool(sid):
        raise RasaException(
            "The tracker store must know one Oracle database: set 'db' (or "
            "'service_name') to its service name, for example FREEPDB1, or 'sid' to "
            "its SID, or 'dsn' to a complete address or a name of tnsnames.ora. "
            "Correct the tracker_store section of endpoints.yml."
        )
    address = {
        name: _taken(query, name)
        for name in (
            "protocol",
            "wallet_location",
            "ssl_server_dn_match",
            "ssl_server_cert_dn",
        )
    }
    if dsn is None:
        name = f"Oracle database '{service_name or sid}' at {host}:{port}"
        dsn = _descriptor(host, port, service_name, sid, address, timeout)
    else:
        name = f"Oracle database '{_short(dsn)}'"
        dsn = _with_deadline(dsn, timeout)
        query.update({key: value for key, value in address.items() if value})
    if address["wallet_location"] and "wallet_password" in query:
        # Only python-oracledb's thin mode opens a wallet by its password.
        query["wallet_location"] = address["wallet_location"]
    thick_mode = _taken(query, "thick_mode")
    create_tables = _taken(query, "create_tables")
    return Place(
        dsn=dsn,
        name=name,
        schema=_schema(_taken(query, "schema")),
        create_tables=create_tables is None
        or options.flag("create_tables", create_tables),
        thick_mode=None
        if thick_mode is None
        else options.flag("thick_mode", thick_mode),
        lib_dir=_taken(query, "lib_dir"),
        config_dir=_taken(query, "config_dir"),
        driver_options={key: _typed(key, value) for key, value in query.items()},
    )


def _taken(query: Dict[str, Any], name: str) -> Optional[str]:
    value = query.pop(name, None)
    if isinstance(value, tuple):
        raise RasaException(
            f"The option '{name}' of the tracker store is given more than once. Keep "
            f"one of them in endpoints.yml."
        )
    return value or None


def _typed(name: str, value: Any) -> Any:
    """A driver's option, which comes as text; passwords and names stay text."""
    if not isinstance(value, str) or "password" in name:
        return value
    if re.fullmatch(r"-?\d{1,9}", value):
        return int(value)
    return {"true": True, "false": False}.get(value.lower(), value)


def _schema(name: Optional[str]) -> Optional[str]:
    # Upper case is how Oracle keeps names that stand unquoted, and lower case is how
    # SQLAlchemy writes those.
    return name.lower() if name and name.isupper() else name


def _descriptor(
    host: str,
    port: int,
    service_name: Optional[str],
    sid: Optional[str],
    address: Mapping[str, Optional[str]],
    timeout: float,
) -> str:
    target = f"(SERVICE_NAME={service_name})" if service_name else f"(SID={sid})"
    security = "".join(
        f"({keyword}={value})"
        for keyword, value in (
            ("SSL_SERVER_DN_MATCH", _yes_or_no(address["ssl_server_dn_match"])),
            ("SSL_SERVER_CERT_DN", _quoted(address["ssl_server_cert_dn"])),
            # Clients from 12.2 on and thin mode; WALLET_LOCATION is known from 21 on.
            ("MY_WALLET_DIRECTORY", _quoted(address["wallet_location"])),
        )
        if value
    )
    for text in (host, target[1:-1]):
        if re.search(r"[()]", text):
            raise RasaException(
                f"'{text}' is not a name that an Oracle address can hold. Use 'dsn' "
                f"for a complete address."
            )
    protocol = (address["protocol"] or "tcp").upper()
    return _with_deadline(
        f"(DESCRIPTION=(ADDRESS=(PROTOCOL={protocol})(HOST={host})(PORT={port}))"
        f"(CONNECT_DATA={target}){f'(SECURITY={security})' if security else ''})",
        timeout,
    )


def _yes_or_no(value: Optional[str]) -> Optional[str]:
    if value is None:
        return None
    return "YES" if options.flag("ssl_server_dn_match", value) else "NO"


def _quoted(value: Optional[str]) -> Optional[str]:
    return f'"{value}"' if value else None


def _with_deadline(dsn: str, timeout: float) -> str:
    """``dsn`` with Oracle's own limits on connecting, where it has none.

    Oracle's client takes them from a complete address only, and in whole seconds.
    """
    for keyword in ("TRANSPORT_CONNECT_TIMEOUT", "CONNECT_TIMEOUT"):
        if not re.search(rf"\(\s*{keyword}\s*=", dsn, re.IGNORECASE):
            dsn = re.sub(
                r"(\(\s*DESCRIPTION\s*=)",
                rf"\1({keyword}={max(1, math.ceil(timeout))})",
                dsn,
                flags=re.IGNORECASE,
            )
    return dsn


def _short(dsn: str) -> str:
    """What of an address tells databases apart; never a password in it."""
    found = re.search(r"(?:SERVICE_NAME|SID)\s*=\s*([^)\s]+)", dsn, re.IGNORECASE)
    return found.group(1) if found else re.sub(r"^.*@", "", dsn)


# The driver


class Driver(NamedTuple):
    """A driver, and the SQLAlchemy dialect that speaks through it."""

    module: Any
    dialect: str


def choose_driver(wanted: str) -> Driver:
    """What is installed of the two drivers.

    Args:
        wanted: ``oracle``, ``oracle+cx_oracle`` or ``oracle+oracledb``.

    Raises:
        RasaException: names what to install.
    """
    _, _, driver = wanted.partition("+")
    knows_oracledb = sa.__version__.split(".")[0] != "1"
    if driver in ("", "cx_oracle"):
        order = ["cx_Oracle", "oracledb"]
        if not driver and knows_oracledb:
            order.reverse()
    elif driver == "oracledb":
        order = ["oracledb"]
    else:
        raise RasaException(
            f"rasa_trackers knows no Oracle dialect '{wanted}'. Set 'dialect' to "
            f"oracle+cx_oracle or oracle+oracledb in endpoints.yml."
        )
    failures = []
    for name in order:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            failures.append(f"{name}: {error}")
            continue
        if name == "oracledb" and not knows_oracledb:
            return Driver(_as_cx_oracle(module), "oracle+cx_oracle")
        return Driver(module, f"oracle+{name.lower()}")
    raise RasaException(
        f"No driver for '{wanted}' is installed ({'; '.join(failures)}). Install one "
        f"in the environment that runs Rasa: {_INSTALL[order[0]]}."
    )


def _as_cx_oracle(oracledb: Any) -> Any:
    """python-oracledb under the name and version that SQLAlchemy 1.4 asks for.

    As its documentation has it for SQLAlchemy 1.4, but in a module of our own: the
    real one stays as other users of it in this process expect it.
    """
    module = types.ModuleType("cx_Oracle")
    vars(module).update(
        {
            name: value
            for name, value in vars(oracledb).items()
            if not name.startswith("__") or name == "__future__"
        }
    )
    vars(module).update(version="8.3.0", rasa_trackers_original=oracledb)
    return module


_client_lock = threading.Lock()
#: cx_Oracle, when its client has been loaded; it refuses a second time.
_clients: List[Any] = []


def _load_client(driver: Driver, place: Place) -> None:
    """Load Oracle's client libraries, once a process, where options ask for it."""
    module = getattr(driver.module, "rasa_trackers_original", driver.module)
    is_thin = hasattr(module, "is_thin_mode")
    if is_thin and place.thick_mode is False:
        return
    if is_thin and place.thick_mode is None and place.lib_dir is None:
        return
    if not is_thin and place.lib_dir is None and place.config_dir is None:
        return
    arguments = {
        name: value
        for name, value in (
            ("lib_dir", place.lib_dir),
            ("config_dir", place.config_dir),
        )
        if value
    }
    with _client_lock:
        if is_thin:
            # Does nothing the second time, if it is asked for the same.
            module.init_oracle_client(**arguments)
        elif module not in _clients:
            module.init_oracle_client(**arguments)
            _clients.append(module)


# Engine


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
        RasaException: when no driver is installed.
    """
    driver = choose_driver(url.drivername)
    engine = create_engine(
        URL.create(driver.dialect),
        connect_args={},
        module=driver.module,
        creator=_connector(driver, place, url, timeout),
        arraysize=_ARRAY_SIZE,
        # A round trip each, for every page read: a connection that has just been used
        # is taken as it is, and what is written is safe to repeat.
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

    It is a round trip as long as the query before it. Oracle's queries begin no
    transaction, and the blocks that append commit by themselves.
    """
    rollback = engine.dialect.do_rollback

    def do_rollback(connection: Any) -> None:
        try:
            idle = not connection.info.get(WRITING)
        except (AttributeError, NotImplementedError):
            # Not of the pool yet: SQLAlchemy asks a new server what it is, which
            # begins a transaction.
            idle = False
        if not idle:
            rollback(connection)

    engine.dialect.do_rollback = do_rollback


def _bind_doubles(
    sizes: Dict[Any, Any], _cursor: Any, _sql: str, _parameters: Any, context: Any
) -> None:
    """Send doubles as doubles.

    SQLAlchemy leaves a float to the driver, and cx_Oracle makes a NUMBER of it, which
    moves a timestamp by up to a microsecond.
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
    # SQLAlchemy asks for no sizes where a statement was given to it as text.
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


def _connector(
    driver: Driver, place: Place, url: URL, timeout: float
) -> Callable[[], Any]:
    arguments: Dict[str, Any] = {
        "user": url.username,
        "password": None if url.password is None else str(url.password),
        "dsn": place.dsn,
        **place.driver_options,
    }
    module = getattr(driver.module, "rasa_trackers_original", driver.module)
    if hasattr(module, "is_thin_mode"):
        if place.config_dir:
            arguments.setdefault("config_dir", place.config_dir)
    else:
        # cx_Oracle's defaults are for one thread and for the client's character set.
        arguments.update(threaded=True, encoding="UTF-8", nencoding="UTF-8")
        if place.config_dir:
            os.environ.setdefault("TNS_ADMIN", place.config_dir)

    def connect() -> Any:
        _load_client(driver, place)
        try:
            connection = driver.module.connect(**arguments)
        except TypeError as error:
            raise RasaException(
                f"{module.__name__} does not take these options: {error}. Correct "
                f"'query' in the tracker_store section of endpoints.yml."
            ) from None
        with contextlib.suppress(Exception):
            # From Oracle Client 18 on: milliseconds for each round trip.
            connection.call_timeout = math.ceil(timeout * 1000)
        return connection

    attempts = threading.Semaphore(_MOST_ATTEMPTS)
    return lambda: attempt(timeout, connect, attempts)


def attempt(
    timeout: float, connect: Callable[[], Any], attempts: threading.Semaphore
) -> Any:
    """:func:`connect_within`, one of so many at a time, also of those given up.

    Raises:
        TimeoutError: when the time is over.
    """
    if not attempts.acquire(timeout=timeout):
        raise TimeoutError(
            "earlier attempts to connect still wait in Oracle's client; set "
            "CONNECT_TIMEOUT in the address in tnsnames.ora"
        )

    def connect_once() -> Any:
        try:
            return connect()
        finally:
            attempts.release()

    return connect_within(timeout, connect_once)


def connect_within(timeout: float, connect: Callable[[], Any]) -> Any:
    """``connect()``, given up after ``timeout`` seconds.

    python-oracledb's thin mode waits without end for a server that takes the
    connection and stays silent, and no parameter of it helps (python-oracledb issue
    451). Its socket is cut then, so that the thread comes free. Oracle's client keeps
    its socket to itself: the thread stays there until the limits in the address end
    it, and holds up nobody, not even the end of the process.

    Raises:
        TimeoutError: when the time is over.
    """
    outcome: Dict[str, Any] = {}
    sockets: Dict[str, int] = {}
    done = threading.Event()
    lock = threading.Lock()

    def watch(frame: Any, event: str, result: Any) -> None:
        # Called for each function that returns in the thread. A duplicate, because TLS
        # takes the socket's own descriptor over.
        if (
            event == "return"
            and frame.f_code is socket.create_connection.__code__
            and isinstance(result, socket.socket)
        ):
            with lock:
                _close(sockets)
                sockets["duplicate"] = os.dup(result.fileno())

    def run() -> None:
        sys.setprofile(watch)
        try:
            outcome["connection"] = connect()
        except BaseException as error:  # noqa: BLE001 (raised in the waiting thread)
            outcome["error"] = error
        finally:
            sys.setprofile(None)
            with lock:
                late = outcome.get("late")
                done.set()
                _close(sockets)
            if late and "connection" in outcome:
                with contextlib.suppress(Exception):
                    outcome["connection"].close()

    threading.Thread(target=run, name="rasa_trackers-connect", daemon=True).start()
    if not done.wait(timeout):
        with lock:
            if not done.is_set():
                outcome["late"] = True
                _cut(sockets)
                raise TimeoutError(
                    f"the server took no connection within {timeout:g} seconds"
                )
    if "error" in outcome:
        raise outcome["error"]
    return outcome["connection"]


def _cut(sockets: Dict[str, int]) -> None:
    if "duplicate" in sockets:
        with contextlib.suppress(OSError), socket.socket(
            fileno=sockets.pop("duplicate")
        ) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)


def _close(sockets: Dict[str, int]) -> None:
    if "duplicate" in sockets:
        os.close(sockets.pop("duplicate"))
