"""What the time of a turn of ours is spent on."""

import contextlib
import time
from typing import Any, Callable, Dict, Iterator
from unittest import mock

from rasa_trackers import rasa_versions, saving
from rasa_trackers.codec import DECODER
from rasa_trackers.retries import DeadlineLog

READ, DECODE, BUILD = "read", "decode events", "build the tracker"
ENCODE, APPEND, REST = "encode events", "append", "all else"


@contextlib.contextmanager
def timed() -> Iterator[Dict[str, float]]:
    """Clock the parts of a turn.

    Yields:
        Seconds of each part until then. In the end, all that is in none of them is
        under `REST`: to hand a call to a thread and back, to find what is new.
    """
    taken = dict.fromkeys((READ, DECODE, BUILD, ENCODE, APPEND, REST), 0.0)

    def clocked(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                taken[part] += time.perf_counter() - begin

        return call

    begin = time.perf_counter()
    with contextlib.ExitStack() as stack:
        for part, owner, name in (
            (READ, DeadlineLog, "read_back"),
            (DECODE, DECODER, "decode_all"),
            (BUILD, rasa_versions, "apply_events"),
            (ENCODE, saving, "encoded"),
            (APPEND, DeadlineLog, "append"),
        ):
            function = clocked(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, function))
        yield taken
    taken[REST] = time.perf_counter() - begin - sum(taken.values())
