"""Whether a database that the store does not know keeps what an event log promises.

Each look is a transaction that is rolled back, and locks a row that no writer locks. Where
a database has no transactions, the rows of a look are deleted. Nothing stays, but for
numbers of the column ``id`` that are left out.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, List, NamedTuple

import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.errors import store_error
from rasa_trackers.event_log import START, Entry
from rasa_trackers.sql.failures import NumbersBehind
from rasa_trackers.sql.rows import text_of
from rasa_trackers.sql.schema import PROBE_LOCKS

if TYPE_CHECKING:
    from rasa_trackers.sql.log import SQLEventLog

#: Seconds in which a second writer would have come to its comparison, if the first one did
#: not keep it out; and how often the time that the first writer took.
_PATIENCE = 1.0
_TIMES = 10

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
    """What a database does not keep; its tables are there.

    Raises:
        Exception: the driver's, of a database that does not answer, or is busy.
    """
    if not _keeps_writers_out(log):
        yield Problem(
            "two writers of a conversation do not keep each other out", _KNOWN
        )
        # The other looks would leave rows where there are no transactions.
        return
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


class _Undo(Exception):
    """Ends a transaction without a commit."""


@contextmanager
def _rolled_back(log: SQLEventLog, *sender_ids: str) -> Iterator[Connection]:
    """The transaction of a writer of conversations, of which nothing stays."""
    try:
        with log.engine.begin() as connection:
            log.lock(connection, _any_lock())
            yield connection
            raise _Undo  # noqa: TRY301 - what rolls back
    except _Undo:
        pass
    finally:
        for sender_id in sender_ids:
            _clean_up(log, sender_id)


def _any_lock() -> int:
    return random.choice(PROBE_LOCKS)  # noqa: S311 - no secret


def _clean_up(log: SQLEventLog, sender_id: str) -> None:
    """Delete the rows of a look, where a rollback has left them."""
    # What refuses the sender id has none of its rows.
    with contextlib.suppress(
        sqlalchemy.exc.StatementError, ValueError
    ), log.engine.begin() as connection:
        if log._end(connection, sender_id) != START:  # noqa: SLF001 - of this package
            connection.execute(log.statements.delete_events, {"sender_id": sender_id})


def _keeps_apart(log: SQLEventLog, first: str, second: str) -> bool:
    prefix = f"rasa_trackers {uuid.uuid4().hex} "
    event = [Entry("{}", "slot", None, None, None)]
    try:
        with _rolled_back(log, prefix + first, prefix + second) as connection:
            log._insert(connection, prefix + first, event, START)  # noqa: SLF001
            end = log._end(connection, prefix + first)  # noqa: SLF001
            other = log._end(connection, prefix + second)  # noqa: SLF001
            return end != START and other == START
    except Exception as error:
        if not _is_refusal(error):
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
        if not _is_refusal(error):
            raise
        return False


def _is_refusal(error: Exception) -> bool:
    """Whether the database has refused a value, and is neither away nor busy."""
    refusals = (sqlalchemy.exc.DataError, sqlalchemy.exc.IntegrityError)
    if isinstance(error, (*refusals, ValueError, NumbersBehind)):
        return True
    # The driver has refused the value, and SQLAlchemy names the statement.
    is_wrapped = isinstance(error, sqlalchemy.exc.StatementError)
    return is_wrapped and isinstance(getattr(error, "orig", None), ValueError)


def _keeps_writers_out(log: SQLEventLog) -> bool:
    """Whether a second writer cannot compare before the first one has committed."""
    sender_id = f"rasa_trackers {uuid.uuid4().hex}"
    event = [Entry("{}", "slot", None, None, None)]
    lock = _any_lock()
    locks, compared = threading.Event(), threading.Event()
    failed: List[Exception] = []

    def write() -> None:
        try:
            with log.engine.connect() as connection:
                locks.set()
                try:
                    log.lock(connection, lock)
                except sqlalchemy.exc.DBAPIError as error:
                    if error.connection_invalidated:
                        raise
                    # A wait that was too long for the database keeps the writer out.
                    return
                log._end(connection, sender_id)  # noqa: SLF001 - of this package
                compared.set()
                connection.rollback()
        except Exception as error:  # noqa: BLE001 - raised by the other thread
            failed.append(error)
        finally:
            locks.set()

    second = threading.Thread(target=write, name="rasa_trackers-probe", daemon=True)
    try:
        with contextlib.suppress(_Undo), log.engine.begin() as connection:
            begin = time.monotonic()
            log.lock(connection, lock)
            log._insert(connection, sender_id, event, START)  # noqa: SLF001
            patience = max(_PATIENCE, _TIMES * (time.monotonic() - begin))
            second.start()
            # A connection may take long, and the pool may have none.
            locks.wait()
            is_kept_out = not compared.wait(patience)
            raise _Undo
        second.join()
    finally:
        _clean_up(log, sender_id)
    if failed:
        raise failed[0]
    return is_kept_out
