"""Events of a tracker and of a log in one form, to be compared.

Events are compared as Rasa writes them today: a text that an older version stored comes
out of a tracker with today's fields.
"""

from __future__ import annotations

import contextlib
from typing import Iterator, List, Optional, Sequence

from rasa_trackers import rasa_versions
from rasa_trackers.codec import DECODER, Serialise, UndecodableEvent, encode
from rasa_trackers.computing import in_slices
from rasa_trackers.event_log import Entry, Stored
from rasa_trackers.limits import within
from rasa_trackers.rasa_versions import Event, RasaException, TrackerStore
from rasa_trackers.retries import Deadline


def encoded(
    store: TrackerStore,
    deadline: Deadline,
    events: Sequence[Event],
    serialise: Optional[Serialise] = None,
) -> List[Entry]:
    """The entries of events.

    Raises:
        RasaException: when an event holds something that JSON cannot express.
    """
    return in_slices(
        deadline,
        events,
        lambda some: [encode(event, serialise) for event in within(store, some)],
    )


def texts_of(
    store: TrackerStore, deadline: Deadline, events: Sequence[Event]
) -> List[str]:
    """The texts that a tracker's events have when they come out of a log again."""
    return in_slices(
        deadline,
        events,
        lambda some: [
            encode(rasa_versions.as_stored(store, event)).data
            for event in within(store, some)
        ],
    )


def events_of(
    store: TrackerStore, deadline: Deadline, stored: Sequence[Stored]
) -> List[Optional[Event]]:
    """The events of a log; ``None`` for each that this Rasa cannot read.

    One that was stored before ``max_event_bytes`` was set is cut, to be compared.
    """

    def decoded(some: Sequence[Stored]) -> Iterator[Optional[Event]]:
        for _, data in some:
            try:
                event = DECODER.decode(data)
            except UndecodableEvent:
                event = None
            if event is not None:
                event = _as_stored(store, event)
            yield event

    return in_slices(deadline, stored, decoded, lambda each: len(each.data))


def _as_stored(store: TrackerStore, event: Event) -> Event:
    with contextlib.suppress(RasaException):  # it cannot be cut
        (event,) = within(store, [event])
    return rasa_versions.as_stored(store, event)


def stored_texts_of(
    store: TrackerStore, deadline: Deadline, stored: Sequence[Stored]
) -> List[str]:
    """The texts of a log's events; the text itself where this Rasa cannot read it."""
    texts: List[str] = []
    for each, event in zip(stored, events_of(store, deadline, stored)):
        try:
            texts.append(each.data if event is None else encode(event).data)
        except RasaException:
            texts.append(each.data)
    return texts
