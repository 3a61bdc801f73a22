"""A process that saves turns as Rasa does, by the plan, until it is told to stop.

It has several lanes, as a Rasa server has several conversations at the same time. Each
is a sequence of turns that goes on in the writer's next life where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Set

import sqlalchemy
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import (
    ActionExecuted,
    ActiveLoop,
    BotUttered,
    SessionStarted,
    UserUttered,
)
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.exceptions import RasaException
from rasa.utils.endpoints import EndpointConfig

from rasa_api import TrackerStore, unwrapped
from survival import journal
from survival.plan import ALL_SESSIONS, FRESH, KEPT, Plan, Turn


class Task(NamedTuple):
    """What a writer is given.

    Attributes:
        endpoint: The tracker_store section of an endpoints.yml.
        environment: Variables that the store looks at.
        modules: Folders with modules that only the store needs.
        stop: Once this file is there, the writer ends.
        disk_full: While this file is there, SQLite's disk is full.
    """

    plan: Plan
    writer: int
    journal: Path
    log: Path
    endpoint: Dict[str, Any]
    environment: Dict[str, str]
    modules: List[str]
    stop: Path
    disk_full: Path


def run(task: Task) -> None:
    """Be a writer; in a process of its own."""
    with task.log.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    logging.basicConfig(level=logging.ERROR, force=True)
    os.environ.update(task.environment)
    sys.path[:0] = task.modules
    asyncio.run(_Writer(task).run())


class _Writer:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._journal = journal.Journal(task.journal)
        self._store: Any = None
        self._clock = _Clock()
        #: Whether something was in this process alone when it was last asked.
        self._waited = False
        self._last_turns: Dict[int, int] = {}
        for save in journal.read(task.journal, task.writer):
            self._last_turns[save.lane] = save.turn

    @property
    def _is_over(self) -> bool:
        return self._task.stop.exists() or os.getppid() == 1

    @property
    def _spool(self) -> Any:
        return self._store._shared.outage.spool

    async def run(self) -> None:
        if "sqlite" in str(self._task.endpoint.get("dialect")):
            _obey(self._task.disk_full)
        self._open()
        if self._store is not None:
            lanes = range(self._task.plan.lanes)
            await asyncio.gather(*map(self._lane, lanes))
            # Nobody tells when it is empty. What a killed writer has left in the file of
            # several is for the next process that opens it: see `run._drained`.
            while self._waiting():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            self._journal.stored_all()
            self._store.close()

    def _open(self) -> None:
        """Open the store, again and again, as a container that is restarted."""
        endpoint = EndpointConfig(**self._task.endpoint)
        while self._store is None and not self._is_over:
            # Told so, and nothing was written.
            with contextlib.suppress(RasaException):
                store = unwrapped(TrackerStore.create(endpoint, Domain.empty()))
                assert type(store).__module__.startswith("rasa_trackers.")
                self._store = store

    async def _lane(self, lane: int) -> None:
        trackers: Dict[str, Any] = {}
        number = self._last_turns.get(lane, -1) + 1
        while not self._is_over:
            turn = self._task.plan.turn(self._task.writer, lane, number)
            self._clock.jump(turn.clock_jump)
            tracker = await self._tracker(turn, trackers.get(turn.conversation))
            trackers[turn.conversation] = tracker
            await self._save(lane, turn, tracker)
            number += 1

    async def _tracker(self, turn: Turn, kept: Optional[Any]) -> Any:
        tracker: Optional[DialogueStateTracker] = None
        if turn.way == KEPT:
            tracker = kept
        with contextlib.suppress(RasaException):
            if turn.way == ALL_SESSIONS:
                tracker = await self._store.retrieve_full_tracker(turn.conversation)
            elif turn.way != FRESH and tracker is None:
                tracker = await self._store.retrieve(turn.conversation)
        if tracker is None:
            tracker = DialogueStateTracker(turn.conversation, self._store.domain.slots)
        return tracker

    async def _save(self, lane: int, turn: Turn, tracker: Any) -> None:
        names = [
            journal.event_name(self._task.writer, lane, turn.number, number)
            for number in range(turn.events)
        ]
        for event in _events(turn, names):
            tracker.update(event)
        self._journal.intend(lane, turn.number, turn.conversation, names)
        if turn.dies_after is not None:
            _die_in(turn.dies_after)
        for _ in range(1 + turn.retries):
            began = time.monotonic()
            try:
                await self._store.save(tracker)
            except RasaException as error:
                self._journal.fail(lane, turn.number, error)
            else:
                seconds = time.monotonic() - began
                waiting = self._waiting()
                self._journal.acknowledge(
                    lane,
                    turn.number,
                    waits=turn.conversation in waiting,
                    seconds=seconds,
                )
                if self._waited and not waiting:
                    self._journal.stored_all()
                self._waited = bool(waiting)
                return
            if self._is_over:
                return

    def _waiting(self) -> Set[str]:
        """The conversations of which something is in this process alone."""
        if self._spool is None or self._spool.is_durable:
            return set()
        waiting: Set[str] = self._spool.sender_ids()
        return waiting


def _events(turn: Turn, names: List[str]) -> List[Any]:
    """Events of the kinds that a turn has, each with its name in its metadata."""
    kinds: List[Any] = [
        lambda metadata: UserUttered("hello", metadata=metadata),
        lambda metadata: ActiveLoop("some_form", metadata=metadata),
        lambda metadata: ActionExecuted("utter_greet", metadata=metadata),
        lambda metadata: BotUttered("hi", metadata=metadata),
    ]
    first: List[Any] = []
    if turn.begins_session:
        first = [
            lambda metadata: ActionExecuted("action_session_start", metadata=metadata),
            lambda metadata: SessionStarted(metadata=metadata),
        ]
    return [
        (first[number] if number < len(first) else kinds[number % len(kinds)])(
            {"name": name}
        )
        for number, name in enumerate(names)
    ]


def _die_in(seconds: float) -> None:
    def die() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=die, daemon=True).start()


class _Clock:
    """This process' `time.time`, by which Rasa stamps events."""

    def __init__(self) -> None:
        self._shift = 0.0
        true_time = time.time
        time.time = lambda: true_time() + self._shift

    def jump(self, seconds: float) -> None:
        self._shift += seconds


def _obey(disk_full: Path) -> None:
    """Let SQLite's file not grow while there is such a file, as on a full disk."""

    @sqlalchemy.event.listens_for(sqlalchemy.pool.Pool, "checkout")
    def _limit(connection: Any, _record: Any, _proxy: Any) -> None:
        pages = 1 if disk_full.exists() else 2**30
        # SQLite takes no limit below the file's size. A full file fails as a full disk.
        connection.execute(f"PRAGMA max_page_count={pages}").fetchall()
