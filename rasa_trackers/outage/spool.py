"""What is saved while the database is away: in memory, or durably in a file.

A SQLite database either way. A file is shared by all processes of a machine: in WAL mode
with ``synchronous=FULL``, so that an append is on the disk when it returns. Erased rows
are overwritten (``secure_delete``) and the write-ahead log is cut, so that an empty spool
has no personal data (sqlite.org/pragma.html).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Set

from rasa_trackers.errors import store_error
from rasa_trackers.event_log import Entry, Page, Stored, User
from rasa_trackers.paging import end_of

#: Positions in a spool are above all positions of a database.
SPOOLED = 2**62

#: Seconds to wait for another process that writes to the same file.
_BUSY = 2.0

_TABLES = """
CREATE TABLE IF NOT EXISTS conversations (
    sender_id TEXT PRIMARY KEY,
    -- What waits may be in the database behind this position, and not before it.
    after INTEGER NOT NULL,
    -- The newest events of that log, as JSON: [[[position, text], ...], complete, user].
    copy TEXT NOT NULL,
    -- The user to write, as JSON: [user_id, conversation_started] or null.
    user TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS entries (
    sender_id TEXT NOT NULL,
    -- Ascends by one along a conversation.
    number INTEGER NOT NULL,
    -- An entry, as JSON.
    entry TEXT NOT NULL,
    PRIMARY KEY (sender_id, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS copies (sender_id TEXT PRIMARY KEY, copy TEXT NOT NULL);
"""


class Waiting(NamedTuple):
    """What waits of one conversation."""

    #: The earliest position behind which an attempt to append one of the entries may have
    #: been carried out in the database. The log ended there, or has grown since.
    after: int
    entries: List[Entry]
    user: Optional[User]
    #: The position of the last entry in the spool.
    last: int
    #: The newest events of the log in the database when the first entry came.
    copy: Page

    def page(self) -> Page:
        """The conversation as it goes on: the copy, then what waits."""
        begin = self.last - len(self.entries) + 1
        new = [
            Stored(number, entry.data)
            for number, entry in enumerate(self.entries, begin)
        ]
        return self._with(new)

    @property
    def follows_copy(self) -> bool:
        """Whether the first entry comes next to the copy, as far as is known."""
        return end_of(self.copy.events) >= self.after

    def stored_page(self, position: int) -> Page:
        """The conversation once the database has what waited.

        Args:
            position: The position of the last entry in the database.
        """
        if not self.follows_copy:
            return self.page()
        return self._with(numbered([entry.data for entry in self.entries], position))

    def _with(self, new: List[Stored]) -> Page:
        user_id = self.user.user_id if self.user else self.copy.user_id
        return Page(self.copy.events + new, self.copy.complete, user_id)


class Guessed(Stored):
    """An event whose own position is not known, only that of a later one."""

    __slots__ = ()


def numbered(texts: Sequence[str], position: int) -> List[Stored]:
    """Events of which only the last position is known; those before ascend up to it."""
    begin = position - len(texts) + 1
    return [
        *(Guessed(number, text) for number, text in enumerate(texts[:-1], begin)),
        *(Stored(position, text) for text in texts[-1:]),
    ]


class Spool:
    """Entries that wait for the database, by conversation."""

    def __init__(self, path: Optional[Path], max_bytes: int) -> None:
        """Open the spool, and create its file if it is missing.

        Args:
            path: The file; ``None`` for memory.
            max_bytes: Bytes of texts that may wait.

        Raises:
            RasaException: when the file cannot be used.
        """
        #: Whether what waits outlives the process.
        self.is_durable = path is not None
        self.name = "memory" if path is None else str(path)
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._waiting: Set[str] = set()
        self._seen_version: Optional[int] = None
        with self._errors():
            if path is not None:
                # Before SQLite creates it, with the rights that the umask leaves.
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = self._connect()
            with self._transaction():
                for statement in _TABLES.split(";")[:-1]:
                    self._connection.execute(statement)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            ":memory:" if self._path is None else str(self._path),
            timeout=_BUSY,
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "secure_delete=ON",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def claim(self, place: str) -> None:
        """Let this be the spool of one database, for good.

        Args:
            place: Names the database.

        Raises:
            RasaException: when it is the spool of another database, which would get the
                messages of this one.
        """
        with self._lock, self._errors(), self._transaction():
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS owner (place TEXT NOT NULL)"
            )
            row = self._connection.execute("SELECT place FROM owner").fetchone()
            if row is None:
                self._connection.execute("INSERT INTO owner VALUES (?)", (place,))
        if row is not None and row[0] != place:
            self.close()
            raise store_error(
                f"The file {self.name}, which the option 'spool' of the tracker store "
                f"names, keeps messages for {row[0]}, and this store is for {place}. "
                f"Set 'spool' to another file in endpoints.yml. If it is the same "
                f"database by another address, store what waits (rasa-trackers spool "
                f"drain, with the address of before), and delete the file."
            )

    # What waits

    def sender_ids(self) -> Set[str]:
        """The conversations of which something waits."""
        with self._lock, self._errors():
            self._look()
            return set(self._waiting)

    def waits(self, sender_id: str) -> bool:
        """Whether something waits of a conversation. Costs microseconds."""
        if not self.is_durable:
            return sender_id in self._waiting  # what nobody else can have changed
        with self._lock, self._errors():
            self._look()
            return sender_id in self._waiting

    def waiting(self, sender_id: str) -> Optional[Waiting]:
        """What waits of a conversation."""
        with self._lock, self._errors(), self._transaction("DEFERRED"):
            return self._read(sender_id)

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
        copy: Page,
        *,
        attempted: Optional[int] = None,
    ) -> Optional[int]:
        """Keep entries that come after ``after``.

        Args:
            sender_id: The conversation.
            entries: What was saved; at least one.
            after: The position of the last event: in the database's log if nothing of
                the conversation waits yet, otherwise in the spool.
            user: The user whose conversation it is from now on.
            copy: The newest events of the log in the database, as far as is known.
            attempted: The earliest position behind which an attempt to append these
                entries to the database may have been carried out; ``after`` if that is
                not told.

        Returns:
            The position of the last entry; ``None`` if the conversation ends elsewhere.

        Raises:
            RasaException: when the spool is full or cannot be written.
        """
        with self._lock, self._errors(), self._transaction():
            known = self._read(sender_id)
            earliest = after if attempted is None else min(attempted, after)
            if known is not None and earliest < known.after:
                self._connection.execute(
                    "UPDATE conversations SET after = ? WHERE sender_id = ?",
                    (earliest, sender_id),
                )
            # The position of an entry that is in the database by now has another name.
            if after >= SPOOLED if known is None else known.last != after:
                return None
            self._check_room(entries)
            if known is None:
                self._connection.execute(
                    "INSERT INTO conversations VALUES (?, ?, ?, ?)",
                    (sender_id, earliest, _dumped(copy), json.dumps(user)),
                )
            elif user is not None:
                started = known.user and known.user.conversation_started
                user = User(user.user_id, started or user.conversation_started)
                self._connection.execute(
                    "UPDATE conversations SET user = ? WHERE sender_id = ?",
                    (json.dumps(user), sender_id),
                )
            # From the clock: above all numbers that the conversation had in a spool before.
            number = (
                time.time_ns() // 1000 if known is None else known.last - SPOOLED + 1
            )
            self._connection.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)",
                [
                    (sender_id, number + index, json.dumps(entry))
                    for index, entry in enumerate(entries)
                ],
            )
            self._waiting.add(sender_id)
            return SPOOLED + number + len(entries) - 1

    def remove(self, sender_id: str, waiting: Waiting, position: int) -> None:
        """Forget entries that the database has.

        Args:
            sender_id: The conversation.
            waiting: The entries.
            position: The position of the last of them in the database.
        """
        with self._lock, self._errors():
            with self._transaction():
                self._connection.execute(
                    "DELETE FROM entries WHERE sender_id = ? AND number <= ?",
                    (sender_id, waiting.last - SPOOLED),
                )
                if self._count(sender_id):
                    # More has come meanwhile. An attempt to append that may have been
                    # carried out before these entries, so ``after`` stays.
                    self._connection.execute(
                        "UPDATE conversations SET copy = ? WHERE sender_id = ?",
                        (_dumped(waiting.stored_page(position)), sender_id),
                    )
                else:
                    self._connection.execute(
                        "DELETE FROM conversations WHERE sender_id = ?", (sender_id,)
                    )
                    self._waiting.discard(sender_id)
            self._cut_log()

    def erase(self, sender_id: str) -> bool:
        """Erase all that is kept of a conversation; whether something waited."""
        with self._lock, self._errors():
            with self._transaction():
                erased = self._count(sender_id) > 0
                for table in ("entries", "conversations", "copies"):
                    self._connection.execute(
                        f"DELETE FROM {table} WHERE sender_id = ?",  # noqa: S608
                        (sender_id,),
                    )
                self._waiting.discard(sender_id)
            self._cut_log()
            return erased

    # Copies of recent conversations, for other processes of the machine

    def keep_copy(self, sender_id: str, page: Page) -> None:
        """Let other processes go on with a conversation that this one knows."""
        with self._lock, self._errors(), self._transaction():
            # Messages need the room more than copies do.
            if self._used_bytes() < self._max_bytes // 2:
                self._connection.execute(
                    "INSERT OR REPLACE INTO copies VALUES (?, ?)",
                    (sender_id, _dumped(page)),
                )

    def copy(self, sender_id: str) -> Optional[Page]:
        """What a process of this machine knew of a conversation."""
        with self._lock, self._errors():
            row = self._connection.execute(
                "SELECT copy FROM copies WHERE sender_id = ?", (sender_id,)
            ).fetchone()
        return None if row is None else _loaded(row[0])

    def erase_copies(self) -> None:
        """Forget all copies: the database is back."""
        with self._lock, self._errors():
            if self._connection.execute("SELECT 1 FROM copies LIMIT 1").fetchone():
                with self._transaction():
                    self._connection.execute("DELETE FROM copies")
            self._cut_log()

    def before_fork(self) -> None:
        """Close the file: a child would inherit SQLite's notes of its locks."""
        self._lock.acquire()
        if self.is_durable:
            self._connection.close()

    def after_fork(self) -> None:
        """Open it again, in the parent."""
        try:
            if self.is_durable:
                with self._errors():
                    self._connection = self._connect()
                    self._seen_version = None
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the file. What waits in memory is lost."""
        with self._lock:
            self._connection.close()

    def _look(self) -> None:
        """See what other processes have written meanwhile."""
        if not self.is_durable and self._seen_version is not None:
            return
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._seen_version:
            self._waiting = {
                sender_id
                for (sender_id,) in self._connection.execute(
                    "SELECT sender_id FROM conversations"
                )
            }
            self._seen_version = version

    def _read(self, sender_id: str) -> Optional[Waiting]:
        row = self._connection.execute(
            "SELECT after, copy, user FROM conversations WHERE sender_id = ?",
            (sender_id,),
        ).fetchone()
        if row is None:
            return None
        numbered = self._connection.execute(
            "SELECT number, entry FROM entries WHERE sender_id = ? ORDER BY number",
            (sender_id,),
        ).fetchall()
        user = json.loads(row[2])
        return Waiting(
            after=row[0],
            entries=[Entry(*json.loads(entry)) for _, entry in numbered],
            user=user and User(*user),
            last=SPOOLED + numbered[-1][0],
            copy=_loaded(row[1]),
        )

    def _count(self, sender_id: str) -> int:
        (count,) = self._connection.execute(
            "SELECT count(*) FROM entries WHERE sender_id = ?", (sender_id,)
        ).fetchone()
        return int(count)

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _check_room(self, entries: Sequence[Entry]) -> None:
        used = self._used_bytes()
        if used + sum(len(entry.data) for entry in entries) > self._max_bytes:
            raise store_error(
                f"The spool of the tracker store ({self.name}) is full: it has {used} "
                f"bytes, of {self._max_bytes} at most. The message was not stored, and "
                f"nothing that waits for the database was dropped. Bring the database "
                f"back, or raise 'spool_bytes' in endpoints.yml."
            )

    def _cut_log(self) -> None:
        """Once nothing waits, leave none of its text in the write-ahead log."""
        if self.is_durable and not self._waiting:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextlib.contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._connection.execute(f"BEGIN {kind}")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk rolls back by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            # What was noted of it is not so: look again.
            self._seen_version = None
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise store_error(
                f"The spool of the tracker store ({self.name}) cannot be used: {error}. "
                f"Give the user who runs Rasa write access to the file and its folder, and "
                f"the disk free space, or set 'spool' in endpoints.yml to another file."
            ) from error


def _dumped(page: Page) -> str:
    return json.dumps([page.events, page.complete, page.user_id])


def _loaded(text: str) -> Page:
    events, complete, user_id = json.loads(text)
    return Page([Stored(*event) for event in events], complete, user_id)
