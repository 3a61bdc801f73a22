"""Rasa's tracker store contract, on top of an event log.

The way of an event: ``save`` finds the tracker's new events and encodes them,
:meth:`rasa_trackers.event_log.EventLog.append` sends them, the server keeps them.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import math
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
)

from rasa_trackers import rasa_versions
from rasa_trackers.calls import Calls, Deadline
from rasa_trackers.codec import (
    EventDecoder,
    Serialise,
    UndecodableEvent,
    encode,
    unreadable,
)
from rasa_trackers.event_log import (
    START,
    Answered,
    Conversation,
    Entry,
    EventLog,
    Page,
    Stored,
    User,
    timestamp_of,
    unheard,
)
from rasa_trackers.rasa_versions import (
    ConnectionException,
    DialogueStateTracker,
    Domain,
    Event,
    RasaException,
    TrackerStore,
)
from rasa_trackers.reconciliation import Choice, new_events, rewritten

logger = logging.getLogger(__name__)

Constructor = TypeVar("Constructor", bound=Callable[..., None])
Result = TypeVar("Result")

#: Events that the first read of a session asks for: most sessions are shorter, and
#: what is read in vain is not decoded. Each further read asks for four times more.
_FIRST_PAGE = 100
#: Events that a session may have grown by since it was read last.
_TURN = 30
#: Longer sessions whose length is remembered, to read them in one round trip too: 1 MB.
_LONG_SESSIONS = 10_000
#: Seconds between two searches for expired conversations, at the most.
_PURGE_INTERVAL = 60.0

#: Times that other writers may be faster before a save gives up.
_MOST_CONFLICTS = 1000
#: Times that a call in parts is begun with a deadline that moves on.
_MOST_BEGINNINGS = 3
#: Events that are encoded or decoded at a time.
_SLICE = 250

_MARK = "_rasa_trackers_mark"

#: Places that a store of this process has been at: its options are right.
_OPENED: Set[Tuple[object, ...]] = set()


class _Expected:
    """How many events to ask for at first, to read a session in one round trip.

    What was read last time and some more, for it has grown. Only ever a guess: another
    process may have begun a new session.
    """

    def __init__(self) -> None:
        self._lengths: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, sender_id: str) -> int:
        length = self._lengths.get(sender_id, 0)
        return max(_FIRST_PAGE, length + length // 8 + _TURN)

    def __setitem__(self, sender_id: str, length: int) -> None:
        with self._lock:
            self._lengths.pop(sender_id, None)
            if length + length // 8 + _TURN > _FIRST_PAGE:
                self._lengths[sender_id] = length
                if len(self._lengths) > _LONG_SESSIONS:
                    self._lengths.popitem(last=False)


class _Mark:
    """What a store remembers on a tracker that it gave out or saved."""

    def __init__(
        self,
        store: str,
        tracker: DialogueStateTracker,
        stored: List[Event],
        position: int,
        user_id: Optional[str],
    ) -> None:
        """Remember how far a tracker is stored.

        Args:
            store: The store that leaves the mark; one of another store says nothing.
            tracker: The tracker that it is left on.
            stored: The leading events of ``tracker.events`` that are in the log.
            position: The log's last position.
            user_id: Whose conversation it is, as is stored.
        """
        self._store = store
        # A shallow copy of a tracker has the same mark, and goes another way.
        self._tracker = weakref.ref(tracker)
        self._last_event = stored[-1] if stored else None
        self._place = len(stored) - 1
        self.position = position
        self.user_id = user_id
        #: Whether an append of what follows was begun and not seen to end.
        self.uncertain = False

    def __reduce__(self) -> Tuple[Callable[[], None], Tuple[()]]:
        """Let deep copies and pickles of a tracker have none."""
        return _no_mark, ()

    def is_of(self, store: str, tracker: DialogueStateTracker) -> bool:
        """Whether this store left the mark, and on this tracker."""
        return self._store == store and self._tracker() is tracker

    def new_events(
        self, store: str, tracker: DialogueStateTracker, events: List[Event]
    ) -> Optional[List[Event]]:
        """The events that are not in the log; ``None`` when that cannot be told."""
        if not self.is_of(store, tracker):
            return None
        if self._last_event is None:
            return events
        bound = getattr(tracker.events, "maxlen", None)
        if bound is None:
            place = self._place
            if place < len(events) and events[place] is self._last_event:
                return events[place + 1 :]
            return None
        # Of a bounded deque the events move to the left, and out of it.
        places = [n for n, event in enumerate(events) if event is self._last_event]
        if len(places) == 1:
            return events[places[0] + 1 :]
        # It fell out of a deque that is full; what is there came later.
        return events if not places and len(events) == bound else None


class _Found:
    """What a save without a mark has found out, should it fail then.

    So that the next one still knows which events the event broker has not got, also
    if they were stored in the end. Not left on the tracker by the thread that finds
    it, which may be one that was given up.
    """

    mark: Optional[_Mark] = None


def _no_mark() -> None:
    return None


def _end(page: Optional[Page]) -> int:
    """The position of a page's last event."""
    return page.events[-1].position if page is not None and page.events else START


def _identity(event: Event) -> Tuple[str, Optional[float]]:
    """What stays the same of an event that is anonymised."""
    return event.type_name, event.timestamp


def _left(
    choices: Sequence[Choice],
    log: Sequence[Stored],
    stored: Sequence[Optional[Event]],
    entries: Sequence[Entry],
    texts: Sequence[str],
) -> List[Entry]:
    """What is left of a log; the text of an event that has not changed stays as it is.

    Args:
        choices: What to take from where.
        log: The log.
        stored: The events of the log; ``None`` for what cannot be read.
        entries: The events of the tracker, as they would be written.
        texts: The same, to be compared.
    """
    left = []
    for place, at in choices:
        event = None if at is None else stored[at]
        text = None if event is None else encode(event).data
        entry = None if place is None else entries[place]
        if at is not None and (place is None or text == texts[place]):
            data = log[at].data
            kept = entry or (unreadable(data) if event is None else encode(event))
            entry = kept._replace(data=data)
        assert entry is not None  # noqa: S101 - it is in one of the two at least
        left.append(entry)
    return left


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def never_falls_back(constructor: Constructor) -> Constructor:
    """Make a constructor raise ``RasaException`` where it would raise these two.

    Rasa's loader (``_load_from_module_name_in_endpoint_config``, 3.6.21 and Pro
    3.21) takes an ``ImportError`` or ``AttributeError`` for a missing class, warns
    once and keeps all conversations in memory.
    """

    @functools.wraps(constructor)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            constructor(self, *args, **kwargs)
        except (ImportError, AttributeError) as error:
            raise RasaException(
                f"{type(self).__name__} cannot start: {type(error).__name__}: {error}. "
                f"Rasa stops here, because it would go on with a store in memory and "
                f"lose every conversation."
            ) from error

    return wrapper  # type: ignore[return-value]


class EventLogTrackerStore(TrackerStore):
    """A tracker store that keeps conversations in an :class:`EventLog`.

    The contract is that of ``TrackerStore`` in Rasa 3.6.21 and in Rasa Pro 3.21.
    Beyond it:

    * ``save`` appends the events that the log does not hold yet, found by identity,
      never by counting, and only ever adds to a conversation.
    * ``retrieve`` gives the last session, cut as Rasa's own function does, and reads
      no further back than that.
    * The event broker gets the appended events, once, in order, after they are
      stored.
    """

    def __init__(
        self,
        domain: Optional[Domain],
        event_broker: Optional[Any],
        log: EventLog,
        *,
        timeout: float,
        startup_timeout: float,
        workers: int,
        record_exp: Optional[float] = None,
        retrieve_events_from_previous_conversation_sessions: bool = False,
        secrets: Sequence[Optional[str]] = (),
    ) -> None:
        """Open ``log`` and keep conversations there.

        Args:
            domain: The assistant's domain; Rasa sets it later.
            event_broker: Where new events are published, or ``None``.
            log: The log, not opened yet.
            timeout: Seconds that the server may stay silent in any call.
            startup_timeout: Seconds to wait here for a server that is not up yet.
            workers: Calls to the server at one time.
            record_exp: Seconds after its last message that a conversation expires.
            retrieve_events_from_previous_conversation_sessions: Whether ``retrieve``
                gives all sessions.
            secrets: Passwords, never to be shown.

        Raises:
            ConnectionException: when the server could not be reached in time.
            RasaException: when it refused.
        """
        super().__init__(domain, event_broker)
        self._log = log
        self._all_sessions = retrieve_events_from_previous_conversation_sessions
        self._calls = Calls(log, timeout=timeout, workers=workers, secrets=secrets)
        self._decoder = EventDecoder()
        self._expected = _Expected()
        # Threads that encode or decode at the same time gain nothing from each other,
        # but each delays the event loop by one more turn at the interpreter (5 ms).
        self._computing = threading.Lock()
        self._id = uuid.uuid4().hex
        self._timeout = timeout
        self._turns: Dict[str, asyncio.Future[None]] = {}
        self._saves: Set[asyncio.Future[None]] = set()
        self._purge_interval = record_exp and min(record_exp, _PURGE_INTERVAL)
        self._next_purge = time.monotonic()
        self._opening = threading.Lock()
        self._is_open = False
        # With what decides whether the server lets it in and has what it needs.
        self._place = (type(self), log.name, record_exp, hash(tuple(secrets)))
        if (
            rasa_versions.MAKES_STORES_AGAIN
            and self._place in _OPENED
            and _in_event_loop()
        ):
            # The first call opens it, and not this thread, in which everybody waits.
            return
        try:
            self._calls.run_blocking(self._open, timeout=startup_timeout)
        except BaseException:
            self.close()
            raise
        self._purge_now_and_then()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._log.name}>"

    def close(self) -> None:
        """Close the connections. Rasa itself never does; tests and scripts do."""
        self._calls.close()
        self._log.close()

    def _open(self, deadline: Deadline) -> None:
        with self._opening:
            if not self._is_open:
                self._calls.patiently(deadline, self._log.open)
                self._is_open = True
                _OPENED.add(self._place)

    async def _run(self, function: Callable[..., Result], *args: object) -> Result:
        """Run ``function(deadline, *args)`` in a thread, on a log that is open."""
        if self._is_open:
            return await self._calls.run(function, *args)

        def on_open_log(deadline: Deadline) -> Result:
            self._open(deadline)
            return function(deadline, *args)

        return await self._calls.run(on_open_log)

    # Reading

    async def retrieve(self, sender_id: str) -> Optional[DialogueStateTracker]:
        """The tracker of a conversation's last session; ``None`` for an unknown one.

        Raises:
            ConnectionException: when the server could not be reached in time.
        """
        return await self._run(self._read_tracker, sender_id, self._all_sessions)

    async def retrieve_full_tracker(
        self, conversation_id: str
    ) -> Optional[DialogueStateTracker]:
        """The tracker of all sessions of a conversation; ``None`` for an unknown one.

        Raises:
            ConnectionException: when the server could not be reached in time.
        """
        return await self._run(self._read_tracker, conversation_id, True)

    async def exists(self, conversation_id: str) -> bool:
        """Whether there is such a conversation, without reading it."""
        return await self._run(self._has_events, conversation_id)

    async def keys(self) -> Iterable[str]:
        """The sender ids of all conversations, each once, in no certain order."""
        return await self._run(
            self._in_parts, lambda answered: list(self._log.sender_ids(answered))
        )

    def _in_parts(
        self, deadline: Deadline, call: Callable[[Answered], Result]
    ) -> Result:
        """A call that takes as long as it takes, while the server goes on answering.

        Begun anew after a failure, but not for ever: a server that breaks it off each
        time at the same place would answer all that comes before.
        """
        begun = 0

        def attempt() -> Result:
            nonlocal begun
            begun += 1
            return call(deadline.renew if begun <= _MOST_BEGINNINGS else unheard)

        return self._calls.patiently(deadline, attempt)

    async def count_conversations(self, after_timestamp: float = 0.0) -> int:
        """How many conversations have had an event since then, by its timestamp.

        Args:
            after_timestamp: Seconds since the epoch, inclusive.

        Raises:
            ConnectionException: when the server could not be reached in time.
        """
        return await self._run(
            self._in_parts,
            functools.partial(self._log.count_conversations, after_timestamp),
        )

    async def get_serialized_trackers_by_user_id(
        self, user_id: str, limit: Optional[int] = None, skip: Optional[int] = None
    ) -> List[Dict[str, Any]]:
        """The conversations of a user, those that began first coming first.

        As the stores of Rasa Pro 3.21; ``get_trackers_by_user_id`` gives the same.

        Args:
            user_id: The user.
            limit: How many conversations at the most; all, unless greater than 0.
            skip: How many to leave out before; none, unless greater than 0.

        Returns:
            For each ``sender_id``, ``events`` (dictionaries, as they are stored),
            ``user_id``, ``conversation_started_timestamp`` (seconds since the epoch,
            or ``None``) and ``current_session_id``.

        Raises:
            ConnectionException: when the server could not be reached in time.
        """
        return await self._run(
            self._serialized_trackers, user_id, max(limit or 0, 0), max(skip or 0, 0)
        )

    def _serialized_trackers(
        self, deadline: Deadline, user_id: str, limit: int, skip: int
    ) -> List[Dict[str, Any]]:
        conversations = self._calls.patiently(
            deadline, lambda: self._log.conversations_of(user_id, limit or None, skip)
        )
        serialized = []
        with deadline.suspended():
            for conversation in conversations:
                with self._computing:
                    events = self._parsed(conversation)
                time.sleep(0)
                serialized.append(
                    {
                        "sender_id": conversation.sender_id,
                        "events": events,
                        "user_id": user_id,
                        "conversation_started_timestamp": (
                            conversation.conversation_started
                        ),
                        "current_session_id": rasa_versions.current_session_id(
                            self, events
                        ),
                    }
                )
        return serialized

    def _parsed(self, conversation: Conversation) -> List[Dict[str, Any]]:
        events = []
        for data in conversation.events:
            try:
                event = json.loads(data)
            except (ValueError, RecursionError):
                event = None
            if isinstance(event, dict):
                events.append(event)
        if len(events) < len(conversation.events):
            logger.warning(
                "%s: %d of the events of conversation %r are damaged and were skipped. "
                "They stay stored: restore them from a backup, or delete them.",
                self._log.name,
                len(conversation.events) - len(events),
                conversation.sender_id,
            )
        return events

    def _has_events(self, deadline: Deadline, sender_id: str) -> bool:
        page = self._calls.patiently(
            deadline, lambda: self._log.read_back(sender_id, limit=1)
        )
        return bool(page.events)

    def _read_tracker(
        self, deadline: Deadline, sender_id: str, all_sessions: bool
    ) -> Optional[DialogueStateTracker]:
        """The tracker of the last session, or of as many as it takes to replay it."""
        read = self._all if all_sessions else self._sessions
        events: List[Event] = []
        last: Optional[Stored] = None
        user_id: Optional[str] = None
        tracker: Optional[DialogueStateTracker] = None
        for part in read(deadline, sender_id):
            if last is None:
                last, user_id = part.events[-1], part.user_id
            with deadline.suspended():
                events = self._decode(sender_id, part.events) + events
                with self._computing:
                    tracker = rasa_versions.tracker_from_events(
                        self, sender_id, events, user_id, is_all=part.complete
                    )
            if tracker is not None:
                break
        if last is None:
            return None
        if tracker is None:
            with deadline.suspended(), self._computing:
                tracker = rasa_versions.tracker_from_events(
                    self, sender_id, events, user_id
                )
        assert tracker is not None  # noqa: S101 - there are no events before these
        if not all_sessions:
            self._expected[sender_id] = len(events)
        self._leave_mark(tracker, list(tracker.events), last.position, user_id)
        return tracker

    def _all(self, deadline: Deadline, sender_id: str) -> Iterator[Page]:
        page = self._calls.patiently(deadline, lambda: self._log.read_back(sender_id))
        if page.events:
            yield page._replace(complete=True)

    def _sessions(self, deadline: Deadline, sender_id: str) -> Iterator[Page]:
        """The last session; then, if it cannot be replayed alone, what is before it.

        Where no session was ever begun, all there is.
        """
        boundary = rasa_versions.session_boundary(self)
        unread: List[Stored] = []
        parted = False
        for page in self._pages(deadline, sender_id, self._expected[sender_id]):
            begin = len(page.events)
            # From the newest event back; what is behind ``end`` was given already.
            end = len(page.events)
            while not parted and begin > 0:
                begin -= 1
                if not self._is_boundary(boundary, page.events[begin]):
                    continue
                start = begin + boundary.offset
                session = page.events[start:end] + unread
                if session:
                    is_all = page.complete and start == 0
                    yield page._replace(events=session, complete=is_all)
                    if is_all:
                        return
                    end, unread = start, []
                parted = not boundary.one_by_one
            unread = page.events[:end] + unread
            if unread and (page.complete or not page.events):
                yield page._replace(events=unread)

    def _pages(
        self, deadline: Deadline, sender_id: str, limit: int = _FIRST_PAGE
    ) -> Iterator[Page]:
        """A log page by page, the newest first; the last one is complete."""
        before: Optional[int] = None
        while True:
            page = self._calls.patiently(
                deadline,
                functools.partial(self._log.read_back, sender_id, limit, before),
            )
            yield page
            if page.complete or not page.events:
                return
            before = page.events[0].position
            limit *= 4

    def _is_boundary(self, boundary: rasa_versions.Boundary, stored: Stored) -> bool:
        if boundary.text not in stored.data:
            return False
        try:
            event = self._decoder.decode(stored.data)
        except UndecodableEvent:
            return False
        return event is not None and boundary.is_one(event)

    def _decode(self, sender_id: str, stored: List[Stored]) -> List[Event]:
        events: List[Event] = []
        skipped: List[str] = []
        for begin in range(0, len(stored), _SLICE):
            some = stored[begin : begin + _SLICE]
            with self._computing:
                found, errors = self._decoder.decode_all([data for _, data in some])
            events += found
            for place, error in errors.items():
                skipped.append(f"event {some[place].position}: {error}")
            # To others who want to compute, whose conversation may be a short one.
            time.sleep(0)
        if skipped:
            logger.warning(
                "%s: %d of the events of conversation %r were skipped: %s%s. They stay "
                "stored. Install the component that defines an unknown event type; "
                "restore a damaged event from a backup, or delete it.",
                self._log.name,
                len(skipped),
                sender_id,
                "; ".join(skipped[:3]),
                "; ..." if len(skipped) > 3 else "",
            )
        return events

    # Writing

    async def save(self, tracker: DialogueStateTracker) -> None:
        """Append the events of ``tracker`` that are not stored yet, then publish them.

        Raises:
            ConnectionException: when the server could not be reached in time. Then
                it is open whether the events are stored; saving the same tracker
                again stores each of them once.
            RasaException: when an event or the sender id cannot be stored.
        """
        # A channel that is closed cancels its handler; what is stored is still to
        # be published, and no other save of the conversation may begin before.
        save = asyncio.ensure_future(self._save(tracker))
        self._saves.add(save)
        save.add_done_callback(self._saves.discard)
        try:
            await asyncio.shield(save)
        except asyncio.CancelledError:
            save.add_done_callback(functools.partial(self._report, tracker.sender_id))
            raise

    def _report(self, sender_id: str, save: asyncio.Future[None]) -> None:
        """Log how a save failed that nobody waits for any more."""
        error = None if save.cancelled() else save.exception()
        if error is not None:
            logger.error("Conversation %r was not saved: %s", sender_id, error)

    async def _save(self, tracker: DialogueStateTracker) -> None:
        async with self._turn(str(tracker.sender_id)):
            events = list(tracker.events)
            user_id = self._checked_user_id(tracker)
            mark: Optional[_Mark] = getattr(tracker, _MARK, None)
            new = mark and mark.new_events(self._id, tracker, events)
            if new is None:
                mark = None
            elif mark is not None and not new and user_id in (None, mark.user_id):
                return
            found = _Found()
            try:
                appended, position = await self._run(
                    self._append_new_events, tracker, events, new, mark, user_id, found
                )
            except BaseException:
                # It may have written, or write yet. The next save finds out.
                if mark is None and found.mark is not None:
                    mark = found.mark
                    setattr(tracker, _MARK, mark)
                if mark is not None:
                    mark.uncertain = True
                raise
            # Here and not in the thread, which may be one that was given up.
            if user_id is None and mark is not None:
                user_id = mark.user_id
            self._leave_mark(tracker, events, position, user_id)
            self._publish(tracker, appended)
        self._purge_now_and_then()

    @asynccontextmanager
    async def _turn(self, sender_id: str) -> AsyncIterator[None]:
        """Let saves of one conversation in this process follow each other.

        Raises:
            ConnectionException: when the one before takes longer than ``timeout``.
        """
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        before = self._turns.get(sender_id)
        self._turns[sender_id] = mine
        if before is not None and before.get_loop() is not loop:
            before = None  # of a loop that has ended
        try:
            if before is not None:
                await asyncio.wait({before}, timeout=self._timeout)
                if not before.done():
                    raise ConnectionException(
                        f"{self._log.name}: a save of conversation {sender_id!r} "
                        f"waited {self._timeout:g} seconds for the one before it. "
                        f"Check that the server is not overloaded."
                    )
            yield
        finally:
            if before is None or before.done():
                mine.set_result(None)
            else:
                before.add_done_callback(lambda _: mine.set_result(None))
            if self._turns.get(sender_id) is mine:
                del self._turns[sender_id]

    def _append_new_events(
        self,
        deadline: Deadline,
        tracker: DialogueStateTracker,
        events: List[Event],
        new: Optional[List[Event]],
        mark: Optional[_Mark],
        user_id: Optional[str],
        found: _Found,
    ) -> Tuple[List[Event], int]:
        """Store what is new in a tracker.

        Args:
            deadline: Until when.
            tracker: The tracker, for what its events do not say.
            events: All events of the tracker.
            new: Those that are new; ``None`` when that is to be found out.
            mark: The tracker's mark, if it says what is new.
            user_id: Whose conversation it is.
            found: For what is found out before anything is written.

        Returns:
            The events that this call, or one before it that failed, has stored, and
            the log's last position.
        """
        sender_id = self._checked(tracker.sender_id)
        serialise = rasa_versions.serialiser(self, sender_id, user_id)
        if new is not None and mark is not None:
            position, uncertain = mark.position, mark.uncertain
            stored_user_id = mark.user_id
        else:
            new, position, stored_user_id = self._reconcile(deadline, sender_id, events)
            # Another store that saves an equal tracker may come in between.
            uncertain = True
            stored = events[: len(events) - len(new)]
            # With nothing new there is nothing to remember, and all to be confirmed.
            if new and all(a is b for a, b in zip(events[len(stored) :], new)):
                found.mark = _Mark(self._id, tracker, stored, position, stored_user_id)
        entries = self._encode(deadline, new, serialise)
        user = None
        if user_id is not None and stored_user_id is None:
            user = User(user_id, self._began(deadline, tracker, events, position))
        elif user_id is not None and user_id != stored_user_id:
            user = User(user_id, None)
        if new or (user and position != START):
            # Should it be erased before this is written, it is this user's again.
            began = new[0].timestamp if new else None
            anew = None if user_id is None else User(user_id, began)
            position = self._append(
                deadline, sender_id, entries, position, user, uncertain, anew
            )
        elif events:
            self._calls.patiently(deadline, lambda: self._log.confirm(sender_id))
        return new, position

    def _began(
        self,
        deadline: Deadline,
        tracker: DialogueStateTracker,
        events: List[Event],
        position: int,
    ) -> Optional[float]:
        """When a conversation began that is to be a user's.

        Asked for once in its life. A tracker of the last session says when that one
        began.
        """
        if position != START:
            first = self._calls.patiently(
                deadline, lambda: self._log.read_back(tracker.sender_id)
            ).events[:1]
            if first and timestamp_of(first[0].data) >= 0:
                return timestamp_of(first[0].data)
        return rasa_versions.conversation_started(tracker, events)

    def _append(
        self,
        deadline: Deadline,
        sender_id: str,
        entries: List[Entry],
        after: int,
        user: Optional[User],
        uncertain: bool,
        anew: Optional[User],
    ) -> int:
        """Append ``entries``, each exactly once; returns the last position.

        An attempt that failed may still be under way in the server. It names the
        same ``after`` as the next one, so only one of the two can take effect; and
        whether it was the first shows in what the log holds after ``after``.

        Args:
            deadline: Until when.
            sender_id: The conversation.
            entries: What to append, in order.
            after: The log's last position, as far as is known.
            user: Whose conversation it is, if that is to be written.
            uncertain: Whether some of ``entries`` may be in the log after that.
            anew: Whose conversation it is, if it begins with these entries.
        """

        def attempt() -> Optional[int]:
            nonlocal uncertain
            try:
                return self._log.append(sender_id, entries, after, user)
            except Exception:
                uncertain = True
                raise

        for _ in range(_MOST_CONFLICTS):
            position = self._calls.patiently(deadline, attempt)
            if position is not None:
                return position
            # None is newer where the log was erased in the meantime.
            newer = self._read_after(deadline, sender_id, after) or self._read_after(
                deadline, sender_id, START
            )
            if uncertain and newer:
                places = new_events(
                    [event.data for event in newer],
                    [entry.data for entry in entries],
                    complete=False,
                )
                entries = [entries[place] for place in places]
                if not entries and user is None:
                    self._calls.patiently(
                        deadline, lambda: self._log.confirm(sender_id)
                    )
                    return newer[-1].position
            after = newer[-1].position if newer else START
            if after == START:
                user = anew or user
        raise ConnectionException(
            f"{self._log.name}: conversation {sender_id!r} was changed by others "
            f"{_MOST_CONFLICTS} times while it was to be saved. Check that reads do "
            f"not go to a replica that lags behind, and how many processes write to it."
        )

    def _read_after(
        self, deadline: Deadline, sender_id: str, after: int
    ) -> List[Stored]:
        """The events that were appended after a position."""
        newer: List[Stored] = []
        for page in self._pages(deadline, sender_id):
            newer = [event for event in page.events if event.position > after] + newer
            if page.events and page.events[0].position <= after:
                break
        return newer

    def _reconcile(
        self, deadline: Deadline, sender_id: str, events: List[Event]
    ) -> Tuple[List[Event], int, Optional[str]]:
        """What of a tracker of unknown origin is new.

        Reads back to where the tracker begins; all of the log, if it begins nowhere
        there. Events are compared as Rasa writes them today: what an older version
        stored comes out of a tracker with today's fields.

        Returns:
            The new events, the log's last position, and whose conversation it is.
        """
        if not events:
            page = self._newest(deadline, sender_id)
            return [], _end(page), page.user_id
        texts = self._comparable(deadline, events)
        stored: List[str] = []
        newest: Optional[Page] = None
        complete = False
        for page in self._pages(deadline, sender_id):
            newest = newest or page
            stored = self._normalised(deadline, page.events) + stored
            complete = page.complete
            if texts[0] in stored:
                break
        places = new_events(stored, texts, complete=complete)
        new = [events[place] for place in places]
        return new, _end(newest), newest and newest.user_id

    def _newest(self, deadline: Deadline, sender_id: str) -> Page:
        return self._calls.patiently(
            deadline, lambda: self._log.read_back(sender_id, limit=1)
        )

    def _comparable(self, deadline: Deadline, events: List[Event]) -> List[str]:
        """What the texts of a tracker's events are in a log, to be compared."""
        with deadline.suspended():
            stored = [rasa_versions.as_stored(self, event) for event in events]
        return [entry.data for entry in self._encode(deadline, stored)]

    def _encode(
        self,
        deadline: Deadline,
        events: List[Event],
        serialise: Optional[Serialise] = None,
    ) -> List[Entry]:
        entries: List[Entry] = []
        with deadline.suspended():
            for begin in range(0, len(events), _SLICE):
                with self._computing:
                    for event in events[begin : begin + _SLICE]:
                        entries.append(encode(event, serialise))
                time.sleep(0)
        return entries

    def _normalised(self, deadline: Deadline, stored: List[Stored]) -> List[str]:
        texts: List[str] = []
        for each, event in zip(stored, self._readable(deadline, stored)):
            try:
                texts.append(each.data if event is None else encode(event).data)
            except RasaException:
                texts.append(each.data)
        return texts

    def _readable(
        self, deadline: Deadline, stored: List[Stored]
    ) -> List[Optional[Event]]:
        """The events of a log, to be compared; ``None`` for what cannot be read."""
        events: List[Optional[Event]] = []
        with deadline.suspended():
            for begin in range(0, len(stored), _SLICE):
                with self._computing:
                    for _, data in stored[begin : begin + _SLICE]:
                        try:
                            event = self._decoder.decode(data)
                        except UndecodableEvent:
                            event = None
                        events.append(event and rasa_versions.as_stored(self, event))
                time.sleep(0)
        return events

    def _leave_mark(
        self,
        tracker: DialogueStateTracker,
        stored: List[Event],
        position: int,
        user_id: Optional[str],
    ) -> None:
        setattr(tracker, _MARK, _Mark(self._id, tracker, stored, position, user_id))

    def _checked_user_id(self, tracker: DialogueStateTracker) -> Optional[str]:
        """Whose conversation it is, if that can be stored.

        No message is lost for a user id that cannot be: the conversation is nobody's.
        """
        user_id = rasa_versions.user_id_of(tracker)
        if isinstance(user_id, int) and not isinstance(user_id, bool):
            user_id = str(user_id)
        longest = self._log.max_sender_id
        reason = None
        if user_id is None:
            return None
        if not isinstance(user_id, str):
            reason = f"is a {type(user_id).__name__}, not text"
        elif longest is not None and len(user_id) > longest:
            reason = f"has {len(user_id)} characters, of {longest} at the most"
        elif "\0" in user_id or any("\ud800" <= each <= "\udfff" for each in user_id):
            reason = "has characters that databases cannot store"
        if reason is None:
            return str(user_id)
        logger.warning(
            "%s: conversation %r is stored without its user, whose id %s. Let the "
            "channel use others.",
            self._log.name,
            tracker.sender_id,
            reason,
        )
        return None

    def _checked(self, sender_id: Any) -> str:
        if not isinstance(sender_id, str):
            raise RasaException(
                f"A conversation cannot be stored: its sender id is a "
                f"{type(sender_id).__name__}, not text. Correct the channel."
            )
        longest = self._log.max_sender_id
        if longest is not None and len(sender_id) > longest:
            raise RasaException(
                f"The conversation {sender_id[:40]!r}... cannot be stored: its sender "
                f"id has {len(sender_id)} characters, and {self._log.name} holds up to "
                f"{longest}. Let the channel use shorter ids, a hash for example."
            )
        return sender_id

    def _publish(self, tracker: DialogueStateTracker, events: List[Event]) -> None:
        """Hand stored events to the event broker.

        On the event loop, since brokers use it (``PikaEventBroker.publish``, 3.6.21).
        A broker's failure is its own: the events are stored, and the conversation
        goes on.
        """
        broker = self.event_broker
        if broker is None:
            return
        messages = rasa_versions.broker_messages(self, broker, tracker, events)
        for message in messages:
            try:
                broker.publish(message)
            except Exception:
                logger.exception(
                    "An event of conversation %r is stored, but %s could not publish "
                    "it. Check the event_broker section of endpoints.yml; 'rasa "
                    "export' publishes stored events again.",
                    tracker.sender_id,
                    type(broker).__name__,
                )

    # Erasing

    async def delete(self, sender_id: str) -> None:
        """Erase a conversation and all that is kept about it.

        Raises:
            ConnectionException: when the server could not be reached in time.
        """
        checked = self._checked(sender_id)
        async with self._turn(checked):
            erased = await self._run(
                lambda deadline: self._calls.patiently(
                    deadline, lambda: self._log.delete(checked)
                )
            )
        logger.info(
            "%s: conversation %r %s.",
            self._log.name,
            sender_id,
            "was erased" if erased else "is unknown, so there was nothing to erase",
        )

    async def update(
        self, tracker: DialogueStateTracker, apply_deletion_only: bool = True
    ) -> None:
        """Put ``tracker`` in the place of what is stored of its conversation.

        For erasure and anonymisation: events that the tracker lacks are erased, those
        that it has changed are changed, and nothing is published. What others have
        appended since the tracker was read stays, and so does what this Rasa cannot
        read, unless all before it was erased.

        Args:
            tracker: What is to be left. One without events erases the conversation.
            apply_deletion_only: Not needed here: an event that has not changed is not
                written anew. (The SQL store of Rasa Pro 3.21 leaves changes out with
                it.)

        Raises:
            ConnectionException: when the server could not be reached in time. Then
                it is open whether it was done; it can be repeated.
            RasaException: when an event cannot be stored.
        """
        async with self._turn(str(tracker.sender_id)):
            user_id = self._checked_user_id(tracker)
            await self._run(self._rewrite, tracker, list(tracker.events), user_id)
            # What is stored may be more than what the tracker has.
            tracker.__dict__.pop(_MARK, None)

    def _rewrite(
        self,
        deadline: Deadline,
        tracker: DialogueStateTracker,
        events: List[Event],
        user_id: Optional[str],
    ) -> None:
        sender_id = self._checked(tracker.sender_id)
        serialise = rasa_versions.serialiser(self, sender_id, user_id)
        entries = self._encode(deadline, events, serialise)
        texts = self._comparable(deadline, events)
        mark: Optional[_Mark] = getattr(tracker, _MARK, None)
        for _ in range(_MOST_CONFLICTS):
            log = self._calls.patiently(
                deadline, lambda: self._log.read_back(sender_id)
            )
            stored = self._readable(deadline, log.events)
            known = None
            if mark is not None and mark.is_of(self._id, tracker):
                known = sum(each.position <= mark.position for each in log.events)
            choices = rewritten(
                [event and _identity(event) for event in stored],
                [_identity(event) for event in events],
                known,
            )
            with deadline.suspended():
                left = _left(choices, log.events, stored, entries, texts)
            user = None
            if user_id is not None:
                began = timestamp_of(left[0].data) if left else -math.inf
                user = User(user_id, began if began >= 0 else None)
            position = self._calls.patiently(
                deadline,
                functools.partial(self._log.replace, sender_id, left, _end(log), user),
            )
            if position is not None:
                return
        raise ConnectionException(
            f"{self._log.name}: conversation {sender_id!r} was changed by others "
            f"{_MOST_CONFLICTS} times while it was to be rewritten. Check how many "
            f"processes write to it."
        )

    def _purge_now_and_then(self) -> None:
        if self._purge_interval and time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + self._purge_interval
            self._calls.in_background(self._purge)

    def _purge(self, deadline: Deadline) -> None:
        while self._calls.patiently(deadline, self._log.purge_expired):
            pass
