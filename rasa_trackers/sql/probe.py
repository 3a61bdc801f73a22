"""Whether a database that the store does not know keeps what an event log promises.

Each look is a transaction that is rolled back. Nothing of it stays, but for numbers of the
column ``id`` that are left out.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, NamedTuple

from sqlalchemy.engine import Connection

from rasa_trackers.errors import store_error
from rasa_trackers.event_log import START, Entry
from rasa_trackers.sql.rows import text_of

if TYPE_CHECKING:
    from rasa_trackers.sql.log import SQLEventLog

#: Seconds in which a second writer would have come to its comparison, if the first one did
#: not keep it out.
_PATIENCE = 1.0

_COLLATION = (
    "Let the columns sender_id and user_id compare texts byte by byte: a collation that "
    "minds case, accents and spaces at the end."
)
_KNOWN = (
    "Use SQLite, PostgreSQL, MySQL, MariaDB or Oracle, which the store knows, or a "
    "database with transactions."
)


class Problem(NamedTuple):
    """Something that a database does not keep."""

    #: As a part of a sentence.
    what: str
    #: What the operator can do, as a sentence.
    remedy: str


#: Pairs of sender ids that a database may take for one another, and how they differ. It may
#: refuse those that it cannot store.
_PAIRS = (
    ("case", "anna", "Anna"),
    ("spaces at the end", "anna", "anna "),
    ("accents", "anna", "ann\u00e4"),
    ("a NUL", "anna", "anna\0"),
    ("what follows a NUL", "anna\0a", "anna\0b"),
    ("emoji", "anna\U0001f600", "anna\U0001f601"),
)
#: Texts of events, and what they are.
_TEXTS = (
    ("a text of 1 MB", '"' + "x" * 1_000_000 + '"'),
    ("emoji", '"\U0001f600"'),
    ("an empty text", ""),
)
_TIMESTAMP = 1_700_000_000.123456


def require_sound(log: SQLEventLog) -> None:
    """Refuse a database that does not keep what the log promises.

    Raises:
        StoreError: saying what it does not keep, and what to do.
    """
    found = list(problems(log))
    if not found:
        return
    remedies = list(dict.fromkeys(problem.remedy for problem in found))
    raise store_error(
        f"{log.name} is of a kind that the tracker store does not know, and does not keep "
        f"what conversations need: {'; '.join(problem.what for problem in found)}. "
        f"{' '.join(remedies)}"
    )


def problems(log: SQLEventLog) -> Iterator[Problem]:
    """What a database does not keep; its tables are there."""
    for difference, first, second in _PAIRS:
        if not _keeps_apart(log, first, second):
            yield Problem(
                f"sender ids that differ in {difference} are one conversation",
                _COLLATION,
            )
    for what, text in _TEXTS:
        if not _gives_back(log, Entry(text, "slot", None, None, None)):
            yield Problem(
                f"{what} does not come back as it was",
                "Let the column data hold long texts of any characters.",
            )
    if not _gives_back(log, Entry("{}", "slot", _TIMESTAMP, None, None)):
        yield Problem(
            "a time loses its microseconds",
            "Let the column timestamp be a floating point number of double precision.",
        )
    if not _keeps_writers_out(log):
        yield Problem(
            "two writers of a conversation do not keep each other out", _KNOWN
        )


class _Undo(Exception):
    """Ends a transaction without a commit."""


@contextmanager
def _rolled_back(log: SQLEventLog, sender_id: str) -> Iterator[Connection]:
    """The transaction of a writer, of which nothing stays."""
    try:
        with log._writing(sender_id) as connection:  # noqa: SLF001 - of this package
            yield connection
            raise _Undo  # noqa: TRY301 - what rolls back
    except _Undo:
        pass


def _keeps_apart(log: SQLEventLog, first: str, second: str) -> bool:
    prefix = f"rasa_trackers {uuid.uuid4().hex} "
    event = [Entry("{}", "slot", None, None, None)]
    try:
        with _rolled_back(log, prefix) as connection:
            log._insert(connection, prefix + first, event, START)  # noqa: SLF001
            end = log._end(connection, prefix + first)  # noqa: SLF001
            other = log._end(connection, prefix + second)  # noqa: SLF001
            return end != START and other == START
    except Exception as error:
        if not _is_refusal(log, error):
            raise
        return True


def _gives_back(log: SQLEventLog, entry: Entry) -> bool:
    events = log.tables.events
    sender_id = f"rasa_trackers {uuid.uuid4().hex}"
    try:
        with _rolled_back(log, sender_id) as connection:
            end = log._insert(connection, sender_id, [entry], START)  # noqa: SLF001
            query = events.select().where(events.c.id == end)
            row = connection.execute(query).one()
            return (text_of(row.data), row.timestamp) == (entry.data, entry.timestamp)
    except Exception as error:
        if not _is_refusal(log, error):
            raise
        return False


def _is_refusal(log: SQLEventLog, error: Exception) -> bool:
    """Whether the database has refused a value, and is not away."""
    failure = log.classify(error)
    return failure is not None and not failure.transient and not failure.away


def _keeps_writers_out(log: SQLEventLog) -> bool:
    """Whether a second writer cannot compare before the first one has committed."""
    sender_id = f"rasa_trackers {uuid.uuid4().hex}"
    event = [Entry("{}", "slot", None, None, None)]
    compared, begins = threading.Event(), threading.Event()

    def write() -> None:
        begins.set()
        # A wait that was too long for the database also keeps the writer out.
        with contextlib.suppress(Exception), _rolled_back(log, sender_id) as connection:
            log._end(connection, sender_id)  # noqa: SLF001 - of this package
            compared.set()

    second = threading.Thread(target=write, name="rasa_trackers-probe", daemon=True)
    with _rolled_back(log, sender_id) as connection:
        log._insert(connection, sender_id, event, START)  # noqa: SLF001
        second.start()
        begins.wait()
        is_kept_out = not compared.wait(_PATIENCE)
    second.join()
    return is_kept_out
