"""From the options of ``endpoints.yml`` to an SQLAlchemy engine."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
from typing import Any, Dict, Iterable, Mapping, Optional
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine.url import URL, make_url

from rasa_trackers.errors import store_error
from rasa_trackers.store_options import redact

#: Seconds after which a pooled connection is replaced. Firewalls and load balancers
#: drop idle connections, commonly after an hour or more.
_RECYCLE = 1800

#: The default of the option ``db``.
DEFAULT_DATABASE = "rasa.db"

# Rasa 1 installs SQLAlchemy 1.3, in which statements are written in another way. As the
# module is loaded: other modules do not even load with it.
if sa.__version__.startswith(("0.", "1.0.", "1.1.", "1.2.", "1.3.")):
    raise store_error(
        f"The SQL stores of rasa_trackers need SQLAlchemy 1.4 or later, and this is "
        f"{sa.__version__}. Install it in the Python environment that runs Rasa: pip "
        f'install "SQLAlchemy>=1.4,<1.5". Rasa 1.10 runs with it, although pip warns that '
        f"it asks for an older one."
    )

#: How messages name what SQLAlchemy calls so.
_PRODUCTS = {
    "mariadb": "MariaDB",
    "mysql": "MySQL",
    "oracle": "Oracle",
    "postgresql": "PostgreSQL",
    "sqlite": "SQLite",
}

_DRIVER_PACKAGES = {
    "psycopg2": "psycopg2-binary",
    "cx_Oracle": "cx_Oracle",
    "oracledb": "oracledb",
    "psycopg": "psycopg[binary]",
    "MySQLdb": "mysqlclient",
    "pymysql": "PyMySQL",
    "pyodbc": "pyodbc",
}


def engine_url(values: Mapping[str, Any]) -> URL:
    """The database's URL.

    Args:
        values: The checked options: ``dialect``; ``url``, which is a host,
            ``host:port`` or a complete SQLAlchemy URL; ``port``, ``db``, ``username``,
            ``password`` and ``query``, which fill in what a complete URL leaves out.

    Raises:
        StoreError: for values that make no URL.
    """
    dialect, url = values["dialect"], values["url"]
    parts: Dict[str, Any] = {
        "username": values["username"],
        "password": values["password"],
        "port": values["port"],
        "database": values["db"] or DEFAULT_DATABASE,
    }
    driver_options = {
        name: tuple(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for name, value in values["query"].items()
    }
    if url and "://" in url:
        complete = _parsed(url)
        if complete.get_backend_name() == "oracle":
            _name_oracle_service(parts, driver_options, complete)
        if parts.get("database") == DEFAULT_DATABASE:
            # A URL without a database means something: ``sqlite://`` is in memory.
            del parts["database"]
        given = {name: getattr(complete, name) for name in parts}
        filled = {
            name: value
            for name, value in parts.items()
            if given[name] in (None, "") and value is not None
        }
        return complete.set(**filled).update_query_dict(driver_options)

    host = _host(dialect, url, parts, driver_options) if url else None
    if dialect.startswith("oracle"):
        _name_oracle_service(parts, driver_options)
    return URL.create(_current_name(dialect), host=host, query=driver_options, **parts)


def _host(
    dialect: str, url: str, parts: Dict[str, Any], driver_options: Dict[str, Any]
) -> Optional[str]:
    """The host in ``url``; its other parts go into ``parts`` and ``driver_options``."""
    # A password may stand before the @, so that part is not shown.
    shown = url.rpartition("@")[2]
    if dialect.startswith("sqlite"):
        raise store_error(
            f"SQLite is a file and has no server, but 'url: {shown}' names one. "
            f"Remove 'url', or set 'dialect' to the database that runs there."
        )
    if url.startswith("/") and dialect.startswith("postgres"):
        return url  # libpq takes a folder with the server's socket as a host
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
        raise store_error(
            f"The option 'url' of the tracker store, '{shown}', is neither a host, "
            f"nor host:port, nor the folder of a PostgreSQL socket, nor a "
            f"complete URL with special characters of the password "
            f"percent-encoded. Correct it in endpoints.yml."
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

    SQLAlchemy takes a database in an Oracle URL for a SID. Pluggable databases, the
    kind of today, have none.
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
        # A password may stand in the URL and in the cause, so neither is shown.
        raise store_error(
            "The option 'url' of the tracker store is not a URL that SQLAlchemy "
            "understands. Write it as dialect://user:password@host:port/database, "
            "with special characters in the password percent-encoded."
        ) from None
    if "@" in (parsed.host or ""):
        raise store_error(
            "The password in the option 'url' of the tracker store has an '@'. Write "
            "it as %40, or use the options 'username' and 'password'."
        )
    parsed = parsed.set(drivername=_current_name(parsed.drivername))
    try:
        parsed.get_dialect()
    except sqlalchemy.exc.NoSuchModuleError:
        raise store_error(
            f"The option 'url' of the tracker store begins with "
            f"'{parsed.drivername}://', which is no dialect of SQLAlchemy "
            f"{sa.__version__}. Write the host alone, or "
            f"dialect://user:password@host:port/database, or install the package that "
            f"brings the dialect."
        ) from None
    return parsed


def _current_name(dialect: str) -> str:
    # Hosting providers still give this old name, which SQLAlchemy 1.4 has dropped.
    return re.sub(r"^postgres(?=\+|$)", "postgresql", dialect)


def create_engine(
    url: URL, *, connect_args: Mapping[str, Any], **engine_options: Any
) -> sa.engine.Engine:
    """An engine that tests a connection before its use, unless an option differs.

    Raises:
        StoreError: for an unknown dialect or driver option, or a driver that is
            not installed.
    """
    try:
        return sa.create_engine(
            url,
            **{
                "future": True,
                "pool_pre_ping": True,
                "pool_recycle": _RECYCLE,
                # The words of users do not belong in errors and logs.
                "hide_parameters": True,
                "connect_args": dict(connect_args),
                **engine_options,
            },
        )
    except sqlalchemy.exc.NoSuchModuleError:
        near = difflib.get_close_matches(
            url.drivername, ["sqlite", "postgresql", "oracle", "mysql+pymysql"], n=1
        )
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise store_error(
            f"SQLAlchemy {sa.__version__} has no dialect '{url.drivername}'.{hint} "
            f"Correct the option 'dialect' of the tracker store in endpoints.yml, or "
            f"install the package that brings it."
        ) from None
    except ImportError as error:
        package = _DRIVER_PACKAGES.get(error.name or "", error.name or "its package")
        raise store_error(
            f"The driver for '{url.drivername}' is not installed ({error}). Install "
            f"it in the environment that runs Rasa: pip install {package}"
        ) from error
    except (sqlalchemy.exc.ArgumentError, TypeError, ValueError) as error:
        text = redact(str(error), [_password(url)])
        raise store_error(
            f"The dialect '{url.drivername}' does not take these options: {text}. "
            f"Correct 'query' in the tracker_store section of endpoints.yml."
        ) from None


def check_options(
    given: Iterable[str], known: Iterable[str], driver: str, *, own: Iterable[str] = ()
) -> None:
    """Refuse options in ``query`` that a driver does not know.

    Args:
        given: Their names.
        known: The names of all options of the driver.
        driver: How messages name the driver.
        own: Those of the driver's options that the store sets itself.

    Raises:
        StoreError: with the nearest known name.
    """
    allowed = sorted({*known} - {*own})
    for name in given:
        if name in allowed:
            continue
        why = "the store sets it itself" if name in {*own} else f"{driver} has no such"
        near = difflib.get_close_matches(name, allowed, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise store_error(
            f"'query' of the tracker store must not have '{name}': {why}.{hint} Correct "
            f"it in endpoints.yml. It may have: {', '.join(allowed)}."
        )


def check_engine_options(engine: sa.engine.Engine, url: URL) -> None:
    """Refuse what a driver does not know: by its signature, or when it connects.

    Raises:
        StoreError: with the nearest known name.
    """
    dialect = engine.dialect
    driver = f"the driver of '{url.drivername}'"
    _, options = dialect.create_connect_args(url)
    with contextlib.suppress(TypeError, ValueError):  # a function without a signature
        parameters = inspect.signature(dialect.dbapi.connect).parameters
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            # SQLAlchemy passes more, such as the host, and makes it fit.
            check_options({*options} & {*url.query}, parameters, driver)

    @sa.event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        try:
            return dialect.connect(*arguments, **options)
        except TypeError as error:
            text = redact(str(error), [_password(url)])
            raise store_error(
                f"{driver[0].upper()}{driver[1:]} does not take these options: {text}. "
                f"Correct 'query' in the tracker_store section of endpoints.yml."
            ) from None
        except RuntimeError as error:
            if "cryptography" not in str(error):
                raise
            # PyMySQL has the package only with its extra, and MySQL 8 asks for it.
            raise store_error(
                f"{driver[0].upper()}{driver[1:]} cannot log in without another package "
                f"({error}). Install it in the environment that runs Rasa: pip install "
                f'"PyMySQL[rsa]"'
            ) from None


def _password(url: URL) -> Optional[str]:
    return str(url.password) if url.password is not None else None


def described(url: URL) -> str:
    """The name of a database in messages, without user and password."""
    product = _PRODUCTS.get(url.get_backend_name(), url.get_backend_name())
    if url.get_backend_name() == "sqlite":
        return f"{product} database '{url.database or ':memory:'}'"
    port = f":{url.port}" if url.port else ""
    return f"{product} database '{url.database}' at {url.host or 'localhost'}{port}"
