"""The contract between a tracker store and a database: one event log a conversation.

A conversation is an append-only log of events. Its name is the conversation's sender id.
All that belongs to Rasa (which events are new, where a session starts, event brokers,
retries) stands above this contract and is written once. A backend keeps logs, and knows
nothing of Rasa but the text of an event.

A backend is written from this module alone: a subclass of :class:`EventLog`.
``tests/contract`` checks every clause of it without Rasa, for any backend::

    python -m pytest tests/contract --event-log package.module:factory

The example in ``docs/examples`` is a complete backend with its tracker store.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

#: The position before a log's first event. Every event has a greater one.
START = 0

#: Events that a page may hold beyond what was asked for: a backend that stores events in
#: blocks need not cut the oldest block of a page.
PAGE_SLACK = 250


class Entry(NamedTuple):
    """One event on its way into a log."""

    #: The event as JSON text in ASCII. A read gives it back byte for byte. A log keeps
    #: other text as well: it may hold damaged events, and those must not get worse.
    data: str
    #: ``Event.type_name``: "user", "bot", "action", ...
    type_name: str
    #: Seconds since the epoch, from the event; it may be missing. Never used for order.
    timestamp: Optional[float]
    #: The intent of a user message, otherwise ``None``.
    intent_name: Optional[str]
    #: The event's ``name`` (of an action, a slot, a form), otherwise ``None``.
    action_name: Optional[str]


class Stored(NamedTuple):
    """One event in a log."""

    #: See "Positions" in :class:`EventLog`.
    position: int
    #: The text of :attr:`Entry.data`.
    data: str


class Page(NamedTuple):
    """A run of consecutive events of a log, oldest first."""

    events: List[Stored]
    #: True if and only if no event of the log is older than those of the page: the run
    #: begins with the log's first event, or nothing in the log is old enough.
    complete: bool
    #: The user whose conversation it is; ``None`` if there is none, or no event.
    user_id: Optional[str] = None


class User(NamedTuple):
    """The user whose conversation it is. Only Rasa Pro has users."""

    user_id: str
    #: When the conversation began: seconds since the epoch, by its first event.
    conversation_started: Optional[float]


class Conversation(NamedTuple):
    """A whole conversation of a user."""

    sender_id: str
    #: As in :class:`User`.
    conversation_started: Optional[float]
    #: The texts of all its events, in order.
    events: List[str]


def conversation_order(conversation: Conversation) -> Tuple[float, str]:
    """The key by which ``conversations_of`` sorts."""
    return conversation.conversation_started or 0.0, conversation.sender_id


def timestamp_of(data: str) -> float:
    """When a stored event happened, in seconds since the epoch.

    Minus infinity, which is before any time, where the text does not say it.
    """
    try:
        timestamp = json.loads(data)["timestamp"]
        return -math.inf if isinstance(timestamp, bool) else float(timestamp)
    except (LookupError, OverflowError, TypeError, ValueError, RecursionError):
        return -math.inf


class Failure(NamedTuple):
    """What an error of the driver means."""

    #: ``True``: the same call may work later, and nobody knows whether this one was
    #: carried out. ``False``: the server has refused it, nothing was written, and the
    #: same call would be refused again.
    transient: bool
    #: What the operator can do about it: a sentence, or "".
    remedy: str = ""
    #: Whether the database as a whole cannot serve anybody now: the server refuses
    #: connections, is silent, starts, is read-only, has no connection or no disk space
    #: left. ``False`` for what concerns one call: a conflict, a lock, a value.
    away: bool = False


class EventLog(ABC):
    """Event logs of all conversations in one database.

    **Making one.** A backend's own constructor takes what it needs, among it the two
    options of a store that concern it: ``record_exp`` (see "Expiry") and ``timeout``. A
    constructor does not wait for a server: :meth:`open` does.

    **Threads.** Several threads call the methods at the same time. No method runs on an
    event loop, so each may block; but none may wait longer than about ``timeout`` seconds
    for a server that stays silent, unless :meth:`interrupt` ends the wait. Several
    processes, on several machines, have logs of the same database open.

    **Sender ids.** A sender id is any text of at most ``max_sender_id`` characters. Two
    sender ids that differ in any character name two logs: case, accents, and spaces at
    the end count. A database that cannot store a character (NUL, half a surrogate pair)
    or the empty text raises an error that :meth:`classify` calls permanent; it never
    stores the text in another form. The same holds for user ids. A caller checks the
    length before; a backend need not.

    **Unknown conversations.** A sender id that nobody has used is an empty log and never
    an error.

    **Order.** The order of a log is the order of its appends, and within one append the
    order of its entries. Clocks play no part in it.

    **Positions.** Positions ascend along a log; gaps are fine. A new event's position is
    greater than every position that its conversation ever had, also when the log was
    deleted, replaced or expired in the meantime. So an append or a replace that arrives
    late finds its position only where it belongs.

    **Atomicity.** ``append``, ``replace`` and ``delete`` take effect as a whole or not at
    all, also when the process or the server dies midway, and beside any number of other
    writers. No read sees a part of them.

    **Durability.** Entries survive a crash of the server once ``append`` or ``replace``
    has returned, as far as the server is set up for it.

    **Expiry.** With ``record_exp`` (seconds) each append begins the life of the whole
    conversation anew, by the server's clock; so does an append of no entries to a log
    that has events. An expired conversation is an empty log, also where its events are
    not erased yet. Its user is gone with it. A ``replace`` is no message and leaves the
    expiry date as it is; only where the log was empty does it begin a life. An append by
    a log without ``record_exp`` makes the conversation permanent until the next append
    by a log that has it. A log without ``record_exp`` may still see an expired
    conversation that nobody has erased yet.

    **Users.** A log with :attr:`keeps_users` keeps the user of a conversation: written in
    the same step as the events, erased and expired with them. A log without it ignores
    ``user``, gives no ``user_id`` and finds no conversation of any user; ``delete`` still
    erases what is stored about one.

    **Cost.** What :meth:`append` and :meth:`read_back` ask of the server and get from it
    (round trips, rows, bytes) depends on the entries and on ``limit`` alone: not on the
    length of the log, on how far back ``before`` lies, or on other conversations.

    **Errors.** Methods let the driver's errors through, or raise errors of the backend's
    own. :meth:`classify` says what each of them means. Retries and messages are written
    once, above.
    """

    #: How messages name the place: server and database, never a password.
    name: str

    #: Characters that a sender id or a user id may have; ``None`` for any number.
    max_sender_id: Optional[int] = None

    #: Whether the log keeps users; see "Users".
    keeps_users: bool = True

    @abstractmethod
    def open(self) -> None:
        """Reach the server and create what is missing (tables, indexes).

        Called before any other method, and again while it fails with a transient error.
        Several processes may do this at the same time. Opening an open log is harmless.
        """

    @abstractmethod
    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        """Append ``entries`` if the log still ends at ``after``.

        The check and the write are one atomic step in the server. That makes a repeated
        or delayed append harmless: once anything has moved the end of the log, every
        append that names the old end writes nothing. One exception remains: an append
        after ``START`` that is delayed beyond an erasure begins the conversation again.

        Args:
            sender_id: The conversation.
            entries: What to append, in order. None of them is allowed: that renews the
                expiry date and stores ``user``. On an empty log it writes nothing at
                all, not even ``user``.
            after: The position of the log's last event as far as the caller knows;
                ``START`` for an empty log.
            user: The user whose conversation it is from now on.
                ``conversation_started`` is stored only where none is known yet.
                ``None`` leaves both as they are.

        Returns:
            The position of the log's last event now: that of the last entry; ``after``
            where there are no entries. ``None`` if the log ends elsewhere, be it later
            or, after an erasure, earlier; then nothing was written.
        """

    @abstractmethod
    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        """Read the newest events of a log that are older than ``before``.

        Args:
            sender_id: The conversation.
            limit: How many events to read; 1 or more. ``None`` for all of them. The page
                has fewer only if it is complete. It may have up to ``PAGE_SLACK`` more.
            before: Read only events with a lower position. ``None`` begins with the
                log's newest event.

        Returns:
            The page; complete and without events where there is nothing to read.
        """

    def confirm(self, sender_id: str) -> None:  # noqa: B027 - most reads are safe
        """Make sure that what was read of a log is as durable as an append.

        Called when events that were to be appended are in the log already. Only needed
        for a database where a reader may see a write that can still be lost.
        """

    @abstractmethod
    def sender_ids(self) -> Iterator[Sequence[str]]:
        """The sender ids of all conversations that have an event.

        In batches, of which each follows an answer of the server: the caller tells a
        slow server from a silent one by them. A batch may be empty. Each sender id comes
        once. A conversation that begins or ends meanwhile may be there or not.
        """

    @abstractmethod
    def delete(self, sender_id: str) -> bool:
        """Erase a conversation and everything that is stored about it.

        Whatever the options of this log are: its user and its expiry date are erased
        too, where another store has left them.

        Returns:
            Whether the log had events. ``False`` for one that had expired, of which the
            rest is erased.
        """

    @abstractmethod
    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        """Put ``entries`` in the place of a whole log, if it still ends at ``after``.

        For erasure and anonymisation.

        Args:
            sender_id: The conversation.
            entries: The new content, in order; none of them erases the conversation.
            after: The position of the last event that the caller has read; ``START``
                for an empty log.
            user: The user whose conversation it is from now on, and when it began.
                ``None`` leaves both as they are, unless the conversation is erased.

        Returns:
            The position of the last entry; ``START`` when there is none. ``None`` if the
            log ends elsewhere; then nothing was written.
        """

    @abstractmethod
    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        """The conversations of a user, in the order of :func:`conversation_order`.

        Args:
            user_id: The user.
            limit: How many conversations at most; 1 or more. ``None`` for all of them.
            skip: How many to leave out at the beginning.
        """

    @abstractmethod
    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        """How many conversations have had an event since then, by its timestamp.

        Without a round trip for each conversation. A backend may look at the newest event
        of a conversation alone: where timestamps do not ascend along a log, it may count
        too few.

        Args:
            after_timestamp: Seconds since the epoch, inclusive.

        Yields:
            Numbers that add up to the count. Each follows an answer of the server, as
            with :meth:`sender_ids`.
        """

    @abstractmethod
    def classify(self, error: Exception) -> Optional[Failure]:
        """What an error means that one of these methods raised.

        Only what is known to pass is transient.

        Returns:
            ``None`` for an error that is not the driver's: a mistake in this package.
        """

    def part_of(self, sender_id: str) -> str:
        """The part of the database that holds a conversation, without asking a server.

        For a database of which a part can be away while the others serve on: the node
        of a cluster. Messages name it. It may change when conversations move.

        Returns:
            Its name; "" where all of the database is there, or none of it.
        """
        return ""

    def find_parts(self) -> None:  # noqa: B027 - most databases have one part
        """Ask the servers which part holds which conversation now.

        Called while a part is away, in a thread that no other call waits for: what was
        in that part may have moved. Raises what the driver raises.
        """

    def purge_expired(self) -> int:
        """Erase conversations that have expired, a bounded number a call.

        Only needed for a database that does not erase them by itself.

        Returns:
            How many were erased; 0 when none is left.
        """
        return 0

    def interrupt(self) -> None:  # noqa: B027 - most drivers end a call by themselves
        """Make calls fail that wait for a silent server, as far as possible.

        Called from another thread when a deadline has passed, so that the thread that
        waits is free again. A call that fails for this reason is transient.
        """

    def before_fork(self) -> None:  # noqa: B027 - most drivers need nothing
        """Prepare for ``os.fork``, in the thread that forks.

        Only needed where connections share state of the process, such as locks on files:
        a child that opened connections of its own would inherit that state. Waits a few
        seconds at most for calls under way. No call begins before :meth:`after_fork`.
        """

    def after_fork(self) -> None:  # noqa: B027 - see above
        """Let calls begin again: in the parent.

        A child makes a log of its own and leaves this one alone. Where the conversations
        are in the memory of the log, the child has a copy of them in this one, and calls
        this method too.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up all connections. Nobody uses the log afterwards."""
