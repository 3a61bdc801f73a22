"""An event log in front of the log of a database that may be away.

While the database is there, calls go through to it, and copies of recent conversations
are kept. While it is away, a conversation goes on from its copy, and what is saved is
kept in the spool. When it is back, what waits of a conversation is stored before anything
else is done with that conversation.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import threading
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

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
from rasa_trackers.outage.recent import NEWER, RecentConversations, newest
from rasa_trackers.outage.spool import SPOOLED, Spool
from rasa_trackers.paging import FIRST_PAGE, end_of
from rasa_trackers.retries import AppendInDoubt
from rasa_trackers.store_options import redact

logger = logging.getLogger(__name__)

_NOTHING = Page([], complete=True)
#: Seconds between two attempts to store what waits while the database is there.
_DRAIN_INTERVAL = 1.0
#: Sender ids to look through for one of a certain part. A node of a cluster has more than
#: one in a thousand.
_MOST_SAMPLES = 10_000


class _UnderWay(NamedTuple):
    """A call to the database."""

    availability: Availability
    #: By the monotonic clock.
    begun_at: float


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
        self._secrets = secrets
        self._reads_newer = reads_newer
        self._recent = RecentConversations(
            recent_bytes if spool or reads_newer else 0, record_exp
        )
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
        self._timeout = timeout
        self._is_open = False
        self._is_closed = threading.Event()
        self._opening = threading.Lock()
        self._draining = threading.Lock()
        self._finding = threading.Lock()
        #: By the parts of the database; see :meth:`EventLog.part_of`.
        self._availabilities: Dict[str, Availability] = {}
        #: Calls to the database that are under way, by their threads.
        self._under_way: Dict[int, _UnderWay] = {}
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
        with self._opening:
            if not self._is_open:
                self._log.open()
                self._is_open = True
        if self.spool is not None and self.spool.is_durable:
            # A process that was killed in an outage leaves copies, if nothing more.
            self._drain_in_background()

    def begin_without_database(self, error: Exception) -> bool:
        """Start in an outage; ``False`` where that would lose messages."""
        if self.spool is None or not self.spool.is_durable:
            return False
        self._whole.begin(str(error))
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
        self._is_closed.set()
        for availability in list(self._availabilities.values()):
            availability.close()
        self._probe.close()
        if self._handover is not None:
            self._store_what_would_be_lost()
            self._handover.close()
        self._log.close()
        if self.spool is not None:
            self.spool.close()

    def _store_what_would_be_lost(self) -> None:
        """Memory ends with the log."""
        if self.spool is None or self.spool.is_durable:
            return
        try:
            self._hand_over_all()
        except Exception as error:  # noqa: BLE001 - what is left is told below
            logger.debug("%s: not all is stored: %s", self.name, error)
        left = self.spool.sender_ids()
        if left:
            logger.error(
                "What was said in %d conversations while %s was away is lost, because "
                "the tracker store is closed. Set 'spool' to the path of a file against "
                "that.",
                len(left),
                self.name,
            )

    # Writing

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        availability = self._availability_of(sender_id)
        if not self._asks(availability) or not self._has_handed_over(sender_id):
            return self._keep(sender_id, entries, after, user)
        resolved = self._resolved(sender_id, after)
        if resolved is None:
            return None
        try:
            with self._watched(availability, writes=True):
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

    def _has_handed_over(self, sender_id: str) -> bool:
        """Store what waits of a conversation; ``False`` if the database is away."""
        try:
            self._hand_over(sender_id)
        except Exception:
            if not self._availability_of(sender_id).is_away:
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
        availability = self._availability_of(sender_id)
        self._refuse_in_outage(availability, "changed")
        self._hand_over(sender_id)
        resolved = self._resolved(sender_id, after)
        if resolved is None:
            return None
        self._recent.forget(sender_id)
        with self._watched(availability, writes=True):
            return self._log.replace(sender_id, entries, resolved, user)

    def delete(self, sender_id: str) -> bool:
        availability = self._availability_of(sender_id)
        self._refuse_in_outage(availability, "erased")
        waited = False
        self._recent.forget(sender_id)
        if self.spool is not None and self._handover is not None:
            with self._handover.lock_of(sender_id):
                waited = self.spool.erase(sender_id)
                self._handover.forget(sender_id)
        with self._watched(availability, writes=True):
            return self._log.delete(sender_id) or waited

    def confirm(self, sender_id: str) -> None:
        availability = self._availability_of(sender_id)
        if availability.is_away:
            return  # what was read is a copy, or is in the spool
        with self._watched(availability):
            self._log.confirm(sender_id)

    def purge_expired(self) -> int:
        if self.is_away:
            return 0
        with self._watched(self._whole):
            return self._log.purge_expired()

    # Reading

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        availability = self._availability_of(sender_id)
        if self._asks(availability):
            try:
                self._hand_over(sender_id)
                with self._watched(availability):
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
        page = self._log.read_back(sender_id, limit, before)
        self._recent.note_page(sender_id, page, before)
        return page

    def _read_newer(self, sender_id: str, limit: int) -> Optional[Page]:
        """Read what is newer than a copy, and join both; ``None`` where that fails."""
        if not self._recent.reaches(sender_id, limit):
            return None
        newest_page = self._log.read_back(sender_id, NEWER)
        return self._recent.join(sender_id, newest_page, limit)

    def sender_ids(self) -> Iterator[Sequence[str]]:
        self._refuse_while_a_part_is_away("listed")
        self._hand_over_all()
        with self._watched(self._whole):
            yield from self._log.sender_ids()

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        self._refuse_while_a_part_is_away("listed")
        self._hand_over_all()
        with self._watched(self._whole):
            return self._log.conversations_of(user_id, limit, skip)

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        self._refuse_while_a_part_is_away("counted")
        self._hand_over_all()
        with self._watched(self._whole):
            yield from self._log.count_conversations(after_timestamp)

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
        return position < SPOOLED or self.spool is None or self.spool.is_durable

    def when_stored(
        self, sender_id: str, position: int, callback: Callable[[], None]
    ) -> None:
        """Call back once the event at this position is in the database."""
        if self._handover is None:
            callback()
        else:
            self._handover.when_stored(sender_id, position, callback)

    def _asks(self, availability: Availability) -> bool:
        """Whether a call asks the database first.

        Without a spool nothing else can be done once the server answers again. Whether
        it stores anything shows in the next call that writes.
        """
        return not availability.is_away or (
            self.spool is None and availability.is_readable
        )

    def _keep(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        """Append to the spool."""
        if self.spool is None or self._handover is None:
            raise self._away(self._availability_of(sender_id), "stored")
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
        if not self._availability_of(sender_id).is_away:  # it has ended meanwhile
            self._drain_in_background()
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
            raise self._away(self._availability_of(sender_id), "read")
        waiting = self.spool.waiting(sender_id) if self.spool.waits(sender_id) else None
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
        if not self._availability_of(sender_id).is_readable:
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
        if page is None and self.spool is not None and self.spool.is_durable:
            page = self.spool.copy(sender_id)
        return page

    def _resolved(self, sender_id: str, position: int) -> Optional[int]:
        """A position in the database, for one that may be in the spool.

        ``None`` if that is not known: the caller reads where the log ends.
        """
        if position < SPOOLED or self._handover is None:
            return position
        return self._handover.position_in_database(sender_id, position)

    # Outages

    @property
    def is_away(self) -> bool:
        """Whether the database is away, or a part of it."""
        return any(each.is_away for each in list(self._availabilities.values()))

    @property
    def _whole(self) -> Availability:
        """The availability of the whole database, for calls about all conversations."""
        return self._availability_of_part("")

    def _availability_of(self, sender_id: str) -> Availability:
        return self._availability_of_part(self._log.part_of(sender_id))

    def _availability_of_part(self, part: str) -> Availability:
        availability = self._availabilities.get(part)
        if availability is None:
            made = Availability(
                f"{self.name}, node {part}" if part else self.name,
                functools.partial(self._look, part),
                timeout=self._timeout,
                on_begin=functools.partial(self._on_begin, part),
                on_silence=self._on_silence,
                on_return=functools.partial(self._is_stored_again, part),
                on_end=functools.partial(self._on_end, part),
            )
            # Another thread may have come first.
            availability = self._availabilities.setdefault(part, made)
        return availability

    def _look(self, part: str) -> None:
        """Look whether the server of a part is there."""
        if not self._is_open:
            self._probe.open()
            with self._opening:
                self._log.open()
                self._is_open = True
            return
        # A conversation that hardly exists, so that looking at it changes nothing.
        samples = itertools.chain([""], map(str, range(_MOST_SAMPLES)))
        sample = next((each for each in samples if self._log.part_of(each) == part), "")
        try:
            self._probe.read(sample)
        except Exception:
            if part:
                self._find_parts_in_background()
            raise

    def _find_parts_in_background(self) -> None:
        """Learn what another part has taken over from one that is away."""
        if self._finding.acquire(blocking=False):
            threading.Thread(
                target=self._find_parts, name="rasa_trackers-parts", daemon=True
            ).start()

    def _find_parts(self) -> None:
        try:
            self._log.find_parts()
        except Exception as error:  # noqa: BLE001 - the next probe asks again
            logger.debug("%s: its parts are not known: %s", self.name, error)
        finally:
            self._finding.release()

    def suspect_silence(self) -> None:
        """A call has had no answer for long."""
        if not self._is_open:
            return
        for call in list(self._under_way.values()):
            call.availability.suspect()

    def begin_if_silent(self, thread: Optional[int]) -> bool:
        """Whether an outage is known, or begins, by a call that has got no answer.

        Args:
            thread: The thread of the call, of which the deadline has passed.
        """
        call = self._under_way.get(thread or 0)
        if self.spool is None or not self._is_open or call is None:
            return False
        if not call.availability.is_silent_since(call.begun_at):
            return False
        call.availability.begin(
            f"It did not answer within {self._timeout:g} seconds. Check that the server "
            f"runs and can be reached."
        )
        return call.availability.is_away

    @contextlib.contextmanager
    def _watched(
        self, availability: Availability, *, writes: bool = False
    ) -> Iterator[None]:
        begun_at = time.monotonic()
        thread = threading.get_ident()
        self._under_way[thread] = _UnderWay(availability, begun_at)
        try:
            yield
        except Exception as error:
            release_frames(error)
            failure = self._log.classify(error)
            if failure is not None and failure.away:
                availability.failed(
                    failure,
                    self._described(error, failure),
                    begun_at=begun_at,
                    writes=writes,
                )
            elif says_away(error):  # of a hand-over
                availability.begin(str(error), writes=writes)
            raise
        finally:
            self._under_way.pop(thread, None)
        availability.succeeded()
        if availability.is_away and self.spool is None and writes:
            availability.end()

    def _described(self, error: Exception, failure: Failure) -> str:
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        text = redact(text or type(error).__name__, self._secrets).rstrip(".?")
        return f"{text}. {failure.remedy}".rstrip()

    def _on_begin(self, part: str, reason: str) -> None:
        spool = self.spool
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
            self._availability_of_part(part).name,
            time.strftime("%H:%M:%S"),
            fate,
            reason,
        )
        self.on_outage()
        if spool is not None and spool.is_durable:
            threading.Thread(
                target=self._share_copies, name="rasa_trackers-copies", daemon=True
            ).start()

    def _on_silence(self) -> None:
        """A server that could be read in an outage does not answer any more."""
        self.on_outage()

    def _share_copies(self) -> None:
        """Let other processes of the machine, and the next one, know the copies."""
        assert self.spool is not None  # noqa: S101 - asked before
        for sender_id, page in self._recent.all_newest_first():
            if not self.is_away or self._is_closed.is_set():
                return
            if self._availability_of(sender_id).is_away:
                self.spool.keep_copy(sender_id, page)

    def _erase_copies(self) -> None:
        """Forget the copies in the spool: the database is back."""
        assert self.spool is not None  # noqa: S101 - asked before
        self.spool.erase_copies()
        if self.is_away:  # an outage has begun meanwhile, and needs them
            self._share_copies()

    def _is_stored_again(self, part: str) -> bool:
        """The server answers again: whether it also stores what waits."""
        if self._handover is None or self.spool is None:
            return not self._availability_of_part(part).began_with_write
        try:
            self._handover.hand_over_first(
                [
                    sender_id
                    for sender_id in sorted(self.spool.sender_ids())
                    if self._log.part_of(sender_id) == part
                ]
            )
        except Exception as error:
            if not is_unavailable(error):
                raise
            return False
        return True

    def _on_end(self, part: str) -> None:
        """Store all that waits. Current messages do not wait for that."""
        conversations = events = 0
        if not self.is_away:
            self._probe.close()
        if self._handover is not None and self.spool is not None:
            self._hand_over_all()
            if not self.is_away:
                self._attempts.clear()
                self._erase_copies()
            conversations, events = self._handover.take_totals()
        availability = self._availability_of_part(part)
        logger.warning(
            "%s is back after %.0f seconds. %d events of %d conversations were kept "
            "meanwhile and are stored now.",
            availability.name,
            time.time() - availability.away_since,
            events,
            conversations,
        )

    def _hand_over(self, sender_id: str) -> None:
        """Store what waits of a conversation before anything else is done with it."""
        if self.spool is None or self._handover is None:
            return
        if self.spool.waits(sender_id):
            with self._watched(self._availability_of(sender_id), writes=True):
                self._handover.hand_over(sender_id)
            self._drain_in_background()

    def _hand_over_all(self) -> None:
        """Store what waits, of all conversations whose server is there."""
        if self.spool is None or self._handover is None:
            return
        by_part: Dict[str, List[str]] = {}
        for sender_id in sorted(self.spool.sender_ids()):
            by_part.setdefault(self._log.part_of(sender_id), []).append(sender_id)
        for part, sender_ids in by_part.items():
            availability = self._availability_of_part(part)
            if not availability.is_away:
                with self._watched(availability, writes=True):
                    self._handover.hand_over_all(sender_ids)

    def _drain_in_background(self) -> None:
        """Store what this process, another one or an earlier one has left waiting."""
        if self._draining.acquire(blocking=False):
            threading.Thread(
                target=self._drain, name="rasa_trackers-drain", daemon=True
            ).start()

    def _drain(self) -> None:
        assert self.spool is not None  # noqa: S101 - asked before
        try:
            # In an outage, its end does the same.
            while not self._is_closed.is_set() and not self._is_away_or_ending:
                try:
                    self._hand_over_all()
                    if not self.is_away:
                        self._erase_copies()
                    self._report_drain()
                except Exception as error:  # noqa: BLE001 - tried again
                    logger.debug("%s: not all is stored yet: %s", self.name, error)
                else:
                    return
                self._is_closed.wait(_DRAIN_INTERVAL)
        finally:
            self._draining.release()

    @property
    def _is_away_or_ending(self) -> bool:
        return any(
            each.is_away or each.is_ending
            for each in list(self._availabilities.values())
        )

    def _report_drain(self) -> None:
        """Say what was left by an earlier process, or of an outage that is long over."""
        if self._handover is None or self._is_away_or_ending:
            return
        conversations, events = self._handover.take_totals()
        if events:
            logger.info(
                "%s: %d events of %d conversations that waited are stored now.",
                self.name,
                events,
                conversations,
            )

    def _refuse_in_outage(self, availability: Availability, done: str) -> None:
        if not self._asks(availability):
            raise self._away(availability, done)

    def _refuse_while_a_part_is_away(self, done: str) -> None:
        for availability in list(self._availabilities.values()):
            self._refuse_in_outage(availability, done)

    def _away(self, availability: Availability, done: str) -> Exception:
        since = time.strftime("%H:%M:%S", time.localtime(availability.away_since))
        return store_unavailable(
            f"{availability.name} is away since {since}, so that nothing can be {done}. "
            f"Repeat it when the database is back. {availability.reason}"
        )
