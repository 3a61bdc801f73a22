"""The contract between Rasa's side and a database: one event log a conversation.

A conversation is an append-only log of events, named by its sender id. Everything
that is Rasa's (which events are new, where a session starts, brokers, retries) is
written once, in :mod:`rasa_trackers.tracker_store`; a backend keeps logs and knows
nothing of Rasa but the text of an event.

A backend is written from this module alone. Its methods are called from several
threads at once, never from the event loop, and may block, but not for longer than
the ``timeout`` that the store was configured with.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from typing import Callable, Iterable, List, NamedTuple, Optional, Sequence, Tuple

#: The position before a log's first event.
START = 0


class Entry(NamedTuple):
    """One event on its way into a log."""

    #: The event as JSON text (ASCII); what a read gives back, byte for byte.
    data: str
    #: ``Event.type_name``: "user", "bot", "action", ...
    type_name: str
    #: Seconds since the epoch, from the event; not used for ordering, ever.
    timestamp: Optional[float]
    #: The intent of a user message, else ``None``.
    intent_name: Optional[str]
    #: The event's ``name``: of an action, a slot, a form; else ``None``.
    action_name: Optional[str]


class Stored(NamedTuple):
    """One event in a log."""

    #: Grows along a log. What it counts is the backend's own business, gaps are
    #: fine; greater than ``START``. Not used again after the event was erased.
    position: int
    data: str


class Page(NamedTuple):
    """A run of consecutive events of a log, oldest first."""

    events: List[Stored]
    #: Whether the run begins with the log's first event.
    complete: bool
    #: Whose conversation it is, if that is known.
    user_id: Optional[str] = None


class User(NamedTuple):
    """Whose conversation it is; only Rasa Pro knows of users."""

    user_id: str
    #: When the conversation began, in seconds since the epoch; from its first event.
    conversation_started: Optional[float]


class Conversation(NamedTuple):
    """A conversation of a user, as it is stored."""

    sender_id: str
    #: As in :class:`User`.
    conversation_started: Optional[float]
    #: The texts of all its events, in order.
    events: List[str]


def began(conversation: Conversation) -> Tuple[float, str]:
    """What ``conversations_of`` sorts by."""
    return conversation.conversation_started or 0.0, conversation.sender_id


def timestamp_of(data: str) -> float:
    """When a stored event happened, in seconds since the epoch.

    Minus infinity where that cannot be told, which is before any time.
    """
    try:
        timestamp = json.loads(data)["timestamp"]
        return -math.inf if isinstance(timestamp, bool) else float(timestamp)
    except (LookupError, OverflowError, TypeError, ValueError, RecursionError):
        return -math.inf


#: Told that the server has answered.
Answered = Callable[[], None]


def unheard() -> None:
    """Nobody wants to know that the server has answered."""


class Failure(NamedTuple):
    """What an error of the driver means."""

    #: ``True``: it may work when tried again, and it is not known whether the
    #: statement was carried out. ``False``: it was refused, nothing was written,
    #: and trying again would change nothing.
    transient: bool
    #: What the operator can do about it: a sentence, or "".
    remedy: str = ""


class EventLog(ABC):
    """Event logs of all conversations in one database.

    **Order.** A log's order is the order of the appends, and within one append the
    order of its entries. Clocks play no part in it.

    **Atomicity.** ``append``, ``replace`` and ``delete`` take effect as a whole or
    not at all, also when the process or the server dies midway, and next to any
    number of other writers in other processes. A read never sees half an append.

    **Durability.** When ``append`` has returned, the entries survive a crash of the
    server, as far as the server is set up for it.

    **Missing ids.** An unknown sender id is an empty log; it is never an error.

    **Errors.** Methods let the driver's errors through. ``classify`` says of each
    what it means, so that retrying and reporting are written once.

    **Expiry.** With ``record_exp`` (seconds) every append renews the expiry of the
    whole conversation, by the server's clock. An expired conversation is an empty
    log, also where its events are not erased yet. One to which a writer without
    ``record_exp`` has added does not expire before the next append with it.

    **Users.** A conversation may be that of a user. This is kept with the log: written
    in the same step as the events, erased and expired with them.
    """

    #: How messages name the place: server and database, never a password.
    name: str

    #: Characters that a sender id or a user id may have; ``None`` for any number.
    max_sender_id: Optional[int] = None

    @abstractmethod
    def open(self) -> None:
        """Reach the server and create what is missing (tables, indexes).

        Several processes may do this at once. Called once before any other method,
        and again while it fails with a transient error.
        """

    @abstractmethod
    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        """Append ``entries``, if the log still ends at ``after``.

        The check and the write are one atomic step in the server. That makes a
        repeated or delayed append harmless: once anything has moved the end of the
        log, every append that names the old one writes nothing. (Only one that begins
        a conversation may still begin it after it was erased.)

        Args:
            sender_id: The conversation.
            entries: What to append, in order; at least one, or none to an existing log
                for the sake of ``user``.
            after: The position of the log's last event as far as the caller knows;
                ``START`` for an empty log.
            user: Whose conversation it is from now on. ``conversation_started`` is
                only kept where none is known yet. ``None`` leaves both as they are.

        Returns:
            The position of the last entry, or ``None`` when the log ends
            elsewhere, be it later or, once it was erased, earlier; then nothing was
            written.
        """

    @abstractmethod
    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        """Read the newest events of a log that are older than ``before``.

        Args:
            sender_id: The conversation.
            limit: About how many events to read at least, if there are as many;
                ``None`` for all. The cost must depend on it alone and not on the
                length of the log.
            before: Read only events with a lower position; ``None`` to begin with
                the log's newest event.
        """

    def confirm(self, sender_id: str) -> None:  # noqa: B027 - what is read is safe
        """See to it that what was read of a log lasts as what was appended does.

        Only for databases where a write may be seen, and lost again, before it is
        acknowledged. Called when events that were to be appended are there already.
        """

    @abstractmethod
    def sender_ids(self, answered: Answered = unheard) -> Iterable[str]:
        """The sender ids of all conversations that hold an event, each once.

        Args:
            answered: Called each time that the server has answered, where that is more
                than once.
        """

    @abstractmethod
    def delete(self, sender_id: str) -> bool:
        """Erase a conversation and all that is kept about it.

        Returns:
            Whether there was anything to erase.
        """

    @abstractmethod
    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        """Put ``entries`` in the place of a whole log; its order starts anew.

        For erasure and anonymisation. Nothing that another writer has appended
        is lost: when the log does not end at ``after`` any more, nothing is written.

        Args:
            sender_id: The conversation.
            entries: The new content, in order; none erases the conversation.
            after: The position of the last event that the caller has read.
            user: Whose conversation it is from now on, and when it began. ``None``
                leaves both as they are, unless the conversation is erased.

        Returns:
            The position of the last entry (``START`` when there is none), or
            ``None`` when the log ends elsewhere.
        """

    @abstractmethod
    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        """The conversations of a user, those that began first coming first.

        Where two began at the same time, or it is not known when, by sender id.

        Args:
            user_id: The user.
            limit: How many conversations at the most; ``None`` for all.
            skip: How many to leave out before.
        """

    @abstractmethod
    def count_conversations(
        self, after_timestamp: float, answered: Answered = unheard
    ) -> int:
        """How many conversations have had an event since then, by its timestamp.

        Without a round trip for each. A backend may look at the newest event alone,
        which makes a difference only where timestamps do not ascend.

        Args:
            after_timestamp: Seconds since the epoch, inclusive.
            answered: As for :meth:`sender_ids`.
        """

    @abstractmethod
    def classify(self, error: Exception) -> Optional[Failure]:
        """What an error means that one of these methods raised.

        Returns:
            ``None`` for an error that is not the driver's: a bug of ours.
        """

    def purge_expired(self) -> int:
        """Erase expired conversations, a bounded number a call.

        Only for databases that do not erase by themselves.

        Returns:
            How many conversations were erased.
        """
        return 0

    def interrupt(self) -> None:  # noqa: B027 - most drivers end a call by themselves
        """Make calls that wait for a silent server fail, as far as possible.

        Called from another thread when a deadline has passed, so that the waiting
        thread comes free.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up connections. The log is not used any more."""
