"""What SQLite's errors mean.

Python gives the codes of sqlite.org/rescode.html from 3.11 on only, so the texts
decide.
"""

from __future__ import annotations

from typing import Dict, Optional

import sqlalchemy.exc

from rasa_trackers.event_log import Failure

_BUSY = Failure(
    True,
    "Another process holds the file for long: look for open transactions and backups "
    "of it, or raise the option 'timeout'.",
)
_OTHER_TABLE = Failure(
    False, "The table is another program's: use another file as 'db'."
)

#: By a part of the error's text.
FAILURES: Dict[str, Failure] = {
    "is locked": _BUSY,
    "locking protocol": _BUSY,  # several processes began with the file at once
    "database schema has changed": Failure(
        True, "Another program changes the file's tables all the time: end it."
    ),
    "interrupted": Failure(True, "Raise the option 'timeout'."),
    "database or disk is full": Failure(False, "Free space on the disk.", away=True),
    "disk I/O error": Failure(
        False, "Check the disk, and that the file is on no network file system.", True
    ),
    "unable to open database file": Failure(
        False,
        "Check that the folder of the option 'db' exists and that the user who runs "
        "Rasa may write there.",
    ),
    "readonly database": Failure(
        False, "Give the user who runs Rasa write access to the file and its folder."
    ),
    "not a database": Failure(
        False, "The option 'db' names a file of another kind: correct it."
    ),
    "malformed": Failure(
        False, "The file is damaged: restore a backup, or use sqlite3's .recover."
    ),
    "no such table": Failure(False, "Restart Rasa: it creates missing tables."),
    "no such column": _OTHER_TABLE,
    "has no column named": _OTHER_TABLE,
    "datatype mismatch": _OTHER_TABLE,
    "NOT NULL constraint failed": _OTHER_TABLE,
    "UNIQUE constraint failed": Failure(
        False,
        "Somebody has added a unique index to the table, or has changed "
        "sqlite_sequence: drop the index, or remove the row of 'events' there.",
    ),
    "CHECK constraint failed": Failure(
        False,
        "Somebody has added a CHECK to the table, which refuses the event: copy the "
        "events into a table without it.",
    ),
    "FOREIGN KEY constraint failed": Failure(
        False,
        "Somebody has added a foreign key to the table, which refuses the event: copy "
        "the events into a table without it.",
    ),
    "string or blob too big": Failure(
        False,
        "An event is larger than SQLite stores, which is 1 GB unless it was built "
        "otherwise. Let the custom action or channel keep large data elsewhere.",
    ),
    "unsupported file format": Failure(
        False, "A newer SQLite has written the file: install that one, or export it."
    ),
    "no such vfs": Failure(
        False, "Correct 'vfs' in 'query' of the tracker store in endpoints.yml."
    ),
}


def of_driver(error: sqlalchemy.exc.DBAPIError) -> Optional[Failure]:
    """The failure of an error of Python's ``sqlite3``; ``None`` if it is unknown."""
    text = str(error.orig)
    found = (failure for part, failure in FAILURES.items() if part in text)
    return next(found, None)
