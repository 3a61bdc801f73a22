"""Whatever happens to the database: each acknowledged event is stored once, in order."""

from __future__ import annotations

import itertools
import time
from typing import Dict, List, Optional, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outage.flaky import (
    READ_ONLY,
    REFUSED,
    REPLIES_LOST,
    UP,
    Connection,
    FakeProbe,
    Gone,
    entry,
    texts,
)
from rasa_trackers.appending import append_once
from rasa_trackers.event_log import START
from rasa_trackers.memory.log import MemoryEventLog
from rasa_trackers.outage import availability
from rasa_trackers.outage.log import OutageLog
from rasa_trackers.outage.spool import Spool
from rasa_trackers.paging import end_of
from rasa_trackers.retries import Deadline, DeadlineLog

SENDERS = ["ada", "grace"]
#: Long enough for any machine; no call here waits for anything.
TIMEOUT = 120.0


class Process:
    """A writer as Rasa is one: it knows of a conversation where it was saved up to."""

    def __init__(self, name: str, database: MemoryEventLog, path, seed: int) -> None:
        self.name = name
        self.connection = Connection(database)
        self.connection.random.seed(seed)
        self._path = path
        self.acknowledged: Dict[str, List[str]] = {
            sender_id: [] for sender_id in SENDERS
        }
        self._count = 0
        self.start()

    def start(self) -> None:
        self.log = OutageLog(
            self.connection,
            probe=FakeProbe(self.connection),
            spool=Spool(self._path, 10_000_000),
            recent_bytes=1_000_000,
            reads_newer=True,
            record_exp=None,
            timeout=TIMEOUT,
        )
        try:
            self.log.open()
        except Gone as error:
            self.log.begin_without_database(error)
        self._ends: Dict[str, int] = {}
        self.connection.beside = self._read

    def _read(self) -> None:
        """As other calls of the process, at any moment."""
        for sender_id in SENDERS:
            self.log.read_back(sender_id, limit=2)

    def restart(self) -> None:
        """As after a kill: nothing in memory is left."""
        self.log.close()
        self.start()

    def save(self, sender_id: str, count: int) -> None:
        log = DeadlineLog(self.log, Deadline(TIMEOUT))
        after = self._ends.get(sender_id)
        if after is None:
            after = end_of(log.read_back(sender_id).events)
        new = [f"{self.name}-{self._count + number}" for number in range(count)]
        self._count += count
        self._ends[sender_id] = append_once(
            log,
            sender_id,
            [entry(text) for text in new],
            after,
            user=None,
            user_of_new_log=None,
            is_uncertain=False,
        )
        self.acknowledged[sender_id] += new

    def become(self, state: str) -> None:
        self.connection.state = state

    def come_back(self) -> None:
        self.connection.state = UP
        end = time.monotonic() + TIMEOUT
        while self.log.is_away or self.log.spool.sender_ids():
            assert time.monotonic() < end, "the outage does not end"
            for sender_id in SENDERS:
                if not self.log.is_away:
                    self.log.read_back(sender_id, limit=1)
            time.sleep(0.001)


SAVE = st.tuples(
    st.just("save"),
    st.integers(0, 1),
    st.sampled_from(SENDERS),
    st.integers(1, 3),
)
STEPS = st.lists(
    st.one_of(
        SAVE,
        SAVE,
        SAVE,
        st.tuples(
            st.just("become"),
            st.integers(0, 1),
            # An attempt that may have been carried out is the hardest case.
            st.sampled_from([REPLIES_LOST, REPLIES_LOST, UP, REFUSED, READ_ONLY]),
        ),
        st.tuples(st.just("come_back"), st.integers(0, 1)),
        st.tuples(st.just("restart"), st.integers(0, 1)),
    ),
    min_size=10,
    max_size=25,
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_PATIENCE", 0.0)
    monkeypatch.setattr(availability, "_PROBE_INTERVAL", 0.001)


@pytest.mark.parametrize("kind", ["memory", "a file each", "one file"])
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, seed=st.integers(0, 999))
def test_each_acknowledged_event_is_stored_once_and_in_order(
    steps: List[Tuple], seed: int, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spools")
    database = MemoryEventLog()

    def path(number: int) -> Optional[object]:
        if kind == "memory":
            return None
        return folder / ("spool" if kind == "one file" else f"spool-{number}")

    processes = [
        Process(name, database, path(number), seed + number)
        for number, name in enumerate("ab")
    ]
    for step, number, *args in steps:
        if step == "restart" and kind == "memory":
            continue  # what waits there does not outlive the process
        getattr(processes[number], step)(*args)
    for process in processes:
        process.connection.state = UP
    for process in processes:
        process.come_back()
    for sender_id, process in itertools.product(SENDERS, processes):
        stored = texts(database, sender_id)
        assert len(stored) == len(set(stored)), "twice"
        own = [text for text in stored if text.startswith(f"{process.name}-")]
        assert own == process.acknowledged[sender_id]
    for process in processes:
        process.log.close()


def test_log_ends_at_start_where_nothing_was_saved() -> None:
    assert end_of([]) == START
