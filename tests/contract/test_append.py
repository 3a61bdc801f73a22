"""``append``: what it stores, and when it stores nothing."""

from __future__ import annotations

import pytest

from contract.logs import (
    add,
    all_sender_ids,
    entries,
    numbered,
    raw,
    stored,
    text,
    texts,
)
from rasa_trackers.event_log import START, Entry


def test_append_gives_the_position_of_the_last_entry(log):
    position = log.append("ada", entries("a", "b"), START)
    assert log.read_back("ada").events[-1].position == position


def test_append_goes_on_at_the_end(log):
    position = log.append("ada", entries("a"), START)
    assert log.append("ada", entries("b"), position) is not None
    assert stored(log, "ada") == ["a", "b"]


@pytest.mark.parametrize("count", [1, 3, 300, 3000])
def test_entries_keep_their_order(log, count):
    """Whatever their timestamps say."""
    added = [
        Entry(text(str(number), -number), "slot", float(-number), None, str(number))
        for number in range(count)
    ]
    log.append("ada", added, START)
    assert texts(log.read_back("ada")) == [entry.data for entry in added]


#: Lengths of texts, short and long ones in turn: databases keep long values elsewhere.
MIXED_SIZES = [
    [5_000, 5_000, 24_000],
    [24_000, 3_000, 24_000, 3_000],
    [200, 70_000, 1, 17_000, 5_000, 24_000, 300] * 5,
]


@pytest.mark.parametrize("sizes", MIXED_SIZES)
def test_entries_of_mixed_sizes_keep_their_order(log, sizes):
    added = raw(*(text(str(place) + "x" * size) for place, size in enumerate(sizes)))
    end = log.append("ada", added, START)
    assert texts(log.read_back("ada")) == [entry.data for entry in added]
    # Among those of the conversation, and not only at its beginning.
    assert log.append("ada", added, end)
    assert texts(log.read_back("ada")) == 2 * [entry.data for entry in added]


def test_appends_keep_their_order(log):
    """Whatever their timestamps say."""
    position = log.append("ada", entries("a", timestamp=9.0), START)
    position = log.append("ada", entries("b", timestamp=5.0), position)
    log.append("ada", entries("c", timestamp=7.0), position)
    assert stored(log, "ada") == ["a", "b", "c"]


def test_append_after_an_older_event_writes_nothing(log):
    first = log.append("ada", entries("a"), START)
    log.append("ada", entries("b"), first)
    assert log.append("ada", entries("c"), first) is None
    assert stored(log, "ada") == ["a", "b"]


def test_append_after_start_writes_nothing_where_events_are(log):
    log.append("ada", entries("a"), START)
    assert log.append("ada", entries("b"), START) is None
    assert stored(log, "ada") == ["a"]


def test_append_after_a_later_position_writes_nothing(log):
    position = log.append("ada", entries("a"), START)
    assert log.append("ada", entries("b"), position + 1) is None
    assert log.append("ada", entries("b"), position + 1000) is None
    assert stored(log, "ada") == ["a"]


def test_append_to_an_unknown_conversation_needs_start(log):
    assert log.append("ada", entries("a"), START + 7) is None
    assert all_sender_ids(log) == []


def test_append_after_an_event_within_the_last_append_writes_nothing(log):
    log.append("ada", entries("a", "b", "c"), START)
    for event in log.read_back("ada").events[:-1]:
        assert log.append("ada", entries("d"), event.position) is None
    assert stored(log, "ada") == ["a", "b", "c"]


def test_append_that_is_repeated_writes_nothing(log):
    position = log.append("ada", entries("a"), START)
    log.append("ada", entries("b"), position)
    assert log.append("ada", entries("b"), position) is None
    assert stored(log, "ada") == ["a", "b"]


def test_append_of_nothing_gives_the_end(log):
    position = log.append("ada", entries("a", "b"), START)
    assert log.append("ada", [], position) == position
    assert stored(log, "ada") == ["a", "b"]


def test_append_of_nothing_moves_no_end(log):
    position = log.append("ada", entries("a"), START)
    log.append("ada", [], position)
    assert log.append("ada", entries("b"), position) is not None


def test_append_of_nothing_after_another_position_is_refused(log):
    position = log.append("ada", entries("a"), START)
    assert log.append("ada", [], START) is None
    assert log.append("ada", [], position + 1) is None


def test_append_of_nothing_to_an_empty_log_gives_start(log):
    assert log.append("ada", [], START) == START


def test_append_of_nothing_to_an_empty_log_writes_nothing(log):
    log.append("ada", [], START)
    assert all_sender_ids(log) == []
    assert log.delete("ada") is False


def test_append_of_nothing_after_a_position_of_an_empty_log_is_refused(log):
    assert log.append("ada", [], START + 7) is None


def test_conversations_are_logs_of_their_own(log):
    ada = log.append("ada", entries("a"), START)
    log.append("grace", entries("b"), START)
    assert log.append("ada", entries("c"), ada) is not None
    assert stored(log, "ada") == ["a", "c"]
    assert stored(log, "grace") == ["b"]


@pytest.mark.parametrize(
    "data",
    [
        '{"event":  "slot" , "timestamp" : 1.0}',
        '{"b": 1, "a": 2, "a": 3}',
        '{"$a.b": 1.0, "\\u0000": 1e5, "big": 123456789012345678901234567890}',
        '"\\ud800"',
        " \t[1]\n ",
        "\r\n'\"`\\%s%(a)s:name?$1",
    ],
)
def test_text_comes_back_byte_for_byte(log, data):
    log.append("ada", raw(data), START)
    assert texts(log.read_back("ada")) == [data]


@pytest.mark.parametrize("data", ["not json", '{"event": "sl', "null", "ü😀", ""])
def test_damaged_text_comes_back_as_it_was(log, data):
    log.append("ada", raw("before", data, "after"), START)
    assert texts(log.read_back("ada")) == ["before", data, "after"]


def test_long_text_comes_back(log):
    long = "x" * 2_000_000
    log.append("ada", raw("before", long, "after"), START)
    assert texts(log.read_back("ada")) == ["before", long, "after"]


def test_many_entries_are_appended_in_one_step(log):
    added = numbered(10_000)
    position = log.append("ada", added, START)
    page = log.read_back("ada")
    assert texts(page) == [entry.data for entry in added]
    assert page.events[-1].position == position


@pytest.mark.parametrize("timestamp", [None, 0.0, -1.5, 1_700_000_000.123456])
def test_entries_of_any_timestamp(log, timestamp):
    entry = Entry("{}", "user", timestamp, None, None)
    assert log.append("ada", [entry], START) is not None
    assert texts(log.read_back("ada")) == ["{}"]


def test_entries_with_an_intent_and_an_action(log):
    added = [
        Entry('"1"', "user", 1.0, "greet", None),
        Entry('"2"', "action", 2.0, None, "action_listen"),
        Entry('"3"', "slot", 3.0, None, "näme 😀 'x\"%"),
        Entry('"4"', "user", 4.0, "i" * 1000, "a" * 1000),
    ]
    log.append("ada", added, START)
    assert texts(log.read_back("ada")) == [entry.data for entry in added]


def test_append_to_one_of_many_conversations(log):
    for number in range(30):
        add(log, str(number), "a")
    add(log, "17", "b")
    assert stored(log, "17") == ["a", "b"]
    assert stored(log, "16") == ["a"]
