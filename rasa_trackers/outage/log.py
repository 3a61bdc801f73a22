"""An event log in front of the log of a database that may be away.

While the database is there, calls go through to it, and copies of recent conversations
are kept. While it is away, a conversation goes on from its copy, and what is saved is
kept in the spool. When it is back, what waits of a conversation is stored before anything
else is done with that conversation.
"""

from __future__ import annotations

import logging
import time
from typing import Callable, Dict, Iterator, List, Optional, Sequence

from rasa_trackers.event_log import (
    Conversation,
    Entry,
    EventLog,
    Failure,
    Page,
    User,
)
from rasa_trackers.outage.draining import Draining
from rasa_trackers.outage.parts import Parts
from rasa_trackers.outage.probe import Probe
from rasa_trackers.outage.recent import NEWER, RecentConversations, newest
from rasa_trackers.outage.spool import SPOOLED, Spool
from rasa_trackers.paging import FIRST_PAGE, end_of
from rasa_trackers.retries import AppendInDoubt

logger = logging.getLogger(__name__)

_NOTHING = Page([], complete=True)


class OutageLog(EventLog):
    """A log that goes on while its database is away.

    Two differences from the contract while the database is away: a page has no events
    that are older than the copy of the conversation, and is complete there; and a page is
    never cut between events that wait.

    A page that ends ``before`` an event of a copy comes from the copy, without a look at
    the database: it belongs to the state of which the caller has read that event.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        probe: Probe,
        spool: Optional[Spool],
        recent_bytes: int,
        reads_newer: bool,
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
            reads_newer: Whether a read of a long session takes its older events from the
                copy.
            record_exp: Seconds after which a conversation expires.
            timeout: Seconds that the server may stay silent.
            secrets: Passwords, never to be shown.
        """
        self.name = log.name
        self.max_sender_id = log.max_sender_id
        self.keeps_users = log.keeps_users
        self._log = log
        self._probe = probe
        #: What waits for the database; ``None`` with ``spool: off``.
        self.spool = spool
        self._reads_newer = reads_newer
        self._recent = RecentConversations(
            recent_bytes if spool or reads_newer else 0, record_exp
        )
        self._parts = Parts(
            *(log, probe),
            has_spool=spool is not None,
            timeout=timeout,
            secrets=secrets,
            on_begin=self._on_begin,
            on_silence=self._on_silence,
            on_return=self._is_stored_again,
            on_end=self._on_end,
        )
        self._draining = (
            None
            if spool is None
            else Draining(
                *(log, spool, self._recent, self._parts),
                timeout=timeout,
                secrets=secrets,
            )
        )
        #: The earliest position behind which a save of a conversation may have been carried
        #: out. Only of saves that the copy or the spool has refused, until they are kept.
        self._attempts: Dict[str, int] = {}
        #: Called when calls that wait for the server are to begin again, without it.
        self.on_outage: Callable[[], None] = lambda: None

    # Life cycle

    def open(self) -> None:
        """Reach the server, and store what an earlier process has left in the spool.

        Where that fails for too long, :meth:`begin_without_database` may help.
        """
        self._parts.open()
        if self._draining is not None and self._is_durable:
            # A process that was killed in an outage leaves copies, if nothing more.
            self._draining.drain_in_background()

    def begin_without_database(self, error: Exception) -> bool:
        """Start in an outage; ``False`` where that would lose messages."""
        if not self._is_durable:
            return False
        self._parts.whole.begin(str(error))
        return True

    def before_fork(self) -> None:
        self._probe.before_fork()
        self._log.before_fork()
        if self.spool is not None:
            self.spool.before_fork()

    def after_fork(self) -> None:
        if self.spool is not None:
            self.spool.after_fork()
        self._log.after_fork()
        self._probe.after_fork()

    def close(self) -> None:
        self._parts.close()
        if self._draining is not None:
            self._draining.close()
        self._log.close()
        if self.spool is not None:
            self.spool.close()

    # Writing

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        availability = self._parts.of(sender_id)
        if not self._parts.asks(availability) or not self._has_handed_over(sender_id):
            return self._keep(sender_id, entries, after, user)
        resolved = self._resolved(sender_id, after)
        if resolved is None:
            return None
        try:
            with self._parts.watched(availability, writes=True):
                position = self._log.append(sender_id, entries, resolved, user)
        except Exception as error:
            if not availability.is_away:
                raise
            # The attempt may have been carried out. The hand-over compares.
            position = self._keep(sender_id, entries, resolved, user)
            if position is None:
                # What is known of the log here may have what was appended.
                raise AppendInDoubt from error
            return position
        if position is not None:
            self._attempts.pop(sender_id, None)
            self._recent.note_append(
                sender_id, entries, resolved, position, user and user.user_id
            )
        return position

    def _hand_over(self, sender_id: str) -> None:
        """Store what waits of a conversation before anything else is done with it."""
        if self._draining is not None:
            self._draining.hand_over(sender_id)

    def _has_handed_over(self, sender_id: str) -> bool:
        """Store what waits of a conversation; ``False`` if the database is away."""
        try:
            self._hand_over(sender_id)
        except Exception:
            if not self._parts.of(sender_id).is_away:
                raise
            return False
        return True

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        availability = self._parts.of(sender_id)
        self._parts.refuse_if_away(availability, "changed")
        self._hand_over(sender_id)
        resolved = self._resolved(sender_id, after)
        if resolved is None:
            return None
        try:
            with self._parts.watched(availability, writes=True):
                return self._log.replace(sender_id, entries, resolved, user)
        finally:
            self._recent.forget(sender_id)  # also if it may have been carried out

    def delete(self, sender_id: str) -> bool:
        availability = self._parts.of(sender_id)
        self._parts.refuse_if_away(availability, "erased")
        waited = False
        try:
            if self._draining is not None:
                waited = self._draining.erase(sender_id)
            with self._parts.watched(availability, writes=True):
                return self._log.delete(sender_id) or waited
        finally:
            # In the end: a hand-over or a read may have kept a copy meanwhile.
            self._recent.forget(sender_id)

    def confirm(self, sender_id: str) -> None:
        availability = self._parts.of(sender_id)
        if availability.is_away:
            return  # what was read is a copy, or is in the spool
        with self._parts.watched(availability):
            self._log.confirm(sender_id)

    def purge_expired(self) -> int:
        if self.is_away:
            return 0
        with self._parts.watched(self._parts.whole):
            return self._log.purge_expired()

    # Reading

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        availability = self._parts.of(sender_id)
        if self._parts.asks(availability):
            try:
                self._hand_over(sender_id)
                with self._parts.watched(availability):
                    return self._read_database(sender_id, limit, before)
            except Exception:
                if not availability.is_away:
                    raise
        return self._read_without_database(sender_id, limit, before)

    def _read_database(
        self, sender_id: str, limit: Optional[int], before: Optional[int]
    ) -> Page:
        """Read a page; of a long session only what the copy of it lacks."""
        page: Optional[Page] = None
        if self._reads_newer and before is not None:
            page = self._recent.older(sender_id, limit, before)
        elif self._reads_newer and limit is not None and limit > FIRST_PAGE:
            page = self._read_newer(sender_id, limit)
        if page is not None:
            return page
        erasures = self._recent.erasures
        page = self._log.read_back(sender_id, limit, before)
        self._recent.note_page(sender_id, page, before, erasures)
        return page

    def _read_newer(self, sender_id: str, limit: int) -> Optional[Page]:
        """Read what is newer than a copy, and join both; ``None`` where that fails."""
        if not self._recent.reaches(sender_id, limit):
            return None
        erasures = self._recent.erasures
        newest_page = self._log.read_back(sender_id, NEWER)
        return self._recent.join(sender_id, newest_page, limit, erasures)

    def sender_ids(self) -> Iterator[Sequence[str]]:
        self._prepare_for_all("listed")
        with self._parts.watched(self._parts.whole):
            yield from self._log.sender_ids()

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        self._prepare_for_all("listed")
        with self._parts.watched(self._parts.whole):
            return self._log.conversations_of(user_id, limit, skip)

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        self._prepare_for_all("counted")
        with self._parts.watched(self._parts.whole):
            yield from self._log.count_conversations(after_timestamp)

    def _prepare_for_all(self, done: str) -> None:
        """Store what waits before something is done with all conversations."""
        self._parts.refuse_if_any_is_away(done)
        if self._draining is not None:
            self._draining.hand_over_all()

    def part_of(self, sender_id: str) -> str:
        return self._log.part_of(sender_id)

    # Errors

    def classify(self, error: Exception) -> Optional[Failure]:
        failure = self._log.classify(error)
        if failure is not None and failure.away and self.spool is not None:
            # The spool takes what the database refuses, once the outage is known.
            return failure._replace(transient=True)
        return failure

    def interrupt(self) -> None:
        self._log.interrupt()

    # Without the database

    def is_kept_for_good(self, position: int) -> bool:
        """Whether the event at this position outlives the process."""
        return position < SPOOLED or self.spool is None or self._is_durable

    def when_stored(
        self, sender_id: str, position: int, callback: Callable[[], None]
    ) -> None:
        """Call back once the event at this position is in the database."""
        if self._draining is None:
            callback()
        else:
            self._draining.when_stored(sender_id, position, callback)

    @property
    def _is_durable(self) -> bool:
        """Whether what is kept in an outage outlives the process."""
        return self.spool is not None and self.spool.is_durable

    def _keep(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        """Append to the spool."""
        if self._draining is None:
            raise self._parts.away(self._parts.of(sender_id), "stored")
        if not self.keeps_users:
            user = None
        resolved = self._resolved(sender_id, after)
        # An earlier attempt of the same save may have named an earlier end. The copy that
        # this one is compared with need not show what came of that.
        attempts = (self._attempts.get(sender_id), resolved)
        attempted = min((each for each in attempts if each is not None), default=None)
        position = self._append_to_spool(
            sender_id, entries, after, resolved, user, attempted
        )
        if position is None:
            if attempted is not None:
                self._attempts[sender_id] = attempted
            return None
        self._attempts.pop(sender_id, None)
        if not self._parts.of(sender_id).is_away:  # it has ended meanwhile
            self._draining.drain_in_background()
        return position

    def _append_to_spool(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        resolved: Optional[int],
        user: Optional[User],
        attempted: Optional[int],
    ) -> Optional[int]:
        """Append to the spool, unless the conversation is known to end elsewhere."""
        assert self.spool is not None  # noqa: S101 - asked before
        copy: Optional[Page] = None
        if not self.spool.waits(sender_id):
            if resolved is None:
                return None
            after = resolved
            copy = self._copy_of(sender_id)
            if copy is not None and end_of(copy.events) != after:
                return None
        if not entries:
            return after  # without events there is nothing to lose
        return self.spool.append(
            sender_id, entries, after, user, copy or _NOTHING, attempted=attempted
        )

    def _read_without_database(
        self, sender_id: str, limit: Optional[int], before: Optional[int]
    ) -> Page:
        """What is known here of a conversation."""
        if self.spool is None:
            raise self._parts.away(self._parts.of(sender_id), "read")
        waiting = self.spool.waiting(sender_id) if self.spool.waits(sender_id) else None
        known = self._copy_of(sender_id) if waiting is None else waiting.page()
        if waiting is None:
            stored = self._page_of_readable_database(sender_id, limit, before)
            # A standby may lag behind what this process has written.
            is_behind = (
                stored is not None
                and known is not None
                and before is None
                and end_of(stored.events) < end_of(known.events)
            )
            if stored is not None and not is_behind:
                return stored
        elif limit is not None:
            limit = max(limit, len(waiting.entries))
        if known is None:
            return _NOTHING
        return newest(known.events, limit, before)._replace(user_id=known.user_id)

    def _page_of_readable_database(
        self, sender_id: str, limit: Optional[int], before: Optional[int]
    ) -> Optional[Page]:
        """A page of a database that answers, but stores nothing."""
        if not self._parts.of(sender_id).is_readable:
            return None
        erasures = self._recent.erasures
        try:
            page = self._log.read_back(sender_id, limit, before)
        except Exception as error:
            failure = self._log.classify(error)
            if failure is not None and failure.away:
                return None
            raise
        self._recent.note_page(sender_id, page, before, erasures)
        return page

    def _copy_of(self, sender_id: str) -> Optional[Page]:
        page = self._recent.get(sender_id)
        if page is None and self.spool is not None and self._is_durable:
            page = self.spool.copy(sender_id)
        return page

    def _resolved(self, sender_id: str, position: int) -> Optional[int]:
        """A position in the database, for one that may be in the spool.

        ``None`` if that is not known: the caller reads where the log ends.
        """
        if position < SPOOLED or self._draining is None:
            return position
        return self._draining.position_in_database(sender_id, position)

    # Outages

    @property
    def is_away(self) -> bool:
        """Whether the database is away, or a part of it."""
        return self._parts.is_away

    def suspect_silence(self) -> None:
        """A call has had no answer for long."""
        self._parts.suspect_silence()

    def begin_if_silent(self, thread: Optional[int]) -> bool:
        """Whether an outage is known, or begins, by a call that has got no answer.

        Args:
            thread: The thread of the call, of which the deadline has passed.
        """
        return thread is not None and self._parts.begin_if_silent(thread)

    def _on_begin(self, part: str, reason: str) -> None:
        if self.spool is None:
            fate = "Messages are errors until it is back ('spool: off')"
        elif self._is_durable:
            fate = (
                f"Conversations go on; messages are kept in {self.spool.name} and stored "
                f"when it is back"
            )
        else:
            fate = (
                "Conversations go on; messages are kept in memory and stored when it is "
                "back. They are lost if this process ends before: set 'spool' to the path "
                "of a file against that"
            )
        logger.warning(
            "%s is away since %s. %s. %s",
            self._parts.part(part).name,
            time.strftime("%H:%M:%S"),
            fate,
            reason,
        )
        self.on_outage()
        if self._draining is not None:
            self._draining.share_copies_in_background()

    def _on_silence(self) -> None:
        """A server that could be read in an outage does not answer any more."""
        self.on_outage()

    def _is_stored_again(self, part: str) -> bool:
        """The server answers again: whether it also stores what waits."""
        if self._draining is None:
            return not self._parts.part(part).began_with_write
        return self._draining.is_stored_again(part)

    def _on_end(self, part: str) -> None:
        """Store all that waits. Current messages do not wait for that."""
        conversations = events = 0
        if not self.is_away:
            self._probe.close()
        if self._draining is not None:
            self._draining.hand_over_all()
            if not self.is_away:
                self._attempts.clear()
                self._draining.erase_copies()
            conversations, events = self._draining.take_totals()
        availability = self._parts.part(part)
        logger.warning(
            "%s is back after %.0f seconds. %d events of %d conversations were kept "
            "meanwhile and are stored now.",
            availability.name,
            time.time() - availability.away_since,
            events,
            conversations,
        )
