"""Decoded events of long sessions, kept for the next read.

Most of a long session is what it was a turn ago, and decoding it takes most of a turn.
So runs of decoded events are kept as pickles: 1,000 events of a pizza order take 1.1 ms
to unpickle and 2.8 ms to decode (Rasa 3.6.21 on Python 3.10; 1.3 and 4.5 ms in Rasa Pro
3.21.0 on 3.11). Rasa changes events in place, so each tracker gets objects of its own.

A run is found again by its texts, all of which are compared. So what another process has
changed or erased is never given from here. Only Rasa's own events are kept: a pickle of
another one may lose something, or not be readable.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections import OrderedDict
from typing import Dict, List, NamedTuple, Sequence, Tuple

from rasa_trackers.codec import DECODER, UndecodableEvent
from rasa_trackers.computing import SLICE
from rasa_trackers.rasa_versions import Event

#: Bytes that an event takes in memory beside its text and its share of a pickle.
_OVERHEAD = 60


class _Run(NamedTuple):
    """``SLICE`` events of a session, as they were decoded."""

    texts: List[str]
    pickled: bytes

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        texts = sum(map(sys.getsizeof, self.texts))
        return len(self.pickled) + texts + _OVERHEAD * SLICE


#: The runs of one session, by the text that each begins with.
_Runs = Dict[str, _Run]


class DecodedSessions:
    """The runs of recent sessions; bounded by bytes."""

    def __init__(self, max_bytes: int) -> None:
        """Have none yet.

        Args:
            max_bytes: Bytes of all runs; the least recently used session is dropped. With
                0 nothing is kept.
        """
        self._max_bytes = max_bytes
        self._sessions: OrderedDict[str, Tuple[_Runs, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def of(self, sender_id: str) -> DecodedSession:
        """What is known of a session, for one read of it."""
        with self._lock:
            runs, _ = self._sessions.get(sender_id, ({}, 0))
        return DecodedSession(runs, self._max_bytes)

    def keep(self, sender_id: str, session: DecodedSession) -> None:
        """Keep what a read has used, and nothing else of that conversation."""
        with self._lock:
            self._drop(sender_id)
            if not session.used:
                return
            self._sessions[sender_id] = session.used, session.size
            self._bytes += session.size
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._sessions)))

    def forget(self, sender_id: str) -> None:
        """Drop what is kept of a conversation that is erased."""
        with self._lock:
            self._drop(sender_id)

    def _drop(self, sender_id: str) -> None:
        _, size = self._sessions.pop(sender_id, ({}, 0))
        self._bytes -= size


class DecodedSession:
    """Decodes the events of one session, those of before from their pickles."""

    def __init__(self, known: _Runs, max_bytes: int) -> None:
        """Begin a read of a session.

        Args:
            known: The runs that were kept of it.
            max_bytes: Bytes that may be kept of it.
        """
        self._known = known
        self._max_bytes = max_bytes
        #: The runs that this read has come by.
        self.used: _Runs = {}
        #: About how many bytes they take.
        self.size = 0

    def decode_all(
        self, texts: Sequence[str]
    ) -> Tuple[List[Event], Dict[int, UndecodableEvent]]:
        """As :meth:`rasa_trackers.codec.EventDecoder.decode_all`."""
        if len(texts) != SLICE:
            return DECODER.decode_all(texts)
        run = self._known.get(texts[0])
        if run is not None and run.texts == texts:
            self._use(run)
            # What this process itself has pickled, of Rasa's own classes.
            return pickle.loads(run.pickled), {}  # noqa: S301
        events, errors = DECODER.decode_all(texts)
        if not errors and self.size < self._max_bytes and all(map(_is_rasas, events)):
            self._use(_Run(list(texts), pickle.dumps(events, pickle.HIGHEST_PROTOCOL)))
        return events, errors

    def _use(self, run: _Run) -> None:
        self.size += run.size
        if self.size <= self._max_bytes:
            self.used[run.texts[0]] = run
        else:
            self.used.clear()  # of a session that is too long, all is decoded


def _is_rasas(event: Event) -> bool:
    return type(event).__module__.startswith("rasa.")
