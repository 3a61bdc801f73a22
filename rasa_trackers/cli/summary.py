"""A conversation in one line."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

from rasa_trackers.cli.reading import Whole
from rasa_trackers.cli.timeline import SESSION_START, is_session_start
from rasa_trackers.entries import parsed
from rasa_trackers.event_log import timestamp_of


class Summary(NamedTuple):
    """What a list says of a conversation."""

    sender_id: str
    #: Seconds since the epoch, of the earliest and of the latest event.
    first: Optional[float]
    last: Optional[float]
    events: int
    sessions: int
    user_id: Optional[str]


def summary_of(conversation: Whole) -> Summary:
    """The summary of a conversation."""
    times = [
        time for time in map(timestamp_of, conversation.events) if math.isfinite(time)
    ]
    sessions = sum(
        SESSION_START in data and is_session_start(parsed(data))
        for data in conversation.events
    )
    return Summary(
        conversation.sender_id,
        min(times, default=None),
        max(times, default=None),
        len(conversation.events),
        sessions,
        conversation.user_id,
    )
