"""Conversations as Rasa has them, for the tests."""

from __future__ import annotations

import itertools
import os
from typing import Any, Dict, Iterable, List, Optional, Sequence

from rasa.shared.core.domain import Domain
from rasa.shared.core.events import (
    ActionExecuted,
    BotUttered,
    Event,
    SessionStarted,
    SlotSet,
    UserUttered,
)
from rasa.shared.core.trackers import DialogueStateTracker

from rasa_trackers.rasa_versions import KNOWS_USERS

_numbers = itertools.count(1)


def session_start() -> List[Event]:
    return _timed(
        [
            ActionExecuted("action_session_start"),
            SessionStarted(),
            ActionExecuted("action_listen"),
        ]
    )


def turn(text: str = "hello") -> List[Event]:
    """The eight events that a message and its answer add."""
    return _timed(
        [
            UserUttered(
                text,
                {"name": "greet", "confidence": 0.98},
                [{"entity": "name", "value": "Ada"}],
                input_channel="rest",
                message_id=f"message-{next(_numbers)}",
            ),
            SlotSet("name", text),
            ActionExecuted("action_custom", policy="RulePolicy", confidence=1.0),
            SlotSet("count", 2.0),
            ActionExecuted("utter_greet", policy="RulePolicy", confidence=1.0),
            BotUttered(
                "hi", data={"buttons": None}, metadata={"utter_action": "utter_greet"}
            ),
            SlotSet("anything", {"nested": [1, None, "ü"]}),
            ActionExecuted("action_listen", policy="RulePolicy", confidence=1.0),
        ]
    )


def conversation(sessions: int, turns: int) -> List[Event]:
    return [
        event
        for _ in range(sessions)
        for part in (session_start(), *(turn() for _ in range(turns)))
        for event in part
    ]


def _timed(events: List[Event]) -> List[Event]:
    for event in events:
        event.timestamp = 1_700_000_000 + next(_numbers) / 1000
    return events


def tracker(
    sender_id: str,
    events: Iterable[Event] = (),
    domain: Optional[Domain] = None,
    max_event_history: Optional[int] = None,
) -> DialogueStateTracker:
    """A tracker as Rasa makes it afresh: no store knows it."""
    return DialogueStateTracker.from_events(
        sender_id, list(events), (domain or Domain.empty()).slots, max_event_history
    )


def add(tracker: DialogueStateTracker, events: Sequence[Event]) -> None:
    for event in events:
        tracker.update(event)


def as_dicts(tracker: Optional[DialogueStateTracker]) -> List[Dict[str, Any]]:
    """The events of a tracker in full; ``Event.__eq__`` ignores fields."""
    assert tracker is not None
    return [event.as_dict() for event in tracker.events]


def as_messages(tracker: DialogueStateTracker) -> List[Dict[str, Any]]:
    """What is published of a tracker, without the sender id."""
    events = as_dicts(tracker)
    if not KNOWS_USERS:
        return events
    # As ``stream_events`` of Rasa Pro (3.21).
    more = {"rasa_environment": os.environ.get("RASA_ENVIRONMENT")}
    return [
        {
            "user_id": tracker.user_id,
            **event,
            "metadata": {**event.get("metadata", {}), **more},
        }
        for event in events
    ]


def dicts(events: Iterable[Event]) -> List[Dict[str, Any]]:
    return [event.as_dict() for event in events]
