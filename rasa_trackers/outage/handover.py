"""Storing in the database what was kept while it was away."""

from __future__ import annotations

import logging
import threading
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from rasa_trackers.appending import append_once
from rasa_trackers.errors import is_unavailable, says_away, store_unavailable
from rasa_trackers.event_log import Entry, EventLog, User, timestamp_of
from rasa_trackers.outage.spool import Spool, Waiting
from rasa_trackers.retries import Deadline, DeadlineLog
from rasa_trackers.threads import Threads

logger = logging.getLogger(__name__)

#: Locks for conversations, which share them by their hash.
_LOCKS = 64
#: Conversations whose last positions in the spool are remembered.
_MOST_RESOLVED = 100_000


class _Stored(NamedTuple):
    """The position of a conversation's last entry that waited in the spool."""

    in_spool: int
    in_database: int


class _NotWaiting(Exception):
    """Another process has erased the conversation, or has stored it."""


class _LogForHandover(DeadlineLog):
    """Appends only what still waits."""

    def __init__(
        self,
        log: EventLog,
        deadline: Deadline,
        secrets: Sequence[Optional[str]],
        spool: Spool,
    ) -> None:
        super().__init__(log, deadline, secrets, waits_while_away=False)
        self._spool = spool

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        if not self._spool.waits(sender_id):
            raise _NotWaiting
        return super().append(sender_id, entries, after, user)


class Handover:
    """Moves what waits from a spool into the log, each event once and in order."""

    def __init__(
        self,
        log: EventLog,
        spool: Spool,
        *,
        on_stored: Callable[[str, Waiting, int], None],
        timeout: float,
        secrets: Sequence[Optional[str]],
    ) -> None:
        """Move nothing yet.

        Args:
            log: The log in the database.
            spool: What waits.
            on_stored: Called with a conversation, what waited of it, and the position of
                the last event in the database.
            timeout: Seconds that the server may stay silent.
            secrets: Passwords, never to be shown.
        """
        self._log = log
        self._spool = spool
        self._on_stored = on_stored
        self._timeout = timeout
        self._secrets = secrets
        self._locks = [threading.RLock() for _ in range(_LOCKS)]
        # No call waits in it: its watchdog ends what waits for a silent server.
        self._threads = Threads(log, timeout=timeout, workers=1, secrets=secrets)
        self._resolved: Dict[str, _Stored] = {}
        self._callbacks: Dict[str, List[Tuple[int, Callable[[], None]]]] = {}
        self._calling_back = threading.Lock()
        #: Conversations that the database refuses for good.
        self._refused: Set[str] = set()
        self._stored_conversations: Set[str] = set()
        self._stored_events = 0
        self._is_closed = False

    def lock_of(self, sender_id: str) -> threading.RLock:
        """Held while a conversation moves."""
        return self._locks[hash(sender_id) % _LOCKS]

    def position_in_database(self, sender_id: str, in_spool: int) -> Optional[int]:
        """The position of an entry that waited; ``None`` if that is not known."""
        stored = self._resolved.get(sender_id)
        if stored is None or stored.in_spool != in_spool:
            return None
        return stored.in_database

    def when_stored(
        self, sender_id: str, position: int, callback: Callable[[], None]
    ) -> None:
        """Call back once an entry of the spool is in the database.

        Args:
            sender_id: The conversation.
            position: The position of the entry in the spool.
            callback: Called in the thread that stores it.
        """
        # Not with the lock of the conversation: it may wait for a server.
        with self._calling_back:
            if self._spool.waits(sender_id):
                self._callbacks.setdefault(sender_id, []).append((position, callback))
                return
        callback()

    def hand_over(self, sender_id: str) -> None:
        """Store what waits of a conversation.

        An earlier attempt may have been carried out, by this process before its server
        went away, or by another process. So what the log holds after the last known
        position is compared with what waits.

        Raises:
            ConnectionException: when the server is away again.
            RasaException: when the server refuses the conversation.
        """
        self._hand_over(Deadline(self._timeout), sender_id)

    def _hand_over(self, deadline: Deadline, sender_id: str) -> None:
        with self.lock_of(sender_id):
            waiting = self._spool.waiting(sender_id)
            if waiting is None:
                return
            log = _LogForHandover(self._log, deadline, self._secrets, self._spool)
            try:
                position = self._append(log, sender_id, waiting)
            except _NotWaiting:
                return
            self._spool.remove(sender_id, waiting, position)
            self._on_stored(sender_id, waiting, position)
            self._refused.discard(sender_id)
            self._remember(sender_id, _Stored(waiting.last, position))
            self._stored_conversations.add(sender_id)
            self._stored_events += len(waiting.entries)
            self._call_back(sender_id, waiting.last)

    @staticmethod
    def _append(log: DeadlineLog, sender_id: str, waiting: Waiting) -> int:
        started = timestamp_of(waiting.entries[0].data)
        user = waiting.user
        return append_once(
            log,
            sender_id,
            waiting.entries,
            waiting.after,
            user=user,
            user_of_new_log=user
            and User(user.user_id, started if started >= 0 else None),
            is_uncertain=True,
        )

    def hand_over_first(self, sender_ids: Sequence[str]) -> None:
        """Store what waits of one of these conversations, as a test of the server.

        Raises:
            ConnectionException: when the server is away.
        """
        for sender_id in sender_ids:
            try:
                if self._hand_over_or_refuse(sender_id):
                    return
            except Exception as error:
                if says_away(error) or not is_unavailable(error):
                    raise
                # Of this conversation: it is locked, say. The next one shows more.

    def hand_over_all(self, sender_ids: Sequence[str]) -> None:
        """Store what waits of these conversations.

        A conversation that the server refuses stays in the spool, and the others go on.

        Raises:
            ConnectionException: when the server is away again, or has not stored all.
        """
        failure: Optional[Exception] = None
        for sender_id in sender_ids:
            try:
                self._hand_over_or_refuse(sender_id)
            except Exception as error:
                if says_away(error) or not is_unavailable(error):
                    raise
                failure = error  # of this conversation: it is locked, say
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Begin nothing new."""
        self._is_closed = True
        self._threads.close(then=lambda: None)

    def take_totals(self) -> Tuple[int, int]:
        """How many conversations and events were stored since the last time."""
        totals = len(self._stored_conversations), self._stored_events
        self._stored_conversations, self._stored_events = set(), 0
        return totals

    def _hand_over_or_refuse(self, sender_id: str) -> bool:
        try:
            self._threads.run_blocking(self._hand_over_in_thread, sender_id)
        except Exception as error:
            if is_unavailable(error):
                raise
            if self._is_closed or _says_shutdown(error):
                # What waits stays where it is. The conversation is not to blame.
                raise store_unavailable(str(error)) from error
            self._refuse(sender_id, error)
            return False
        return True

    def _hand_over_in_thread(self, log: DeadlineLog, sender_id: str) -> None:
        self._hand_over(log.deadline, sender_id)

    def forget(self, sender_id: str) -> None:
        """Nothing of a conversation waits any more: it was erased."""
        with self.lock_of(sender_id), self._calling_back:
            self._resolved.pop(sender_id, None)
            self._callbacks.pop(sender_id, None)
            self._refused.discard(sender_id)

    def _remember(self, sender_id: str, stored: _Stored) -> None:
        self._resolved[sender_id] = stored
        if len(self._resolved) > _MOST_RESOLVED:
            self._resolved.pop(next(iter(self._resolved)), None)

    def _call_back(self, sender_id: str, last: int) -> None:
        with self._calling_back:
            waiting = self._callbacks.pop(sender_id, [])
            later = [pair for pair in waiting if pair[0] > last]
            if later:
                self._callbacks[sender_id] = later
        for position, callback in waiting:
            if position <= last:
                callback()

    def _refuse(self, sender_id: str, error: Exception) -> None:
        """Say once that a conversation cannot be stored. It stays in the spool."""
        if sender_id not in self._refused:
            self._refused.add(sender_id)
            logger.error(
                "What was kept of conversation %r while the database was away cannot be "
                "stored: %s It stays in the spool.",
                sender_id,
                error,
            )


def _says_shutdown(error: Exception) -> bool:
    """Whether a pool of threads takes nothing any more, because the process ends."""
    return isinstance(error, RuntimeError) and "shutdown" in str(error)
