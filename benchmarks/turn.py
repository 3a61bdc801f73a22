"""Measures a turn of a conversation: ours, Rasa's own stores, and the drivers alone.

A turn is what Rasa does with the store for each message: read the tracker, add eight
events, save. All contenders take turns in one run, one after the other, so that what
else the machine does falls on all of them. Writes `results.json` beside this file; run
it with `nox -s bench`.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import gc
import importlib
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

import psutil

import conversations
from stores import STORES, Contender, Opened, Store, as_turn, our_class

RESULTS = Path(__file__).with_name("results.json")

EVENTS = (10, 30, 100, 300, 1_000, 3_000, 10_000)
QUICK_EVENTS = (10, 100, 1_000, 10_000)
SESSIONS = (1, 10, 100)
#: Rasa begins a session with three events, and somebody says something in it.
SHORTEST_SESSION = 10

#: Turns that are measured of each contender at each age, at the most.
TURNS = 31
QUICK_TURNS = 9
#: Seconds that these may take; slow contenders take fewer turns, but at least one.
SECONDS = 3.0
QUICK_SECONDS = 0.5

Times = Dict[str, float]


class Shape(NamedTuple):
    """The age of a conversation."""

    events: int
    sessions: int

    @property
    def session(self) -> int:
        """Number of events in the last session, as in each."""
        return self.events // self.sessions

    def conversation(self) -> List[Any]:
        """Its events."""
        turns = -(-self.session // len(conversations.turn()))
        return [
            event
            for _ in range(self.sessions)
            for event in conversations.conversation(1, turns)[: self.session]
        ]


class Case:
    """A contender with a conversation of a certain age.

    Attributes:
        wall: Seconds that each turn took.
        cpu: Seconds of processor time that this process spent on each.
    """

    def __init__(self, contender: Contender, shape: Shape) -> None:
        self.contender = contender
        self.shape = shape
        self.sender_id = f"{contender.name}-{shape.events}-{shape.sessions}."
        self.wall: List[float] = []
        self.cpu: List[float] = []

    async def fill(self) -> None:
        """Store the conversation."""
        await self.contender.fill(
            self.sender_id, self.shape.conversation(), self.shape.session
        )

    async def take_turn(self) -> None:
        """Measure one turn, and put the conversation back."""
        turn = as_turn(conversations.turn())
        gc.collect()  # nobody is to clear up after the one before
        wall, cpu = time.perf_counter(), time.process_time()
        read = await self.contender.take_turn(self.sender_id, self.shape.session, turn)
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        self.contender.undo_turn(self.sender_id)
        # Rasa's own stores begin a session one event later, and put the slots that
        # it begins with before it.
        if abs(read - self.shape.session) > 3:
            raise AssertionError(f"{self.sender_id} has given {read} events")


async def measure(cases: Sequence[Case], turns: int, seconds: float) -> None:
    """Let all cases take turns.

    Args:
        cases: Which to measure; filled in.
        turns: How many of each, at the most.
        seconds: How long each case may take in all.
    """
    shares = []
    for case in cases:
        await case.take_turn()
        # The first one also opens connections, and compiles statements.
        share = min(float(turns), seconds / case.wall[0])
        if share >= 1:
            case.wall.clear()
            case.cpu.clear()
        shares.append(share)
    # Each comes after any other one: a turn that read 10,000 events leaves the
    # processor's caches cold to the next.
    chance = random.Random(0)  # noqa: S311 - nothing is to be kept secret
    order = list(zip(cases, shares))
    for number in range(turns):
        chance.shuffle(order)
        for case, share in order:
            # One that has fewer turns has them spread over all the time.
            if int((number + 1) * share / turns) > int(number * share / turns):
                await case.take_turn()


def shapes(events: Sequence[int]) -> List[Shape]:
    """Conversations of so many events, in as many sessions as make sense."""
    return [
        Shape(number, sessions)
        for number in events
        for sessions in SESSIONS
        if number // sessions >= SHORTEST_SESSION
    ]


@contextlib.contextmanager
def opened(store: Store) -> Iterator[Opened]:
    """Start the server of a store, and the contenders on it.

    Raises:
        LookupError: when this version of the package does not have the store.
    """
    with store.open(our_class(store)) as running:
        yield running


async def filled(running: Opened, wanted: Sequence[Case]) -> None:
    """Store the conversations of all cases."""
    for case in wanted:
        await case.fill()
    running.settle()
    # What Rasa has imported, a million objects, is not worth a look each turn.
    gc.collect()
    gc.freeze()


async def run(store: Store, options: argparse.Namespace) -> Dict[str, Any]:
    """Measure one store.

    Raises:
        LookupError: when this version of the package does not have it.
    """
    quick = options.quick
    with opened(store) as running:
        cases = [
            Case(contender, shape)
            for shape in shapes(QUICK_EVENTS if quick else EVENTS)
            for contender in running.contenders
        ]
        await filled(running, cases)
        await measure(
            cases,
            QUICK_TURNS if quick else TURNS,
            QUICK_SECONDS if quick else SECONDS,
        )
    return {
        "versions": running.versions,
        "turns": [
            {
                "contender": case.contender.name,
                "events": case.shape.events,
                "sessions": case.shape.sessions,
                "turns": len(case.wall),
                "milliseconds": spread(case.wall),
                "cpu_milliseconds": spread(case.cpu),
            }
            for case in cases
        ],
    }


def spread(seconds: Sequence[float]) -> Times:
    """Minimum, quartiles and maximum, in milliseconds."""
    if len(seconds) < 2:
        quartiles = [seconds[0]] * 3
    else:
        quartiles = statistics.quantiles(seconds, n=4, method="inclusive")
    numbers = [min(seconds), *quartiles, max(seconds)]
    names = ["minimum", "lower_quartile", "median", "upper_quartile", "maximum"]
    return {name: round(number * 1e3, 3) for name, number in zip(names, numbers)}


def machine() -> Dict[str, Any]:
    """What it was measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gigabytes": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "file_system": _file_system(Path(tempfile.gettempdir()).resolve()),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> Optional[str]:
    mounted = {
        part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)
    }
    for place in (folder, *folder.parents):
        if str(place) in mounted:
            return str(mounted[str(place)])
    return None


def versions() -> Dict[str, str]:
    """Of what all stores have in common."""
    modules = {
        "rasa_trackers": "rasa_trackers",
        "Rasa": "rasa",
        "SQLAlchemy": "sqlalchemy",
    }
    return {
        "Python": platform.python_version(),
        **{
            name: str(importlib.import_module(module).__version__)
            for name, module in modules.items()
        },
    }


async def main(options: argparse.Namespace) -> int:
    """Measure, and write the data file."""
    began = time.monotonic()
    now = dt.datetime.now(dt.timezone.utc)
    found: Dict[str, Any] = {}
    skipped: Dict[str, str] = {}
    for name in options.stores:
        store = STORES[name]
        begin = time.monotonic()
        try:
            found[store.name] = await run(store, options)
        except LookupError as error:
            skipped[store.name] = str(error)
            print(f"{store.name}: skipped. {error}", flush=True)
        else:
            seconds = time.monotonic() - begin
            print(f"{store.name}: measured in {seconds:.0f} s", flush=True)
    results = {
        "date": now.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began),
        "quick": options.quick,
        "machine": machine(),
        "versions": versions(),
        "events_a_turn": len(conversations.turn()),
        "bytes_an_event": round(
            statistics.mean(map(len, as_turn(conversations.turn()).texts))
        ),
        "stores": found,
        "skipped": skipped,
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"Written: {options.output}", flush=True)
    return 0 if found else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "stores", nargs="*", metavar="STORE", help=f"{', '.join(STORES)}; all of them"
    )
    parser.add_argument("--quick", action="store_true", help="fewer ages and turns")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the data file")
    options = parser.parse_args()
    unknown = set(options.stores) - set(STORES)
    if unknown:
        parser.error(f"no such store: {', '.join(sorted(unknown))}")
    options.stores = options.stores or list(STORES)
    return options


if __name__ == "__main__":
    sys.exit(asyncio.run(main(arguments())))
