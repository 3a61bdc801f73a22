"""A conversation as one HTML file: no script, no network access, everything escaped."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

from rasa_trackers.cli.output import count, when
from rasa_trackers.cli.timeline import SESSION, Line

_TEMPLATE = Path(__file__).with_name("page.html")


def page(
    sender_id: str, user_id: Optional[str], lines: Sequence[Line], events: int
) -> str:
    """The page of a conversation.

    Args:
        sender_id: The conversation.
        user_id: The user whose conversation it is.
        lines: What happened, in order.
        events: How many events it has.
    """
    from jinja2 import Environment

    environment = Environment(autoescape=True)
    environment.filters["clock"] = lambda time: when(time, with_date=False)
    facts = [f"{count(events, 'event')}, times in UTC"]
    if user_id is not None:
        facts.insert(0, f"User {user_id}")
    text: str = environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        sender_id=sender_id, facts=facts, sessions=_sessions(lines)
    )
    # Half a surrogate pair cannot be in a file.
    return text.encode("utf-8", "replace").decode("utf-8")


def _sessions(lines: Sequence[Line]) -> List[Tuple[str, List[Any]]]:
    sessions = []
    for number, group in groupby(lines, key=lambda line: line.session):
        found = list(group)
        begin = next((line.timestamp for line in found if line.timestamp), None)
        title = f"Session {number}" if number else "Before the first session"
        shown = [line for line in found if line.kind != SESSION]
        sessions.append((f"{title} · {when(begin)}", shown))
    return sessions
