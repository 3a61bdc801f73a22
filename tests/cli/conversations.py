"""Conversations for the tests of the command line."""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from rasa_trackers.entries import entry_of
from rasa_trackers.event_log import START, User

#: When the conversations begin: 2023-11-14 22:13:20 UTC.
BEGIN = 1_700_000_000.0
DAY = 86_400.0


class Texts(NamedTuple):
    """The texts of a conversation's events, and its user."""

    events: List[str]
    user_id: Optional[str] = None


def text(event: str, timestamp: float, **more: Any) -> str:
    return json.dumps({"event": event, "timestamp": timestamp, **more})


def session(begin: float, said: Sequence[str] = ("hello",)) -> List[str]:
    events = [
        text("action", begin, name="action_session_start", policy=None),
        text("session_started", begin + 0.1),
        text("action", begin + 0.2, name="action_listen", policy=None),
    ]
    for number, message in enumerate(said):
        now = begin + 1 + number
        events += [
            text(
                "user",
                now,
                text=message,
                parse_data={
                    "intent": {"name": "greet", "confidence": 0.98},
                    "entities": [{"entity": "name", "value": "Ada"}],
                },
                input_channel="rest",
                metadata={},
            ),
            text("slot", now + 0.1, name="name", value="Ada"),
            text("slot", now + 0.2, name="count", value=number),
            text(
                "action",
                now + 0.3,
                name="utter_greet",
                policy="RulePolicy",
                confidence=1.0,
            ),
            text("bot", now + 0.4, text="hi", data={"buttons": None}, metadata={}),
            text("action", now + 0.5, name="action_listen", policy="RulePolicy"),
        ]
    return events


PROTO_JSON = json.dumps(
    {
        "conversation_id": "ada",
        "user_id": "u",
        "timestamp": BEGIN + 5,
        "user": {"text": "a pizza", "parse_data": {"intent": {"name": "order"}}},
        "metadata": None,
        "event_id": None,
    }
)

#: Three usual conversations, one with a long log, one with unusual texts.
CONVERSATIONS: Dict[str, Texts] = {
    "ada": Texts([*session(BEGIN), *session(BEGIN + DAY, ("a", "b"))], "user-1"),
    "bob": Texts(session(BEGIN + 2 * DAY, ("hello there",)), "user-1"),
    "Bob": Texts([*session(BEGIN + 3 * DAY), PROTO_JSON]),
    "long": Texts(session(BEGIN + 4 * DAY, [f"message {n}" for n in range(60)])),
    "name with 'quotes', *stars* and ünïcode 🙂 ": Texts(
        session(BEGIN + 5 * DAY, ("ünïcode 🙂", "tab\tand\nline", "\x1b[31mred"))
    ),
}


def append(log: Any, sender_id: str, texts: Texts, after: int = START) -> int:
    user = User(texts.user_id, BEGIN) if texts.user_id else None
    end = log.append(sender_id, [entry_of(each) for each in texts.events], after, user)
    assert end is not None
    return int(end)
