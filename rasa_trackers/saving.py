"""Saving a tracker: which of its events are new, and appending each of them once."""

from __future__ import annotations

from typing import List, NamedTuple, Optional

from rasa_trackers import rasa_versions
from rasa_trackers.appending import append_once
from rasa_trackers.comparing import encoded, stored_texts_of, texts_of
from rasa_trackers.computing import is_long
from rasa_trackers.event_log import START, Page, User, timestamp_of
from rasa_trackers.identities import checked_sender_id
from rasa_trackers.marks import SavedUpTo, known_end
from rasa_trackers.paging import end_of, pages_newest_first
from rasa_trackers.rasa_versions import DialogueStateTracker, Event, TrackerStore
from rasa_trackers.reconciliation import new_events
from rasa_trackers.retries import DeadlineLog


class Save:
    """One save of a tracker.

    It is made on the event loop, where the tracker does not change meanwhile, and
    carried out in a thread by :meth:`append_new_events`.
    """

    def __init__(
        self,
        store: TrackerStore,
        place: str,
        tracker: DialogueStateTracker,
        mark: Optional[SavedUpTo],
        user_id: Optional[str],
    ) -> None:
        """Look at what the tracker has now.

        Args:
            store: The store; says in which form events are stored.
            place: The place of the log, for marks.
            tracker: The tracker.
            mark: How far the tracker is saved, if that is known.
            user_id: The user whose conversation it is.
        """
        self._store = store
        self._place = place
        self._tracker = tracker
        self._user_id = user_id
        #: All events of the tracker.
        self.events: List[Event] = list(tracker.events)
        new = mark.new_events(tracker, self.events) if mark is not None else None
        #: How far the tracker was saved before, once that is known. Should the save
        #: fail, the next save still knows which events the event broker has not got.
        self.mark = mark if new is not None else None
        self._new = new

    @property
    def is_needless(self) -> bool:
        """Whether the log is known to hold everything."""
        return (
            self.mark is not None
            and not self._new
            and self._user_id in (None, self.mark.user_id)
        )

    @property
    def is_long(self) -> bool:
        """Whether it takes long, as far as is known beforehand."""
        return is_long(len(self.events if self._new is None else self._new))

    def append_new_events(self, log: DeadlineLog) -> Saved:
        """Append the events that the log does not hold yet.

        Raises:
            ConnectionException: when the server could not be reached in time.
            RasaException: when an event or the sender id cannot be stored.
        """
        sender_id = checked_sender_id(log, self._tracker.sender_id)
        end = self._known_end(log, sender_id)
        serialise = rasa_versions.serialiser(self._store, sender_id, self._user_id)
        entries = encoded(self._store, log.deadline, end.new, serialise)
        user = self._changed_user(log, sender_id, end)
        position = end.position
        if end.new or (user and position != START):
            position = append_once(
                log,
                sender_id,
                entries,
                position,
                user=user,
                # Should the log be erased before, it begins with the new events.
                user_of_new_log=self._user(end.new[0].timestamp if end.new else None),
                is_uncertain=end.is_uncertain,
            )
        elif self.events:
            log.confirm(sender_id)
        marked = len(self.events) - len(end.new) if end.is_marked else 0
        return Saved(end.new, position, self._user_id or end.user_id, marked)

    def _known_end(self, log: DeadlineLog, sender_id: str) -> _KnownEnd:
        """What is new, and where the log ends as far as is known."""
        mark = self.mark
        if mark is not None and self._new is not None:
            return _KnownEnd(
                *(self._new, mark.position, mark.user_id, mark.is_uncertain),
                is_marked=True,
            )
        known = known_end(self._place, sender_id, self.events)
        if known is not None:
            user_id = log.read_back(sender_id, limit=1).user_id
            return _KnownEnd(known.new, known.position, user_id, True, is_marked=True)
        end = self._reconciled(log, sender_id)
        saved = self.events[: len(self.events) - len(end.new)]
        # If nothing is new, nothing has to be remembered, and all has to be confirmed.
        if end.new and all(a is b for a, b in zip(self.events[len(saved) :], end.new)):
            self.mark = SavedUpTo(
                self._place, self._tracker, saved, end.position, end.user_id
            )
        return end

    def _reconciled(self, log: DeadlineLog, sender_id: str) -> _KnownEnd:
        """What is new in a tracker of unknown origin, by comparing it with the log.

        Reads back to where the tracker begins; the whole log if the tracker begins
        nowhere in it.
        """
        if not self.events:
            page = log.read_back(sender_id, limit=1)
            return _KnownEnd([], end_of(page.events), page.user_id, True)
        texts = texts_of(self._store, log.deadline, self.events)
        stored: List[str] = []
        newest: Optional[Page] = None
        complete = False
        for page in pages_newest_first(log, sender_id):
            newest = newest or page
            stored = stored_texts_of(self._store, log.deadline, page.events) + stored
            complete = page.complete
            if texts[0] in stored:
                break
        assert newest is not None  # noqa: S101 - there is always a first page
        indices = new_events(stored, texts, complete=complete)
        # Another store that saves an equal tracker may come in between.
        return _KnownEnd(
            [self.events[index] for index in indices],
            end_of(newest.events),
            newest.user_id,
            True,
        )

    def _changed_user(
        self, log: DeadlineLog, sender_id: str, end: _KnownEnd
    ) -> Optional[User]:
        """The user to write, if the log has another one or none."""
        if self._user_id is None or self._user_id == end.user_id:
            return None
        if end.user_id is not None:
            return User(self._user_id, None)
        return self._user(self._conversation_started(log, sender_id, end.position))

    def _user(self, conversation_started: Optional[float]) -> Optional[User]:
        if self._user_id is None:
            return None
        return User(self._user_id, conversation_started)

    def _conversation_started(
        self, log: DeadlineLog, sender_id: str, position: int
    ) -> Optional[float]:
        """When the conversation began: read once per conversation.

        The tracker of a last session only says when that session began.
        """
        if position != START:
            first = log.read_back(sender_id).events[:1]
            if first and timestamp_of(first[0].data) >= 0:
                return timestamp_of(first[0].data)
        return rasa_versions.conversation_started(self._tracker, self.events)


class _KnownEnd(NamedTuple):
    """What is new in a tracker, and where the log ends as far as is known."""

    new: List[Event]
    position: int
    #: The user whose conversation it is, as the log has it.
    user_id: Optional[str]
    #: Whether the log may hold some of ``new`` after ``position``.
    is_uncertain: bool
    #: Whether the events before ``new`` are marked as saved.
    is_marked: bool = False


class Saved(NamedTuple):
    """What a save has done."""

    #: Events that this save, or one before it that failed, has stored.
    appended: List[Event]
    #: The position of the log's last event.
    position: int
    user_id: Optional[str]
    #: How many leading events of the tracker were marked as saved before.
    marked: int
