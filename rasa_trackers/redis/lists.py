"""The Redis list of a conversation, as the scripts in ``lua/`` write it.

``lua/common.lua`` describes the list. What is damaged here is skipped, and reported,
where events are decoded.
"""

from __future__ import annotations

import json
import math
from typing import Any, Optional

from rasa_trackers.event_log import Page, Stored, User


def page_of(reply: Any, *, with_user: bool = True) -> Page:
    """The page in a reply of ``lua/read_back.lua``.

    Args:
        reply: The reply, which is no legacy value.
        with_user: Whether the page says whose conversation it is.
    """
    if reply is None:
        return Page([], complete=True)
    position, index, events, header = reply
    if isinstance(events, bytes):
        texts = text_of_event(events).split("\n")
    else:
        texts = [text_of_event(event) for event in events]
    stored = list(map(Stored, range(position, position + len(texts)), texts))
    user = user_in(header) if with_user and stored else None
    return Page(stored, index == 1, user and user.user_id)


def text_of_event(stored: bytes) -> str:
    """The text of an event. An invalid byte becomes a replacement character."""
    return str(stored, "utf-8", "replace")


def user_in(header: Optional[bytes]) -> Optional[User]:
    """The user in the first element of a list; ``None`` if there is none."""
    _, _, described = (header or b"").partition(b" ")
    if not described:
        return None
    try:
        user = json.loads(described)
        user_id, started = user["user_id"], user["conversation_started"]
    except (LookupError, TypeError, ValueError, RecursionError):
        return None  # written by another program
    return User(user_id, a_time(started)) if isinstance(user_id, str) else None


def a_time(value: Any) -> Optional[float]:
    """A stored time; ``None`` for anything that is none."""
    if type(value) not in (int, float) or not -math.inf < value < math.inf:
        return None
    time: float = value
    return time
