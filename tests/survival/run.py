"""Runs a plan: writers, faults beside them, and the look at what is stored."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from rasa.shared.core.domain import Domain
from rasa.utils.endpoints import EndpointConfig

from rasa_api import TrackerStore, unwrapped
from servers.process import wait_until
from survival import journal, writer
from survival.checker import Findings, Stored, check, late
from survival.journal import Save
from survival.plan import FILE, MEMORY, OFF, Plan
from survival.stores import Target, driver_of

TESTS = Path(__file__).parents[1]

WRITER_KILLED = "writer killed"
SAVES_CUT_OFF = "save under way at a kill"
SMALL_POOL = "writer with a small pool"
CLOCK_JUMP = "clock jump"
#: Seconds that writers may need to begin, and to end by themselves.
_PATIENCE = 300.0

#: What a writer imports, in the end. One that is not there is left out.
_PRELOADED = [
    writer.__name__,
    "rasa_trackers.mongo.store",
    "rasa_trackers.redis.store",
    "rasa_trackers.sql.store",
    "psycopg2",
    "pymysql",
    "sqlite3",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "rasa.core.tracker_stores.dynamo_tracker_store",  # as Rasa Pro's loader
]


@dataclass
class Outcome:
    """What a run has come to."""

    seed: int
    #: How long was written.
    seconds: float
    writers: int
    lanes: int
    #: Conversations that hold an event.
    conversations: int
    #: Events that writers have set out to save.
    written: int
    acknowledged: int
    stored: int
    #: Saves that a store has told to have failed, by the error's name.
    failures: Dict[str, int]
    #: Events that were acknowledged when only the memory of a writer had them, which
    #: was killed afterwards; and how many of them are lost.
    risked: int
    risked_and_lost: int
    #: Seconds of the slowest save by where it is kept in an outage, of 1,000 and of all.
    slowest: Dict[str, List[float]]
    #: Saves that were acknowledged too late, of the writers with a spool. They are counted
    #: apart from what is wrong, because a slow machine has them, too.
    late: List[str]
    #: Faults that came about, by kind.
    faults: Dict[str, int]
    lost: List[str]
    duplicated: List[str]
    reordered: List[str]
    torn: List[str]
    alien: List[str]
    #: Conversations that Rasa reads otherwise than they are stored, or not at all.
    unreadable: List[str]
    #: Writers that ended by an error, with the end of what they said.
    crashed: List[str]
    #: Conversations of which something still waits in the spool of a file.
    waiting: List[str]
    versions: Dict[str, str]
    #: The texts of the errors that the stores have told.
    errors: List[str] = field(default_factory=list)

    @property
    def wrong(self) -> Dict[str, List[str]]:
        """What must not be; nothing, if all is well."""
        lists = asdict(self)
        names = (*Findings._fields, "unreadable", "crashed", "waiting")
        return {name: lists[name] for name in names if lists[name]}

    def as_figures(self) -> Dict[str, Any]:
        """As it goes into a report: numbers, and what is wrong in full."""
        figures = asdict(self)
        del figures["errors"]
        names = (*Findings._fields, "unreadable", "crashed", "waiting", "late")
        return {
            **figures,
            **{name: len(figures[name]) for name in names},
            "wrong": self.wrong,
        }


class Writers:
    """The processes that write, each begun anew when it was killed."""

    def __init__(self, plan: Plan, target: Target) -> None:
        self._plan = plan
        self._target = target
        self._context = _forkserver()
        self._processes: List[Any] = [None] * plan.writers
        self._lives: List[int] = [0] * plan.writers
        self.crashed: List[str] = []
        #: How many had a small pool, where a pool has a size.
        self.small_pools = 0

    def file(self, number: int, suffix: str) -> Path:
        """Where a writer keeps something."""
        return self._target.folder / f"writer-{number}.{suffix}"

    def start(self) -> None:
        """Let them write."""
        for number in range(self._plan.writers):
            self._start(number)

    def look_after(self) -> None:
        """Begin anew those that were killed, until told to stop."""
        while not self._stop.exists():
            self._wait(0.1)
            for number, process in enumerate(self._processes):
                if process.exitcode == -signal.SIGKILL:
                    self._start(number)

    def stop(self) -> None:
        """Tell them to end when they have saved what they are at."""
        self._stop.touch()

    def finish(self) -> None:
        """Wait until they have ended."""
        deadline = time.monotonic() + _PATIENCE
        while any(process.is_alive() for process in self._processes):
            if time.monotonic() > deadline:
                self.crashed.append("did not end in time")
                self.kill_all()
            self._wait(0.1)
        for number, process in enumerate(self._processes):
            if process.exitcode not in (0, -signal.SIGKILL):
                said = self.file(number, "log").read_text(errors="replace")
                self.crashed.append(f"{number}: {process.exitcode}: {said[-3000:]}")

    def _wait(self, seconds: float) -> None:
        alive = [one.sentinel for one in self._processes if one.is_alive()]
        if len(alive) == len(self._processes):
            multiprocessing.connection.wait(alive, timeout=seconds)
        else:
            time.sleep(seconds)

    def has_saved(self) -> bool:
        """Whether one of them was told that something is stored."""
        return any(save.acknowledged for save in self.saves())

    @property
    def _stop(self) -> Path:
        return self._target.folder / "stop"

    def _start(self, number: int) -> None:
        small = self._plan.has_small_pool(number, self._lives[number])
        self._lives[number] += 1
        endpoint, environment = self._target.reached(small)
        self.small_pools += (endpoint, environment) != self._target.reached(False)
        task = writer.Task(
            self._plan,
            number,
            journal=self.file(number, "journal"),
            log=self.file(number, "log"),
            endpoint={
                **endpoint,
                "timeout": self._plan.timeout,
                "spool": self._spool(number),
            },
            environment=environment,
            modules=list(self._target.modules),
            stop=self._stop,
            disk_full=self._target.disk_full,
        )
        process = self._context.Process(target=writer.run, args=(task,), daemon=True)
        process.start()
        self._processes[number] = process
        self._target.writers = [one.pid for one in self._processes if one is not None]

    def _spool(self, number: int) -> str:
        kind = self._plan.spool(number)
        return str(self._target.spool) if kind == FILE else kind

    @property
    def deaths(self) -> int:
        """How often a writer was killed and has begun a new life."""
        return sum(self._lives) - self._plan.writers

    def kill(self, number: int) -> bool:
        """Kill one, from outside."""
        process = self._processes[number]
        if process is None or not process.is_alive():
            return False
        process.kill()
        return True

    def kill_all(self) -> None:
        """Kill all, at the end of a run that has failed."""
        for process in self._processes:
            if process is not None:
                process.kill()
                process.join()

    def saves(self) -> List[Save]:
        """What their journals tell."""
        return [
            save
            for number in range(self._plan.writers)
            for save in journal.read(self.file(number, "journal"), number)
        ]


def _forkserver() -> Any:
    """A process that has imported Rasa, and forks each writer in milliseconds.

    It has no threads and no connections that writers would inherit.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    # It is not told where this process finds modules, before Python 3.13.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), before]))
    try:
        first = context.Process(target=int, daemon=True)
        first.start()
        first.join()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return context


class _Faults(threading.Thread):
    """Lets things go wrong, by the plan, and then ends the writing.

    It takes the plan's seconds, or longer, until each kind has had its turn.
    """

    def __init__(self, plan: Plan, target: Target, writers: Writers) -> None:
        super().__init__(daemon=True)
        self._plan = plan
        self._target = target
        self._writers = writers
        self.seconds = 0.0
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        try:
            wait_until(self._writers.has_saved, "first save", _PATIENCE)
            begin = time.monotonic()
            self._inflict(begin + self._plan.seconds)
            self.seconds = time.monotonic() - begin
        except BaseException as error:  # noqa: BLE001 - raised by who waits
            self.error = error
        finally:
            self._writers.stop()

    def _inflict(self, until: float) -> None:
        kinds = [*self._target.faults, WRITER_KILLED]
        for number, fault in enumerate(self._plan.faults(kinds)):
            if number >= len(kinds) and time.monotonic() > until:
                return
            time.sleep(fault.pause)
            if fault.kind == WRITER_KILLED:
                self._writers.kill(fault.writer)
            else:
                self._target.inflict(fault.kind, fault.lasts)


def run(plan: Plan, target: Target) -> Outcome:
    """Run a plan on a store that has started.

    Raises:
        Exception: if a fault could not be brought about.
    """
    writers = Writers(plan, target)
    faults = _Faults(plan, target, writers)
    try:
        writers.start()
        faults.start()
        writers.look_after()
        faults.join()
        writers.finish()
    finally:
        writers.kill_all()
        target.calm()
    if faults.error:
        raise faults.error
    saves = writers.saves()
    waiting = _drained(target)
    stored = target.stored()
    findings = check(saves, stored)
    errors = [error for save in saves for error in save.errors]
    return Outcome(
        seed=plan.seed,
        seconds=round(faults.seconds),
        writers=plan.writers,
        lanes=plan.lanes,
        conversations=len(stored),
        written=sum(len(save.events) for save in saves),
        acknowledged=sum(len(save.events) for save in saves if save.acknowledged),
        stored=sum(map(len, stored.values())),
        failures=dict(Counter(error.partition(":")[0] for error in errors)),
        **_risks(saves, stored),
        slowest=_slowest(plan, saves),
        late=late(save for save in saves if plan.spool(save.writer) != OFF),
        faults={
            **target.inflicted,
            WRITER_KILLED: writers.deaths,
            **_in_journals(plan, saves),
            SMALL_POOL: writers.small_pools,
        },
        **findings._asdict(),
        unreadable=_unreadable(target, stored),
        crashed=writers.crashed,
        waiting=waiting,
        versions=target.versions(),
        errors=errors,
    )


def _in_journals(plan: Plan, saves: Sequence[Save]) -> Dict[str, int]:
    """Faults of the writers' own, and what they hit."""
    turns = [plan.turn(save.writer, save.lane, save.turn) for save in saves]
    return {
        CLOCK_JUMP: sum(turn.clock_jump != 0 for turn in turns),
        # Their writers were told neither that they worked nor that they failed.
        SAVES_CUT_OFF: sum(not save.acknowledged and not save.errors for save in saves),
    }


def _risks(saves: Sequence[Save], stored: Stored) -> Dict[str, int]:
    """What was acknowledged by a writer that was killed with it in its memory."""
    there = {name for names in stored.values() for name in names}
    risked = [name for save in saves if save.waits for name in save.events]
    return {
        "risked": len(risked),
        "risked_and_lost": sum(name not in there for name in risked),
    }


def _slowest(plan: Plan, saves: Sequence[Save]) -> Dict[str, List[float]]:
    slowest = {}
    for kind in (FILE, MEMORY, OFF):
        seconds = sorted(
            save.seconds
            for save in saves
            if save.acknowledged and plan.spool(save.writer) == kind
        )
        if seconds:
            slowest[kind] = [seconds[len(seconds) * 999 // 1000], seconds[-1]]
    return slowest


def _drained(target: Target) -> List[str]:
    """Wait until the database has what waits in the file; what it does not take."""
    with driver_of(target):
        endpoint = {**target.reached(False)[0], "spool": str(target.spool)}
        store = unwrapped(
            TrackerStore.create(EndpointConfig(**endpoint), Domain.empty())
        )
    spool = store._shared.outage.spool
    try:
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not spool.sender_ids(), "empty spool", _PATIENCE)
        return sorted(spool.sender_ids())
    finally:
        store.close()


def _unreadable(target: Target, stored: Stored) -> List[str]:
    """Conversations that Rasa does not read as they are stored."""
    with driver_of(target):
        endpoint = EndpointConfig(**target.reached(False)[0])
        store = unwrapped(TrackerStore.create(endpoint, Domain.empty()))
    try:
        return asyncio.run(_look(store, stored))
    finally:
        store.close()


async def _look(store: TrackerStore, stored: Stored) -> List[str]:
    unreadable = []
    if sorted(await store.keys()) != sorted(stored):
        unreadable.append("the sender ids are not those that are stored")
    for conversation, there in stored.items():
        names = list(there)
        everything = _names(await store.retrieve_full_tracker(conversation))
        session = _names(await store.retrieve(conversation))
        if everything != names:
            unreadable.append(f"{conversation}: not all of it, or in another order")
        elif not session or session != names[-len(session) :]:
            unreadable.append(f"{conversation}: its last session is not its end")
    return unreadable


def _names(tracker: Any) -> List[Optional[str]]:
    events = tracker.events if tracker is not None else []
    return [event.metadata.get("name") for event in events]
