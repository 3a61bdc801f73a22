"""A few abusive conversations do not stall the others: short work before long work."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
import time

import pytest
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import UserUttered

from conversations import as_dicts, conversation, dicts, tracker
from rasa_api import backend_log
from rasa_trackers import InMemoryTrackerStore, computing, parsing
from rasa_trackers.cli import stores
from rasa_trackers.codec import encode
from rasa_trackers.computing import LONG_CHARACTERS, LONG_EVENTS, TakesLong, in_slices
from rasa_trackers.entries import entry_of
from rasa_trackers.event_log import START
from rasa_trackers.memory.log import MemoryEventLog
from rasa_trackers.paging import Rewritten, read_one_state
from rasa_trackers.rasa_versions import ConnectionException
from rasa_trackers.retries import Deadline, DeadlineLog
from rasa_trackers.sessions import (
    Reading,
    SessionLengths,
    read_all_sessions,
    read_last_session,
)
from rasa_trackers.threads import Threads, _Pool

WAIT = 60


class Log:
    name, max_sender_id, keeps_users = "a log", None, False

    def interrupt(self):
        pass


class Gate:
    """Work that is under way until it is opened."""

    def __init__(self):
        self.opened = threading.Event()
        self.under_way = 0
        self._lock = threading.Lock()

    def __call__(self, _log):
        with self._lock:
            self.under_way += 1
        assert self.opened.wait(WAIT)

    def has(self, number):
        async def has() -> bool:
            return self.under_way == number

        return has


@pytest.fixture
def threads():
    threads = Threads(Log(), timeout=WAIT, workers=8)
    yield threads
    threads.close(then=lambda: None).join(WAIT)


# Threads


@pytest.mark.parametrize("is_known", [False, True])
async def test_half_of_the_threads_stay_free_of_long_calls(
    threads, eventually, is_known
):
    gate = Gate()

    def long_call(log):
        if not log.is_long:
            raise TakesLong
        gate(log)

    calls = [
        asyncio.ensure_future(threads.run(long_call, is_long=is_known))
        for _ in range(20)
    ]
    await eventually(gate.has(4))
    # Whoever may begin has begun by the time that these have ended.
    for _ in range(5):
        await asyncio.gather(*(threads.run(lambda log: log.is_long) for _ in range(20)))
    assert gate.under_way == 4
    gate.opened.set()
    await asyncio.gather(*calls)
    assert gate.under_way == 20


async def test_long_calls_that_wait_are_done_once(threads, eventually):
    order = []
    gate = Gate()
    first = [asyncio.ensure_future(threads.run(gate, is_long=True)) for _ in range(4)]
    await eventually(gate.has(4))
    later = [
        asyncio.ensure_future(
            threads.run(lambda _, each=number: order.append(each), is_long=True)
        )
        for number in range(3)
    ]
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(*first, *later)
    assert sorted(order) == [0, 1, 2]


async def test_long_calls_that_wait_are_done_when_the_store_is_closed(eventually):
    threads = Threads(Log(), timeout=WAIT, workers=2)
    gate = Gate()
    calls = [asyncio.ensure_future(threads.run(gate, is_long=True)) for _ in range(3)]
    await eventually(gate.has(1))
    closing = threads.close(then=lambda: None)
    gate.opened.set()
    await asyncio.gather(*calls)
    closing.join(WAIT)
    assert gate.under_way == 3


async def test_failure_of_a_long_call_is_its_own(threads):
    def fails(log):
        if not log.is_long:
            raise TakesLong
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await threads.run(fails)
    assert await threads.run(lambda log: log.is_long) is False


# Computing


def long_work(work):
    return in_slices(Deadline(WAIT), range(LONG_EVENTS + 1), work)


def test_short_work_waits_for_no_long_work():
    begun, gate = threading.Event(), threading.Event()

    def work(some):
        begun.set()
        assert gate.wait(WAIT)
        return some

    thread = threading.Thread(target=long_work, args=[work], daemon=True)
    thread.start()
    assert begun.wait(WAIT)
    assert in_slices(Deadline(WAIT), range(600), list) == list(range(600))
    gate.set()
    thread.join(WAIT)


def test_long_work_is_done_one_after_the_other():
    lock = threading.Lock()

    def work(_some):
        assert lock.acquire(blocking=False)
        time.sleep(0.0001)
        lock.release()
        return [True]

    results = []
    threads = [
        threading.Thread(target=lambda: results.extend(long_work(work)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(results) == 4 * math.ceil((LONG_EVENTS + 1) / computing.SLICE)


def test_nobody_waits_for_long_work_whose_server_is_silent():
    held, gate = threading.Event(), threading.Event()

    def hold():
        deadline = Deadline(WAIT)
        with computing.turn_of_long(deadline, is_long=True):
            held.set()
            assert gate.wait(WAIT)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(WAIT)
    assert len(long_work(list)) == LONG_EVENTS + 1
    gate.set()
    thread.join(WAIT)


def test_long_work_pauses(monkeypatch):
    pauses = []
    monkeypatch.setattr(computing, "pause", lambda: pauses.append(1))
    monkeypatch.setattr(computing, "_UNTIL_PAUSE", -1)
    long_work(list)
    assert len(pauses) == math.ceil((LONG_EVENTS + 1) / computing.SLICE)
    in_slices(Deadline(WAIT), range(LONG_EVENTS), list)
    assert len(pauses) == math.ceil((LONG_EVENTS + 1) / computing.SLICE)


def test_slice_is_no_longer_than_its_text_allows():
    sizes = [10, 300_000, 5, 200_000, 200_000, 1, *[1] * 600]
    slices = []
    in_slices(Deadline(WAIT), sizes, lambda some: slices.append(some) or some, int)
    assert [size for some in slices for size in some] == sizes
    assert all(len(some) <= computing.SLICE for some in slices)
    assert all(len(some) == 1 or sum(some) <= 256 * 1024 for some in slices)


def test_long_work_that_fails_lets_the_next_begin():
    pool = _Pool(2, "test")
    futures = [
        pool.submit(work, is_long=True) for work in (lambda: 1 / 0, lambda: None)
    ]
    assert isinstance(futures[0].exception(WAIT), ZeroDivisionError)
    futures[1].result(WAIT)
    pool.shutdown()


# Long events


@pytest.mark.parametrize(
    "value",
    [
        list(range(200_000)),
        {str(number): [number, None, 1.5, {"a": []}, "ü"] for number in range(40_000)},
        [True, "x" * LONG_CHARACTERS, -1.5e300],
    ],
    ids=["numbers", "nested", "text"],
)
def test_other_threads_run_while_a_long_event_is_decoded(monkeypatch, value):
    pauses = []
    monkeypatch.setattr(parsing, "pause", lambda: pauses.append(1))
    text = json.dumps(value)
    assert len(text) > LONG_CHARACTERS
    assert parsing.load_json(text) == value
    # A text is found in one step, however long it is.
    assert len(pauses) >= 100 or len(value) < 10


def test_long_text_that_is_damaged_is_an_error_as_a_short_one():
    with pytest.raises(ValueError, match="delimiter"):
        parsing.load_json(json.dumps(list(range(300_000)))[:-1])
    with pytest.raises(ValueError, match="Extra data"):
        parsing.load_json(json.dumps(list(range(300_000))) + "]")


def test_long_text_may_be_deep():
    text = f'[{"[" * 500}{"]" * 500}, "{"x" * LONG_CHARACTERS}"]'
    assert parsing.load_json(text) == json.loads(text)


# Stores


@pytest.mark.parametrize("backend", ["sqlite", "redis"], indirect=True)
async def test_one_read_at_a_time_for_a_conversation(store, monkeypatch):
    await store.save(tracker("ada", conversation(1, 1)))
    await store.save(tracker("grace", conversation(1, 1)))
    log = backend_log(store)
    read_back = log.read_back
    lock = threading.Lock()
    under_way, most = {"ada": 0, "grace": 0}, {"ada": 0, "grace": 0}

    def counted(sender_id, *arguments):
        with lock:
            under_way[sender_id] += 1
            most[sender_id] = max(most[sender_id], under_way[sender_id])
        time.sleep(0.005)
        with lock:
            under_way[sender_id] -= 1
        return read_back(sender_id, *arguments)

    monkeypatch.setattr(log, "read_back", counted)
    read = await asyncio.gather(
        *(store.retrieve("ada") for _ in range(20)),
        *(store.retrieve_full_tracker("ada") for _ in range(5)),
        store.retrieve("grace"),
    )
    assert all(read)
    assert most == {"ada": 1, "grace": 1}


@pytest.mark.parametrize("backend", ["sqlite", "redis", "mongo"], indirect=True)
@pytest.mark.parametrize("whole", [False, True])
async def test_long_session_is_read_among_the_long_calls(store, monkeypatch, whole):
    events = conversation(1, LONG_EVENTS // 8 + 10)
    await store.save(tracker("ada", events))
    threads, log = store._shared.threads, backend_log(store)
    begin, read_back = threads.begin, log.read_back
    begun, limits = [], []

    def noted_begin(call, watchdog):
        begun.append(call.log.is_long)
        begin(call, watchdog)

    def noted_read(sender_id, limit=None, before=None):
        limits.append(limit)
        return read_back(sender_id, limit, before)

    monkeypatch.setattr(threads, "begin", noted_begin)
    monkeypatch.setattr(log, "read_back", noted_read)
    read = store.retrieve_full_tracker if whole else store.retrieve
    assert as_dicts(await read("ada")) == dicts(events)
    assert begun == [False, True]
    assert as_dicts(await read("ada")) == dicts(events)
    assert begun == [False, True, True]
    assert all(limit is not None and limit <= LONG_EVENTS for limit in limits)


@pytest.mark.parametrize("backend", ["redis"], indirect=True)
async def test_session_with_long_texts_is_read_in_short_pages(store, monkeypatch):

    events = [UserUttered(LONG_CHARACTERS // 2 * "x") for _ in range(3)]
    await store.save(tracker("ada", [*conversation(1, 15), *events]))
    await store.retrieve("ada")
    log, limits = backend_log(store), []
    read_back = log.read_back

    def noted_read(sender_id, limit=None, before=None):
        limits.append(limit)
        return read_back(sender_id, limit, before)

    monkeypatch.setattr(log, "read_back", noted_read)
    read = await store.retrieve("ada")
    assert len(read.events) == 3 + 15 * 8 + 3
    assert limits[0] < 60


class RewrittenOnce(MemoryEventLog):
    """A log that another process rewrites after the first page has been read."""

    pages = 0

    def read_back(self, sender_id, limit=None, before=None):
        page = super().read_back(sender_id, limit, before)
        self.pages += 1
        if self.pages == 1:
            everything = super().read_back(sender_id).events
            entries = [entry_of(data) for _, data in everything]
            super().replace(sender_id, entries, everything[-1].position)
        return page


@pytest.mark.parametrize("read", [read_all_sessions, read_last_session])
def test_conversation_that_is_rewritten_between_two_pages_is_read_anew(read):
    events = conversation(1, 40)
    log = RewrittenOnce()
    log.append("ada", [encode(event) for event in events], START)
    bound = DeadlineLog(log, Deadline(WAIT))
    store = InMemoryTrackerStore(Domain.empty())
    found = read(bound, store, "ada", Reading("place", SessionLengths()))
    assert as_dicts(found.tracker) == dicts(events)
    assert found.position == log.read_back("ada", 1).events[-1].position


def test_conversation_that_is_rewritten_all_the_time_is_an_error():
    log = MemoryEventLog()

    def read():
        raise Rewritten

    with pytest.raises(ConnectionException, match="one job after the other"):
        read_one_state(log, "ada", read)


def test_whole_conversation_of_the_command_line_is_read_anew(monkeypatch):
    monkeypatch.setattr(stores, "_WHOLE_PAGE", 100)
    log = RewrittenOnce()
    log.append("ada", [encode(event) for event in conversation(1, 40)], START)
    assert stores.whole(log, "ada").events == log.read_back("ada").events


def test_child_of_a_fork_waits_for_no_thread_of_its_parent():
    """The thread that holds the lock does not exist in the child."""
    store = InMemoryTrackerStore(Domain.empty())
    shared = store._shared
    with shared.session_lengths._lock:
        child = os.fork()
        if not child:
            os._exit(not shared.session_lengths._lock.acquire(timeout=1))
    assert os.waitpid(child, 0)[1] == 0
