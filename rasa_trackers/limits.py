"""What the option ``max_event_bytes`` does to an event that is too long.

The event is stored all the same, with its longest texts cut. A tracker that has the
whole event and one that has the cut one are equal to a save that compares them.
"""

from __future__ import annotations

import bisect
import json
from typing import Any, Iterator, List, Optional, Sequence

from rasa_trackers.codec import DECODER, UndecodableEvent
from rasa_trackers.errors import store_error
from rasa_trackers.rasa_versions import Event, TrackerStore

#: Bytes of a text that are left at least: names of intents, slots and actions stay whole.
_FEWEST = 100
_MARK = "..."


def within(store: TrackerStore, events: Sequence[Event]) -> Sequence[Event]:
    """Events as a store keeps them, of which none is too long.

    Args:
        store: Has the option ``max_event_bytes``.
        events: The events.

    Raises:
        RasaException: when an event is too long without its texts.
    """
    most: Optional[int] = getattr(store, "max_event_bytes", None)
    return events if most is None else [_within(most, event) for event in events]


def _within(most: int, event: Event) -> Event:
    form = event.as_dict()
    try:
        size = len(json.dumps(form))
    except (TypeError, ValueError, RecursionError):
        return event  # what encodes it says what is wrong
    if size <= most:
        return event
    sizes = sorted(map(_size, _texts(form)))
    left = _fitting(sizes, most - (size - sum(sizes)))
    if left < _FEWEST:
        raise store_error(
            f"An event of type '{event.type_name}' cannot be stored: it takes {size} "
            f"bytes, more than max_event_bytes ({most}), and its texts are not what "
            f"makes it long. Let the channel or custom action that made it send less."
        )
    try:
        cut = DECODER.decode(json.dumps(_cut(form, left)))
    except UndecodableEvent as error:
        raise store_error(
            f"An event of type '{event.type_name}' cannot be stored: it takes {size} "
            f"bytes, more than max_event_bytes ({most}), and cannot be cut ({error})."
        ) from error
    return event if cut is None else cut


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _size(text: str) -> int:
    """Bytes that a text takes in JSON: six for a character that is not ASCII."""
    return len(json.dumps(text)) - 2


def _fitting(sizes: List[int], bytes_left: int) -> int:
    """How long each text may be so that all take no more bytes than that.

    Args:
        sizes: How long the texts are, ascending. Shorter ones stay whole.
        bytes_left: What all of them may take.
    """
    for index, size in enumerate(sizes):
        share = bytes_left // (len(sizes) - index)
        if size > share:
            return share
        bytes_left -= size
    return 0


def _cut(value: Any, left: int) -> Any:
    if isinstance(value, str):
        return value if _size(value) <= left else _beginning(value, left)
    if isinstance(value, dict):
        return {name: _cut(each, left) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cut(each, left) for each in value]
    return value


def _beginning(text: str, left: int) -> str:
    """The beginning of a text that takes that many bytes with its mark."""
    left -= len(_MARK)
    # No character takes less than a byte.
    text = text[:left]
    ends = [0]
    for character in text:
        ends.append(ends[-1] + _size(character))
    return text[: bisect.bisect_right(ends, left) - 1] + _MARK
