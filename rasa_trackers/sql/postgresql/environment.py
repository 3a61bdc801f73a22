"""What the environment says about PostgreSQL, as it does for Rasa's own store."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Tuple

from sqlalchemy.engine.url import URL

from rasa_trackers.errors import store_error
from rasa_trackers.sql.connection import described
from rasa_trackers.store_options import whole_number

logger = logging.getLogger(__name__)

# The defaults of Rasa's own store (``rasa.core.tracker_store``, 3.6.21).
_DEFAULT_POOL_SIZE = 50
_DEFAULT_MAX_OVERFLOW = 100

#: libpq's options of TLS, and the variables that Rasa Pro's own store takes them from
#: (``get_ssl_args`` in ``rasa.core.tracker_stores.sql_tracker_store``, 3.21).
_TLS_OPTIONS = {
    "sslmode": "SQL_TRACKER_STORE_SSL_MODE",
    "sslrootcert": "SQL_TRACKER_STORE_SSL_ROOT_CERTIFICATE",
}


def pool_limits() -> Tuple[int, int]:
    """Connections that a pool keeps, and those beyond them; -1 for any number.

    Raises:
        StoreError: for values that make no sense.
    """
    pool_size = _number("POSTGRESQL_POOL_SIZE", _DEFAULT_POOL_SIZE, 0)
    max_overflow = _number("POSTGRESQL_MAX_OVERFLOW", _DEFAULT_MAX_OVERFLOW, -1)
    if pool_size == max_overflow == 0:
        raise store_error(
            "POSTGRESQL_POOL_SIZE and POSTGRESQL_MAX_OVERFLOW are both 0, which leaves "
            "the tracker store no connection. Raise one of them."
        )
    return pool_size, max_overflow


def _number(name: str, default: int, minimum: int) -> int:
    value = whole_number(name, os.environ.get(name), minimum)
    return default if value is None else value


def with_tls(url: URL) -> URL:
    """``url`` with the TLS options of the environment that its own query lacks.

    Logs a warning if anybody could pose as the server
    (postgresql.org/docs/current/libpq-ssl.html).
    """
    wanted = {
        option: os.environ[variable]
        for option, variable in _TLS_OPTIONS.items()
        if os.environ.get(variable) and option not in url.query
    }
    url = url.update_query_dict(wanted) if wanted else url
    mode = url.query.get("sslmode") or os.environ.get("PGSSLMODE")
    weakness = _weakness(url, mode)
    if weakness:
        logger.warning(
            "%s: with sslmode '%s' %s. Set 'sslmode: verify-full' and 'sslrootcert', the "
            "file with your authority's certificate, in 'query'.",
            described(url),
            mode,
            weakness,
        )
    return url


def _weakness(url: URL, mode: object) -> str:
    """What an ``sslmode`` lets others do; empty for nothing, and where none is set."""
    trusted = url.query.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if trusted == "system":
        return ""  # libpq takes verify-full alone then
    default = Path("~/.postgresql/root.crt").expanduser()
    # "allow" and "prefer" go on without TLS. With a root certificate, "require" verifies
    # as "verify-ca" does.
    if mode in ("allow", "prefer") or (
        mode == "require" and not trusted and not default.exists()
    ):
        return (
            "nothing shows that the server is the one you mean, so that others could "
            "read the conversations"
        )
    if mode in ("require", "verify-ca"):
        return (
            "the name in the server's certificate is not verified, so that whoever has "
            "any certificate by the same authority could read the conversations"
        )
    return ""
