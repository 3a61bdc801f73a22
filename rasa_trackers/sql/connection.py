"""From the options of ``endpoints.yml`` to an SQLAlchemy engine."""

from __future__ import annotations

import difflib
import re
from typing import Any, Dict, Mapping, Optional
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine.url import URL, make_url

from rasa_trackers import options
from rasa_trackers.rasa_versions import RasaException

#: Seconds after which a pooled connection is replaced; firewalls and load balancers
#: drop idle ones, commonly after an hour or more.
_RECYCLE = 1800

#: The default of the option ``db``.
DEFAULT_DATABASE = "rasa.db"

_DRIVER_PACKAGES = {
    "psycopg2": "psycopg2-binary",
    "cx_Oracle": "cx_Oracle",
    "oracledb": "oracledb",
    "psycopg": "psycopg[binary]",
    "MySQLdb": "mysqlclient",
    "pymysql": "PyMySQL",
    "pyodbc": "pyodbc",
}


def engine_url(
    *,
    dialect: Any,
    url: Optional[str],
    port: Any,
    db: Any,
    username: Any,
    password: Any,
    query: Any,
) -> URL:
    """The database's URL.

    Args:
        dialect: SQLAlchemy dialect, with or without a driver.
        url: A host, ``host:port``, or a complete SQLAlchemy URL; what a complete URL
            leaves out is filled in from the other options.
        port: TCP port.
        db: Database, or the path of a SQLite file.
        username: User name.
        password: Password.
        query: Options of the driver.

    Raises:
        RasaException: for a value that makes no URL.
    """
    parts: Dict[str, Any] = {
        "username": options.text("username", username),
        "password": options.text("password", password),
        "port": options.port_number(port),
        "database": options.text("db", db),
    }
    driver_options = {
        name: tuple(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for name, value in options.mapping("query", query).items()
    }
    if url and "://" in url:
        complete = _parsed(url)
        if complete.get_backend_name() == "oracle":
            _name_oracle_service(parts, driver_options, complete)
        if parts.get("database") == DEFAULT_DATABASE:
            # A URL without a database has a meaning of its own: ``sqlite://``.
            del parts["database"]
        given = {name: getattr(complete, name) for name in parts}
        filled = {
            name: value
            for name, value in parts.items()
            if given[name] in (None, "") and value is not None
        }
        return complete.set(**filled).update_query_dict(driver_options)

    if not isinstance(dialect, str) or not dialect:
        raise RasaException(
            "The option 'dialect' of the tracker store must name a database, for "
            "example postgresql or sqlite. Correct it in endpoints.yml."
        )
    host = _host(dialect, url, parts, driver_options) if url else None
    if dialect.startswith("oracle"):
        _name_oracle_service(parts, driver_options)
    return URL.create(_current_name(dialect), host=host, query=driver_options, **parts)


def _host(
    dialect: str, url: str, parts: Dict[str, Any], driver_options: Dict[str, Any]
) -> Optional[str]:
    """The host in ``url``; what else stands there goes to its place."""
    # What stands before an @ may be a password, and is not shown.
    shown = url.rpartition("@")[2]
    if dialect.startswith("sqlite"):
        raise RasaException(
            f"SQLite is a file and has no server, but 'url: {shown}' names one. "
            f"Remove 'url', or set 'dialect' to the database that runs there."
        )
    is_oracle = dialect.startswith("oracle")
    if is_oracle and url.startswith("("):
        # A complete address in Oracle's own form.
        driver_options["dsn"] = url
        return None
    split = urlsplit("")
    try:
        split = urlsplit(f"//{url}")
        host, own_port = split.hostname, split.port
    except ValueError:
        host = own_port = None
    # "host:port/service" is Oracle's "Easy Connect".
    service = split.path.strip("/") if host and is_oracle else ""
    is_path_wrong = "@" in service if service else split.path
    if not host or is_path_wrong or split.query or "@" in host:
        raise RasaException(
            f"The option 'url' of the tracker store, '{shown}', is neither a host, "
            f"nor host:port, nor a complete URL with special characters of the "
            f"password percent-encoded. Correct it in endpoints.yml."
        )
    parts["port"] = own_port or parts["port"]
    parts["username"] = parts["username"] or unquote(split.username or "") or None
    parts["password"] = parts["password"] or unquote(split.password or "") or None
    parts["database"] = service or parts["database"]
    return host


def _name_oracle_service(
    parts: Dict[str, Any],
    driver_options: Dict[str, Any],
    complete: Optional[URL] = None,
) -> None:
    """Take the option ``db`` for an Oracle service, unless a place is named already.

    In SQLAlchemy a database in an Oracle URL is a SID, which databases of today's
    kind (pluggable ones) don't have.
    """
    database = parts.pop("database")
    named = {"service_name", "sid", "dsn"} & {
        *driver_options,
        *(complete.query if complete else ()),
    }
    if named or database == DEFAULT_DATABASE or (complete and complete.database):
        return
    if database:
        driver_options["service_name"] = database


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        # Neither the URL nor the cause is shown: a password may stand in both.
        raise RasaException(
            "The option 'url' of the tracker store is not a URL that SQLAlchemy "
            "understands. Write it as dialect://user:password@host:port/database, "
            "with special characters in the password percent-encoded."
        ) from None
    if "@" in (parsed.host or ""):
        raise RasaException(
            "The password in the option 'url' of the tracker store has an '@'. Write "
            "it as %40, or use the options 'username' and 'password'."
        )
    return parsed.set(drivername=_current_name(parsed.drivername))


def _current_name(dialect: str) -> str:
    # SQLAlchemy dropped this old name in 1.4; hosting providers still hand it out.
    return re.sub(r"^postgres(?=\+|$)", "postgresql", dialect)


def create_engine(
    url: URL, *, connect_args: Mapping[str, Any], **engine_options: Any
) -> sa.engine.Engine:
    """An engine whose connections are tested before use, unless an option differs.

    Raises:
        RasaException: for an unknown dialect or driver option, or a driver that is
            not installed.
    """
    try:
        return sa.create_engine(
            url,
            **{
                "future": True,
                "pool_pre_ping": True,
                "pool_recycle": _RECYCLE,
                # What users said does not belong in errors and logs.
                "hide_parameters": True,
                "connect_args": dict(connect_args),
                **engine_options,
            },
        )
    except sqlalchemy.exc.NoSuchModuleError:
        near = difflib.get_close_matches(
            url.drivername, ["sqlite", "postgresql", "oracle"], n=1
        )
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RasaException(
            f"SQLAlchemy {sa.__version__} has no dialect '{url.drivername}'.{hint} "
            f"Correct the option 'dialect' of the tracker store in endpoints.yml, or "
            f"install the package that brings it."
        ) from None
    except ImportError as error:
        package = _DRIVER_PACKAGES.get(error.name or "", error.name or "its package")
        raise RasaException(
            f"The driver for '{url.drivername}' is not installed ({error}). Install "
            f"it in the environment that runs Rasa: pip install {package}"
        ) from error
    except (sqlalchemy.exc.ArgumentError, TypeError, ValueError) as error:
        text = options.redact(str(error), [_password(url)])
        raise RasaException(
            f"The dialect '{url.drivername}' does not take these options: {text}. "
            f"Correct 'query' in the tracker_store section of endpoints.yml."
        ) from None


def _password(url: URL) -> Optional[str]:
    return str(url.password) if url.password is not None else None


def described(url: URL) -> str:
    """How messages name a database, without user and password."""
    product = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "oracle": "Oracle"}.get(
        url.get_backend_name(), url.get_backend_name()
    )
    if url.get_backend_name() == "sqlite":
        return f"{product} database '{url.database or ':memory:'}'"
    port = f":{url.port}" if url.port else ""
    return f"{product} database '{url.database}' at {url.host or 'localhost'}{port}"
