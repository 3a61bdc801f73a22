"""What an error means that does not depend on the kind of database, or on a known one.

Each database that is supported in full has a table of its own in its package.
"""

from __future__ import annotations

import errno
import socket
from typing import Callable, Dict, Optional

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


_HELD = (
    "Another program holds the rows of the table for long: look for it (SHOW ENGINE "
    "INNODB STATUS), and let it commit more often."
)
_CHECK = Failure(
    False, "A CHECK was added to the table, and refuses the event: drop it."
)

#: Errors of MySQL and MariaDB, by number, for drivers that give it as first argument
#: (mariadb.com/kb/en/mariadb-error-code-reference).
MYSQL_FAILURES: Dict[int, Failure] = {
    1021: NO_SPACE,
    1044: Failure(False, "Let an administrator GRANT the user the use of 'db'."),
    1040: Failure(True, "Raise max_connections of the server.", away=True),
    1045: Failure(False, CREDENTIALS),
    1047: Failure(True, REACHABLE, away=True),  # a Galera node that is not ready
    1049: Failure(False, "Create the database that the option 'db' names."),
    1053: LOST,
    1054: Failure(False, "The table lacks a column: let 'db' name another database."),
    1062: Failure(
        False,
        "Another event has the id. Set AUTO_INCREMENT of the table to more than its "
        "highest id.",
    ),
    1114: NO_SPACE,
    1130: Failure(False, "Let an administrator allow the user to connect from here."),
    1142: Failure(False, "Let an administrator GRANT the user the use of the tables."),
    1146: Failure(False, "Restart Rasa: it creates missing tables."),
    1203: Failure(True, "Raise max_user_connections of the server.", away=True),
    1153: Failure(False, "An event is too large: raise max_allowed_packet."),
    1205: Failure(True, _HELD),  # lock wait timeout
    1213: Failure(True, _HELD),  # deadlock
    1264: Failure(False, "A column of the table is too narrow: ALTER it to BIGINT."),
    1290: Failure(True, READ_ONLY, away=True),
    1364: Failure(False, "The table is another program's: let 'db' name another one."),
    1366: Failure(
        False,
        "The table's character set lacks a character. Run: ALTER TABLE events CONVERT "
        "TO CHARACTER SET utf8mb4;",
    ),
    1406: Failure(False, "A column of the table is too short: ALTER it."),
    1792: Failure(True, READ_ONLY, away=True),
    1836: Failure(True, READ_ONLY, away=True),
    4025: _CHECK,
    3819: _CHECK,
    2002: LOST,
    2003: LOST,
    2006: LOST,
    2013: LOST,
    2055: LOST,
}

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


def of_mysql(error: sqlalchemy.exc.DBAPIError) -> Optional[Failure]:
    """The failure of a driver's error that has a number of MySQL or MariaDB."""
    arguments = getattr(error.orig, "args", ())
    number = arguments[0] if arguments else None
    return MYSQL_FAILURES.get(number) if isinstance(number, int) else None
