"""Names, opening and closing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from contract.logs import add, all_sender_ids, count, entries, of_user, stored
from rasa_trackers.event_log import START


def test_a_log_has_a_name_for_messages(log):
    assert isinstance(log.name, str)
    assert log.name


def test_an_empty_database_has_no_conversations(log):
    assert all_sender_ids(log) == []
    assert count(log) == 0
    assert of_user(log, "u") == []
    assert log.purge_expired() == 0


def test_opening_an_open_log_is_harmless(log):
    add(log, "ada", "a")
    log.open()
    assert stored(log, "ada") == ["a"]
    assert add(log, "ada", "b") > START


def test_several_logs_open_an_empty_database_at_the_same_time(make_log):
    with ThreadPoolExecutor(4) as threads:
        logs = list(threads.map(lambda _: make_log(), range(4)))
    for number, log in enumerate(logs):
        add(log, "ada", str(number))
    assert stored(logs[0], "ada") == ["0", "1", "2", "3"]


def test_what_one_log_appends_another_log_reads(make_log):
    first, second = make_log(), make_log()
    position = first.append("ada", entries("a"), START)
    assert second.read_back("ada") == first.read_back("ada")
    assert second.append("ada", entries("b"), position) is not None
    assert stored(first, "ada") == ["a", "b"]


def test_entries_outlive_the_log_that_appended_them(place, make_log):
    log = place.make(None, keep_users=True)
    log.open()
    add(log, "ada", "a", "b")
    log.close()
    assert stored(make_log(), "ada") == ["a", "b"]


def test_a_process_that_is_killed_after_append_has_stored_its_entries(
    start_worker, make_log
):
    worker = start_worker()
    assert worker.hear() == "ready"
    worker.tell("one by one", "ada", "a", 3)
    assert worker.hear() == "done"
    worker.kill()
    assert stored(make_log(), "ada") == ["a0", "a1", "a2"]


def test_confirm_is_harmless(log):
    log.confirm("unknown")
    add(log, "ada", "a")
    log.confirm("ada")
    assert all_sender_ids(log) == ["ada"]
    assert stored(log, "ada") == ["a"]


def test_log_goes_on_after_a_fork_of_its_process(log):
    """What a child may do with it: ``tests/faults/test_processes.py``."""
    position = add(log, "ada", "a")
    for text in ("b", "c"):
        log.before_fork()
        log.after_fork()
        assert log.append("ada", entries(text), position)
        position = log.read_back("ada").events[-1].position
    assert stored(log, "ada") == ["a", "b", "c"]


def test_fork_waits_for_calls_that_are_under_way(log):
    with ThreadPoolExecutor(4) as threads:
        calls = [
            threads.submit(add, log, f"sender {number}", "a") for number in range(100)
        ]
        for _ in range(10):
            log.before_fork()
            log.after_fork()
        for call in calls:
            call.result()
    assert len(all_sender_ids(log)) == 100
