"""Contenders at work in a process that has a Rasa.

Run as a program, it takes calls from another process: a line of JSON each on standard
input, and answers with a line each. So stores of different versions of Rasa, which do
not go into one environment, take turns in one run.
"""

import asyncio
import gc
import json
import logging
import os
import statistics
import sys
import time
import traceback
import tracemalloc
from typing import Any, Dict, List, Sequence, TextIO, Tuple

from rasa.utils.log_utils import configure_structlog

import conversations
import fill
from measuring import Place
from pulse import Pulse
from stores import (
    KINDS,
    OURS,
    Contender,
    TrackerStoreContender,
    as_turn,
    close_store,
    open_contender,
    open_store,
    versions,
)
from turn_parts import timed

#: Seconds between two looks at whether the event loop turns.
_BEAT = 0.002
#: Seconds after which `keys` is not called again.
_LONGEST_LIST = 5.0


class Worker:
    """What can be asked for; all arguments and results are JSON."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._contenders: Dict[str, Contender] = {}
        self._place = Place("", {})
        self._names: Dict[str, str] = {}

    def call(self, method: str, **arguments: Any) -> Any:
        """Call one of the methods below."""
        return self._loop.run_until_complete(getattr(self, method)(**arguments))

    async def versions(self) -> Dict[str, str]:
        """The versions of what this process has."""
        return versions()

    async def turn(self) -> Dict[str, int]:
        """What a turn adds: events, and bytes of each on average."""
        texts = as_turn(conversations.turn()).texts
        return {
            "events": len(texts),
            "bytes_an_event": round(statistics.mean(map(len, texts))),
        }

    async def open(
        self, kind: str, endpoint: Dict[str, Any], names: Dict[str, str]
    ) -> Dict[str, str]:
        """Let contenders come to a server.

        Args:
            kind: Of the table `stores.KINDS`.
            endpoint: Of one of the server's databases.
            names: The database of each contender that is wanted.

        Returns:
            Who cannot come, and why.
        """
        self._place, self._names = Place(kind, endpoint), names
        missing = {}
        for which in names:
            try:
                self._contenders[which] = open_contender(self._place, which, names)
            except LookupError as error:
                missing[which] = str(error)
        return missing

    async def use(self, names: Dict[str, str]) -> None:
        """Let what comes next be about other databases of the server."""
        self._names = names

    async def close(self) -> None:
        """Send them away."""
        for contender in self._contenders.values():
            if isinstance(contender, TrackerStoreContender):
                close_store(contender.store)
        self._contenders.clear()

    async def settle(self) -> None:
        """Call this when all conversations are filled in."""
        # What Rasa has imported, a million objects, is not worth a look each turn.
        gc.collect()
        gc.freeze()

    # Turns

    async def fill(
        self, which: str, sender_id: str, events: int, sessions: int
    ) -> None:
        """Store a conversation."""
        session = events // sessions
        turns = -(-session // len(conversations.turn()))
        everything = [
            event
            for _ in range(sessions)
            for event in conversations.conversation(1, turns)[:session]
        ]
        await self._contenders[which].fill(sender_id, everything, session)

    async def take_turn(
        self, which: str, sender_id: str, events: int, sessions: int
    ) -> Tuple[float, float]:
        """Take a turn and undo it; the seconds that it took, and of processor time."""
        session, contender = events // sessions, self._contenders[which]
        turn = as_turn(conversations.turn())
        gc.collect()  # nobody is to clear up after the one before
        wall, cpu = time.perf_counter(), time.process_time()
        read = await contender.take_turn(sender_id, session, turn)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        contender.undo_turn(sender_id)
        await contender.recall(sender_id)
        # Rasa's own stores begin a session one event later, and put the slots that
        # it begins with before it.
        if abs(read - session) > 3:
            raise AssertionError(f"{sender_id} has given {read} events")
        return wall, cpu

    async def take_apart(
        self, sender_id: str, events: int, sessions: int, times: int
    ) -> Dict[str, float]:
        """Take turns of ours and undo them.

        Returns:
            The seconds that each part of a turn took, the medians.
        """
        contender = self._contenders[OURS]
        found: List[Dict[str, float]] = []
        for _ in range(times):
            turn = as_turn(conversations.turn())
            gc.collect()
            with timed() as taken:
                await contender.take_turn(sender_id, events // sessions, turn)
            contender.undo_turn(sender_id)
            await contender.recall(sender_id)
            found.append(taken)
        return {part: statistics.median(each[part] for each in found) for part in taken}

    # Many at once

    async def take_many_turns(
        self,
        which: str,
        sender_ids: Sequence[str],
        session: int,
        at_once: int,
        seconds: float,
    ) -> Dict[str, float]:
        """Take turns of several conversations at once, as long as there is time.

        Args:
            which: The contender.
            sender_ids: The conversations.
            session: Number of events that each had when it was filled in.
            at_once: How many at once.
            seconds: How long.

        Returns:
            How many turns a second; and the longest time in seconds for which the
            event loop did not turn.
        """
        contender = self._contenders[which]
        gc.collect()
        begin = time.perf_counter()
        end = begin + seconds
        count = 0

        async def take_turns(number: int) -> None:
            nonlocal count
            while time.perf_counter() < end:
                sender_id = sender_ids[number % len(sender_ids)]
                await contender.take_turn(
                    sender_id, session, as_turn(conversations.turn())
                )
                count += 1
                number += at_once
                # A store whose calls block has never given way to anybody else, and
                # the rest of Rasa would have by now.
                await asyncio.sleep(0)

        async with Pulse(_BEAT) as pulse:
            await asyncio.gather(*map(take_turns, range(at_once)))
            took = time.perf_counter() - begin
        return {"turns_a_second": count / took, "longest_stall": pulse.longest}

    # Space

    async def memory(self, which: str, sender_id: str) -> Dict[str, float]:
        """Bytes of memory for each event of a tracker: kept, and the most meanwhile."""
        store = self._store(which)
        await store.retrieve(sender_id)
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            tracker = await store.retrieve(sender_id)
            _, peak = tracemalloc.get_traced_memory()
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        events = len(tracker.events)
        return {"kept": (after - before) / events, "peak": (peak - before) / events}

    async def stored(self, which: str) -> int:
        """Bytes that all conversations of a contender take in its database."""
        return KINDS[self._place.kind].stored(self._place, self._names[which])

    # Many conversations

    async def fill_many(self, which: str, count: int, events: int) -> None:
        """Store many conversations past the store, which would take hours.

        Args:
            which: Whose database.
            count: How many.
            events: How many events each has.
        """
        name, kind = self._names[which], self._place.kind
        if kind in fill.SQL:
            close_store(open_store(self._place, which, name))
            fill.SQL[kind](self._place, name, count, events)
            return
        contender = open_contender(self._place, which, self._names)
        example = conversations.conversation(1, events)[:events]
        await contender.fill(fill.TEMPLATE, example, events)
        fill.COPY[kind](self._place, name, count)

    async def start(self, which: str) -> Dict[str, float]:
        """Seconds that a store takes to start, and until it has what it wants.

        What it makes beside its work are indexes of PostgreSQL's and of MongoDB's.
        """
        begin = time.perf_counter()
        store = open_store(self._place, which, self._names[which])
        started = time.perf_counter() - begin
        if which == OURS and self._place.kind in fill.WAIT_FOR_INDEX:
            wait = fill.WAIT_FOR_INDEX[self._place.kind]
            wait(self._place, self._names[which])
        ready = time.perf_counter() - begin
        close_store(store)
        return {"started": started, "ready": ready}

    async def keys(self, which: str, times: int) -> List[float]:
        """Seconds that `keys` takes, the median of some calls; and how many there are.

        Args:
            which: The contender.
            times: How many calls at the most; a slow one is not made again.
        """
        store = open_store(self._place, which, self._names[which])
        took: List[float] = []
        while len(took) < times and sum(took) < _LONGEST_LIST:
            begin = time.perf_counter()
            count = len(list(await store.keys()))
            took.append(time.perf_counter() - begin)
        close_store(store)
        return [statistics.median(took), count]

    def _store(self, which: str) -> Any:
        contender = self._contenders[which]
        assert isinstance(contender, TrackerStoreContender)
        return contender.store


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    bench = Worker()
    for line in requests:
        request = json.loads(line)
        try:
            answer = {"result": bench.call(request.pop("method"), **request)}
        except Exception:  # noqa: BLE001 - for the other process to raise
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    # As Rasa's own command line does; Rasa Pro's stores else write lines without end.
    configure_structlog(logging.WARNING)
    # What libraries print is not to stand between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)
        serve(sys.stdin, output)
