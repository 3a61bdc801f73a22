"""What an error means that does not depend on the kind of database, or on a known one.

Each database that is supported in full has a table of its own in its package.
"""

from __future__ import annotations

import errno
import socket
from typing import Callable, Optional

import sqlalchemy.exc

from rasa_trackers.event_log import Failure

REACHABLE = "Check that the server runs and that 'url' and 'port' are right."
CREDENTIALS = (
    "Correct 'username' and 'password' in the tracker_store section of endpoints.yml."
)
READ_ONLY = (
    "The server is read-only: it is a standby, or it failed over. Let 'url' name the "
    "primary."
)
LOST = Failure(True, REACHABLE, away=True)
NO_SPACE = Failure(False, "Free space on the server's disk.", away=True)

#: The same for all databases: every connection of the pool was in use for too long.
POOL_EXHAUSTED = Failure(
    True,
    "Every connection of the pool is in use. Raise the option 'timeout', the limits of "
    "the server or of a pooler before it (default_pool_size of PgBouncer), or on "
    "PostgreSQL POSTGRESQL_POOL_SIZE.",
)
#: A text that the driver or the database does not take: NUL, half a surrogate pair.
UNSTORABLE = Failure(
    False,
    "The database cannot store this text. Let the channel use sender ids of printable "
    "characters.",
)
MISCONFIGURED = Failure(False, "Check the tracker_store section of endpoints.yml.")


class NumbersBehind(Exception):
    """The database gave a new row an id that is not greater than the log's last one."""


#: Numbers of network errors that Python has no class for.
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}


def classify(
    error: Exception,
    of_driver: Callable[[sqlalchemy.exc.DBAPIError], Optional[Failure]],
) -> Optional[Failure]:
    """What an error means.

    Args:
        error: What a method of a log raised.
        of_driver: Looks an error of the driver up; ``None`` for an unknown one.

    Returns:
        ``None`` for an error that is neither the driver's nor SQLAlchemy's.
    """
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return POOL_EXHAUSTED
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        known = of_driver(error)
        if known is None and error.connection_invalidated:
            return LOST
        return known or Failure(False)
    if isinstance(error, sqlalchemy.exc.SQLAlchemyError):
        return MISCONFIGURED
    if isinstance(error, OSError):
        return LOST if is_network_error(error) else Failure(False)
    if isinstance(error, ValueError):
        return UNSTORABLE
    return Failure(False) if isinstance(error, NumbersBehind) else None


def is_network_error(error: OSError) -> bool:
    """Whether the network or the server's host fails, which may pass."""
    passing = (ConnectionError, TimeoutError, socket.timeout, socket.gaierror)
    return isinstance(error, passing) or error.errno in _UNREACHABLE
