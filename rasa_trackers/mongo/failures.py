"""What the errors of pymongo and of the server mean."""

from __future__ import annotations

from typing import Dict, Optional, Tuple, Type

import bson.errors
import pymongo.errors

from rasa_trackers.event_log import Failure

_REACHABLE = "Check that the server runs and can be reached."
_CREDENTIALS = (
    "Check 'username', 'password' and 'auth_source' of the tracker store in "
    "endpoints.yml."
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

#: By the server's error code (error_codes.yml of MongoDB); other codes that the server
#: labels as retryable are transient, and all others refusals.
FAILURES_BY_CODE: Dict[int, Failure] = {
    6: Failure(True, _REACHABLE),  # HostUnreachable
    7: Failure(True, _REACHABLE),  # HostNotFound
    11: Failure(False, _CREDENTIALS),  # UserNotFound
    13: _RIGHTS,  # Unauthorized
    18: Failure(False, _CREDENTIALS),  # AuthenticationFailed
    24: Failure(True),  # LockTimeout
    43: Failure(True),  # CursorNotFound
    50: Failure(True, "Raise the option 'timeout'."),  # MaxTimeMSExpired
    64: Failure(
        True, "Too few members of the replica set answer: check them."
    ),  # WriteConcernFailed
    73: Failure(False, "Correct 'db' and 'collection' in endpoints.yml."),
    79: Failure(False, "The server does not know the write concern: correct 'w'."),
    89: Failure(True, _REACHABLE),  # NetworkTimeout
    91: Failure(True, _REACHABLE),  # ShutdownInProgress
    100: Failure(
        False,
        "The replica set has fewer members than the write concern asks for: correct "
        "'w' in 'url' of the tracker store.",
    ),  # UnsatisfiableWriteConcern
    112: Failure(True),  # WriteConflict
    133: Failure(True, "Check that the replica set has a primary."),
    175: Failure(True),  # QueryPlanKilled
    189: Failure(True, "Check that the replica set has a primary."),
    202: Failure(True),  # NetworkInterfaceExceededTimeLimit
    262: Failure(True),  # ExceededTimeLimit
    8000: Failure(False, _CREDENTIALS),  # AtlasError
    9001: Failure(True, _REACHABLE),  # SocketException
    10334: _TOO_LARGE,  # BSONObjectTooLarge
    11000: Failure(
        False,
        "Another document stands in the way: one of this name whose sender_id was "
        "changed, or one that a unique index allows only once. Change it back, or drop "
        "that index.",
    ),  # DuplicateKey
    14031: Failure(False, "Free space on the server's disk."),  # OutOfDiskSpace
    16500: Failure(True, "Raise the throughput of the database."),  # Cosmos DB
    17280: Failure(False, "Let the channel use shorter sender ids."),  # KeyTooLong
    17419: _TOO_LARGE,
    17420: _TOO_LARGE,
}

#: By the exception, where there is no code or none that is listed. The first match
#: counts: some of these classes are children of later ones.
FAILURES_BY_CLASS: Tuple[Tuple[Type[Exception], Failure], ...] = (
    (pymongo.errors.DocumentTooLarge, _TOO_LARGE),
    (
        pymongo.errors.WaitQueueTimeoutError,
        Failure(True, "All connections are in use: raise maxPoolSize in 'url'."),
    ),
    (pymongo.errors.ConnectionFailure, Failure(True, _REACHABLE)),
    (pymongo.errors.WTimeoutError, FAILURES_BY_CODE[64]),
    (pymongo.errors.ExecutionTimeout, FAILURES_BY_CODE[50]),
    (
        pymongo.errors.ConfigurationError,
        Failure(False, "Check the tracker_store section of endpoints.yml."),
    ),
    (
        pymongo.errors.InvalidName,
        Failure(False, "Correct 'db' and 'collection' in endpoints.yml."),
    ),
    # Closed under the feet of a call that is still at work.
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
    (OSError, Failure(True, _REACHABLE)),
)


def classify(error: Exception) -> Optional[Failure]:
    """As :meth:`rasa_trackers.event_log.EventLog.classify`."""
    if isinstance(error, pymongo.errors.PyMongoError):
        code = getattr(error, "code", None)
        if isinstance(error, pymongo.errors.BulkWriteError):
            problems = error.details.get("writeErrors") or []
            code = problems[0].get("code") if problems else 64
        if code in FAILURES_BY_CODE:
            return FAILURES_BY_CODE[code]
        if error.has_error_label("RetryableWriteError"):
            return Failure(True, _REACHABLE)
    for kind, failure in FAILURES_BY_CLASS:
        if isinstance(error, kind):
            return failure
    return None
