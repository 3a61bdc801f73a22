"""What the errors of MySQL and MariaDB mean, and those of their drivers."""

from __future__ import annotations

import re
from typing import Any, Dict, Optional

from rasa_trackers.event_log import Failure
from rasa_trackers.sql.failures import (
    CREDENTIALS,
    LOST,
    NO_SPACE,
    READ_ONLY,
    UNSTORABLE,
)

_HELD = (
    "Another program holds the rows of the table for long: look for it (SHOW ENGINE "
    "INNODB STATUS), and let it commit more often."
)
_CHECK = Failure(
    False, "A CHECK was added to the table, and refuses the event: drop it."
)
_FOREIGN_KEY = Failure(
    False, "A foreign key was added to the table, and refuses the statement: drop it."
)
_OTHER_TABLE = Failure(
    False, "The table is another program's: let 'db' name another database."
)
_GRANT = Failure(
    False,
    "Let an administrator GRANT the user of the tracker store SELECT, INSERT, UPDATE and "
    "DELETE on 'db', and CREATE, ALTER and INDEX for the first start.",
)
_TLS = Failure(
    False,
    "Correct ssl_ca and the other ssl options in 'query', or the certificates on the "
    "server.",
)
_ANOTHER_LOGIN = Failure(
    False,
    "The driver does not know the way in which the server lets this user log in. Update "
    "the driver, or let an administrator ALTER the user.",
)
_STOPPED = Failure(
    True,
    "The server ends statements that take long: check max_statement_time and "
    "max_execution_time, and what kills queries there.",
)
_CONFLICT = Failure(
    True,
    "Nodes of the cluster write to the same rows all the time: let all writers use one "
    "node.",
)
_PACKET = Failure(
    False,
    "An event is larger than the server takes: raise max_allowed_packet, or set the "
    "option 'max_event_bytes'.",
)
_USED_UP = Failure(
    False,
    "The numbers of the column 'id' are used up. Run: ALTER TABLE events MODIFY id BIGINT "
    "NOT NULL AUTO_INCREMENT;",
)
_TOO_SHORT = Failure(
    False,
    "A column of the table is too short. Restart Rasa: it stops with the statement that "
    "corrects the table.",
)
_UNIQUE = Failure(
    False,
    "A unique index was added to the table, and refuses the event: drop the index.",
)
_DAMAGED = Failure(
    False, "The table is damaged on the server's disk: CHECK TABLE, restore a backup."
)

#: Errors by number (mariadb.com/kb/en/mariadb-error-code-reference,
#: dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html); those from 2000 to
#: 2999 are the drivers'.
FAILURES: Dict[int, Failure] = {
    0: LOST,  # PyMySQL, of a connection that another thread has closed
    167: _USED_UP,  # MariaDB gives an error of InnoDB as it is
    1020: Failure(True, _HELD),  # MariaDB with innodb_snapshot_isolation
    1021: NO_SPACE,
    1034: _DAMAGED,
    1040: Failure(True, "Raise max_connections of the server.", away=True),
    1044: Failure(False, "Let an administrator GRANT the user the use of 'db'."),
    1045: Failure(False, CREDENTIALS),
    1047: Failure(True, LOST.remedy, away=True),  # a Galera node that is not ready
    1049: Failure(
        False,
        "Create the database that the option 'db' names, or set 'login_db' to one that "
        "exists already.",
    ),
    1053: LOST,
    1054: _OTHER_TABLE,
    1062: Failure(
        False,
        "Another event has the id. Set AUTO_INCREMENT of the table to more than its "
        "highest id.",
    ),
    1114: NO_SPACE,
    1129: Failure(
        False, "The server has blocked this host after failed logins: FLUSH HOSTS."
    ),
    1130: Failure(False, "Let an administrator allow the user to connect from here."),
    1142: _GRANT,
    1143: _GRANT,
    1146: Failure(False, "Restart Rasa: it creates missing tables."),
    1153: _PACKET,
    1158: LOST,  # network errors that the server has seen
    1159: LOST,
    1160: LOST,
    1161: LOST,
    1176: Failure(
        False,
        "The table has lost its index. Run: CREATE INDEX ix_events_sender_id ON events "
        "(sender_id);",
    ),
    1194: _DAMAGED,
    1195: _DAMAGED,
    1203: Failure(True, "Raise max_user_connections of the server.", away=True),
    1205: Failure(True, _HELD),  # lock wait timeout
    1213: Failure(True, _HELD),  # deadlock
    1226: Failure(
        True, "Raise the limits of the user, such as max_user_connections.", away=True
    ),
    1227: _GRANT,
    1264: Failure(False, "A column of the table is too narrow: ALTER it to BIGINT."),
    1265: _TOO_SHORT,
    1290: Failure(True, READ_ONLY, away=True),
    1300: UNSTORABLE,
    1317: _STOPPED,
    1364: _OTHER_TABLE,
    1366: Failure(
        False,
        "The table's character set lacks a character. Run: ALTER TABLE events CONVERT "
        "TO CHARACTER SET utf8mb4;",
    ),
    1406: _TOO_SHORT,
    1412: Failure(True, "Another program changes the table all the time: end it."),
    1451: _FOREIGN_KEY,
    1452: _FOREIGN_KEY,
    1467: _USED_UP,
    1524: _ANOTHER_LOGIN,
    1637: Failure(True, "Too many transactions run on the server at once."),
    1644: Failure(
        False, "A trigger of the table refuses the event: correct it, or drop it."
    ),
    1665: Failure(
        False,
        "The server's binary log cannot take writes of this isolation level: set "
        "binlog_format to ROW or MIXED.",
    ),
    1690: Failure(
        False,
        "New events get ids that are not greater than the last one of their conversation: "
        "drop the trigger of the table that changes them.",
    ),
    1698: Failure(False, CREDENTIALS),
    1792: Failure(True, READ_ONLY, away=True),
    1820: Failure(False, "The user's password has expired: let it be set anew."),
    1836: Failure(True, READ_ONLY, away=True),
    1862: Failure(False, "The user's password has expired: let it be set anew."),
    1927: LOST,  # somebody has ended the connection
    1969: _STOPPED,
    2002: LOST,
    2003: LOST,
    2005: LOST,
    2006: LOST,
    2013: LOST,
    2014: LOST,  # a call that was cut off midway
    2020: _PACKET,
    2026: _TLS,
    2045: LOST,
    2055: LOST,
    2059: _ANOTHER_LOGIN,
    2061: _ANOTHER_LOGIN,
    3024: _STOPPED,
    3100: _CONFLICT,  # group replication
    3101: _CONFLICT,
    3159: _TLS,  # require_secure_transport
    3168: LOST,
    3169: LOST,
    3819: _CHECK,
    3955: Failure(False, CREDENTIALS),  # locked after failed logins
    4025: _CHECK,
    4031: LOST,  # idle for longer than wait_timeout
    4151: Failure(False, CREDENTIALS),  # the user is locked
}

#: Numbers of errors while connecting, and what shows in their texts that TLS is why.
_CONNECTING = {2002, 2003, 2013}
_CERTIFICATE = re.compile(r"certificate|ssl\.c", re.IGNORECASE)

#: Numbers of an error after which a connection leads to a server that is no primary.
_READ_ONLY = {1290, 1792, 1836, 1047}

#: A value that a unique index has already; and the end of the text of that error if the
#: index is the primary key, which MySQL writes with the table's name.
_DUPLICATE = 1062
_OF_PRIMARY_KEY = re.compile(r"['.]PRIMARY'\W*$")
_OF_INDEX = re.compile(r"'[^']+'\W*$")

#: What stands in the texts of errors and may be the words of users.
_VALUES = re.compile(
    r"(Incorrect [\w ]+ value: |Duplicate entry )'.*'(?= for )", re.DOTALL
)


def number_of(error: Any) -> Optional[int]:
    """The number of a driver's error, which drivers give as first argument."""
    arguments = getattr(error, "args", ())
    number = arguments[0] if arguments else None
    return number if isinstance(number, int) else None


def of_driver_error(error: Any) -> Optional[Failure]:
    """What an error of a driver means; ``None`` if it is unknown."""
    number = number_of(error)
    if number in _CONNECTING and _CERTIFICATE.search(str(error)):
        return _TLS
    if number == _DUPLICATE and not is_taken_id(error):
        names_index = _OF_INDEX.search(str(error.args[-1]))
        return _UNIQUE if names_index else FAILURES[_DUPLICATE]
    return None if number is None else FAILURES.get(number)


def is_taken_id(error: Any) -> bool:
    """Whether the primary key of a new row is that of another row."""
    return number_of(error) == _DUPLICATE and bool(
        _OF_PRIMARY_KEY.search(str(error.args[-1]))
    )


def is_read_only(error: Any) -> bool:
    """Whether a server refuses to write because it is no primary."""
    return number_of(error) in _READ_ONLY


def without_values(text: str) -> str:
    """The text of an error without the values that it shows."""
    return _VALUES.sub(r"\1...", text)
