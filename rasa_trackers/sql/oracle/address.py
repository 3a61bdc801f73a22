"""Where an Oracle database is: from a URL to the address that the drivers take."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, Mapping, NamedTuple, Optional

from sqlalchemy.engine.url import URL

from rasa_trackers.errors import store_error
from rasa_trackers.store_options import flag

_DEFAULT_PORT = 1521

#: The simple form of an address. It holds no time limit before client 19.
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
    #: Whether python-oracledb is to use Oracle's client; ``None``: only where it must.
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
        url: SQLAlchemy's URL. A database in it is a SID, as in SQLAlchemy. In its
            query, ``service_name``, ``sid`` and ``dsn`` name the database; ``schema``
            and ``create_tables`` are about the tables; ``protocol``,
            ``wallet_location``, ``ssl_server_dn_match`` and ``ssl_server_cert_dn`` go
            into the address; ``thick_mode``, ``lib_dir`` and ``config_dir`` are for
            Oracle's client. The driver gets the rest.
        timeout: Seconds for connecting.

    Raises:
        StoreError: for an address that names no database, or two.
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
        raise store_error(
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
        create_tables=create_tables is None or flag("create_tables", create_tables),
        thick_mode=None if thick_mode is None else flag("thick_mode", thick_mode),
        lib_dir=_taken(query, "lib_dir"),
        config_dir=_taken(query, "config_dir"),
        driver_options={key: _typed(key, value) for key, value in query.items()},
    )


def _taken(query: Dict[str, Any], name: str) -> Optional[str]:
    value = query.pop(name, None)
    if isinstance(value, tuple):
        raise store_error(
            f"The option '{name}' of the tracker store is given more than once. Keep "
            f"one of them in endpoints.yml."
        )
    return value or None


def _typed(name: str, value: Any) -> Any:
    """The value of a driver's option, which comes as text. Passwords stay text."""
    if not isinstance(value, str) or "password" in name:
        return value
    if re.fullmatch(r"-?\d{1,9}", value):
        return int(value)
    return {"true": True, "false": False}.get(value.lower(), value)


def _schema(name: Optional[str]) -> Optional[str]:
    # Oracle keeps an unquoted name in upper case; SQLAlchemy writes it in lower case.
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
            raise store_error(
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
    return "YES" if flag("ssl_server_dn_match", value) else "NO"


def _quoted(value: Optional[str]) -> Optional[str]:
    return f'"{value}"' if value else None


def _with_deadline(dsn: str, timeout: float) -> str:
    """``dsn`` with Oracle's own limits for connecting, where it has none.

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
    """The part of an address that tells databases apart, without any password."""
    found = re.search(r"(?:SERVICE_NAME|SID)\s*=\s*([^)\s]+)", dsn, re.IGNORECASE)
    return found.group(1) if found else re.sub(r"^.*@", "", dsn)
