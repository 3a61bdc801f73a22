"""What stands beside the text of an event in a log, found in the text, without Rasa.

Stored text has one of two forms. The classic form is ``Event.as_dict``::

    {"event": "user", "timestamp": 1.5, "parse_data": {"intent": {"name": "greet"}}, ...}

Rasa Pro can also store ProtoJSON (``event_to_broker_event_dict``, Pro 3.21)::

    {"conversation_id": "ada", "timestamp": 1.5, "user": {"parse_data": {...}}, ...}
"""

from __future__ import annotations

import json
import math
from typing import Any, Dict, Optional

from rasa_trackers.event_log import Entry

#: The type of a text in which no type is found.
UNKNOWN_TYPE = "unknown"

#: Keys of the ProtoJSON form that are never an event's own.
_ENVELOPE = frozenset(
    {
        "conversation_id",
        "user_id",
        "timestamp",
        "metadata",
        "event_id",
        "sequence",
        "deployment_environment",
        "session_id",
    }
)


def parsed(data: str) -> Dict[str, Any]:
    """An event's parameters in the classic form; empty where the text is damaged.

    A parameter of the ProtoJSON form that the classic form also has is found under the
    same name.
    """
    try:
        parameters = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return classic(parameters) if isinstance(parameters, dict) else {}


def classic(parameters: Dict[str, Any]) -> Dict[str, Any]:
    """An event's parameters in the classic form."""
    if "event" in parameters:
        return parameters
    for type_name, own in parameters.items():
        if type_name not in _ENVELOPE and isinstance(own, dict):
            return {
                "event": type_name,
                "timestamp": parameters.get("timestamp"),
                "metadata": _json_in(parameters.get("metadata")),
                **own,
            }
    return parameters


def entry_of(data: str) -> Entry:
    """The entry of a stored text. A damaged text has an entry too."""
    return described(data, parsed(data))


def described(data: str, parameters: Dict[str, Any]) -> Entry:
    """The entry of a text.

    Args:
        data: The text.
        parameters: What it says, in the classic form.
    """
    return Entry(
        data=data,
        type_name=_text(parameters.get("event")) or UNKNOWN_TYPE,
        timestamp=finite(parameters.get("timestamp")),
        intent_name=_intent_name(parameters),
        action_name=_text(parameters.get("name")),
    )


def finite(value: Any) -> Optional[float]:
    """A number that a database's column takes; any other stays in the event's text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _intent_name(parameters: Dict[str, Any]) -> Optional[str]:
    parse_data = parameters.get("parse_data")
    intent = parse_data.get("intent") if isinstance(parse_data, dict) else None
    return _text(intent.get("name")) if isinstance(intent, dict) else None


def _json_in(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) else None
