"""``sender_ids`` and ``count_conversations``."""

from __future__ import annotations

import threading

from contract.logs import add, all_sender_ids, count, entries, of_user, raw, text
from rasa_trackers.event_log import START, Entry, User


def test_sender_ids_come_in_batches(log):
    add(log, "ada", "a")
    add(log, "grace", "a")
    batches = [list(batch) for batch in log.sender_ids()]
    assert sorted(sender_id for batch in batches for sender_id in batch) == [
        "ada",
        "grace",
    ]


def test_each_sender_id_comes_once(log):
    for name in "abc":
        add(log, "ada", name)
        add(log, "grace", *(name * 100))
    assert all_sender_ids(log) == ["ada", "grace"]


def test_many_conversations_are_listed_and_counted_and_found_by_their_user(log):
    """More than 1,000, which is what some databases take in one list of values."""
    expected = [f"{number:04}" for number in range(1, 1011)]
    for number, sender_id in enumerate(expected, 1):
        added = entries("a", timestamp=float(number))
        log.append(sender_id, added, START, User("u", 1.0))
    assert all_sender_ids(log) == expected
    assert count(log, 1.0) == 1010
    assert count(log, 101.0) == 910
    assert of_user(log, "u") == expected
    assert of_user(log, "u", 5, 1003) == expected[1003:1008]


def test_conversation_that_stays_is_named_while_others_begin_and_end(make_log):
    log, other = make_log(), make_log()
    steady = {f"steady {number}" for number in range(50)}
    for sender_id in steady:
        add(log, sender_id, "a")
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            for number in range(20):
                other.append(f"passing {number}", entries("a"), START)
            for number in range(20):
                other.delete(f"passing {number}")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(20):
            found = all_sender_ids(log)
            assert len(found) == len(set(found))
            assert steady <= set(found)
    finally:
        stop.set()
        thread.join()


def test_count_of_conversations_by_their_newest_event(log):
    log.append("ada", entries("a", timestamp=10.0), START)
    log.append("grace", entries("a", timestamp=20.0), START)
    add_at(log, "ada", 30.0)
    assert count(log, 0.0) == 2
    assert count(log, 10.0) == 2
    assert count(log, 20.0) == 2
    assert count(log, 20.5) == 1
    assert count(log, 31.0) == 0


def add_at(log, sender_id, timestamp):
    end = log.read_back(sender_id, 1).events[-1].position
    log.append(sender_id, entries("b", "c", timestamp=timestamp), end)


def test_count_includes_the_very_moment(log):
    log.append("ada", entries("a", timestamp=1_700_000_000.123456), START)
    assert count(log, 1_700_000_000.123456) == 1
    assert count(log, 1_700_000_000.123457) == 0


def test_count_looks_at_events_after_replace(log):
    position = log.append("ada", entries("a", timestamp=10.0), START)
    log.replace("ada", entries("a", timestamp=5.0), position)
    assert count(log, 5.0) == 1
    assert count(log, 6.0) == 0


def test_count_leaves_out_erased_conversations(log):
    add(log, "ada", "a")
    add(log, "grace", "a")
    log.delete("ada")
    assert count(log) == 1


def test_count_leaves_out_an_event_without_a_timestamp(log):
    log.append("ada", raw("damaged"), START)
    log.append("grace", entries("a", timestamp=20.0), START)
    assert count(log) == 1


def test_count_takes_a_timestamp_that_no_number_holds_for_none(log):
    odd = text("a").replace("1.0", "1" + 400 * "0")
    log.append("odd", [Entry(odd, "slot", None, None, "a")], START)
    log.append("even", entries("a", timestamp=5.0), START)
    assert count(log) == 1


def test_count_may_be_too_low_where_timestamps_do_not_ascend_but_never_too_high(log):
    log.append("ada", entries("a", timestamp=20.0), START)
    add_at(log, "ada", 10.0)
    assert count(log, 10.0) == 1
    assert count(log, 15.0) in (0, 1)
    assert count(log, 21.0) == 0


def test_numbers_of_the_count_add_up(log):
    add(log, "ada", "a")
    numbers = list(log.count_conversations(0.0))
    assert all(type(number) is int and number >= 0 for number in numbers)
    assert sum(numbers) == 1
