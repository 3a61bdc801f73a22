"""Reading event logs from the rows of a table."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rasa_trackers.event_log import START, Conversation, EventLog, Page, Stored
from rasa_trackers.sql.rows import text_of
from rasa_trackers.sql.statements import Statements

#: Conversations that one statement reads; Oracle takes 1,000 values in an IN.
_READ_BATCH = 200


class SQLReading(EventLog):
    """The reading half of an event log in the table ``events``."""

    engine: sa.engine.Engine
    statements: Statements

    #: Sender ids that are fetched at a time.
    _fetched = 2_000
    #: Ids that one statement of a count goes through: 0.2 s.
    _window = 500_000

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        parameters: Dict[str, Any] = {"sender_id": sender_id}
        if before is not None:
            parameters["before"] = before
        if limit is None:
            statement = self.statements.read_all
            if before is not None:
                statement = self.statements.read_all_before
        else:
            # One more than asked for: it shows whether the page is complete.
            parameters["limit"] = limit + 1
            statement = self.statements.read_newest
            if before is not None:
                statement = self.statements.read_newest_before
        with self.engine.connect() as connection:
            rows = self._fetch(connection.execute(statement, parameters))
        events = [Stored(position, text_of(data)) for position, data, _ in rows[:limit]]
        if limit is not None:
            events.reverse()
        return Page(
            events,
            complete=len(rows) == len(events),
            user_id=rows[0][2] if rows else None,
        )

    def _fetch(self, result: Any) -> Sequence[Any]:
        """All rows of a result, each of them a sequence."""
        return result.all()  # type: ignore[no-any-return]

    def sender_ids(self) -> Iterator[Sequence[str]]:
        for rows in self._streamed(self.statements.sender_ids):
            yield [sender_id for (sender_id,) in rows]

    def _streamed(self, statement: Any) -> Iterator[Sequence[Any]]:
        """The rows of a statement in parts, each as soon as the server has found it."""
        with self.engine.connect() as connection:
            yield from connection.execute(statement).partitions(self._fetched)

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        if not self.keeps_users:
            return []
        texts: Dict[str, List[str]] = {}
        with self.engine.connect() as connection:
            found = connection.execute(
                self.statements.conversations_of(user_id, limit, skip)
            ).all()
            for begin in range(0, len(found), _READ_BATCH):
                batch = [each[0] for each in found[begin : begin + _READ_BATCH]]
                for sender_id, data in connection.execute(
                    self.statements.texts, {"sender_ids": batch}
                ):
                    texts.setdefault(sender_id, []).append(text_of(data))
        return [
            Conversation(sender_id, started, texts[sender_id])
            for sender_id, started in found
            # A conversation without texts was erased between the two queries.
            if sender_id in texts
        ]

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        active: Set[str] = set()
        with self.engine.connect() as connection:
            for first_id, last_id in self.windows(connection):
                counted = len(active)
                found = connection.execute(
                    self.statements.active,
                    {
                        "since": after_timestamp,
                        "first_id": first_id,
                        "last_id": last_id,
                    },
                ).scalars()
                for sender_ids in found.partitions(self._fetched):
                    active.update(sender_ids)
                yield len(active) - counted

    def windows(self, connection: Connection) -> Iterator[Tuple[int, int]]:
        """The first and the last id of runs of ids that hold all events.

        No statement reads more rows than the server can in time. A conversation that is
        rewritten meanwhile gets greater ids, and is found there.
        """
        last = START
        while True:
            # Ids may have wide gaps, which cost no statement each.
            first = connection.execute(
                self.statements.lowest_id, {"after": last}
            ).scalar()
            if first is None:
                return
            last = first + self._window - 1
            yield first, last
