"""Writing beside others, in the way that the contract provides for."""

from __future__ import annotations

from typing import List, Sequence

from contract.logs import end_of, entries, persistently, stored
from rasa_trackers.event_log import EventLog


def append_each(log: EventLog, sender_id: str, names: Sequence[str]) -> List[int]:
    """Append events, each once, however many others write; gives their positions.

    After an error that is transient it looks whether the event is there.
    """
    positions = []
    for name in names:
        position = None
        while position is None:
            end = persistently(log, lambda: end_of(log, sender_id))
            try:
                position = log.append(sender_id, entries(name), end)
            except Exception as error:
                failure = log.classify(error)
                if failure is None or not failure.transient:
                    raise
                if name in persistently(log, lambda: stored(log, sender_id)):
                    position = end
        positions.append(position)
    return positions
