"""A database in memory that goes away when it is told to."""

from __future__ import annotations

import random
from typing import Any, Callable, List, Optional, Tuple

from rasa_trackers.event_log import Entry, EventLog, Failure
from rasa_trackers.memory.log import MemoryEventLog

UP, REFUSED, REPLIES_LOST, READ_ONLY = "up", "refused", "replies lost", "read-only"


class Gone(Exception):
    """The server cannot be reached."""


class Connection(EventLog):
    """One process's way to a database, which may be cut."""

    name = "The database"

    def __init__(self, database: MemoryEventLog) -> None:
        self.database = database
        self.state = UP
        self.random = random.Random(0)
        #: What the process does beside a call whose reply is lost.
        self.beside: Callable[[], object] = lambda: None
        self._late: List[Tuple[Callable[..., Any], Any]] = []

    def _call(
        self, method: Callable[..., Any], *args: Any, writes: bool = False
    ) -> Any:
        if self.state == REFUSED or (self.state == READ_ONLY and writes):
            raise Gone(self.state)
        if self.state == REPLIES_LOST:
            chance = self.random.random()
            if chance < 0.4:
                method(*args)
                if writes and self.random.random() < 0.5:
                    # The other call is answered.
                    self.state = UP
                    self.beside()
                    self.state = REPLIES_LOST
            elif chance < 0.6 and writes:
                self._late.append((method, args))
            raise Gone(self.state)
        # A request that was given up may still be under way, and arrives all the same.
        while self._late and self.random.random() < 0.7:
            late, arguments = self._late.pop(0)
            late(*arguments)
        return method(*args)

    def open(self) -> None:
        self._call(self.database.open)

    def append(self, sender_id, entries, after, user=None):
        return self._call(
            self.database.append, sender_id, entries, after, user, writes=True
        )

    def replace(self, sender_id, entries, after, user=None):
        return self._call(
            self.database.replace, sender_id, entries, after, user, writes=True
        )

    def delete(self, sender_id):
        return self._call(self.database.delete, sender_id, writes=True)

    def read_back(self, sender_id, limit=None, before=None):
        return self._call(self.database.read_back, sender_id, limit, before)

    def sender_ids(self):
        return self._call(self.database.sender_ids)

    def conversations_of(self, user_id, limit=None, skip=0):
        return self._call(self.database.conversations_of, user_id, limit, skip)

    def count_conversations(self, after_timestamp):
        return self._call(self.database.count_conversations, after_timestamp)

    def classify(self, error: Exception) -> Optional[Failure]:
        if isinstance(error, Gone):
            transient = str(error) != READ_ONLY
            return Failure(transient, "Bring it back.", away=True)
        return None

    def close(self) -> None:
        pass


class FakeProbe:
    """Looks at the connection as the store's own probe does at the server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, sender_id: str = "") -> None:
        from rasa_trackers.errors import store_unavailable

        if self._connection.state in (REFUSED, REPLIES_LOST):
            raise store_unavailable("The database is away.")

    open = read

    def close(self) -> None:
        pass


def entry(text: str) -> Entry:
    return Entry(f'{{"event": "slot", "name": "{text}"}}', "slot", 1.0, None, text)


def texts(log: EventLog, sender_id: str) -> list:
    return [stored.data.split('"')[7] for stored in log.read_back(sender_id).events]
