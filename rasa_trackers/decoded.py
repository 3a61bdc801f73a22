"""Decoded events of long sessions, kept for the next read.

Most of a long session is what it was a turn ago, and decoding it takes most of a turn.
So runs of decoded events are kept as pickles: 1,000 events of a pizza order take 1.1 ms
to unpickle and 2.8 ms to decode (Rasa 3.6.21 on Python 3.10; 1.3 and 4.5 ms in Rasa Pro
3.21.0 on 3.11). Rasa changes events in place, so each tracker gets objects of its own.

A run is found again by its texts, all of which are compared. So what another process has
changed or erased is never given from here.
"""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Type

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
        return len(self.pickled) + sum(map(len, self.texts)) + _OVERHEAD * SLICE


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
        return DecodedSession(runs)

    def keep(self, sender_id: str, session: DecodedSession) -> None:
        """Keep what a read has used, and nothing else of that conversation."""
        size = sum(run.size for run in session.used.values())
        with self._lock:
            self._drop(sender_id)
            if not size or size > self._max_bytes:
                return
            self._sessions[sender_id] = session.used, size
            self._bytes += size
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

    def __init__(self, known: _Runs) -> None:
        """Begin a read of a session.

        Args:
            known: The runs that were kept of it.
        """
        self._known = known
        #: The runs that this read has come by.
        self.used: _Runs = {}

    def decode_all(
        self, texts: Sequence[str]
    ) -> Tuple[List[Event], Dict[int, UndecodableEvent]]:
        """As :meth:`rasa_trackers.codec.EventDecoder.decode_all`."""
        if len(texts) != SLICE:
            return DECODER.decode_all(texts)
        run = self._known.get(texts[0])
        if run is not None and run.texts == texts:
            self.used[texts[0]] = run
            # What this process itself has pickled.
            return pickle.loads(run.pickled), {}  # noqa: S301
        events, errors = DECODER.decode_all(texts)
        pickled = None if errors else _pickled(events)
        if pickled is not None:
            self.used[texts[0]] = _Run(list(texts), pickled)
        return events, errors


def _pickled(events: List[Event]) -> Optional[bytes]:
    """A pickle; ``None`` where it need not give equal events."""
    if not all(map(_is_plain, set(map(type, events)))):
        return None
    try:
        return pickle.dumps(events, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - a custom event may hold anything
        return None


def _is_plain(kind: Type[Event]) -> bool:
    """Whether a pickle of such an event has all its attributes, and nothing else."""
    return all(
        getattr(kind, name, None) is getattr(object, name, None)
        for name in ("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__")
    )
