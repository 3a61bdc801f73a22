"""``delete`` and ``replace``."""

from __future__ import annotations

import pytest

from contract.logs import (
    add,
    all_sender_ids,
    count,
    entries,
    numbered,
    raw,
    stored,
    text,
    texts,
)
from rasa_trackers.event_log import START, Page


def test_delete_erases_a_conversation(log):
    add(log, "ada", "a", "b")
    assert log.delete("ada") is True
    assert log.read_back("ada") == Page([], True, None)
    assert all_sender_ids(log) == []
    assert count(log) == 0


def test_delete_erases_one_conversation_alone(log):
    add(log, "ada", "a")
    add(log, "grace", "b")
    log.delete("ada")
    assert all_sender_ids(log) == ["grace"]
    assert stored(log, "grace") == ["b"]


def test_delete_erases_a_long_conversation(log):
    log.append("ada", numbered(3000), START)
    assert log.delete("ada") is True
    assert stored(log, "ada") == []


def test_delete_of_an_unknown_conversation(log):
    assert log.delete("ada") is False


def test_delete_once_more(log):
    add(log, "ada", "a")
    log.delete("ada")
    assert log.delete("ada") is False


def test_conversation_begins_again_after_delete(log):
    add(log, "ada", "a")
    log.delete("ada")
    assert log.append("ada", entries("b"), START) is not None
    page = log.read_back("ada")
    assert texts(page) == [text("b")]
    assert page.complete


def test_replace_puts_entries_in_the_place_of_the_log(log):
    position = log.append("ada", entries("a", "b"), START)
    log.replace("ada", entries("x", "y", "z"), position)
    page = log.read_back("ada")
    assert texts(page) == [text("x"), text("y"), text("z")]
    assert page.complete


def test_replace_gives_the_position_of_the_last_entry(log):
    position = log.append("ada", entries("a", "b"), START)
    replaced = log.replace("ada", entries("x", "y", "z"), position)
    assert log.read_back("ada").events[-1].position == replaced


def test_log_goes_on_after_replace(log):
    position = log.append("ada", entries("a", "b"), START)
    replaced = log.replace("ada", entries("x"), position)
    assert log.append("ada", entries("c"), replaced) is not None
    assert stored(log, "ada") == ["x", "c"]


@pytest.mark.parametrize(("before", "after"), [(3000, 1), (1, 3000), (3000, 3000)])
def test_replace_of_long_logs(log, before, after):
    position = log.append("ada", numbered(before), START)
    replaced = log.replace("ada", numbered(after, "x"), position)
    page = log.read_back("ada")
    assert page.events[-1].position == replaced
    assert texts(page) == [entry.data for entry in numbered(after, "x")]


@pytest.mark.parametrize(
    "sizes", [[5_000, 5_000, 24_000], [200, 70_000, 1, 17_000, 5_000, 24_000, 300] * 5]
)
def test_replace_by_entries_of_mixed_sizes_keeps_their_order(log, sizes):
    position = log.append("ada", entries("a", "b"), START)
    added = raw(*(text(str(place) + "x" * size) for place, size in enumerate(sizes)))
    assert log.replace("ada", added, position)
    assert texts(log.read_back("ada")) == [entry.data for entry in added]


def test_replace_of_what_has_changed_writes_nothing(log):
    position = log.append("ada", entries("a"), START)
    end = log.append("ada", entries("b"), position)
    for after in (START, position, end + 1):
        assert log.replace("ada", entries("x"), after) is None
        assert log.replace("ada", [], after) is None
    assert stored(log, "ada") == ["a", "b"]


def test_replace_by_nothing_erases(log):
    position = log.append("ada", entries("a"), START)
    assert log.replace("ada", [], position) == START
    assert all_sender_ids(log) == []
    assert log.read_back("ada") == Page([], True, None)


def test_replace_of_an_empty_log_begins_it(log):
    position = log.replace("ada", entries("a", "b"), START)
    assert log.read_back("ada").events[-1].position == position
    assert stored(log, "ada") == ["a", "b"]
    assert all_sender_ids(log) == ["ada"]


def test_replace_of_an_empty_log_by_nothing_writes_nothing(log):
    assert log.replace("ada", [], START) == START
    assert all_sender_ids(log) == []


def test_replace_of_an_empty_log_after_a_position_writes_nothing(log):
    assert log.replace("ada", entries("a"), START + 7) is None
    assert log.replace("ada", [], START + 7) is None
    assert all_sender_ids(log) == []


def test_replace_of_one_conversation_alone(log):
    position = add(log, "ada", "a")
    add(log, "grace", "b")
    log.replace("ada", entries("x"), position)
    assert stored(log, "grace") == ["b"]
