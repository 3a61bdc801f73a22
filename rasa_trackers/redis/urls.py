"""The option ``url``: each part of it means something or is an error.

redis-py's own ``parse_url`` is not used. It drops what it does not understand, so that
``redis://host/prod`` would store conversations in database 0.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from rasa_trackers.errors import store_error
from rasa_trackers.store_options import flag, text, whole_number

#: What the query of a URL may set.
QUERY = (
    "db",
    "username",
    "password",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
)

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_VERIFICATIONS = ("required", "optional", "none")


class Url(NamedTuple):
    """The parts of a URL; ``None`` for one that is not there."""

    host: Optional[str] = None
    port: Optional[int] = None
    socket_path: Optional[str] = None
    db: Optional[int] = None
    username: Optional[str] = None
    password: Optional[str] = None
    is_tls: bool = False
    #: What the query says of TLS, by redis-py's names.
    tls: Dict[str, Any] = {}  # noqa: RUF012 - nobody changes it


def parse_url(url: Optional[str]) -> Url:
    """The parts of a URL, a host, ``host:port``, or the path of a unix socket.

    Raises:
        StoreError: for a part without a meaning. The text shows no part that may hold a
            password.
    """
    if not url:
        return Url()
    if url.startswith("/"):
        return Url(socket_path=url)
    parts = _split(url)
    query = _query(parts.query)
    login = Url(
        username=unquote(parts.username or "") or query.pop("username", None),
        password=unquote(parts.password or "") or query.pop("password", None),
    )
    if query.keys() & {"username", "password"}:
        raise _twice()
    db = whole_number("db", query.pop("db", None), 0)
    if parts.scheme == "unix":
        if parts.hostname or parts.port or not parts.path:
            raise store_error(
                "The option 'url' of the tracker store names a unix socket without the "
                "whole path. Write it as unix:///path?db=0, with three slashes."
            )
        _refuse_tls(query, "a unix socket")
        return login._replace(socket_path=unquote(parts.path), db=db)
    in_path = _database(parts.path)
    if None not in (db, in_path):
        raise _twice()
    return login._replace(
        host=unquote(parts.hostname or "") or None,
        port=parts.port,
        db=db if in_path is None else in_path,
        is_tls=parts.scheme == "rediss",
        tls=_tls(query),
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url if "://" in url else f"redis://{url}")
        is_whole = (
            parts.scheme in ("redis", "rediss", "unix")
            and parts.port != 0
            and not parts.fragment
            and not re.search(r"[\s\0-\x1f]", url)
            # A password with a special character that is not percent-encoded.
            and "@" not in parts.path + parts.query
        )
    except ValueError:
        is_whole = False
    if not is_whole:
        # Neither the URL nor the cause is shown: a password may stand in both.
        raise store_error(
            "The option 'url' of the tracker store is neither a host, nor host:port, nor "
            "a URL, nor the path of a unix socket. Write it as "
            "redis://user:password@host:port/db, rediss://... for TLS or "
            "unix:///path?db=0, with special characters percent-encoded."
        )
    return parts


def _twice() -> Exception:
    return store_error(
        "The option 'url' of the tracker store says the same thing in two places. Keep "
        "one of them in endpoints.yml."
    )


def _query(query: str) -> Dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise store_error(
            "The option 'url' of the tracker store has something after its question mark "
            "that is no name=value. Correct it in endpoints.yml."
        ) from None
    unknown = sorted({name for name, _ in pairs} - set(QUERY))
    if unknown:
        raise store_error(
            f"The option 'url' of the tracker store says {', '.join(unknown)} after its "
            f"question mark. It may say: {', '.join(QUERY)}. Other options of redis-py "
            f"belong into 'client_options'."
        )
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _twice()
    return found


def _database(path: str) -> Optional[int]:
    database = unquote(path[1:])
    if not database:
        return None
    if not re.fullmatch("[0-9]+", database):
        raise store_error(
            f"The option 'url' of the tracker store names the database '{database}'. A "
            f"database of Redis is a number, as in redis://host:6379/0; a unix socket is "
            f"written as unix:///path. Correct it in endpoints.yml."
        )
    return int(database)


def _tls(query: Dict[str, str]) -> Dict[str, Any]:
    tls: Dict[str, Any] = {
        name: file_path(name, value) if name in _FILES else value
        for name, value in query.items()
    }
    verification = tls.get("ssl_cert_reqs", "required")
    if verification not in _VERIFICATIONS:
        raise store_error(
            "'ssl_cert_reqs' in the option 'url' of the tracker store must be required, "
            "optional or none. Correct it in endpoints.yml."
        )
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = flag(
            "ssl_check_hostname", tls["ssl_check_hostname"]
        )
    return tls


def file_path(name: str, value: Any) -> Optional[str]:
    """The optional path of a file. redis-py takes a missing file for a silent server."""
    path = text(name, value)
    if path and not Path(path).is_file():
        raise store_error(
            f"The option '{name}' of the tracker store names a file that is not there: "
            f"{path}. Correct it in endpoints.yml."
        )
    return path or None


def _refuse_tls(query: Dict[str, str], place: str) -> None:
    if query:
        raise store_error(
            f"The option 'url' of the tracker store says {', '.join(sorted(query))}, but "
            f"{place} has no TLS. Remove that, or write rediss:// for TLS."
        )


def refuse_tls_without_tls(url: Url) -> None:
    """Refuse what a URL says of TLS where the connection has none."""
    _refuse_tls(url.tls, "the connection")
