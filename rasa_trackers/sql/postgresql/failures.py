"""What PostgreSQL's errors mean, and those of libpq and PgBouncer."""

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

TOO_MANY_CONNECTIONS = Failure(
    True,
    "Raise max_connections of the server, or the limits of the pooler before it, or "
    "lower POSTGRESQL_POOL_SIZE and POSTGRESQL_MAX_OVERFLOW.",
    away=True,
)
_NO_DATABASE = Failure(
    False, "Create the database, or set 'login_db' to one that exists already."
)
_OTHER_TABLE = Failure(
    False, "The table is another program's: set 'db' or POSTGRESQL_SCHEMA."
)
_SIMULTANEOUS = Failure(
    True,
    "Another process creates the same thing all the time: let one Rasa start first.",
)
_DAMAGED = Failure(
    False, "Data on the server's disk are damaged: REINDEX, or restore a backup."
)
_NO_CERTIFICATE = Failure(
    False, "Correct sslmode and the certificates in 'query', or on the server."
)
_OTHER_SERVER = Failure(
    False,
    "rasa_trackers needs PostgreSQL 9.5 or newer. Products that speak its protocol "
    "may lack what the store uses.",
)
_TOO_NARROW = Failure(
    False,
    "A column is too narrow. Run: ALTER TABLE events ALTER COLUMN id TYPE bigint;",
)

#: By SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html), or by its first two
#: characters where a whole class has one meaning.
BY_CODE: Dict[str, Failure] = {
    "08": LOST,
    "22001": Failure(
        False,
        "A column of the table holds fewer characters than Rasa's own: let an "
        "administrator ALTER it to varchar(255), as Rasa's own sender_id, type_name, "
        "intent_name and action_name are.",
    ),
    "22003": _TOO_NARROW,
    "22021": UNSTORABLE,
    "22P05": Failure(
        False,
        "The database's encoding lacks a character of the sender id. Use a database "
        "with the encoding UTF8.",
    ),
    "2200H": Failure(
        False,
        "The sequence of events.id is used up. Run: ALTER TABLE events ALTER COLUMN id "
        "TYPE bigint; and ALTER SEQUENCE events_id_seq AS bigint;",
    ),
    "23502": _OTHER_TABLE,
    "23505": Failure(
        False,
        "The sequence of events.id gives numbers that are in use. Run: SELECT "
        "setval(pg_get_serial_sequence('events', 'id'), max(id)) FROM events;",
    ),
    "23503": Failure(
        False,
        "A foreign key was added to the table, and refuses the event: drop it.",
    ),
    "23514": Failure(
        False,
        "A CHECK constraint was added to the table, or it has no partition for the "
        "event: drop the constraint, or add a default partition.",
    ),
    "25006": Failure(True, READ_ONLY, away=True),
    "25P03": LOST,  # idle_in_transaction_session_timeout
    "28": Failure(False, CREDENTIALS),
    "3D000": _NO_DATABASE,
    "40001": Failure(  # serialization failure
        True,
        "Other transactions change the same rows all the time: look for a program that "
        "does, or for a second standby that ends queries.",
    ),
    "40003": LOST,  # nobody knows whether the statement was completed
    "40P01": Failure(  # deadlock
        True,
        "Another program locks the rows of the table in another order: end it, or let "
        "it commit more often.",
    ),
    "42501": Failure(
        False,
        "Let an administrator GRANT the user of the tracker store CREATE on the "
        "schema, or create the tables, and GRANT it the use of them.",
    ),
    "42601": _OTHER_SERVER,
    "42703": _OTHER_TABLE,
    "42804": _OTHER_TABLE,
    "42883": _OTHER_SERVER,
    "42P01": Failure(False, "Restart Rasa: it creates missing tables."),
    "42P07": _SIMULTANEOUS,
    "42P10": Failure(
        False,
        "A table of rasa_trackers has lost its primary key, as in a copy by CREATE "
        "TABLE AS. Run: ALTER TABLE rasa_trackers_expiry ADD PRIMARY KEY (sender_id); "
        "and the same for the table users.",
    ),
    "42710": _SIMULTANEOUS,
    "53100": NO_SPACE,
    "53200": Failure(True, "Give the server more memory.", away=True),
    "53300": TOO_MANY_CONNECTIONS,
    "53400": Failure(
        False, "Raise the limit in the server's configuration that the error names."
    ),
    "54000": Failure(
        False,
        "A limit of the server is reached. If it stops at the wraparound of transaction "
        "ids, let an administrator run VACUUM.",
    ),
    "55006": Failure(  # somebody uses the template of a CREATE DATABASE
        True, "End the other connections to the database template1."
    ),
    "55P03": Failure(  # lock timeout
        True,
        "Another transaction holds the table for long: look for it in "
        "pg_stat_activity, and at the server's lock_timeout.",
    ),
    "57014": Failure(True, "Check the server's statement_timeout."),
    "57P01": LOST,
    "57P02": LOST,
    "57P03": LOST,
    "57P04": _NO_DATABASE,
    "57P05": LOST,  # idle_session_timeout
    "P0001": Failure(
        False, "A trigger of the table refuses the event: correct it, or drop it."
    ),
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}

#: By text, the first match first: errors while connecting have no code, and PgBouncer
#: gives each error of its own the code 08P01.
BY_TEXT: Dict[str, Failure] = {
    # Catalogs are unique too: two processes create a table of one name.
    r"pg_\w+_index": _SIMULTANEOUS,
    r"row-level security": Failure(
        False,
        "A policy of row-level security refuses the event: let an administrator CREATE "
        "a POLICY for the user of the tracker store.",
    ),
    r"tuple concurrently updated": _SIMULTANEOUS,
    r"too many (clients|connections)|connection slots|no more connections allowed|"
    r"query_wait_timeout|connection limit exceeded": TOO_MANY_CONNECTIONS,
    r"password authentication failed|no password supplied": Failure(False, CREDENTIALS),
    r'role ".*" does not exist|no such user': Failure(False, CREDENTIALS),
    r'database ".*" does not exist|no such database': _NO_DATABASE,
    r"no pg_hba.conf entry": Failure(
        False, "Let the server's pg_hba.conf admit this host, user and database."
    ),
    r"invalid dsn|invalid connection option|invalid .* value": Failure(
        False, "Correct 'query' in the tracker_store section of endpoints.yml."
    ),
    r"does not support SSL|certificate": _NO_CERTIFICATE,
    r"[Cc]onnection (refused|reset|timed out)|timeout expired|closed the connection|"
    r"could not (connect|receive|send|translate host name)|server conn(ection)? "
    r"crashed|the database system is|server login|cannot connect to server|No route to "
    r"host|Network is unreachable|no connection to the server|connection already "
    r"closed|connection has been closed|SSL SYSCALL error|bad record mac|unexpected "
    r"eof|terminating connection|[Ii]s the server running": LOST,
}


def of_driver_error(error: Any) -> Optional[Failure]:
    """What an error of psycopg2 or psycopg means; ``None`` if it is unknown."""
    code, text = code_of(error) or "", str(error)
    if code in ("", "08P01", "23505", "42501", "XX000"):
        for pattern, failure in BY_TEXT.items():
            if re.search(pattern, text):
                return failure
    return BY_CODE.get(code) or BY_CODE.get(code[:2])


def code_of(error: Any) -> Optional[str]:
    """The SQLSTATE of a driver's error."""
    code: Optional[str] = getattr(error, "pgcode", None) or getattr(
        error, "sqlstate", None
    )
    return code


def is_read_only(error: Any) -> bool:
    """Whether a server refuses to write because it is no primary."""
    return code_of(error) == "25006"
