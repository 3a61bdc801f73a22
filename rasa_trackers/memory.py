"""Conversations in the memory of one process."""

from __future__ import annotations

import threading
import time
import weakref
from bisect import bisect_left
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence, Tuple

from rasa_trackers import options
from rasa_trackers.event_log import (
    START,
    Answered,
    Conversation,
    Entry,
    EventLog,
    Failure,
    Page,
    Stored,
    User,
    began,
    timestamp_of,
    unheard,
)
from rasa_trackers.rasa_versions import MAKES_STORES_AGAIN, Domain
from rasa_trackers.tracker_store import EventLogTrackerStore, never_falls_back


class MemoryEventLog(EventLog):
    """Logs of encoded events in a dictionary, the least recently used first."""

    name = "The store in memory"

    def __init__(
        self,
        max_conversations: Optional[int] = None,
        record_exp: Optional[float] = None,
    ) -> None:
        self._logs: OrderedDict[str, List[Stored]] = OrderedDict()
        self._expires_at: Dict[str, float] = {}
        self._users: Dict[str, User] = {}
        self._max_conversations = max_conversations
        self._record_exp = record_exp
        # Positions are counted over all conversations, so that one that was deleted
        # and began again shows as changed.
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
            log = self._live(sender_id)
            if after != _end(log):
                return None
            if not (log or entries):
                return START
            if user is not None:
                known = self._users.get(sender_id)
                if known is not None and known.conversation_started is not None:
                    user = User(user.user_id, known.conversation_started)
                self._users[sender_id] = user
            return self._write(sender_id, log, entries)

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        with self._lock:
            log = self._live(sender_id)
            if log:
                self._logs.move_to_end(sender_id)
            end = len(log) if before is None else bisect_left(log, Stored(before, ""))
            begin = 0 if limit is None else max(0, end - limit)
            user = self._users.get(sender_id)
            return Page(log[begin:end], begin == 0, user and user.user_id)

    def sender_ids(self, answered: Answered = unheard) -> List[str]:
        with self._lock:
            self._erase_expired()
            return [sender_id for sender_id, log in self._logs.items() if log]

    def delete(self, sender_id: str) -> bool:
        with self._lock:
            existed = bool(self._live(sender_id))
            self._erase(sender_id)
            return existed

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        with self._lock:
            log = self._live(sender_id)
            if after != _end(log):
                return None
            user = user or self._users.get(sender_id)
            self._erase(sender_id)
            if not entries:
                return START
            if user is not None:
                self._users[sender_id] = user
            return self._write(sender_id, [], entries)

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        with self._lock:
            self._erase_expired()
            found = [
                Conversation(
                    sender_id,
                    user.conversation_started,
                    [event.data for event in self._logs[sender_id]],
                )
                for sender_id, user in self._users.items()
                if user.user_id == user_id
            ]
        found.sort(key=began)
        return found[skip:][:limit]

    def count_conversations(
        self, after_timestamp: float, answered: Answered = unheard
    ) -> int:
        with self._lock:
            self._erase_expired()
            newest = [log[-1].data for log in self._logs.values() if log]
        return sum(timestamp_of(data) >= after_timestamp for data in newest)

    def purge_expired(self) -> int:
        with self._lock:
            return self._erase_expired()

    def classify(self, error: Exception) -> Optional[Failure]:
        return None

    def close(self) -> None:
        pass

    def _write(
        self, sender_id: str, log: List[Stored], entries: Sequence[Entry]
    ) -> int:
        for entry in entries:
            self._position += 1
            log.append(Stored(self._position, entry.data))
        self._logs[sender_id] = log
        self._logs.move_to_end(sender_id)
        if self._record_exp is not None:
            self._expires_at[sender_id] = time.monotonic() + self._record_exp
        if self._max_conversations is not None:
            while len(self._logs) > self._max_conversations:
                self._erase(next(iter(self._logs)))
        return self._position

    def _live(self, sender_id: str) -> List[Stored]:
        if self._expires_at.get(sender_id, time.monotonic() + 1) <= time.monotonic():
            self._erase(sender_id)
        return self._logs.get(sender_id, [])

    def _erase(self, sender_id: str) -> None:
        self._logs.pop(sender_id, None)
        self._expires_at.pop(sender_id, None)
        self._users.pop(sender_id, None)

    def _erase_expired(self) -> int:
        now = time.monotonic()
        expired = [key for key, end in self._expires_at.items() if end <= now]
        for sender_id in expired:
            self._erase(sender_id)
        return len(expired)


#: What is in memory, by the options that say what is to be in there.
_LOGS: weakref.WeakValueDictionary[
    Tuple[Optional[int], Optional[float]], MemoryEventLog
] = weakref.WeakValueDictionary()
_finding = threading.Lock()


def _log_of(
    max_conversations: Optional[int], record_exp: Optional[float]
) -> MemoryEventLog:
    """The log of a store that is made.

    A Rasa that makes a store anew after each call that has failed means the one that
    it had, and so do its jobs for privacy, which have a store of their own (Rasa Pro
    3.21). So those that exist at the same time share their conversations there.
    """
    if not MAKES_STORES_AGAIN:
        return MemoryEventLog(max_conversations, record_exp)
    key = (max_conversations, record_exp)
    with _finding:
        log = _LOGS.get(key)
        if log is None:
            log = _LOGS[key] = MemoryEventLog(max_conversations, record_exp)
        return log


def _end(log: List[Stored]) -> int:
    return log[-1].position if log else START


class InMemoryTrackerStore(EventLogTrackerStore):
    """Keeps conversations in memory, until the process ends.

    Behaves as the durable stores do; for development and tests. The counterpart of
    Rasa's ``InMemoryTrackerStore``.
    """

    @never_falls_back
    def __init__(
        self,
        domain: Optional[Domain] = None,
        url: Optional[str] = None,
        event_broker: Optional[Any] = None,
        *,
        host: Optional[str] = None,
        max_conversations: Optional[int] = None,
        record_exp: Optional[float] = None,
        retrieve_events_from_previous_conversation_sessions: bool = False,
        **unknown: Any,
    ) -> None:
        """Create a store, which is empty.

        But with Rasa Pro it shares the conversations of others in this process that
        have the same options.

        Args:
            domain: The assistant's domain; Rasa sets it later.
            url: Not used; Rasa passes it to every store.
            event_broker: Where new events are published, or ``None``.
            host: Not used, as ``url``.
            max_conversations: Conversations to keep; beyond it, the one not used for
                the longest time is dropped. ``None`` for any number.
            record_exp: Seconds after its last message that a conversation is dropped.
            retrieve_events_from_previous_conversation_sessions: Whether ``retrieve``
                gives all sessions instead of the last one.
            unknown: Refused.

        Raises:
            RasaException: for an option that is unknown or has no sensible value.
        """
        options.reject_unknown(type(self), unknown)
        options.url_or_host(url, host)
        expiry = options.seconds("record_exp", record_exp, None)
        super().__init__(
            domain,
            event_broker,
            _log_of(
                options.whole_number("max_conversations", max_conversations, 1), expiry
            ),
            timeout=options.DEFAULT_TIMEOUT,
            startup_timeout=options.DEFAULT_TIMEOUT,
            # Nothing waits here, so more threads would do no more work.
            workers=1,
            record_exp=expiry,
            retrieve_events_from_previous_conversation_sessions=options.flag(
                "retrieve_events_from_previous_conversation_sessions",
                retrieve_events_from_previous_conversation_sessions,
            ),
        )
