"""When what waits in the spool is stored: before a call, after an outage, at the start."""

from __future__ import annotations

import logging
import threading
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from rasa_trackers.errors import is_unavailable
from rasa_trackers.event_log import EventLog
from rasa_trackers.outage.background import start_thread
from rasa_trackers.outage.handover import Handover
from rasa_trackers.outage.parts import Parts
from rasa_trackers.outage.recent import RecentConversations
from rasa_trackers.outage.spool import Spool

logger = logging.getLogger(__name__)

#: Seconds between two attempts to store what waits while the database is there.
_INTERVAL = 1.0


class Draining:
    """Empties a spool while the database is there, and keeps the copies beside it."""

    def __init__(
        self,
        log: EventLog,
        spool: Spool,
        recent: RecentConversations,
        parts: Parts,
        *,
        timeout: float,
        secrets: Sequence[Optional[str]],
    ) -> None:
        """Store nothing yet.

        Args:
            log: The log in the database.
            spool: What waits.
            recent: Copies of recent conversations.
            parts: Know whether the database is there.
            timeout: Seconds that the server may stay silent.
            secrets: Passwords, never to be shown.
        """
        self._log = log
        self._spool = spool
        self._recent = recent
        self._parts = parts
        self._handover = Handover(
            *(log, spool),
            on_stored=recent.note_hand_over,
            timeout=timeout,
            secrets=secrets,
        )
        self._is_closed = threading.Event()
        self._lock = threading.Lock()
        #: Whether a thread stores what waits, and whether there may be more for it.
        self._is_draining = self._is_wanted = False

    def close(self) -> None:
        """Store what would end with this process, and begin nothing new."""
        self._is_closed.set()
        if not self._spool.is_durable:
            self._store_what_would_be_lost()
        self._handover.close()

    def _store_what_would_be_lost(self) -> None:
        try:
            self.hand_over_all()
        except Exception as error:  # noqa: BLE001 - what is left is told below
            logger.debug("%s: not all is stored: %s", self._log.name, error)
        left = self._spool.sender_ids()
        if left:
            logger.error(
                "What was said in %d conversations while %s was away is lost, because "
                "the tracker store is closed. Set 'spool' to the path of a file against "
                "that.",
                len(left),
                self._log.name,
            )

    # One conversation

    def hand_over(self, sender_id: str) -> None:
        """Store what waits of a conversation before anything else is done with it."""
        if self._spool.waits(sender_id):
            with self._parts.watched(self._parts.of(sender_id), writes=True):
                self._handover.hand_over(sender_id)
            self.drain_in_background()

    def erase(self, sender_id: str) -> bool:
        """Erase what waits of a conversation; whether anything did."""
        with self._handover.lock_of(sender_id):
            waited = self._spool.erase(sender_id)
            self._handover.forget(sender_id)
        return waited

    def when_stored(
        self, sender_id: str, position: int, callback: Callable[[], None]
    ) -> None:
        """Call back once the event at this position is in the database."""
        self._handover.when_stored(sender_id, position, callback)

    def position_in_database(self, sender_id: str, in_spool: int) -> Optional[int]:
        """The position of an event that waited; ``None`` if that is not known."""
        return self._handover.position_in_database(sender_id, in_spool)

    # All conversations

    def hand_over_all(self) -> None:
        """Store what waits, of all conversations whose server is there.

        Raises:
            ConnectionException: when something could not be stored. The rest is.
        """
        by_part: Dict[str, List[str]] = {}
        for sender_id in sorted(self._spool.sender_ids()):
            by_part.setdefault(self._log.part_of(sender_id), []).append(sender_id)
        failure: Optional[Exception] = None
        for part, sender_ids in by_part.items():
            availability = self._parts.part(part)
            if not availability.is_away:
                try:
                    with self._parts.watched(availability, writes=True):
                        self._handover.hand_over_all(sender_ids)
                except Exception as error:  # noqa: BLE001 - raised below
                    failure = error
        if failure is not None:
            raise failure

    def is_stored_again(self, part: str) -> bool:
        """Whether a part that answers again also stores what waits."""
        waiting = sorted(self._spool.sender_ids())
        try:
            self._handover.hand_over_first(
                [each for each in waiting if self._log.part_of(each) == part]
            )
        except Exception as error:
            if not is_unavailable(error):
                raise
            return False
        return True

    def take_totals(self) -> Tuple[int, int]:
        """How many conversations and events were stored since the last time."""
        return self._handover.take_totals()

    def drain_in_background(self) -> None:
        """Store what this process, another one or an earlier one has left waiting.

        What waits before this call is stored, also if a thread is at it already.
        """
        with self._lock:
            self._is_wanted = True
            if self._is_draining:
                return
            self._is_draining = start_thread(self._drain, "drain")

    def _drain(self) -> None:
        while self._has_more_to_drain():
            try:
                # Of a part that is away, the end of its outage stores what waits.
                self.hand_over_all()
                if not self._parts.is_away:
                    self.erase_copies()
                self._report()
            except Exception as error:  # noqa: BLE001 - tried again
                logger.debug("%s: not all is stored yet: %s", self._log.name, error)
                self._is_wanted = True
                self._is_closed.wait(_INTERVAL)

    def _has_more_to_drain(self) -> bool:
        with self._lock:
            self._is_draining = self._is_wanted and not self._is_closed.is_set()
            self._is_wanted = False
            return self._is_draining

    def _report(self) -> None:
        """Say what was left by an earlier process, or of an outage that is long over."""
        if self._parts.is_away_or_ending:
            return
        conversations, events = self._handover.take_totals()
        if events:
            logger.info(
                "%s: %d events of %d conversations that waited are stored now.",
                self._log.name,
                events,
                conversations,
            )

    # Copies

    def share_copies_in_background(self) -> None:
        """Let other processes of the machine, and the next one, know the copies."""
        if self._spool.is_durable:
            start_thread(self._share_copies_or_not, "copies")

    def _share_copies_or_not(self) -> None:
        try:
            self._share_copies()
        except Exception as error:  # noqa: BLE001 - the file is full, or closed
            logger.debug("%s: copies are not shared: %s", self._log.name, error)

    def _share_copies(self) -> None:
        for sender_id, page in self._recent.all_newest_first():
            if not self._parts.is_away or self._is_closed.is_set():
                break
            if self._parts.of(sender_id).is_away:
                self._spool.keep_copy(sender_id, page)
        if not self._parts.is_away and not self._is_closed.is_set():
            # The outage may have ended, and its copies been erased, before the last one.
            self._spool.erase_copies()

    def erase_copies(self) -> None:
        """Forget the copies in the spool: the database is back."""
        self._spool.erase_copies()
        if self._parts.is_away:  # an outage has begun meanwhile, and needs them
            self._share_copies()
