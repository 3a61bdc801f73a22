"""Whole or not at all: beside other writers, and when a process dies midway."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from contract.logs import (
    all_sender_ids,
    end_of,
    entries,
    numbered,
    of_user,
    persistently,
    stored,
)
from contract.writing import append_each
from rasa_trackers.event_log import START, User

THREADS = 4
WORKERS = 3
USER = User("u", 1.0)


def attempt(log, call):
    """What a call gives; "unknown" after an error that is transient."""
    try:
        return call()
    except Exception as error:
        failure = log.classify(error)
        if failure is None or not failure.transient:
            raise
        return "unknown"


def all_at_once(logs, call):
    """Call ``call(number, log)`` in a thread each, at the same time."""
    barrier = threading.Barrier(len(logs))

    def run(number):
        barrier.wait()
        return attempt(logs[number], lambda: call(number, logs[number]))

    with ThreadPoolExecutor(len(logs)) as threads:
        return list(threads.map(run, range(len(logs))))


def assert_one_winner(results, events):
    winners = [number for number, result in enumerate(results) if result is not None]
    certain = [number for number in winners if results[number] != "unknown"]
    assert len(certain) <= 1
    assert len(events) <= 1
    if certain:
        assert events == [str(certain[0])]
    else:
        assert len(winners) > 0, "nobody has appended"


@pytest.mark.parametrize("began", [False, True], ids=["empty", "with events"])
def test_each_position_has_one_winner_among_threads(log, began):
    for attempt_number in range(15):
        sender_id = str(attempt_number)
        end = log.append(sender_id, entries("first"), START) if began else START
        results = all_at_once(
            [log] * THREADS,
            lambda number, one, sender_id=sender_id, end=end: one.append(
                sender_id, entries(str(number)), end
            ),
        )
        assert_one_winner(results, stored(log, sender_id)[began:])


@pytest.mark.parametrize("began", [False, True], ids=["empty", "with events"])
def test_each_position_has_one_winner_among_logs(make_log, began):
    logs = [make_log() for _ in range(THREADS)]
    for attempt_number in range(15):
        sender_id = str(attempt_number)
        end = logs[0].append(sender_id, entries("first"), START) if began else START
        results = all_at_once(
            logs,
            lambda number, one, sender_id=sender_id, end=end: one.append(
                sender_id, entries(str(number)), end
            ),
        )
        assert_one_winner(results, stored(logs[0], sender_id)[began:])


def test_either_append_or_replace_wins(log):
    for attempt_number in range(15):
        sender_id = str(attempt_number)
        end = log.append(sender_id, entries("first"), START)

        def write(number, one, sender_id=sender_id, end=end):
            method = one.append if number % 2 else one.replace
            return method(sender_id, entries(str(number)), end)

        results = all_at_once([log] * THREADS, write)
        found = stored(log, sender_id)
        appended = found[0] == "first"
        assert_one_winner(results, found[1:] if appended else found)
        if len(found) > appended:
            assert int(found[-1]) % 2 == appended


def test_append_beside_delete_is_before_or_after_it(log):
    for attempt_number in range(15):
        sender_id = str(attempt_number)
        end = log.append(sender_id, entries("first"), START)

        def write(number, one, sender_id=sender_id, end=end):
            if number:
                return one.append(sender_id, entries("second"), end)
            return one.delete(sender_id)

        results = all_at_once([log] * 2, write)
        if "unknown" not in results:
            assert results[0] is True
            assert stored(log, sender_id) == []


def test_threads_lose_nothing_and_double_nothing(log):
    all_names = [
        [f"{thread}-{number}" for number in range(20)] for thread in range(THREADS)
    ]
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda names: append_each(log, "ada", names), all_names))
    assert_each_once_in_order(stored(log, "ada"), all_names)


def test_processes_lose_nothing_and_double_nothing(start_worker, make_log):
    """They begin on an empty database, in which each creates what is missing."""
    workers = [start_worker() for _ in range(WORKERS)]
    assert [worker.hear() for worker in workers] == WORKERS * ["ready"]
    for number, worker in enumerate(workers):
        worker.tell("one by one", "ada", f"{number}-", 25)
    assert [worker.hear() for worker in workers] == WORKERS * ["done"]
    expected = [
        [f"{worker}-{number}" for number in range(25)] for worker in range(WORKERS)
    ]
    assert_each_once_in_order(stored(make_log(), "ada"), expected)


def assert_each_once_in_order(found, expected):
    assert sorted(found) == sorted(name for names in expected for name in names)
    for names in expected:
        assert [name for name in found if name in set(names)] == names


def test_conversations_of_several_threads_do_not_mix(log):
    def write(number):
        sender_id = f"sender {number}"
        user = User(f"user {number}", 1.0)
        end = persistently(
            log, lambda: log.append(sender_id, entries("a"), START, user) or 1
        )
        append_each(log, sender_id, [f"{number}-{event}" for event in range(10)])
        assert of_user(log, f"user {number}") == [sender_id]
        assert sender_id in all_sender_ids(log)
        return end

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(write, range(THREADS)))
    for number in range(THREADS):
        expected = [f"{number}-{event}" for event in range(10)]
        assert stored(log, f"sender {number}") == ["a", *expected]


def test_logs_that_begin_conversations_of_one_user_at_the_same_time(make_log):
    logs = [make_log() for _ in range(THREADS)]
    sender_ids = [str(number) for number in range(15)]

    def begin(log):
        for sender_id in sender_ids:
            attempt(
                log, lambda one=sender_id: log.append(one, entries("a"), START, USER)
            )

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(begin, logs))
    assert sorted(of_user(logs[0], "u")) == sorted(all_sender_ids(logs[0]))
    assert set(all_sender_ids(logs[0])) <= set(sender_ids)


@pytest.mark.parametrize("batch", [7, 400])
def test_no_read_sees_a_part_of_an_append(make_log, batch):
    log, reader = make_log(), make_log()
    done = threading.Event()

    def write():
        try:
            end = START
            for number in range(8):
                end = log.append("ada", numbered(batch, f"{number}-"), end, USER)
                assert end is not None
        finally:
            done.set()

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        while not done.is_set():
            page = reader.read_back("ada")
            assert len(page.events) % batch == 0
            assert page.user_id == ("u" if page.events else None)
            newest = reader.read_back("ada", batch)
            assert newest.complete or len(newest.events) >= batch
            for conversation in reader.conversations_of("u"):
                assert len(conversation.events) % batch == 0
                assert conversation.events
        writing.result()


@pytest.mark.parametrize("batch", [7, 400])
def test_no_read_sees_a_part_of_a_replace(make_log, batch):
    log, reader = make_log(), make_log()
    first = log.append("ada", numbered(batch, "0-"), START)
    done = threading.Event()

    def write():
        try:
            end = first
            for number in range(1, 8):
                end = log.replace("ada", numbered(batch, f"{number}-"), end)
                assert end is not None
        finally:
            done.set()

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        while not done.is_set():
            found = stored(reader, "ada")
            assert len(found) == batch
            assert len({name.partition("-")[0] for name in found}) == 1
        writing.result()


@pytest.mark.parametrize("batch", [7, 400])
def test_no_read_sees_a_part_of_a_delete(make_log, batch):
    log, reader = make_log(), make_log()
    done = threading.Event()

    def write():
        try:
            for _ in range(8):
                log.append("ada", numbered(batch), START)
                log.delete("ada")
        finally:
            done.set()

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        while not done.is_set():
            assert len(stored(reader, "ada")) in (0, batch)
        writing.result()


def test_append_of_a_process_that_is_killed_is_whole_or_not_there(
    start_worker, make_log
):
    log, events = make_log(), 4000
    worker = start_worker()
    assert worker.hear() == "ready"
    worker.tell("at once", "measured", events)
    assert worker.hear() == "begins"
    began = time.monotonic()
    assert worker.hear() is not None
    seconds = time.monotonic() - began
    for fifth in range(1, 5):
        sender_id = f"killed after {fifth} fifths"
        worker.tell("at once", sender_id, events)
        assert worker.hear() == "begins"
        # The moment of the kill; nothing is waited for.
        time.sleep(seconds * fifth / 5)
        worker.kill()
        worker = start_worker()
        # The server may still carry out what it has got, and then it does so as a whole.
        for _ in range(5):
            assert len(found_in_the_end(log, sender_id)) in (0, events)
        assert worker.hear() == "ready"
        append_each(log, sender_id, ["next"])
        found = stored(log, sender_id)
        assert "next" in (found[0], found[-1])
        assert len(found) in (1, events + 1)


def found_in_the_end(log, sender_id):
    return persistently(log, lambda: stored(log, sender_id))


def test_end_is_found_after_a_kill(start_worker, make_log):
    """Nothing that a dead process has left keeps others from writing."""
    log = make_log()
    for _ in range(2):
        worker = start_worker()
        assert worker.hear() == "ready"
        worker.tell("one by one", "ada", "a", 100_000)
        end = end_of(log, "ada")
        while end_of(log, "ada") == end:
            pass
        worker.kill()
        append_each(log, "ada", ["next"])
        persistently(log, lambda: log.delete("ada"))
