"""Measures our stores beside Rasa's own, and beside the drivers alone.

A turn is what Rasa does with the store for each message: read the tracker, add eight
events, save. All contenders take turns in one run, one after the other, so that what
else the machine does falls on all of them; those of Rasa Pro in a process with Rasa
Pro. Writes `results.json` beside this file; run it with `nox -s bench`.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

import psutil

from backends import BACKENDS
from measured_servers import STORES, Opened
from measured_servers import opened as opened_server
from measuring import Case, Shape, measure, sender_of, spread

RESULTS = Path(__file__).with_name("results.json")
WORKER = Path(__file__).with_name("worker.py")

OURS, RASAS, FLOOR = "ours", "rasa", "floor"

SESSIONS = (1, 10, 100)
#: Rasa begins a session with three events, and somebody says something in it.
SHORTEST_SESSION = 10
#: Conversations that are open at the same time, and the age of each.
AT_ONCE = (1, 8, 64)
CROWD, CROWDS_EVENTS = 128, 100
#: The age of the conversation whose tracker is weighed.
WEIGHED = Shape(1_000, 1)
#: The ages of the conversations whose turns are looked at in parts.
TAKEN_APART = (Shape(100, 1), Shape(1_000, 1))


class Size(NamedTuple):
    """How much is measured."""

    events: Sequence[int]
    #: Turns that are measured of each contender at each age, at the most.
    turns: int
    #: Seconds that these may take; slow contenders take fewer turns.
    seconds: float
    #: Turns that the slowest take.
    fewest: int
    #: Rounds of many turns at once, and the seconds of each.
    rounds: int
    round_seconds: float
    #: Conversations that are listed, and events of each.
    many: int
    many_events: int
    #: How often they are listed.
    lists: int


FULL = Size(
    (10, 30, 100, 300, 1_000, 3_000, 10_000), 21, 0.6, 3, 3, 0.5, 100_000, 10, 3
)
QUICK = Size((10, 100, 1_000, 10_000), 9, 0.2, 1, 1, 0.3, 10_000, 10, 1)


class Process:
    """A process with a Rasa, where contenders are.

    Attributes:
        label: Added to the names of the contenders there.
        versions: Of what it has.
    """

    def __init__(self, python: str, label: str) -> None:
        """Start it.

        Args:
            python: Interpreter of an environment that has Rasa and `rasa_trackers`.
            label: Added to the names of the contenders there.
        """
        self.label = label
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [python, "-W", "ignore", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.versions: Dict[str, str] = self.call("versions")

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method of `worker.Worker`.

        Raises:
            RuntimeError: with the traceback there.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = json.dumps({"method": method, **arguments})
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The process has ended: {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()


class Contender(NamedTuple):
    """One of those who are measured."""

    #: Its name in the results.
    name: str
    #: `OURS`, `RASAS` or `FLOOR`.
    which: str
    process: Process
    database: str


@contextlib.contextmanager
def contenders(
    opened: Opened, processes: Sequence[Process], missing: Dict[str, str]
) -> Iterator[List[Contender]]:
    """Let contenders come to a server, each to a database of its own.

    Args:
        opened: The server.
        processes: Where they are; the floor is in the first one.
        missing: Filled with who cannot come, and why.
    """
    found = []
    for process in processes:
        wanted = [OURS, RASAS] + ([FLOOR] if process is processes[0] else [])
        names = {which: opened.new_database() for which in wanted}
        away = process.call("open", names=names, **opened.place._asdict())
        for which in wanted:
            name = which + process.label
            if which in away:
                missing[name] = away[which]
            else:
                found.append(Contender(name, which, process, names[which]))
    try:
        yield found
    finally:
        for process in processes:
            process.call("close")


def settled(opened: Opened, found: Sequence[Contender]) -> None:
    """Call it when all conversations are filled in."""
    # On SQL the floor uses the tables of ours.
    opened.settle([each.database for each in found if each.which != FLOOR])
    for process in {id(each.process): each.process for each in found}.values():
        process.call("settle")


def shapes(events: Sequence[int]) -> List[Shape]:
    """Conversations of so many events, in as many sessions as make sense."""
    return [
        Shape(number, sessions)
        for number in events
        for sessions in SESSIONS
        if number // sessions >= SHORTEST_SESSION
    ]


# What is measured


def turns(opened: Opened, found: Sequence[Contender], size: Size) -> Any:
    """Turns of conversations of all ages, their parts; and a tracker's memory."""
    cases = [
        Case(each.process, each.name, each.which, shape)
        for shape in shapes(size.events)
        for each in found
    ]
    for case in cases:
        case.fill()
    settled(opened, found)
    measure(cases, size.turns, size.seconds, size.fewest)
    taken = [
        {
            "contender": case.contender,
            "events": case.shape.events,
            "sessions": case.shape.sessions,
            "turns": len(case.wall),
            "milliseconds": spread(case.wall),
            "cpu_milliseconds": spread(case.cpu),
        }
        for case in cases
    ]
    parts = [
        {
            "events": shape.events,
            "milliseconds": {
                part: round(seconds * 1e3, 3)
                for part, seconds in found[0]
                .process.call(
                    "take_apart",
                    sender_id=sender_of(OURS, shape),
                    times=size.turns,
                    **shape._asdict(),
                )
                .items()
            },
        }
        for shape in TAKEN_APART
    ]
    memory = {
        each.name: each.process.call(
            "memory",
            which=each.which,
            sender_id=sender_of(each.name, WEIGHED),
        )
        for each in found
        if each.which != FLOOR
    }
    rounded = {
        name: {what: round(number) for what, number in weights.items()}
        for name, weights in memory.items()
    }
    return taken, parts, rounded


def crowds(opened: Opened, found: Sequence[Contender], size: Size) -> Any:
    """Many conversations at once; and the bytes that they take."""
    stores = [each for each in found if each.which != FLOOR]
    stored = {}
    for each in stores:
        empty = each.process.call("stored", which=each.which)
        for number in range(CROWD):
            each.process.call(
                "fill",
                which=each.which,
                sender_id=f"crowd-{number}",
                events=CROWDS_EVENTS,
                sessions=1,
            )
        full = each.process.call("stored", which=each.which)
        stored[each.name] = round((full - empty) / (CROWD * CROWDS_EVENTS))
    settled(opened, stores)
    many = []
    for at_once in AT_ONCE:
        results: Dict[str, List[Dict[str, float]]] = {each.name: [] for each in stores}
        for _ in range(size.rounds):
            for each in stores:
                results[each.name].append(
                    each.process.call(
                        "take_many_turns",
                        which=each.which,
                        sender_ids=[f"crowd-{number}" for number in range(CROWD)],
                        session=CROWDS_EVENTS,
                        at_once=at_once,
                        seconds=size.round_seconds,
                    )
                )
        many += [
            {
                "contender": name,
                "at_once": at_once,
                "rounds": len(rounds),
                **{
                    what: round(function(each[what] for each in rounds), 4)
                    for what, function in (
                        ("turns_a_second", statistics.median),
                        ("longest_stall", max),
                    )
                },
            }
            for name, rounds in results.items()
        ]
    return many, stored


def lists(opened: Opened, found: Sequence[Contender], size: Size) -> Any:
    """Many conversations: how long it takes to start on them, and to list them.

    Stores start on a database that Rasa's own has made, and in SQL databases they list
    what is there; elsewhere ours keeps it in another form.
    """
    starts: Dict[str, Any] = {}
    listed: Dict[str, Any] = {}
    for process in {id(each.process): each.process for each in found}.values():
        stores = [
            each for each in found if each.process is process and each.which != FLOOR
        ]
        stores.sort(key=lambda each: each.which != RASAS)
        first = stores[0].which
        database = opened.new_database()
        names = {each.which: database for each in stores}
        fill = {"count": size.many, "events": size.many_events}
        process.call("use", names=names)
        process.call("fill_many", which=first, **fill)
        for each in stores:
            starts[each.name] = {
                what: round(seconds, 3)
                for what, seconds in process.call("start", which=each.which).items()
            }
        if (
            opened.place.kind not in ("sqlite", "postgresql", "mariadb")
            and OURS in names
        ):
            process.call("use", names={**names, OURS: opened.new_database()})
            process.call("fill_many", which=OURS, **fill)
        for each in stores:
            seconds, count = process.call("keys", which=each.which, times=size.lists)
            listed[each.name] = {"seconds": round(seconds, 4), "found": count}
    return starts, listed


def run(
    name: str, processes: Sequence[Process], size: Size, missing: Dict[str, str]
) -> Dict[str, Any]:
    """Measure one store."""
    with opened_server(name) as opened:
        with contenders(opened, processes, missing) as found:
            taken, parts, memory = turns(opened, found, size)
        with contenders(opened, processes, missing) as found:
            many, stored = crowds(opened, found, size)
            starts, listed = lists(opened, found, size)
    return {
        "versions": opened.version,
        "turns": taken,
        "parts": parts,
        "memory_bytes_an_event": memory,
        "stored_bytes_an_event": stored,
        "at_once": many,
        "start_seconds": starts,
        "keys": listed,
    }


# The data file


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


def main(options: argparse.Namespace) -> int:
    """Measure, and write the data file."""
    began = time.monotonic()
    now = dt.datetime.now(dt.timezone.utc)
    size = QUICK if options.quick else FULL
    missing: Dict[str, str] = {}
    found: Dict[str, Any] = {}
    processes = [Process(sys.executable, "")]
    if options.pro:
        processes.append(Process(options.pro, "-pro"))
    try:
        turn = processes[0].call("turn")
        for name in options.stores:
            label = BACKENDS[name].label
            begin = time.monotonic()
            found[label] = run(name, processes, size, missing)
            seconds = time.monotonic() - begin
            print(f"{label}: measured in {seconds:.0f} s", flush=True)
    finally:
        for process in processes:
            process.close()
    for contender, reason in missing.items():
        print(f"{contender} was not measured: {reason}", flush=True)
    results = {
        "date": now.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began),
        "quick": options.quick,
        "machine": machine(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "versions": {process.label: process.versions for process in processes},
        "turn": turn,
        "crowd": {"conversations": CROWD, "events": CROWDS_EVENTS},
        "many": {"conversations": size.many, "events": size.many_events},
        "stores": found,
        "missing": missing,
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"Written: {options.output}", flush=True)
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "stores", nargs="*", metavar="STORE", help=f"{', '.join(STORES)}; all of them"
    )
    parser.add_argument("--pro", metavar="PYTHON", help="of an environment of Rasa Pro")
    parser.add_argument("--quick", action="store_true", help="fewer ages and turns")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the data file")
    options = parser.parse_args()
    unknown = set(options.stores) - set(STORES)
    if unknown:
        parser.error(f"no such store: {', '.join(sorted(unknown))}")
    options.stores = options.stores or list(STORES)
    return options


if __name__ == "__main__":
    sys.exit(main(arguments()))
