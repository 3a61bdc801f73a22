"""What the layer for outages adds to a turn while the database is there."""

import statistics
import time
from typing import List, Sequence
from unittest import mock

import conversations
from rasa_trackers.codec import encode
from rasa_trackers.event_log import START, Entry, EventLog
from rasa_trackers.memory.log import MemoryEventLog
from rasa_trackers.outage.log import OutageLog
from rasa_trackers.outage.spool import Spool
from rasa_trackers.paging import FIRST_PAGE

#: Bytes for copies and for what waits: enough for all of it.
_BYTES = 100 * 1024 * 1024


def seconds_a_turn(turns: int = 500) -> float:
    """Seconds that a turn takes longer with the layer in front of a log than without.

    A turn reads a page and appends its events. The log is one in memory, which both take
    turns with, so that what else the machine does falls on both.
    """
    entries = [encode(event) for event in conversations.turn()]
    bare = MemoryEventLog()
    layer = OutageLog(
        MemoryEventLog(),
        probe=mock.Mock(),
        spool=Spool(None, _BYTES),
        recent_bytes=_BYTES,
        reads_newer=True,
        record_exp=None,
        timeout=10.0,
    )
    layer.open()
    taken: List[List[float]] = [[], []]
    for number in range(turns):
        # A session of a hundred events, as it is after ten turns.
        sender_id = str(number // 10)
        for log, seconds in zip((bare, layer), taken):
            seconds.append(_turn(log, sender_id, entries))
    return statistics.median(taken[1]) - statistics.median(taken[0])


def _turn(log: EventLog, sender_id: str, entries: Sequence[Entry]) -> float:
    begin = time.perf_counter()
    page = log.read_back(sender_id, FIRST_PAGE)
    end = page.events[-1].position if page.events else START
    log.append(sender_id, entries, end)
    return time.perf_counter() - begin
