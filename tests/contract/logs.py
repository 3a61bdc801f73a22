"""Short ways to write to a log and to say what is in it."""

from __future__ import annotations

import json
from typing import Callable, List, Optional, TypeVar

from rasa_trackers.event_log import START, Entry, EventLog, Failure, Page

T = TypeVar("T")


def text(name: str, timestamp: float = 1.0) -> str:
    """The text of an event."""
    return json.dumps({"event": "slot", "timestamp": timestamp, "name": name})


def entries(*names: str, timestamp: float = 1.0) -> List[Entry]:
    """An event for each name."""
    return [
        Entry(text(name, timestamp), "slot", timestamp, None, name) for name in names
    ]


def numbered(count: int, prefix: str = "") -> List[Entry]:
    """That many events."""
    return entries(*(f"{prefix}{number}" for number in range(count)))


def raw(*texts: str) -> List[Entry]:
    """An event for each text."""
    return [Entry(data, "slot", None, None, None) for data in texts]


def texts(page: Page) -> List[str]:
    """The texts of a page."""
    return [event.data for event in page.events]


def names(page: Page) -> List[str]:
    """The names of a page's events."""
    return [json.loads(event.data)["name"] for event in page.events]


def stored(log: EventLog, sender_id: str) -> List[str]:
    """The names of all events of a conversation."""
    return names(log.read_back(sender_id))


def end_of(log: EventLog, sender_id: str) -> int:
    """The position of the last event."""
    newest = log.read_back(sender_id, limit=1).events
    return newest[-1].position if newest else START


def add(log: EventLog, sender_id: str, *added: str) -> int:
    """Append to the end, and give the position of the end then."""
    position = log.append(sender_id, entries(*added), end_of(log, sender_id))
    assert position is not None
    return position


def all_sender_ids(log: EventLog) -> List[str]:
    """The sender ids of all batches, sorted."""
    return sorted(sender_id for batch in log.sender_ids() for sender_id in batch)


def of_user(
    log: EventLog, user_id: str, limit: Optional[int] = None, skip: int = 0
) -> List[str]:
    """The sender ids of a user's conversations."""
    return [found.sender_id for found in log.conversations_of(user_id, limit, skip)]


def count(log: EventLog, after_timestamp: float = 0.0) -> int:
    """How many conversations have had an event since then."""
    return sum(log.count_conversations(after_timestamp))


def refusal(log: EventLog, call: Callable[[], object]) -> Optional[Failure]:
    """What the error of a call means; ``None`` for a call that has none.

    Raises:
        Exception: the error, if it is not the driver's.
    """
    try:
        call()
    except Exception as error:
        failure = log.classify(error)
        if failure is None:
            raise
        return failure
    return None


def persistently(log: EventLog, call: Callable[[], T]) -> T:
    """Do what may be done twice, again for as long as its error is transient."""
    for _ in range(100):
        try:
            return call()
        except Exception as error:
            failure = log.classify(error)
            if failure is None or not failure.transient:
                raise
            last = error
    raise last
