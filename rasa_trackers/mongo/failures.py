"""What the errors of pymongo and of the server mean, and their text."""

from __future__ import annotations

import contextlib
import re
from typing import Dict, Iterator, Optional, Tuple, Type

import bson.errors
import pymongo.errors

from rasa_trackers.event_log import Failure

_AWAY = Failure(True, "Check that the server runs and can be reached.", away=True)
_NO_PRIMARY = Failure(True, "Check that the replica set has a primary.", away=True)
_CREDENTIALS = Failure(
    False,
    "Check 'username', 'password' and 'auth_source' of the tracker store in "
    "endpoints.yml.",
)
_TOO_LARGE = Failure(
    False,
    "An event is larger than a document of MongoDB may be, 16 MB; nothing was stored. "
    "Let the custom action or channel that made it keep large data elsewhere.",
)
_RIGHTS = Failure(
    False,
    "Set 'username' and 'password' of the tracker store, and give the user the role "
    "readWrite on the database that the option 'db' names.",
)
_BUSY = Failure(
    True,
    "The server is overloaded, or an index is built: look at its current operations.",
)
_OTHER_SERVER = Failure(
    False,
    "The server lacks a command that the store uses: it is older than MongoDB 3.6, or "
    "another product that speaks its protocol.",
)
_QUOTA = Failure(
    False,
    "The cluster has as much data as its plan allows: raise the plan, or erase "
    "conversations by 'record_exp'.",
    away=True,
)
_NAMES = Failure(False, "Correct 'db' and 'collection' in endpoints.yml.")

#: By the server's error code (error_codes.yml of MongoDB). Other codes are transient if
#: the server labels them as retryable, and permanent otherwise.
FAILURES_BY_CODE: Dict[int, Failure] = {
    6: _AWAY,  # HostUnreachable
    7: _AWAY,  # HostNotFound
    11: _CREDENTIALS,  # UserNotFound
    13: _RIGHTS,  # Unauthorized
    18: _CREDENTIALS,  # AuthenticationFailed
    20: Failure(
        False,
        "The server does not allow this command: it is a proxy, or an API version in "
        "'url' leaves it out. Remove 'serverApi' from 'url', or name the server itself.",
    ),  # IllegalOperation
    24: _BUSY,  # LockTimeout
    43: _BUSY,  # CursorNotFound
    50: Failure(True, "Raise the option 'timeout'."),  # MaxTimeMSExpired
    59: _OTHER_SERVER,  # CommandNotFound
    64: Failure(
        True, "Too few members of the replica set answer: check them.", away=True
    ),  # WriteConcernFailed
    73: _NAMES,  # InvalidNamespace
    79: Failure(False, "The server does not know the write concern: correct 'w'."),
    89: _AWAY,  # NetworkTimeout
    91: _AWAY,  # ShutdownInProgress
    100: Failure(
        False,
        "The replica set has fewer members than the write concern asks for: correct "
        "'w' in 'url' of the tracker store.",
    ),  # UnsatisfiableWriteConcern
    112: _BUSY,  # WriteConflict
    115: _OTHER_SERVER,  # CommandNotSupported
    121: Failure(
        False, "The collection has a validator that refuses the document: remove it."
    ),  # DocumentValidationFailure
    133: _NO_PRIMARY,  # FailedToSatisfyReadPreference
    166: Failure(
        False, "'collection' names a view: let it name a collection."
    ),  # CommandNotSupportedOnView
    175: _BUSY,  # QueryPlanKilled
    189: _NO_PRIMARY,  # PrimarySteppedDown
    202: _AWAY,  # NetworkInterfaceExceededTimeLimit
    238: _OTHER_SERVER,  # NotImplemented
    262: Failure(True, "Raise the option 'timeout'."),  # ExceededTimeLimit
    8000: _CREDENTIALS,  # AtlasError
    9001: _AWAY,  # SocketException
    10334: _TOO_LARGE,  # BSONObjectTooLarge
    11000: Failure(
        False,
        "Another document is in the way: one of the same _id whose sender_id was "
        "changed, or one that a unique index allows only once. Change it back, or drop "
        "that index.",
    ),  # DuplicateKey
    14031: Failure(
        False, "Free space on the server's disk.", away=True
    ),  # OutOfDiskSpace
    16500: Failure(True, "Raise the throughput of the database."),  # Cosmos DB
    17280: Failure(False, "Let the channel use shorter sender ids."),  # KeyTooLong
    17419: _TOO_LARGE,
    17420: _TOO_LARGE,
}


class Contention(Exception):
    """Other writers changed a conversation each time that it was to be written."""


class _NotRaised(Exception):
    """Stands for a class of errors that an older pymongo does not have."""


#: By the class, for errors without a code or with an unlisted one. The first match
#: counts: some of these classes are children of later ones.
FAILURES_BY_CLASS: Tuple[Tuple[Type[Exception], Failure], ...] = (
    (Contention, Failure(True, "Fewer servers at a time should write to it.")),
    (pymongo.errors.DocumentTooLarge, _TOO_LARGE),
    (
        # Of pymongo 3.12 and later.
        getattr(pymongo.errors, "WaitQueueTimeoutError", _NotRaised),
        Failure(True, "All connections are in use: raise maxPoolSize in 'url'."),
    ),
    # Before pymongo 3.12 it had another name.
    (getattr(pymongo.errors, "NotPrimaryError", _NotRaised), _NO_PRIMARY),
    (getattr(pymongo.errors, "NotMasterError", _NotRaised), _NO_PRIMARY),
    (pymongo.errors.ConnectionFailure, _AWAY),
    (pymongo.errors.WTimeoutError, FAILURES_BY_CODE[64]),
    (pymongo.errors.ExecutionTimeout, FAILURES_BY_CODE[50]),
    (
        pymongo.errors.ConfigurationError,
        Failure(False, "Check the tracker_store section of endpoints.yml."),
    ),
    (pymongo.errors.InvalidName, _NAMES),
    # The client was closed while a call was at work.
    (pymongo.errors.InvalidOperation, Failure(False, "Restart Rasa.")),
    (pymongo.errors.PyMongoError, Failure(False)),
    (
        bson.errors.BSONError,
        Failure(
            False,
            "Another program has written a document that Python cannot hold, or the "
            "text cannot be stored: look at the conversation's documents.",
        ),
    ),
    (
        UnicodeError,
        Failure(
            False,
            "MongoDB stores valid Unicode only. Let the channel use sender ids of "
            "printable characters.",
        ),
    ),
    (OverflowError, Failure(False, "MongoDB stores integers of up to 64 bits.")),
    (OSError, _AWAY),
)

#: Where the text of an error goes on with values of documents (``dup key: {...}``,
#: ``in document {...}``), the server's whole answer, or the driver's view of the servers.
_DETAILS = re.compile(
    r",? full error:|,? Timeout: |:? dup key|,? Topology Description|\{"
)


def classify(error: Exception) -> Optional[Failure]:
    """As :meth:`rasa_trackers.event_log.EventLog.classify`."""
    if isinstance(error, pymongo.errors.PyMongoError):
        code = getattr(error, "code", None)
        if isinstance(error, pymongo.errors.BulkWriteError):
            problems = error.details.get("writeErrors") or []
            code = problems[0].get("code") if problems else 64
        if "over your space quota" in str(error):
            return _QUOTA  # of Atlas, which has one code for all of its own errors
        if code in FAILURES_BY_CODE:
            return FAILURES_BY_CODE[code]
        if error.has_error_label("RetryableWriteError"):
            return _AWAY
    for kind, failure in FAILURES_BY_CLASS:
        if isinstance(error, kind):
            return failure
    return None


def is_transient(error: Exception) -> bool:
    """Whether the same call may work later."""
    failure = classify(error)
    return failure is not None and failure.transient


def contention_error(sender_id: str, rounds: int) -> Contention:
    """The error for a write that others were faster than, each time."""
    return Contention(
        f"others have changed conversation {sender_id!r} {rounds} times while it was to "
        f"be written"
    )


@contextlib.contextmanager
def primary_messages() -> Iterator[None]:
    """Let errors of the driver through with the first part of their text alone.

    The rest may hold sender ids and the texts of events, and fills screens.
    """
    try:
        yield
    except pymongo.errors.PyMongoError as error:
        error.args = (primary_message(error),)
        raise


def primary_message(error: Exception) -> str:
    """The text of an error without values of documents and without the topology."""
    text = str(error)
    if isinstance(error, pymongo.errors.BulkWriteError):
        problems = [
            *(error.details.get("writeErrors") or []),
            *(error.details.get("writeConcernErrors") or []),
        ]
        text = str(problems[0].get("errmsg", text)) if problems else text
    return _DETAILS.split(text, maxsplit=1)[0].rstrip(" ,:")
