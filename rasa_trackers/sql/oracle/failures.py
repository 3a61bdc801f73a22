"""What Oracle's errors mean, and those of its drivers."""

from __future__ import annotations

import re
import socket
from typing import Dict, List, Optional, Sequence

import sqlalchemy.exc

from rasa_trackers.event_log import Failure
from rasa_trackers.sql.failures import CREDENTIALS, LOST, READ_ONLY

_SERVICE = (
    "Correct 'db', the service name ('lsnrctl services' at the server lists them), or "
    "wait until the database is open; for a SID set 'sid' instead."
)
_SPACE = "Let an administrator give the tablespace more room, or the user more quota."
_TLS = (
    "Correct the wallet and the ssl options in 'query', or the certificates on the "
    "server."
)
_MISSING = (
    "Restart Rasa: it creates what is missing. With 'create_tables: false' let an "
    "administrator run rasa_trackers/sql/oracle/oracle.sql."
)
_BUSY = Failure(
    True, "Raise the server's PROCESSES and SESSIONS, or let fewer workers run.", True
)
_STARTING = Failure(True, "Wait until the database is open.", away=True)
_NO_HOST = Failure(True, "Correct 'url': there is no server of this name.", away=True)
_NO_SERVICE = Failure(True, _SERVICE, away=True)
_NO_CREDENTIALS = Failure(False, CREDENTIALS)
_NO_SPACE = Failure(False, _SPACE, away=True)
_NO_TLS = Failure(False, _TLS)
_NUMBERS_BEHIND = Failure(
    False,
    "The sequence events_seq is behind the ids in the table: let an administrator drop "
    "it and create it again, START WITH more than SELECT MAX(id) FROM events.",
)
_SLOW = Failure(True, "Check the server's load; raise the option 'timeout'.", away=True)

_HELD = Failure(
    True,
    "Another session holds the rows or the table for long: look for it in v$lock, and "
    "let it commit more often.",
)
_TOO_NARROW = Failure(
    False,
    "A column for numbers is too narrow: let an administrator ALTER the columns "
    "events.id and rasa_trackers_expiry.last_id to NUMBER(19).",
)
_CONSTRAINT = Failure(
    False,
    "A constraint was added to the table, and refuses the event: let an administrator "
    "drop it.",
)
_TRIGGER = Failure(
    False, "A trigger of the table fails: let an administrator correct or drop it."
)
_LIMIT = Failure(
    False,
    "The database has as much data as its edition allows (Express, Free): erase "
    "conversations by 'record_exp', or change the edition.",
    away=True,
)

_NO_CLIENT = Failure(
    False,
    "cx_Oracle, and python-oracledb in its thick mode, need Oracle Instant Client: "
    "unpack the Basic or Basic Light package, install libaio, and let the loader know "
    "the folder: echo /opt/oracle/instantclient > /etc/ld.so.conf.d/oracle.conf && "
    "ldconfig (or set LD_LIBRARY_PATH, or 'lib_dir' in 'query'). From Oracle 12.1 on "
    "there is a way without it: pip uninstall cx_Oracle && pip install oracledb.",
)

#: The error of an append whose ids would be too low.
NUMBERS_BEHIND = "ORA-20321"

#: By code (docs.oracle.com/error-help/db, and python-oracledb's ``errors.py``). The
#: class of an error says nothing: a closed port is a DatabaseError of one driver and an
#: OperationalError of the other.
FAILURES: Dict[str, Failure] = {
    "ORA-00001": _NUMBERS_BEHIND,
    "ORA-00018": _BUSY,
    "ORA-00020": _BUSY,
    "ORA-00028": LOST,
    "ORA-00054": _HELD,
    "ORA-00060": _HELD,
    "ORA-00257": Failure(
        True, "The archiver is stuck: free its recovery area.", away=True
    ),
    "ORA-00604": Failure(False, "Look for a failing trigger of logons or of DDL."),
    "ORA-00904": Failure(
        False, "The table 'events' is not Rasa's: let 'schema' name another one."
    ),
    "ORA-00942": Failure(False, _MISSING),
    "ORA-01005": _NO_CREDENTIALS,
    "ORA-01012": LOST,
    "ORA-01013": Failure(True, "Raise the option 'timeout'."),
    "ORA-01017": _NO_CREDENTIALS,
    "ORA-01031": Failure(
        False,
        "Let an administrator GRANT the user CREATE TABLE and CREATE SEQUENCE, or run "
        "rasa_trackers/sql/oracle/oracle.sql.",
    ),
    "ORA-01033": _STARTING,
    "ORA-01034": _STARTING,
    "ORA-01045": Failure(False, "Let an administrator GRANT the user CREATE SESSION."),
    "ORA-01089": _STARTING,
    "ORA-01090": _STARTING,
    "ORA-01092": LOST,
    "ORA-01109": _STARTING,
    "ORA-01400": Failure(
        False,
        "A conversation without a sender id cannot be stored, because Oracle keeps an "
        "empty text as NULL. Let the channel give each conversation a sender id.",
    ),
    "ORA-01438": _TOO_NARROW,
    "ORA-01536": _NO_SPACE,
    "ORA-01555": Failure(
        True, "Raise the server's UNDO_RETENTION, or give it more undo space."
    ),
    "ORA-01652": _NO_SPACE,
    "ORA-01653": _NO_SPACE,
    "ORA-01654": _NO_SPACE,
    "ORA-01658": _NO_SPACE,
    "ORA-01688": _NO_SPACE,
    "ORA-01691": _NO_SPACE,
    "ORA-01950": _NO_SPACE,
    "ORA-02049": _HELD,
    "ORA-02289": Failure(False, _MISSING),
    "ORA-02290": _CONSTRAINT,
    "ORA-02291": _CONSTRAINT,
    "ORA-02391": _BUSY,
    "ORA-02396": LOST,
    "ORA-03113": LOST,
    "ORA-03114": LOST,
    "ORA-03135": LOST,
    "ORA-03136": LOST,
    "ORA-04021": _HELD,
    "ORA-04031": Failure(True, "Give the server's shared pool more memory.", away=True),
    "ORA-04068": Failure(
        True, "A trigger's package is compiled anew all the time: look for it."
    ),
    "ORA-04088": _TRIGGER,
    "ORA-04098": _TRIGGER,
    "ORA-08004": Failure(
        False,
        "The sequence events_seq is used up: let an administrator ALTER SEQUENCE "
        "events_seq NOMAXVALUE.",
    ),
    "ORA-08177": Failure(
        True, "Other transactions change the same rows all the time: look for them."
    ),
    "ORA-12154": Failure(
        False,
        "'dsn' is in no tnsnames.ora: let 'config_dir' name its folder, or give a "
        "complete address.",
    ),
    "ORA-12170": LOST,
    "ORA-12203": LOST,
    "ORA-12505": _NO_SERVICE,
    "ORA-12514": _NO_SERVICE,
    "ORA-12516": _BUSY,
    "ORA-12518": _BUSY,
    "ORA-12519": _BUSY,
    "ORA-12520": _BUSY,
    "ORA-12526": _STARTING,
    "ORA-12528": _STARTING,
    "ORA-12533": Failure(False, "Correct the address in 'dsn'."),
    "ORA-12535": LOST,
    "ORA-12537": LOST,
    "ORA-12541": LOST,
    "ORA-12543": LOST,
    "ORA-12545": LOST,
    "ORA-12547": LOST,
    "ORA-12560": LOST,
    "ORA-12570": LOST,
    "ORA-12571": LOST,
    "ORA-12606": LOST,
    "ORA-12609": LOST,
    "ORA-12899": Failure(
        False,
        "A column of 'events' holds fewer characters than Rasa's own: let an "
        "administrator ALTER it to VARCHAR2(255 CHAR).",
    ),
    "ORA-12953": _LIMIT,
    "ORA-12954": _LIMIT,
    "ORA-16000": Failure(True, READ_ONLY, away=True),
    "ORA-16456": _STARTING,
    NUMBERS_BEHIND: _NUMBERS_BEHIND,
    "ORA-25402": LOST,
    "ORA-25408": LOST,
    "ORA-28000": Failure(False, "The user is locked: let an administrator unlock it."),
    "ORA-28001": Failure(False, "The user's password has expired: let it be changed."),
    "ORA-28759": _NO_TLS,
    "ORA-28788": _NO_TLS,
    "ORA-28860": _NO_TLS,
    "ORA-28864": _NO_TLS,
    "ORA-29002": _NO_TLS,
    "ORA-29003": _NO_TLS,
    "ORA-29024": _NO_TLS,
    "ORA-30006": _HELD,
    "ORA-30036": _NO_SPACE,
    "DPI-1010": LOST,
    "DPI-1047": _NO_CLIENT,
    "DPI-1067": _SLOW,
    "DPI-1072": Failure(
        False, "Install Oracle Instant Client 11.2 or later, of this machine's kind."
    ),
    "DPI-1080": LOST,
    "DPY-1001": LOST,
    "DPY-2017": Failure(
        False, "Python-oracledb runs in another mode: set 'thick_mode' the same."
    ),
    "DPY-2019": Failure(
        False,
        "Python-oracledb has connected in its thin mode before in this process. Set "
        "'thick_mode' the same for all stores.",
    ),
    "DPY-3001": Failure(
        False, "Set 'thick_mode: true' in 'query', and install Oracle Instant Client."
    ),
    "DPY-3010": Failure(
        False,
        "Python-oracledb's thin mode speaks to Oracle 12.1 and later. Install "
        "cx_Oracle or set 'thick_mode: true' in 'query', and install Oracle Instant "
        "Client.",
    ),
    "DPY-3015": Failure(
        False,
        "The user has a password of an old kind only. Let an administrator set it "
        "anew, or set 'thick_mode: true' in 'query'.",
    ),
    "DPY-4000": Failure(
        False,
        "'dsn' is in no tnsnames.ora: let 'config_dir' in 'query' name its folder, or "
        "give a complete address.",
    ),
    "DPY-4001": _NO_CREDENTIALS,
    "DPY-4011": LOST,
    "DPY-4024": _SLOW,
    "DPY-4026": Failure(False, "Let 'config_dir' name the folder of tnsnames.ora."),
    "DPY-4027": Failure(False, "Let 'config_dir' name the folder of tnsnames.ora."),
    "DPY-6000": LOST,
    "DPY-6001": _NO_SERVICE,
    "DPY-6003": _NO_SERVICE,
    "DPY-6005": LOST,
}

#: The cause in an error whose code says only that there is no connection.
_TLS_TEXTS = re.compile(
    r"CERTIFICATE_VERIFY_FAILED|certificate|WRONG_VERSION|ewallet", re.IGNORECASE
)
_CODE = re.compile(r"\b(?:ORA|DPI|DPY|TNS)-\d{4,5}\b")
#: The object exists: its name is in use, or these columns have an index.
EXISTS = ("ORA-00955", "ORA-01408")
REFUSED = ("ORA-01031", "ORA-01536", "ORA-01950", "ORA-01917", "ORA-01918")
NO_OBJECT = ("ORA-00942", "ORA-02289", "ORA-04043")
NOT_IN_THIS_EDITION = "ORA-00439"


def of_driver(error: sqlalchemy.exc.DBAPIError) -> Optional[Failure]:
    """What an error of the driver means; ``None`` if it is unknown."""
    for code in codes(error):
        if code in FAILURES:
            failure = FAILURES[code]
            # python-oracledb 2.5, which Python 3.8 has, wraps this error.
            if isinstance(getattr(error.orig, "__cause__", None), socket.gaierror):
                return _NO_HOST
            if failure is LOST and _TLS_TEXTS.search(str(error.orig)):
                return _NO_TLS
            return failure
    return None


def of_network(error: OSError) -> Optional[Failure]:
    """What an error of a socket means; ``None`` if it says no more than that."""
    if isinstance(error, socket.gaierror):
        return _NO_HOST
    return _NO_TLS if "CERTIFICATE" in str(error) else None


def codes(error: Exception) -> List[str]:
    """The codes in an error, the first one first.

    An error in a block is wrapped in others: ``ORA-06550: line 4, column 13: PL/SQL:
    ORA-00942: table or view does not exist``.
    """
    return [
        code.replace("TNS-", "ORA-")
        for code in _CODE.findall(str(getattr(error, "orig", error)))
    ]


def has_code(error: Exception, wanted: Sequence[str]) -> bool:
    """Whether an error has one of the codes."""
    return any(code in wanted for code in codes(error))
