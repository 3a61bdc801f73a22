"""Which parts of a database are away, by the calls to them and by probes."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import threading
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from rasa_trackers.errors import release_frames, says_away, store_unavailable
from rasa_trackers.event_log import EventLog, Failure
from rasa_trackers.outage.availability import Availability
from rasa_trackers.outage.background import start_thread
from rasa_trackers.outage.probe import Probe
from rasa_trackers.retries import text_of

logger = logging.getLogger(__name__)

#: Sender ids to look through for one of a certain part. A node of a cluster has more than
#: one in a thousand.
_MOST_SAMPLES = 10_000


class _UnderWay(NamedTuple):
    """A call to the database."""

    availability: Availability
    #: By the monotonic clock.
    begun_at: float


class Parts:
    """The parts of a database that can be away alone: see :meth:`EventLog.part_of`.

    The part "" is the whole of it, for calls about all conversations.
    """

    def __init__(
        self,
        log: EventLog,
        probe: Probe,
        *,
        has_spool: bool,
        timeout: float,
        secrets: Sequence[Optional[str]],
        on_begin: Callable[[str, str], None],
        on_silence: Callable[[], None],
        on_return: Callable[[str], bool],
        on_end: Callable[[str], None],
    ) -> None:
        """Take all parts for available.

        Args:
            log: The log in the database.
            probe: Looks whether the server is there.
            has_spool: Whether calls go on without the database.
            timeout: Seconds that the server may stay silent.
            secrets: Passwords, never to be shown.
            on_begin: Called with a part that has gone away, and why.
            on_silence: Called when a part that could be read does not answer any more.
            on_return: Called when a part answers again; whether its outage is over.
            on_end: Called when the outage of a part is over, until it raises nothing.
        """
        self._log = log
        self._probe = probe
        self._has_spool = has_spool
        self._timeout = timeout
        self._secrets = secrets
        self._on_begin = on_begin
        self._on_silence = on_silence
        self._on_return = on_return
        self._on_end = on_end
        self._is_open = False
        self._opening = threading.Lock()
        self._finding = threading.Lock()
        self._availabilities: Dict[str, Availability] = {}
        #: Calls to the database that are under way, by their threads.
        self._under_way: Dict[int, _UnderWay] = {}

    def open(self) -> None:
        """Open the log, unless a probe has done so in an outage."""
        with self._opening:
            if not self._is_open:
                self._log.open()
                self._is_open = True

    def close(self) -> None:
        """Probe no more."""
        for availability in self.all:
            availability.close()
        self._probe.close()

    # Availabilities

    @property
    def all(self) -> List[Availability]:
        """The availability of each part that was asked for."""
        return list(self._availabilities.values())

    @property
    def whole(self) -> Availability:
        """The availability of the whole database."""
        return self.part("")

    def of(self, sender_id: str) -> Availability:
        """The availability of the part that a conversation is in."""
        return self.part(self._log.part_of(sender_id))

    def part(self, part: str) -> Availability:
        """The availability of a part."""
        availability = self._availabilities.get(part)
        if availability is None:
            made = self._made(part)
            # Another thread may have come first.
            availability = self._availabilities.setdefault(part, made)
        return availability

    def _made(self, part: str) -> Availability:
        return Availability(
            f"{self._log.name}, node {part}" if part else self._log.name,
            functools.partial(self._look, part),
            timeout=self._timeout,
            on_begin=functools.partial(self._on_begin, part),
            on_silence=self._on_silence,
            on_return=functools.partial(self._on_return, part),
            on_end=functools.partial(self._on_end, part),
        )

    @property
    def is_away(self) -> bool:
        """Whether the database is away, or a part of it."""
        return any(each.is_away for each in self.all)

    @property
    def is_away_or_ending(self) -> bool:
        """The same, or what waited in an outage is being stored."""
        return any(each.is_away or each.is_ending for each in self.all)

    # Calls

    @contextlib.contextmanager
    def watched(
        self, availability: Availability, *, writes: bool = False
    ) -> Iterator[None]:
        """Learn from a call to the database whether it is there.

        Args:
            availability: Of the part that is called.
            writes: Whether the call writes.
        """
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
        if availability.is_away and not self._has_spool and writes:
            availability.end()

    def _described(self, error: Exception, failure: Failure) -> str:
        return f"{text_of(error, self._secrets)} {failure.remedy}".rstrip()

    def suspect_silence(self) -> None:
        """A call has had no answer for long."""
        if not self._is_open:
            return
        for call in list(self._under_way.values()):
            call.availability.suspect()

    def begin_if_silent(self, thread: int) -> bool:
        """Whether an outage is known, or begins, by a call that has got no answer.

        Args:
            thread: The thread of the call, of which the deadline has passed.
        """
        call = self._under_way.get(thread)
        if not self._has_spool or not self._is_open or call is None:
            return False
        if not call.availability.is_silent_since(call.begun_at):
            return False
        call.availability.begin(
            f"It did not answer within {self._timeout:g} seconds. Check that the server "
            f"runs and can be reached."
        )
        return call.availability.is_away

    def asks(self, availability: Availability) -> bool:
        """Whether a call asks the database first.

        Without a spool nothing else can be done once the server answers again. Whether
        it stores anything shows in the next call that writes.
        """
        return not availability.is_away or (
            not self._has_spool and availability.is_readable
        )

    def refuse_if_away(self, availability: Availability, done: str) -> None:
        """Raise for what is not done without the database.

        Args:
            availability: Of the part that is needed.
            done: What cannot be done, as a participle.

        Raises:
            ConnectionException: in an outage.
        """
        if not self.asks(availability):
            raise self.away(availability, done)

    def refuse_if_any_is_away(self, done: str) -> None:
        """The same for what needs all parts."""
        for availability in self.all:
            self.refuse_if_away(availability, done)

    @staticmethod
    def away(availability: Availability, done: str) -> Exception:
        """The error for what is not done without the database."""
        since = time.strftime("%H:%M:%S", time.localtime(availability.away_since))
        return store_unavailable(
            f"{availability.name} is away since {since}, so that nothing can be {done}. "
            f"Repeat it when the database is back. {availability.reason}"
        )

    # Probes

    def _look(self, part: str) -> None:
        """Look whether the server of a part is there."""
        if not self._is_open:
            self._probe.open()
            self.open()
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
        if self._finding.acquire(blocking=False) and not start_thread(
            self._find_parts, "parts"
        ):
            self._finding.release()

    def _find_parts(self) -> None:
        try:
            self._log.find_parts()
        except Exception as error:  # noqa: BLE001 - the next probe asks again
            text = text_of(error, self._secrets)
            logger.debug("%s: its parts are not known: %s", self._log.name, text)
        finally:
            self._finding.release()
