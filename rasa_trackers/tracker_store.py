"""Rasa's tracker store contract, on top of an event log.

The methods are coroutines here. A Rasa that calls plain methods gets such (``faces``).
``save`` finds what is new (``saving``), which goes through the log that is bound to a
deadline (``retries``) to the backend's log and its server. ``retrieve`` goes the same
way by ``sessions``, ``update`` by ``rewriting``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import (
    Any,
    Callable,
    ClassVar,
    Dict,
    Iterable,
    List,
    Optional,
    Type,
    TypeVar,
    Union,
)

from rasa_trackers import rasa_versions, sessions, shared_logs, store_options
from rasa_trackers.backend import Backend
from rasa_trackers.errors import is_store_error, store_error
from rasa_trackers.faces import AsyncFace, PlainFace
from rasa_trackers.identities import (
    checked_sender_id,
    storable_user_id,
    text_of_sender_id,
)
from rasa_trackers.marks import (
    SavedUpTo,
    mark_events,
    mark_tracker,
    saved_up_to,
    unmark_tracker,
)
from rasa_trackers.publishing import publish
from rasa_trackers.rasa_versions import DialogueStateTracker, Domain, TrackerStore
from rasa_trackers.retries import DeadlineLog
from rasa_trackers.rewriting import rewrite
from rasa_trackers.saving import Save, Saved
from rasa_trackers.users import serialized_trackers

logger = logging.getLogger(__name__)

Constructor = TypeVar("Constructor", bound=Callable[..., None])

#: Seconds that ``close`` waits for calls that are under way.
_CLOSING = 1.0


def never_falls_back(constructor: Constructor) -> Constructor:
    """Make a constructor raise errors that an operator can read.

    Rasa's loader (``_load_from_module_name_in_endpoint_config``, 3.6.21 and Pro 3.21)
    takes an ``ImportError`` or ``AttributeError`` for a missing class, warns once and
    keeps all conversations in memory. So both become a ``RasaException``.

    Rasa prints the traceback of an error before its sentence. That one has no causes and
    no lines of this package, of which an operator learns nothing. They are logged at
    DEBUG.
    """

    @functools.wraps(constructor)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            constructor(self, *args, **kwargs)
        except (ImportError, AttributeError) as error:
            raise store_error(
                f"{type(self).__name__} cannot start: {type(error).__name__}: {error}. "
                f"Rasa stops here, because it would go on with a store in memory and "
                f"lose every conversation."
            ) from error
        except Exception as error:
            if not is_store_error(error):
                raise
            logger.debug("%s cannot start.", type(self).__name__, exc_info=error)
            raise error.with_traceback(None) from None

    return wrapper  # type: ignore[return-value]


_Face: Union[Type[AsyncFace], Type[PlainFace]] = (
    AsyncFace if rasa_versions.IS_ASYNC else PlainFace
)


@_Face.shown
class EventLogTrackerStore(TrackerStore):
    """A tracker store that keeps conversations in an event log.

    The contract is that of ``TrackerStore`` in the Rasa that runs (``rasa_versions`` says
    which ones are known). Beyond it:

    * ``save`` appends the events that the log does not hold yet, found by identity and
      never by counting. It only ever adds to a conversation.
    * ``retrieve`` gives the last session, cut as Rasa's own function does, and reads no
      further back than that.
    * The event broker gets the appended events once, in order, after they are stored.

    A tracker store of your own is a subclass that names its :attr:`backend`.
    """

    #: The kind of database: its options, and how to make its log.
    backend: ClassVar[Backend]

    @never_falls_back
    def __init__(
        self,
        domain: Optional[Domain] = None,
        url: Optional[str] = None,
        event_broker: Optional[Any] = None,
        **options: Any,
    ) -> None:
        """Open the log of the place that the options name.

        Args:
            domain: The assistant's domain; Rasa sets it later.
            url: An option as the others; Rasa may pass it by position.
            event_broker: Where new events are published, or ``None``.
            **options: What stands in ``endpoints.yml``: the options of the backend and
                those of ``store_options.COMMON``. Rasa 3 passes ``url`` as ``host``.

        Raises:
            ConnectionException: when the server could not be reached in time.
            RasaException: for an option that is unknown or has no sensible value, a
                missing driver, and all that the server refuses.
        """
        super().__init__(domain, event_broker)
        values = store_options.checked(
            type(self).__name__, self.backend.options, {"url": url, **options}
        )
        self._gives_all_sessions: bool = values[
            "retrieve_events_from_previous_conversation_sessions"
        ]
        self._shared, self._release = shared_logs.acquire(
            self, self.backend, values, rasa_versions.KNOWS_USERS
        )
        #: Read where events are encoded.
        self.max_event_bytes: Optional[int] = values["max_event_bytes"]
        self._max_session_events: Optional[int] = values["max_session_events"]
        self._face = _Face(self._shared)
        try:
            self._shared.open(values["startup_timeout"])
        except BaseException:
            self._release()
            raise
        self._shared.purge_now_and_then()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._shared.log.name}>"

    def close(self) -> None:
        """Close the connections, unless another store of this process uses them.

        Rasa itself never closes a store; tests and scripts do.
        """
        closing = self._release()
        if closing is not None:
            closing.join(_CLOSING)

    # Reading

    async def retrieve(self, sender_id: str) -> Optional[DialogueStateTracker]:
        """The tracker of a conversation's last session; ``None`` for an unknown one.

        Raises:
            ConnectionException: when the server could not be reached in time.
        """
        if self._gives_all_sessions or rasa_versions.wants_all_sessions(self):
            return await self._read(
                sessions.read_all_sessions, sender_id, self._max_session_events
            )
        return await self._read(
            sessions.read_last_session, sender_id, self._max_session_events
        )

    async def retrieve_full_tracker(
        self, conversation_id: str
    ) -> Optional[DialogueStateTracker]:
        """The tracker of all sessions of a conversation; ``None`` for an unknown one.

        Raises:
            ConnectionException: when the server could not be reached in time.
        """
        return await self._read(sessions.read_all_sessions, conversation_id, None)

    async def _read(
        self,
        read_tracker: Callable[..., Optional[sessions.ReadTracker]],
        sender_id: str,
        most: Optional[int],
    ) -> Optional[DialogueStateTracker]:
        checked = text_of_sender_id(sender_id)
        place = self._shared.place
        lengths = self._shared.session_lengths
        reading = sessions.Reading(place, lengths, most)
        async with self._face.turn_to_read(checked):
            read = await self._face.run(
                read_tracker,
                *(self, checked, reading),
                is_long=lengths.is_long(checked),
            )
        if read is None:
            return None
        tracker = read.tracker
        mark = SavedUpTo(place, tracker, read.events, read.position, read.user_id)
        mark_tracker(tracker, mark)
        return tracker

    async def exists(self, conversation_id: str) -> bool:
        """Whether there is such a conversation, without reading it."""
        return await self._face.run(_has_events, text_of_sender_id(conversation_id))

    async def keys(self) -> Iterable[str]:
        """The sender ids of all conversations, each once, in no certain order."""
        return await self._face.run(_all_sender_ids, is_long=True)

    async def count_conversations(self, after_timestamp: float = 0.0) -> int:
        """How many conversations have had an event since then, by its timestamp.

        Args:
            after_timestamp: Seconds since the epoch, inclusive.

        Raises:
            ConnectionException: when the server could not be reached in time.
        """
        return await self._face.run(_count_conversations, after_timestamp, is_long=True)

    async def get_serialized_trackers_by_user_id(
        self, user_id: str, limit: Optional[int] = None, skip: Optional[int] = None
    ) -> List[Dict[str, Any]]:
        """The conversations of a user, those that began first coming first.

        As the stores of Rasa Pro 3.21; ``get_trackers_by_user_id`` gives the same.

        Args:
            user_id: The user.
            limit: How many conversations at most; all, unless greater than 0.
            skip: How many to leave out before; none, unless greater than 0.

        Returns:
            For each ``sender_id``, ``events`` (dictionaries, as they are stored),
            ``user_id``, ``conversation_started_timestamp`` (seconds since the epoch, or
            ``None``) and ``current_session_id``.

        Raises:
            ConnectionException: when the server could not be reached in time.
        """
        return await self._face.run(
            serialized_trackers,
            *(self, user_id, max(limit or 0, 0), max(skip or 0, 0)),
            is_long=True,
        )

    # Writing

    async def save(self, tracker: DialogueStateTracker) -> None:
        """Append the events of ``tracker`` that are not stored yet, then publish them.

        Raises:
            ConnectionException: when the server could not be reached in time. Then it
                is open whether the events are stored; saving the same tracker again
                stores each of them once.
            RasaException: when an event or the sender id cannot be stored.
        """
        await self._face.to_the_end(self._save(tracker), str(tracker.sender_id))

    async def _save(self, tracker: DialogueStateTracker) -> None:
        place = self._shared.place
        async with self._face.turn(str(tracker.sender_id)):
            user_id = storable_user_id(self._shared.log, tracker)
            save = Save(self, place, tracker, saved_up_to(place, tracker), user_id)
            if save.is_needless:
                return
            try:
                saved = await self._face.run(
                    save.append_new_events, is_long=save.is_long
                )
            except BaseException:
                # The append may have happened, or may still happen. The next save checks.
                if save.mark is not None:
                    save.mark.is_uncertain = True
                    mark_tracker(tracker, save.mark)
                raise
            # Here and not in the thread, which may be one that was given up.
            self._mark(
                *(tracker, save.events, saved.position, saved.user_id),
                marked=saved.marked,
            )
            self._publish_once_kept(tracker, saved)
        self._shared.purge_now_and_then()

    def _publish_once_kept(self, tracker: DialogueStateTracker, saved: Saved) -> None:
        """Publish events as soon as they outlive this process."""
        outage = self._shared.outage
        if outage is None or outage.is_kept_for_good(saved.position):
            publish(self, tracker, saved.appended)
            return
        try:
            publish_there: Callable[..., object] = (
                asyncio.get_running_loop().call_soon_threadsafe
            )
        except RuntimeError:  # a plain method that a script calls
            publish_there = _call

        def publish_later() -> None:
            # A closed loop has no event broker.
            with contextlib.suppress(RuntimeError):
                publish_there(publish, self, tracker, saved.appended)

        outage.when_stored(tracker.sender_id, saved.position, publish_later)

    def _mark(
        self,
        tracker: DialogueStateTracker,
        saved: List[rasa_versions.Event],
        position: int,
        user_id: Optional[str],
        *,
        marked: int = 0,
    ) -> None:
        place = self._shared.place
        mark_tracker(tracker, SavedUpTo(place, tracker, saved, position, user_id))
        mark_events(place, tracker.sender_id, saved, position, marked=marked)

    # Erasing

    async def delete(self, sender_id: str) -> None:
        """Erase a conversation and everything that is stored about it.

        Raises:
            ConnectionException: when the server could not be reached in time.
        """
        checked = checked_sender_id(self._shared.log, sender_id)
        async with self._face.turn(checked):
            erased = await self._face.run(_delete, checked)
        logger.info(
            "%s: conversation %r %s.",
            self._shared.log.name,
            sender_id,
            "was erased" if erased else "is unknown, so there was nothing to erase",
        )

    async def update(
        self, tracker: DialogueStateTracker, apply_deletion_only: bool = True
    ) -> None:
        """Put ``tracker`` in the place of what is stored of its conversation.

        For erasure and anonymisation: events that the tracker lacks are erased, events
        that it has changed are changed, and nothing is published. Events that others
        have appended since the tracker was read stay. Events that this Rasa cannot read
        stay as well, unless all events before them were erased.

        Args:
            tracker: What is to be left. One without events erases the conversation.
            apply_deletion_only: Not needed here: an event that has not changed is not
                written anew. (With it, the SQL store of Rasa Pro 3.21 leaves changes
                out.)

        Raises:
            ConnectionException: when the server could not be reached in time. Then it
                is open whether it was done; it can be repeated.
            RasaException: when an event cannot be stored.
        """
        async with self._face.turn(str(tracker.sender_id)):
            await self._face.run(
                rewrite,
                self,
                tracker,
                list(tracker.events),
                saved_up_to(self._shared.place, tracker),
                storable_user_id(self._shared.log, tracker),
                is_long=True,
            )
            # What is stored may be more than what the tracker has.
            unmark_tracker(tracker)


def _has_events(log: DeadlineLog, sender_id: str) -> bool:
    return bool(log.read_back(sender_id, limit=1).events)


def _all_sender_ids(log: DeadlineLog) -> List[str]:
    return [sender_id for batch in log.sender_ids() for sender_id in batch]


def _count_conversations(log: DeadlineLog, after_timestamp: float) -> int:
    return sum(log.count_conversations(after_timestamp))


def _delete(log: DeadlineLog, sender_id: str) -> bool:
    return log.delete(sender_id)


def _call(function: Callable[..., object], *args: object) -> None:
    function(*args)
