"""Rasa's own SQL store: the same tables as those of this package.

Reading creates nothing in a database that an assistant uses with ``type: SQL``. The first
write lets the store of this package create what it needs beside Rasa's tables: an index,
which Rasa's own store does not mind.
"""

from __future__ import annotations

import threading
from typing import Any, Iterator, List, Optional, Sequence

from rasa_trackers.event_log import Conversation, Entry, EventLog, Failure, Page, User


class RasasSQLLog(EventLog):
    """Conversations in the tables of Rasa's own SQL store."""

    def __init__(self, with_users: Any, without_users: Any) -> None:
        """Choose one of two logs when the database is reached.

        Args:
            with_users: A log of this package that uses the table ``users``.
            without_users: The same without it. Open-source Rasa has no such table.
        """
        self.name = with_users.name
        self.max_sender_id = with_users.max_sender_id
        self.keeps_users = True
        #: The log of this package.
        self.inner = with_users
        self._without_users = without_users
        self._may_write = False
        self._opening = threading.Lock()

    def open(self) -> None:
        from rasa_trackers.sql.health import has_table

        tables = self.inner.tables
        with self.inner.engine.connect() as connection:
            has_events = has_table(self.inner, connection, tables.events)
            has_users = has_table(self.inner, connection, tables.users)
            if has_events and not has_users:
                self.inner = self._without_users
                self.keeps_users = False
        if not has_events:
            self._open_for_writing()
        else:
            with self.inner.engine.connect() as connection:
                self.inner.check_tables(connection)

    def _open_for_writing(self) -> None:
        with self._opening:
            if not self._may_write:
                self.inner.open()
                self._may_write = True

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        self._open_for_writing()
        position: Optional[int] = self.inner.append(sender_id, entries, after, user)
        return position

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        self._open_for_writing()
        position: Optional[int] = self.inner.replace(sender_id, entries, after, user)
        return position

    def delete(self, sender_id: str) -> bool:
        self._open_for_writing()
        return bool(self.inner.delete(sender_id))

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        page: Page = self.inner.read_back(sender_id, limit, before)
        return page

    def sender_ids(self) -> Iterator[Sequence[str]]:
        yield from self.inner.sender_ids()

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        found: List[Conversation] = self.inner.conversations_of(user_id, limit, skip)
        return found

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        yield from self.inner.count_conversations(after_timestamp)

    def classify(self, error: Exception) -> Optional[Failure]:
        failure: Optional[Failure] = self.inner.classify(error)
        return failure

    def interrupt(self) -> None:
        self.inner.interrupt()

    def close(self) -> None:
        for log in {self.inner, self._without_users}:
            log.close()
