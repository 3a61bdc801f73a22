"""Event logs in the memory of one process."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import OrderedDict
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


class _Kept(NamedTuple):
    """What is kept of one conversation."""

    events: List[Stored]
    #: When it expires, by the monotonic clock; ``None`` for never.
    expires_at: Optional[float]
    user: Optional[User]


_NOTHING = _Kept([], None, None)


class MemoryEventLog(EventLog):
    """Event logs in a dictionary, the least recently used first."""

    name = "The store in memory"

    def __init__(
        self,
        max_conversations: Optional[int] = None,
        record_exp: Optional[float] = None,
        *,
        keeps_users: bool = True,
    ) -> None:
        """Keep nothing yet.

        Args:
            max_conversations: Conversations to keep. Beyond that number the least
                recently used one is dropped. ``None`` for any number.
            record_exp: Seconds after its last append that a conversation expires.
            keeps_users: Whether to keep the users of conversations.
        """
        self.keeps_users = keeps_users
        self._conversations: OrderedDict[str, _Kept] = OrderedDict()
        self._max_conversations = max_conversations
        self._record_exp = record_exp
        # Counted over all conversations, so that no position is ever used again.
        self._position = START
        self._lock = threading.Lock()

    def open(self) -> None:
        pass

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        with self._lock:
            kept = self._live(sender_id)
            if after != _end(kept):
                return None
            if not kept.events and not entries:
                return START
            if user is None or not self.keeps_users:
                user = kept.user
            elif kept.user and kept.user.conversation_started is not None:
                user = User(user.user_id, kept.user.conversation_started)
            kept.events.extend(self._numbered(entries))
            self._keep(sender_id, kept._replace(expires_at=self._expiry(), user=user))
            return _end(kept)

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        with self._lock:
            kept = self._live(sender_id)
            if kept.events:
                self._conversations.move_to_end(sender_id)
            log = kept.events
            end = len(log) if before is None else bisect_left(log, Stored(before, ""))
            begin = 0 if limit is None else max(0, end - limit)
            user_id = kept.user.user_id if kept.user and end > begin else None
            return Page(log[begin:end], begin == 0, user_id)

    def sender_ids(self) -> Iterator[Sequence[str]]:
        with self._lock:
            self._erase_expired()
            found = list(self._conversations)
        yield found

    def delete(self, sender_id: str) -> bool:
        with self._lock:
            existed = bool(self._live(sender_id).events)
            self._conversations.pop(sender_id, None)
            return existed

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        with self._lock:
            kept = self._live(sender_id)
            if after != _end(kept):
                return None
            if not entries:
                self._conversations.pop(sender_id, None)
                return START
            expires_at = kept.expires_at if kept.events else self._expiry()
            if user is None or not self.keeps_users:
                user = kept.user
            kept = _Kept(self._numbered(entries), expires_at, user)
            self._keep(sender_id, kept)
            return _end(kept)

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        with self._lock:
            self._erase_expired()
            found = [
                Conversation(
                    sender_id,
                    kept.user.conversation_started,
                    [event.data for event in kept.events],
                )
                for sender_id, kept in self._conversations.items()
                if kept.user is not None and kept.user.user_id == user_id
            ]
        found.sort(key=conversation_order)
        return found[skip:][:limit]

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        with self._lock:
            self._erase_expired()
            newest = [kept.events[-1].data for kept in self._conversations.values()]
        yield sum(timestamp_of(data) >= after_timestamp for data in newest)

    def purge_expired(self) -> int:
        with self._lock:
            return self._erase_expired()

    def classify(self, error: Exception) -> Optional[Failure]:
        return None

    def before_fork(self) -> None:
        # No thread changes what the child is to have.
        self._lock.acquire()

    def after_fork(self) -> None:
        self._lock.release()

    def close(self) -> None:
        pass

    def _numbered(self, entries: Sequence[Entry]) -> List[Stored]:
        begin = self._position + 1
        self._position += len(entries)
        return [
            Stored(position, entry.data)
            for position, entry in enumerate(entries, begin)
        ]

    def _expiry(self) -> Optional[float]:
        if self._record_exp is None:
            return None
        return time.monotonic() + self._record_exp

    def _keep(self, sender_id: str, kept: _Kept) -> None:
        self._conversations[sender_id] = kept
        self._conversations.move_to_end(sender_id)
        if self._max_conversations is not None:
            while len(self._conversations) > self._max_conversations:
                self._conversations.popitem(last=False)

    def _live(self, sender_id: str) -> _Kept:
        """What is kept of a conversation, which goes now if it has expired."""
        kept = self._conversations.get(sender_id)
        if kept is None:
            return _NOTHING._replace(events=[])
        if kept.expires_at is not None and kept.expires_at <= time.monotonic():
            del self._conversations[sender_id]
            return _NOTHING._replace(events=[])
        return kept

    def _erase_expired(self) -> int:
        now = time.monotonic()
        expired = [
            sender_id
            for sender_id, kept in self._conversations.items()
            if kept.expires_at is not None and kept.expires_at <= now
        ]
        for sender_id in expired:
            del self._conversations[sender_id]
        return len(expired)


def _end(kept: _Kept) -> int:
    return kept.events[-1].position if kept.events else START
