"""A conversation as a person would read it: one line for each thing that happened."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from rasa_trackers.entries import finite, parsed

#: Kinds of lines, which the terminal and the page show differently.
SESSION, USER, BOT, ACTION, SLOT, FORM, OTHER, DAMAGED = (
    "session",
    "user",
    "bot",
    "action",
    "slot",
    "form",
    "other",
    "damaged",
)

#: Sessions begin here (``get_trackers_for_conversation_sessions``, 3.6.21).
SESSION_START = "action_session_start"
_LISTEN = "action_listen"

#: The longest text of a value that is shown.
_LONGEST_VALUE = 200


class Line(NamedTuple):
    """One thing that happened."""

    kind: str
    #: When, in seconds since the epoch.
    timestamp: Optional[float]
    #: What was said or done.
    text: str
    #: What is known about it beside, such as the intent.
    details: str = ""
    #: The number of the session, from 1 on; 0 before the first one begins.
    session: int = 0


def is_session_start(parameters: Dict[str, Any]) -> bool:
    """Whether a session begins at an event, given in the classic form."""
    return (
        parameters.get("event") == "action" and parameters.get("name") == SESSION_START
    )


class Timeline:
    """Turns events into lines, in order; events may come in parts."""

    def __init__(self) -> None:
        """Begin before the first event."""
        self.session = 0
        self._slots: Dict[str, Any] = {}
        self._loop: Optional[str] = None

    def lines(self, events: Iterable[str]) -> List[Line]:
        """The lines of the texts of events."""
        found: List[Line] = []
        for data in events:
            parameters = parsed(data)
            if is_session_start(parameters):
                self.session += 1
            line = self._line(parameters, data)
            if line is not None:
                found.append(line._replace(session=self.session))
        return found

    def _line(self, event: Dict[str, Any], data: str) -> Optional[Line]:
        type_name = event.get("event")
        timestamp = finite(event.get("timestamp"))
        if not isinstance(type_name, str):
            return Line(DAMAGED, timestamp, _cut(data), "not a Rasa event")
        make = getattr(self, f"_{type_name}", None) if type_name in _KNOWN else None
        if make is not None:
            line: Optional[Line] = make(event, timestamp)
            return line
        rest = {
            name: value
            for name, value in event.items()
            if name not in ("event", "timestamp", "metadata")
            and value not in (None, {})
        }
        return Line(OTHER, timestamp, type_name, _value(rest) if rest else "")

    def _user(self, event: Dict[str, Any], timestamp: Optional[float]) -> Line:
        parse_data = _mapping(event.get("parse_data"))
        details = []
        intent = _mapping(parse_data.get("intent"))
        if intent.get("name"):
            details.append(f"{intent['name']}{_confidence(intent.get('confidence'))}")
        entities = parse_data.get("entities")
        for entity in map(_mapping, entities if isinstance(entities, list) else ()):
            details.append(f"{entity.get('entity')}={_value(entity.get('value'))}")
        commands = parse_data.get("commands")
        for command in commands if isinstance(commands, list) else ():
            details.append(_value(_mapping(command).get("command") or command))
        if event.get("input_channel"):
            details.append(f"by {event['input_channel']}")
        return Line(USER, timestamp, _said(event), ", ".join(map(str, details)))

    def _bot(self, event: Dict[str, Any], timestamp: Optional[float]) -> Line:
        data = _mapping(event.get("data"))
        details = []
        for name, value in data.items():
            if not value:
                continue
            if name in ("buttons", "quick_replies") and isinstance(value, list):
                titles = [str(_mapping(button).get("title")) for button in value]
                details.append(f"{name}: {', '.join(titles)}")
            else:
                details.append(f"{name}: {_value(value)}")
        return Line(BOT, timestamp, _said(event), "; ".join(details))

    def _action(
        self, event: Dict[str, Any], timestamp: Optional[float]
    ) -> Optional[Line]:
        name = event.get("name")
        if name == SESSION_START:
            return Line(SESSION, timestamp, f"Session {self.session}")
        if name == _LISTEN:
            return None
        text = str(name or event.get("action_text") or "?")
        policy = event.get("policy")
        details = f"{policy}{_confidence(event.get('confidence'))}" if policy else ""
        return Line(ACTION, timestamp, text, details)

    def _session_started(
        self, event: Dict[str, Any], timestamp: Optional[float]
    ) -> Optional[Line]:
        return None

    def _slot(
        self, event: Dict[str, Any], timestamp: Optional[float]
    ) -> Optional[Line]:
        name, value = str(event.get("name")), event.get("value")
        known = name in self._slots
        before = self._slots.get(name)
        self._slots[name] = value
        if known and _same(before, value):
            return None
        was = f"was {_value(before)}" if known and before is not None else ""
        return Line(SLOT, timestamp, f"{name} = {_value(value)}", was)

    def _reset_slots(self, event: Dict[str, Any], timestamp: Optional[float]) -> Line:
        self._slots.clear()
        return Line(SLOT, timestamp, "all slots reset")

    def _restart(self, event: Dict[str, Any], timestamp: Optional[float]) -> Line:
        self._slots.clear()
        self._loop = None
        return Line(OTHER, timestamp, "restart")

    def _active_loop(
        self, event: Dict[str, Any], timestamp: Optional[float]
    ) -> Optional[Line]:
        name = event.get("name")
        before, self._loop = self._loop, None if name is None else str(name)
        if name is None:
            return Line(FORM, timestamp, f"form ended: {before}") if before else None
        return Line(FORM, timestamp, f"form began: {name}")

    _form = _active_loop


_KNOWN = frozenset(
    {
        "user",
        "bot",
        "action",
        "session_started",
        "slot",
        "reset_slots",
        "restart",
        "active_loop",
        "form",
    }
)


def _said(event: Dict[str, Any]) -> str:
    text = event.get("text")
    return text if isinstance(text, str) else "" if text is None else _value(text)


def _confidence(value: Any) -> str:
    number = finite(value)
    return "" if number is None else f" {number:.2f}"


def _mapping(value: Any) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _same(one: Any, other: Any) -> bool:
    # In Python, True is equal to 1.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _value(value: Any) -> str:
    return _cut(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
