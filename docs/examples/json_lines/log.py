"""Event logs in a folder: two files for each conversation.

``<name>.json``, the head, says how long the log is, when it expires and whose it is.
``<name>.<base>.jsonl`` has an event on each line. Every change ends with a new head that
takes the place of the old one in one step (``os.replace``). What the head does not count
does not exist, so a writer that dies midway has changed nothing.

The position of an event is ``base`` and the bytes up to the end of its line. A page is
found from it without looking at anything newer. ``name`` is a hash of the sender id.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence

from rasa_trackers.event_log import (
    START,
    Conversation,
    Entry,
    EventLog,
    Failure,
    Page,
    Stored,
    User,
    conversation_order,
    timestamp_of,
)

#: Bytes that are read at a time, backwards from the end of a page.
_BLOCK = 64 * 1024
#: Conversations that one call of ``purge_expired`` erases.
_BATCH = 100


class _Head(NamedTuple):
    """The head of a conversation."""

    sender_id: str
    #: The highest position of the conversation before this log, and part of its name.
    base: int
    #: Bytes of the log.
    length: int = 0
    #: When it expires, in seconds since the epoch; 0 while it is being erased.
    expires_at: Optional[float] = None
    user_id: Optional[str] = None
    started: Optional[float] = None
    #: The base of the log that this one has replaced, until that log is erased.
    replaced: Optional[int] = None

    @property
    def end(self) -> int:
        return self.base + self.length if self.length else START

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= time.time()


class JsonLinesEventLog(EventLog):
    """Event logs in the files of a folder."""

    def __init__(
        self, folder: Path, record_exp: Optional[float], *, keeps_users: bool = True
    ) -> None:
        """Do not look at the folder yet: ``open`` does."""
        self.name = f"The folder {folder}"
        self.keeps_users = keeps_users
        self._folder = folder
        self._record_exp = record_exp

    def open(self) -> None:
        (self._folder / "locks").mkdir(parents=True, exist_ok=True)

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        with self._locked(_name(sender_id)) as name:
            head = self._live(name, sender_id)
            if after != head.end:
                return None
            if not head.length and not entries:
                return START
            if user is not None and self.keeps_users:
                started = head.started
                if started is None:
                    started = user.conversation_started
                head = head._replace(user_id=user.user_id, started=started)
            head = head._replace(
                length=self._write(self._log(name, head.base), head.length, entries),
                expires_at=self._expiry(),
            )
            self._put(name, head)
            return head.end

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        name = _name(sender_id)
        while True:
            head = self._head(name)
            if head is None or head.has_expired:
                return Page([], complete=True)
            with contextlib.suppress(FileNotFoundError):  # erased or replaced just now
                return self._page(name, head, limit, before)

    def sender_ids(self) -> Iterator[Sequence[str]]:
        yield [head.sender_id for head in self._heads()]

    def delete(self, sender_id: str) -> bool:
        with self._locked(_name(sender_id)) as name:
            head = self._head(name)
            self._erase(name)
            return head is not None and not head.has_expired

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        with self._locked(_name(sender_id)) as name:
            head = self._live(name, sender_id)
            if after != head.end:
                return None
            if not entries:
                self._erase(name)
                return START
            if user is not None and self.keeps_users:
                head = head._replace(
                    user_id=user.user_id, started=user.conversation_started
                )
            if head.length:
                head = head._replace(base=head.end, replaced=head.base)
            else:
                head = head._replace(expires_at=self._expiry())
            length = self._write(self._log(name, head.base), 0, entries)
            self._put(name, head._replace(length=length))
            return head.base + length

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        found = [
            Conversation(head.sender_id, head.started, [each.data for each in events])
            for head in self._heads()
            if self.keeps_users and head.user_id == user_id
            for events in [self.read_back(head.sender_id).events]
            if events
        ]
        return sorted(found, key=conversation_order)[skip:][:limit]

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        newest = (self.read_back(head.sender_id, 1).events for head in self._heads())
        yield sum(
            timestamp_of(event.data) >= after_timestamp
            for events in newest
            for event in events[-1:]
        )

    def classify(self, error: Exception) -> Optional[Failure]:
        if isinstance(error, OSError):
            return Failure(False, f"Check {self._folder}.", away=True)
        if isinstance(error, UnicodeError):
            return Failure(False, "A file takes no half of a surrogate pair.")
        return None

    def purge_expired(self) -> int:
        expired = [head for head in self._heads(live=False) if head.has_expired]
        for head in expired[:_BATCH]:
            with self._locked(_name(head.sender_id)) as name:
                self._live(name, head.sender_id)
        return len(expired[:_BATCH])

    def close(self) -> None:
        pass

    # Files

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[str]:
        """Keep other writers away. A process that dies gives up its locks."""
        with (self._folder / "locks" / name[:2]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield name

    def _log(self, name: str, base: int) -> Path:
        return self._folder / f"{name}.{base}.jsonl"

    def _head(self, name: str) -> Optional[_Head]:
        try:
            return _Head(**json.loads((self._folder / f"{name}.json").read_bytes()))
        except FileNotFoundError:
            return None

    def _live(self, name: str, sender_id: str) -> _Head:
        """The head, for a writer: an expired one is erased, a missing one is made."""
        head = self._head(name)
        if head is not None and head.has_expired:
            self._erase(name)
            head = None
        if head is not None and head.replaced is not None:
            self._log(name, head.replaced).unlink(missing_ok=True)
            head = head._replace(replaced=None)
        return head or _Head(sender_id, base=self._highest())

    def _put(self, name: str, head: _Head) -> None:
        """Let a head take the place of the one before: all that it says is true now."""
        content = json.dumps(head._asdict(), ensure_ascii=False)
        self._replace_file(f"{name}.json", content.encode())
        if head.replaced is not None:
            self._log(name, head.replaced).unlink(missing_ok=True)

    def _erase(self, name: str) -> None:
        """Erase a conversation. If this breaks off, ``purge_expired`` erases the rest."""
        head = self._head(name)
        if head is None:
            return
        self._put(name, head._replace(expires_at=0.0))
        with self._locked("highest"):
            highest = max(self._highest(), head.end)
            self._replace_file("highest", str(highest).encode())
        self._log(name, head.base).unlink(missing_ok=True)
        (self._folder / f"{name}.json").unlink()

    def _highest(self) -> int:
        """The highest position of all conversations that were erased."""
        try:
            return int((self._folder / "highest").read_bytes())
        except FileNotFoundError:
            return START

    def _replace_file(self, name: str, content: bytes) -> None:
        new = self._folder / f"{name}.new"
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._folder / name)
        folder = os.open(str(self._folder), os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _write(self, log: Path, length: int, entries: Sequence[Entry]) -> int:
        """Write at the end of a log, and give its new length."""
        lines = [json.dumps(entry.data, ensure_ascii=False) + "\n" for entry in entries]
        with log.open("ab") as file:
            file.truncate(length)  # a writer that died may have left more
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def _page(
        self, name: str, head: _Head, limit: Optional[int], before: Optional[int]
    ) -> Page:
        end = head.length
        if before is not None:
            end = max(0, min(end, before - head.base - 1))
        begin, found = end, b""
        with self._log(name, head.base).open("rb") as file:
            # One line more than the limit, since the first one may be a part.
            while begin and (limit is None or found.count(b"\n") <= limit):
                size = begin if limit is None else min(begin, _BLOCK)
                begin -= size
                file.seek(begin)
                found = file.read(size) + found
        lines = found[: found.rfind(b"\n") + 1].splitlines(keepends=True)
        position = head.base + begin + sum(map(len, lines))
        events: List[Stored] = []
        for line in reversed(lines if limit is None else lines[-limit:]):
            events.append(Stored(position, json.loads(line)))
            position -= len(line)
        user_id = head.user_id if self.keeps_users and events else None
        return Page(events[::-1], not events or position == head.base, user_id)

    def _heads(self, *, live: bool = True) -> Iterator[_Head]:
        for path in self._folder.glob("*.json"):
            head = self._head(path.stem)
            if head is not None and not (live and head.has_expired):
                yield head

    def _expiry(self) -> Optional[float]:
        return None if self._record_exp is None else time.time() + self._record_exp


def _name(sender_id: str) -> str:
    return hashlib.sha256(sender_id.encode()).hexdigest()
