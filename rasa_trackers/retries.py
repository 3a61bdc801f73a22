"""Calls to an event log that are tried again until a deadline."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import random
import threading
import time
from typing import Callable, Iterator, List, Optional, Sequence, TypeVar

from rasa_trackers.errors import (
    release_frames,
    sentence,
    store_error,
    store_unavailable,
)
from rasa_trackers.event_log import Conversation, Entry, EventLog, Failure, Page, User
from rasa_trackers.store_options import redact

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds before the first retry; doubled from one retry to the next.
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
#: The longest pause while the server is away. An outage is known 0.3 s after it has begun
#: (``outage.availability``), and a call that sleeps longer keeps its caller waiting.
_LONGEST_PAUSE_WHILE_AWAY = 0.1
#: Seconds after which an operator learns that Rasa waits for a server at its start.
_FIRST_NEWS = 1.0
#: Times that a call in batches may begin anew while each batch moves the deadline on. A
#: server that breaks off at the same batch each time would move it on for ever.
_MOST_BEGINNINGS = 3


class AppendInDoubt(Exception):
    """An append may have been carried out, and the log is known to end elsewhere.

    The caller reads what the log has, as after a conflict. Events that it finds there may
    be those which it has appended.
    """


class Deadline:
    """Until when a call may take; moved on whenever the server has answered.

    It limits how long a server may stay silent, and not how long a big read may take.
    """

    def __init__(self, timeout: float) -> None:
        #: Seconds that the server may stay silent.
        self.timeout = timeout
        self._given_up = False
        self.renew()

    def renew(self) -> None:
        """The server has answered: the time begins anew."""
        self._answered_at = time.monotonic()
        self._end = self._answered_at + self.timeout

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Work that waits for no server takes as long as it takes."""
        self._end = self._answered_at = math.inf
        try:
            yield
        finally:
            self.renew()

    def give_up(self) -> None:
        """Let it have passed for good: the caller was told that the call has failed."""
        self._given_up = True

    def silence(self) -> float:
        """Seconds since the server has answered; negative while nobody asks it."""
        return time.monotonic() - self._answered_at

    def left(self) -> float:
        """Seconds left; negative when it has passed."""
        return -1 if self._given_up else self._end - time.monotonic()


class DeadlineLog(EventLog):
    """An event log bound to the deadline of one call of a tracker store.

    A method tries again after a transient failure. It raises ``ConnectionException``
    when the deadline has passed, and ``RasaException`` for what the server refuses;
    both say what to do, and neither shows a password.
    """

    def __init__(
        self,
        log: EventLog,
        deadline: Deadline,
        secrets: Sequence[Optional[str]] = (),
        *,
        waits_while_away: bool = True,
    ) -> None:
        """Bind a log to a deadline.

        Args:
            log: The log to call.
            deadline: Until when.
            secrets: Passwords that the driver could put into an error's text.
            waits_while_away: Whether to try again while the database is away.
        """
        self.name = log.name
        self.max_sender_id = log.max_sender_id
        self.keeps_users = log.keeps_users
        self.deadline = deadline
        #: Whether an append has failed, so that it may have been carried out, or may be.
        self.is_in_doubt = False
        #: Whether the call has a thread among those for long calls.
        self.is_long = False
        self._log = log
        self._secrets = secrets
        self._waits_while_away = waits_while_away

    def open(self) -> None:
        self._with_retries(self._log.open)

    def open_at_start(self) -> None:
        """As :meth:`open`; says so while the server does not answer."""
        waiting = threading.Timer(_FIRST_NEWS, self._announce_silence)
        waiting.daemon = True
        waiting.start()
        try:
            self._with_retries(self._log.open, waiting)
        finally:
            waiting.cancel()

    def _announce_silence(self) -> None:
        logger.warning(
            "%s has not answered yet. Waiting for up to %.0f seconds.",
            self.name,
            self.deadline.left(),
        )

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        def attempt() -> Optional[int]:
            try:
                return self._log.append(sender_id, entries, after, user)
            except AppendInDoubt:
                self.is_in_doubt = True
                return None
            except Exception:
                self.is_in_doubt = True
                raise

        return self._with_retries(attempt)

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        return self._with_retries(
            functools.partial(self._log.read_back, sender_id, limit, before)
        )

    def confirm(self, sender_id: str) -> None:
        self._with_retries(functools.partial(self._log.confirm, sender_id))

    def sender_ids(self) -> Iterator[Sequence[str]]:
        yield from self.all_batches(self._log.sender_ids)

    def delete(self, sender_id: str) -> bool:
        return self._with_retries(functools.partial(self._log.delete, sender_id))

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        return self._with_retries(
            functools.partial(self._log.replace, sender_id, entries, after, user)
        )

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        return self._with_retries(
            functools.partial(self._log.conversations_of, user_id, limit, skip)
        )

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        yield from self.all_batches(
            functools.partial(self._log.count_conversations, after_timestamp)
        )

    def classify(self, error: Exception) -> Optional[Failure]:
        return self._log.classify(error)

    def purge_expired(self) -> int:
        return self._with_retries(self._log.purge_expired)

    def interrupt(self) -> None:
        self._log.interrupt()

    def close(self) -> None:
        self._log.close()

    def attempt(self, call: Callable[[], T]) -> T:
        """Call a function that uses the log's database, with retries as the methods."""
        return self._with_retries(call)

    def all_batches(self, begin: Callable[[], Iterator[T]]) -> List[T]:
        """Read all batches; after a failure, anew from the first one.

        Each batch follows an answer of the server, and moves the deadline on.
        """
        beginnings = 0

        def attempt() -> List[T]:
            nonlocal beginnings
            beginnings += 1
            batches = []
            for batch in begin():
                batches.append(batch)
                if beginnings <= _MOST_BEGINNINGS:
                    self.deadline.renew()
            return batches

        return self._with_retries(attempt)

    def _with_retries(
        self, call: Callable[[], T], waiting: Optional[threading.Timer] = None
    ) -> T:
        """Call until it succeeds, the deadline has passed, or there is no point in it.

        Args:
            call: What to call.
            waiting: Says that there is no answer, unless there is one before. Without
                it, nobody needs to be told that the database is away.
        """
        pause = _FIRST_PAUSE
        last: Optional[Exception] = None
        while True:
            if self.deadline.left() <= 0:
                raise last or silent(self.name, self.deadline)
            try:
                result = call()
            except Exception as error:
                release_frames(error)
                failure = self._log.classify(error)
                if failure is None:
                    raise
                if failure.away:
                    pause = min(pause, _LONGEST_PAUSE_WHILE_AWAY)
                is_final = failure.away and not self._waits_while_away
                translated = self._translated(error, failure)
                if is_final or not failure.transient or self.deadline.left() <= pause:
                    raise translated from self._cause(error)
                if last is None:
                    self._announce_retries(error, failure, waiting)
                last = translated
                # At random, so that writers that disturbed each other do so only once.
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if last is not None:
                    logger.log(
                        logging.DEBUG if waiting is None else logging.INFO,
                        "%s: works again.",
                        self.name,
                    )
                self.deadline.renew()
                return result

    def _announce_retries(
        self, error: Exception, failure: Failure, waiting: Optional[threading.Timer]
    ) -> None:
        if waiting is not None:
            waiting.cancel()
        # An outage is reported once, and not by each call that meets it.
        is_reported = failure.away and waiting is None
        logger.log(
            logging.DEBUG if is_reported else logging.WARNING,
            "%s: %s Trying again for up to %.0f seconds.",
            self.name,
            self._text(error),
            self.deadline.left(),
        )

    def _translated(self, error: Exception, failure: Failure) -> Exception:
        remedy = failure.remedy or "Check the server's log."
        text = f"{self.name}: {self._text(error)} {remedy}"
        if failure.transient or failure.away:
            return store_unavailable(text, is_away=failure.away)
        return store_error(text)

    def _text(self, error: Exception) -> str:
        return text_of(error, self._secrets)

    def _cause(self, error: Exception) -> Optional[Exception]:
        # A traceback prints the text of the cause: only when no password stands in it.
        return error if redact(str(error), self._secrets) == str(error) else None


def text_of(error: Exception, secrets: Sequence[Optional[str]]) -> str:
    """What an error of the driver says, as whole sentences without passwords."""
    driver_error = getattr(error, "orig", None) or error
    # Before it is put on one line, which would change a password with spaces.
    text = redact(str(driver_error), secrets).strip()
    return sentence(text or type(driver_error).__name__)


def silent(name: str, deadline: Deadline) -> Exception:
    """The error for a server that stayed silent until a deadline."""
    return store_unavailable(
        f"{name} did not answer within {deadline.timeout:g} seconds. Check that the "
        f"server runs, can be reached and is not overloaded. The option 'timeout' of the "
        f"tracker store says how long to wait, and 'startup_timeout' does at the start.",
        is_away=True,
    )
