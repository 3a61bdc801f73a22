"""What the logs of Rasa's own Redis and MongoDB stores have in common.

Both keep all events of a conversation in one value, as JSON objects. A position is the
place of an event in it, from 1 on.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

from rasa_trackers.errors import store_error
from rasa_trackers.event_log import (
    START,
    Conversation,
    Entry,
    EventLog,
    Page,
    Stored,
    User,
    conversation_order,
    timestamp_of,
)


class Dialogue(NamedTuple):
    """A conversation as Rasa's own store keeps it."""

    #: The texts of its events, in order.
    events: List[str]
    user: Optional[User]
    #: Recognises later whether the value has changed; ``None`` where there is none.
    version: Any


class DialogueLog(EventLog):
    """A log whose conversations are read and written as a whole."""

    @abstractmethod
    def read(self, sender_id: str) -> Dialogue:
        """A conversation; without events and version where there is none."""

    @abstractmethod
    def write(
        self,
        sender_id: str,
        seen: Dialogue,
        events: List[Dict[str, Any]],
        user: Optional[User],
        *,
        keep_expiry: bool,
    ) -> bool:
        """Replace a conversation in one step.

        Args:
            sender_id: The conversation.
            seen: As it was read.
            events: All its events; none of them erases it.
            user: The user whose conversation it is.
            keep_expiry: Whether its expiry date stays as it is.

        Returns:
            ``False`` if it is not as it was read; then nothing was written.
        """

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        new = [_object(entry, self.name) for entry in entries]
        seen = self.read(sender_id)
        if len(seen.events) != after:
            return None
        if not seen.events and not entries:
            return START
        if (
            user is not None
            and seen.user
            and seen.user.conversation_started is not None
        ):
            user = User(user.user_id, seen.user.conversation_started)
        events = [json.loads(event) for event in seen.events] + new
        user = user or seen.user
        is_done = self.write(sender_id, seen, events, user, keep_expiry=False)
        return len(events) if is_done else None

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        events = [_object(entry, self.name) for entry in entries]
        seen = self.read(sender_id)
        if len(seen.events) != after:
            return None
        if not events and not seen.events:
            return START
        is_done = self.write(
            sender_id, seen, events, user or seen.user, keep_expiry=bool(seen.events)
        )
        return len(events) if is_done else None

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        dialogue = self.read(sender_id)
        end = len(dialogue.events)
        if before is not None:
            end = max(0, min(end, before - 1))
        begin = 0 if limit is None else max(0, end - limit)
        events = [
            Stored(index + 1, dialogue.events[index]) for index in range(begin, end)
        ]
        user = dialogue.user if events else None
        return Page(events, begin == 0, user and user.user_id)

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        found = []
        for batch in self.sender_ids():
            for sender_id in batch:
                dialogue = self.read(sender_id)
                if dialogue.user and dialogue.user.user_id == user_id:
                    started = dialogue.user.conversation_started
                    found.append(Conversation(sender_id, started, dialogue.events))
        found.sort(key=conversation_order)
        return found[skip:][:limit]

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        for batch in self.sender_ids():
            newest = [self.read(sender_id).events[-1:] for sender_id in batch]
            yield sum(
                timestamp_of(event) >= after_timestamp
                for events in newest
                for event in events
            )

    def count_events(self) -> Iterator[int]:
        """How many events are stored: numbers that add up, each after an answer."""
        for batch in self.sender_ids():
            for sender_id in batch:
                yield len(self.read(sender_id).events)


def _object(entry: Entry, name: str) -> Dict[str, Any]:
    try:
        event = json.loads(entry.data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise store_error(
            f"{name} is of Rasa's own format, which holds no damaged events, and one of "
            f"this conversation is: {entry.data[:60]!r}."
        )
    return event
