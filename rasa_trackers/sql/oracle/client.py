"""The driver and Oracle's client: which one, its libraries, and one connection.

Two drivers speak to Oracle. cx_Oracle needs Oracle's Instant Client; python-oracledb
needs it only in its thick mode. SQLAlchemy 1.4 (Rasa 3.6) knows the first one, 2.0
knows both.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import os
import threading
import types
from typing import Any, Callable, Dict, Iterable, List, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine.url import URL

from rasa_trackers.errors import store_error
from rasa_trackers.sql.connection import check_options
from rasa_trackers.sql.oracle.address import Place

#: Attempts of one store to connect that may wait at a time. Nothing can make Oracle's
#: client, or python-oracledb's thin mode, give one up.
_MOST_ATTEMPTS = 32

#: The options of ``cx_Oracle.connect`` (8.3, the last version), which has no signature.
_CX_ORACLE_OPTIONS = [
    "user",
    "password",
    "dsn",
    "mode",
    "handle",
    "pool",
    "threaded",
    "events",
    "cclass",
    "purity",
    "newpassword",
    "encoding",
    "nencoding",
    "edition",
    "appcontext",
    "tag",
    "matchanytag",
    "shardingkey",
    "supershardingkey",
    "stmtcachesize",
]
#: What ``query`` must not set: other options of the store say it, the store would not
#: work otherwise, or YAML cannot express it.
_SET_BY_STORE = [
    "user",
    "password",
    "dsn",
    "host",
    "port",
    "newpassword",
    "pool",
    "pool_alias",
    "pool_name",
    "pool_boundary",
    "conn_class",
    "params",
    "handle",
    "threaded",
    "encoding",
    "nencoding",
    "appcontext",
    "shardingkey",
    "supershardingkey",
    "ssl_context",
    "on_connect_callback",
    "operation_callback",
    "round_trip_callback",
    "extra_auth_params",
    "thick_mode_dsn_passthrough",
]

_INSTALL = {
    "cx_Oracle": (
        "pip install cx_Oracle (Python 3.8 to 3.10; it needs Oracle Instant Client), "
        "or pip install oracledb, which needs no client from Oracle 12.1 on"
    ),
    "oracledb": "pip install oracledb",
}


class Driver(NamedTuple):
    """A driver, and the SQLAlchemy dialect that speaks through it."""

    module: Any
    dialect: str


def choose_driver(wanted: str) -> Driver:
    """The driver to use: one that is installed.

    Args:
        wanted: ``oracle``, ``oracle+cx_oracle`` or ``oracle+oracledb``.

    Raises:
        StoreError: names what to install.
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
        raise store_error(
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
    raise store_error(
        f"No driver for '{wanted}' is installed ({'; '.join(failures)}). Install one "
        f"in the environment that runs Rasa: {_INSTALL[order[0]]}."
    )


def _as_cx_oracle(oracledb: Any) -> Any:
    """python-oracledb under the name and version that SQLAlchemy 1.4 asks for.

    Its documentation changes the module itself for SQLAlchemy 1.4. This is a copy:
    other users in this process need the real one as it is.
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
#: cx_Oracle, once its client is loaded; it refuses a second time.
_clients: List[Any] = []


def _renew_client_lock() -> None:
    global _client_lock  # noqa: PLW0603 - a thread of the parent may hold it
    _client_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_client_lock)


def _load_client(driver: Driver, place: Place) -> None:
    """Load Oracle's client libraries, once a process, if options ask for it."""
    module = _original(driver)
    is_thin = hasattr(module, "is_thin_mode")
    if (
        is_thin
        and not place.thick_mode
        and (place.thick_mode is False or place.lib_dir is None)
    ):
        _decide_for_thin_mode(module)
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
            # A second call with the same arguments does nothing.
            module.init_oracle_client(**arguments)
        elif module not in _clients:
            module.init_oracle_client(**arguments)
            _clients.append(module)


def _decide_for_thin_mode(module: Any) -> None:
    """Let python-oracledb choose its mode before it connects.

    Otherwise the first attempt to connect chooses it, and all others wait for that. In
    the child of a process that forks meanwhile, they would wait for ever.
    """
    if module.is_thin_mode() and hasattr(module, "enable_thin_mode"):
        module.enable_thin_mode()


def _original(driver: Driver) -> Any:
    return getattr(driver.module, "rasa_trackers_original", driver.module)


def _options_of(driver: Driver) -> Iterable[str]:
    """The driver's own list of what ``connect`` takes."""
    module = _original(driver)
    if not hasattr(module, "is_thin_mode"):
        return _CX_ORACLE_OPTIONS
    return inspect.signature(module.connect).parameters


def connector(
    driver: Driver, place: Place, url: URL, timeout: float
) -> Callable[[], Any]:
    """What makes a connection of the driver.

    Args:
        driver: The driver.
        place: Where to connect.
        url: SQLAlchemy's URL, for user and password.
        timeout: Seconds for connecting, and for each round trip.

    Raises:
        StoreError: for an option in ``query`` that the driver does not know.
    """
    check_options(
        place.driver_options,
        _options_of(driver),
        _original(driver).__name__,
        own=_SET_BY_STORE,
    )
    arguments: Dict[str, Any] = {
        "user": url.username,
        "password": None if url.password is None else str(url.password),
        "dsn": place.dsn,
        **place.driver_options,
    }
    module = _original(driver)
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
            raise store_error(
                f"{module.__name__} does not take these options: {error}. Correct "
                f"'query' in the tracker_store section of endpoints.yml."
            ) from None
        with contextlib.suppress(Exception):
            # Milliseconds for each round trip; known from Oracle Client 18 on.
            connection.call_timeout = math.ceil(timeout * 1000)
        return connection

    attempts = threading.Semaphore(_MOST_ATTEMPTS)
    return lambda: attempt(timeout, connect, attempts)


def attempt(
    timeout: float, connect: Callable[[], Any], attempts: threading.Semaphore
) -> Any:
    """``connect()``, given up after ``timeout`` seconds.

    python-oracledb's thin mode waits without a limit for a server that accepts the
    connection and stays silent, and none of its parameters helps (python-oracledb issue
    451). Oracle's client has the limits that stand in the address. So the attempt has a
    thread of its own, which waits on and holds up nobody, not even the end of the
    process.

    Args:
        timeout: Seconds to wait.
        connect: Makes the connection.
        attempts: Free places for threads that wait.

    Raises:
        TimeoutError: when the time is over.
    """
    if not attempts.acquire(timeout=timeout):
        raise TimeoutError(
            "earlier attempts to connect still wait for the server; set "
            "CONNECT_TIMEOUT in the address in tnsnames.ora"
        )
    outcome: Dict[str, Any] = {}
    lock = threading.Lock()
    done = threading.Event()

    def run() -> None:
        try:
            outcome["connection"] = connect()
        except BaseException as error:  # noqa: BLE001 (raised in the waiting thread)
            outcome["error"] = error
        attempts.release()
        with lock:
            done.set()
            is_late = "given up" in outcome
        if is_late and "connection" in outcome:
            with contextlib.suppress(Exception):
                outcome["connection"].close()

    threading.Thread(target=run, name="rasa_trackers-connect", daemon=True).start()
    done.wait(timeout)
    with lock:
        if not done.is_set():
            outcome["given up"] = True
            raise TimeoutError(
                f"the server took no connection within {timeout:g} seconds"
            )
    if "error" in outcome:
        raise outcome["error"]
    return outcome["connection"]
