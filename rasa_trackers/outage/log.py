"""An event log in front of the log of a database that may be away.

While the database is there, calls go through to it, and copies of recent conversations
are kept. While it is away, a conversation goes on from its copy, and what is saved is
kept in the spool. When it is back, what waits of a conversation is stored before anything
else is done with that conversation.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Callable, Iterator, List, Optional, Sequence

from rasa_trackers.errors import (
    is_unavailable,
    release_frames,
    says_away,
    store_unavailable,
)
from rasa_trackers.event_log import (
    Conversation,
    Entry,
    EventLog,
    Failure,
    Page,
    User,
)
from rasa_trackers.outage.availability import Availability
from rasa_trackers.outage.handover import Handover
from rasa_trackers.outage.probe import Probe
from rasa_trackers.outage.recent import RecentConversations, newest
from rasa_trackers.outage.spool import SPOOLED, Spool
from rasa_trackers.paging import end_of
from rasa_trackers.store_options import redact

logger = logging.getLogger(__name__)

_NOTHING = Page([], complete=True)


class OutageLog(EventLog):
    """A log that goes on while its database is away.

    Two differences from the contract while it is away: a page has no events that are
    older than the copy of the conversation, and is complete there; and a page is never
    cut between events that wait.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        probe: Probe,
        spool: Optional[Spool],
        recent_bytes: int,
        record_exp: Optional[float],
        timeout: float,
        secrets: Sequence[Optional[str]] = (),
    ) -> None:
        """Stand in front of a log.

        Args:
            log: The log in the database.
            probe: Looks whether the server is there.
            spool: Keeps what is saved during an outage; ``None`` for an error instead.
            recent_bytes: Bytes of recent conversations to keep a copy of.
            record_exp: Seconds after which a conversation expires.
            timeout: Seconds that the server may stay silent.
            secrets: Passwords, never to be shown.
        """
        self.name = log.name
        self.max_sender_id = log.max_sender_id
        self.keeps_users = log.keeps_users
        self._log = log
        self._probe = probe
        self._spool = spool
        self._secrets = secrets
        self._recent = RecentConversations(recent_bytes if spool else 0, record_exp)
        self._handover = (
            None
            if spool is None
            else Handover(
                log,
                spool,
                on_stored=self._recent.note_hand_over,
                timeout=timeout,
                secrets=secrets,
            )
        )
        self._is_open = False
        self._opening = threading.Lock()
        self._draining = threading.Lock()
        self.availability = Availability(
            log.name,
            self._look,
            on_begin=self._on_begin,
            on_return=self._is_stored_again,
            on_end=self._on_end,
        )
        #: Called when an outage has begun: calls that wait for the server begin again.
        self.on_outage: Callable[[], None] = lambda: None

    # Life cycle

    def open(self) -> None:
        """Reach the server, and store what an earlier process has left in the spool.

        Where that fails for too long, :meth:`begin_without_database` may help.
        """
        with self._opening:
            if not self._is_open:
                self._log.open()
                self._is_open = True
        self._drain_in_background()

    def begin_without_database(self, error: Exception) -> bool:
        """Start in an outage; ``False`` where that would lose messages."""
        if self._spool is None or not self._spool.is_durable:
            return False
        self.availability.begin(str(error))
        return True

    def before_fork(self) -> None:
        self._probe.before_fork()
        self._log.before_fork()
        if self._spool is not None:
            self._spool.before_fork()

    def after_fork(self) -> None:
        if self._spool is not None:
            self._spool.after_fork()
        self._log.after_fork()
        self._probe.after_fork()

    def close(self) -> None:
        self.availability.close()
        self._probe.close()
        self._log.close()
        if self._spool is not None:
            self._spool.close()

    # Writing

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        if not self.availability.is_away:
            try:
                return self._append(sender_id, entries, after, user)
            except Exception:
                # It may have been carried out. The hand-over compares.
                if not self._goes_on():
                    raise
        return self._keep(sender_id, entries, after, user)

    def _append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        """Append to the log in the database."""
        self._hand_over(sender_id)
        resolved = self._resolved(sender_id, after)
        if resolved is None:
            return None
        with self._watched():
            position = self._log.append(sender_id, entries, resolved, user)
        if position is not None and self._spool is not None:
            self._recent.note_append(
                sender_id, entries, resolved, position, user and user.user_id
            )
        return position

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        self._refuse_in_outage("changed")
        self._hand_over(sender_id)
        resolved = self._resolved(sender_id, after)
        if resolved is None:
            return None
        self._recent.forget(sender_id)
        with self._watched():
            return self._log.replace(sender_id, entries, resolved, user)

    def delete(self, sender_id: str) -> bool:
        self._refuse_in_outage("erased")
        waited = False
        self._recent.forget(sender_id)
        if self._spool is not None and self._handover is not None:
            with self._handover.lock_of(sender_id):
                waited = self._spool.erase(sender_id)
                self._handover.forget(sender_id)
        with self._watched():
            return self._log.delete(sender_id) or waited

    def confirm(self, sender_id: str) -> None:
        if self.availability.is_away:
            return  # what was read is a copy, or is in the spool
        with self._watched():
            self._log.confirm(sender_id)

    def purge_expired(self) -> int:
        if self.availability.is_away:
            return 0
        with self._watched():
            return self._log.purge_expired()

    # Reading

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        if not self.availability.is_away:
            try:
                self._hand_over(sender_id)
                with self._watched():
                    page = self._log.read_back(sender_id, limit, before)
            except Exception:
                if not self._goes_on():
                    raise
            else:
                if self._spool is not None:
                    self._recent.note_page(sender_id, page, before)
                return page
        return self._read_without_database(sender_id, limit, before)

    def sender_ids(self) -> Iterator[Sequence[str]]:
        self._refuse_in_outage("listed")
        self._hand_over_all()
        with self._watched():
            yield from self._log.sender_ids()

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        self._refuse_in_outage("listed")
        self._hand_over_all()
        with self._watched():
            return self._log.conversations_of(user_id, limit, skip)

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        self._refuse_in_outage("counted")
        self._hand_over_all()
        with self._watched():
            yield from self._log.count_conversations(after_timestamp)

    # Errors

    def classify(self, error: Exception) -> Optional[Failure]:
        failure = self._log.classify(error)
        if failure is not None and failure.away and self._spool is not None:
            # The spool takes what the database refuses, once the outage is known.
            return failure._replace(transient=True)
        return failure

    def interrupt(self) -> None:
        self._log.interrupt()

    # Without the database

    def is_kept_for_good(self, position: int) -> bool:
        """Whether the event at this position outlives the process."""
        return position < SPOOLED or self._spool is None or self._spool.is_durable

    def when_stored(
        self, sender_id: str, position: int, callback: Callable[[], None]
    ) -> None:
        """Call back once the event at this position is in the database."""
        if self._handover is None:
            callback()
        else:
            self._handover.when_stored(sender_id, position, callback)

    def _goes_on(self) -> bool:
        """Whether an outage is known now, and there is a spool for it."""
        return self.availability.is_away and self._spool is not None

    def _keep(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        """Append to the spool."""
        if self._spool is None or self._handover is None:
            raise self._away("stored")
        if not self.keeps_users:
            user = None
        with self._handover.lock_of(sender_id):
            copy: Optional[Page] = None
            if not self._spool.waits(sender_id):
                resolved = self._resolved(sender_id, after)
                if resolved is None:
                    return None
                after = resolved
                copy = self._copy_of(sender_id)
                if copy is not None and end_of(copy.events) != after:
                    return None
            if not entries:
                return after  # without events there is nothing to lose
            position = self._spool.append(
                sender_id, entries, after, user, copy or _NOTHING
            )
        if not self.availability.is_away:  # the outage has ended meanwhile
            self._drain_in_background()
        return position

    def _read_without_database(
        self, sender_id: str, limit: Optional[int], before: Optional[int]
    ) -> Page:
        """What is known here of a conversation."""
        if self._spool is None:
            if self.availability.is_readable:
                return self._log.read_back(sender_id, limit, before)
            raise self._away("read")
        waiting = (
            self._spool.waiting(sender_id) if self._spool.waits(sender_id) else None
        )
        page = self._copy_of(sender_id) if waiting is None else waiting.page()
        if page is None:
            page = self._page_of_readable_database(sender_id, limit, before)
        if limit is not None and waiting is not None:
            limit = max(limit, len(waiting.entries))
        return newest(page.events, limit, before)._replace(user_id=page.user_id)

    def _page_of_readable_database(
        self, sender_id: str, limit: Optional[int], before: Optional[int]
    ) -> Page:
        """A page of a database that answers, but stores nothing; or nothing."""
        if not self.availability.is_readable:
            return _NOTHING
        try:
            page = self._log.read_back(sender_id, limit, before)
        except Exception as error:
            failure = self._log.classify(error)
            if failure is not None and failure.away:
                return _NOTHING
            raise
        self._recent.note_page(sender_id, page, before)
        return page

    def _copy_of(self, sender_id: str) -> Optional[Page]:
        page = self._recent.get(sender_id)
        if page is None and self._spool is not None and self._spool.is_durable:
            page = self._spool.copy(sender_id)
        return page

    def _resolved(self, sender_id: str, position: int) -> Optional[int]:
        """A position in the database, for one that may be in the spool.

        ``None`` if that is not known: the caller reads where the log ends.
        """
        if position < SPOOLED or self._handover is None:
            return position
        return self._handover.position_in_database(sender_id, position)

    # Outages

    def _look(self) -> None:
        """Look whether the server is there."""
        if self._is_open:
            self._probe.read()
            return
        self._probe.open()
        with self._opening:
            self._log.open()
            self._is_open = True

    def suspect_silence(self) -> None:
        """A call has had no answer for long."""
        if self._is_open:
            self.availability.suspect()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            release_frames(error)
            failure = self._log.classify(error)
            if failure is not None and failure.away:
                self.availability.failed(failure, self._described(error, failure))
            elif says_away(error):  # of a hand-over
                self.availability.begin(str(error))
            raise
        self.availability.succeeded()

    def _described(self, error: Exception, failure: Failure) -> str:
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        text = redact(text or type(error).__name__, self._secrets).rstrip(".?")
        return f"{text}. {failure.remedy}".rstrip()

    def _on_begin(self, reason: str) -> None:
        spool = self._spool
        if spool is None:
            fate = "Messages are errors until it is back ('spool: off')"
        elif spool.is_durable:
            fate = (
                f"Conversations go on; messages are kept in {spool.name} and stored when "
                f"it is back"
            )
        else:
            fate = (
                "Conversations go on; messages are kept in memory and stored when it is "
                "back. They are lost if this process ends before: set 'spool' to the path "
                "of a file against that"
            )
        logger.warning(
            "%s is away since %s. %s. %s",
            self.name,
            time.strftime("%H:%M:%S"),
            fate,
            reason,
        )
        self.on_outage()
        if spool is not None and spool.is_durable:
            threading.Thread(
                target=self._share_copies, name="rasa_trackers-copies", daemon=True
            ).start()

    def _share_copies(self) -> None:
        """Let other processes of the machine, and the next one, know the copies."""
        assert self._spool is not None  # noqa: S101 - asked before
        for sender_id, page in self._recent.all_newest_first():
            if not self.availability.is_away:
                return
            self._spool.keep_copy(sender_id, page)

    def _is_stored_again(self) -> bool:
        """The server answers again: whether it also stores what waits."""
        if self._handover is None:
            return True
        try:
            self._handover.hand_over_first()
        except Exception as error:
            if not is_unavailable(error):
                raise
            return False
        return True

    def _on_end(self) -> None:
        """Store all that waits. Current messages do not wait for that."""
        conversations = events = 0
        self._probe.close()
        if self._handover is not None and self._spool is not None:
            self._hand_over_all()
            self._spool.erase_copies()
            conversations, events = self._handover.take_totals()
        logger.warning(
            "%s is back after %.0f seconds. %d events of %d conversations were kept "
            "meanwhile and are stored now.",
            self.name,
            time.time() - self.availability.away_since,
            events,
            conversations,
        )

    def _hand_over(self, sender_id: str) -> None:
        """Store what waits of a conversation before anything else is done with it."""
        if self._spool is None or self._handover is None:
            return
        if self._spool.waits(sender_id):
            with self._watched():
                self._handover.hand_over(sender_id)
            self._drain_in_background()

    def _hand_over_all(self) -> None:
        if self._handover is not None:
            with self._watched():
                self._handover.hand_over_all()

    def _drain_in_background(self) -> None:
        """Store what this process, another one or an earlier one has left waiting."""
        if self._spool is None or not self._spool.sender_ids():
            return
        if self._draining.acquire(blocking=False):
            threading.Thread(
                target=self._drain, name="rasa_trackers-drain", daemon=True
            ).start()

    def _drain(self) -> None:
        try:
            self._hand_over_all()
        except Exception as error:  # noqa: BLE001 - the next call or outage tries again
            logger.debug("%s: not all that waits is stored yet: %s", self.name, error)
        finally:
            self._draining.release()

    def _refuse_in_outage(self, done: str) -> None:
        if self.availability.is_away:
            raise self._away(done)

    def _away(self, done: str) -> Exception:
        since = time.strftime("%H:%M:%S", time.localtime(self.availability.away_since))
        return store_unavailable(
            f"{self.name} is away since {since}, so that nothing can be {done}. Repeat it "
            f"when the database is back. {self.availability.reason}"
        )
