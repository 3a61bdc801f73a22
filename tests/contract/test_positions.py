"""Positions ascend along a log, and none of a conversation is ever used again."""

from __future__ import annotations

from contract.logs import add, entries, numbered, stored
from contract.waiting import wait_until
from rasa_trackers.event_log import START


def positions(log, sender_id):
    return [event.position for event in log.read_back(sender_id).events]


def test_every_event_has_a_greater_position_than_start(log):
    log.append("ada", entries("a", "b"), START)
    assert all(type(position) is int for position in positions(log, "ada"))
    assert min(positions(log, "ada")) > START


def test_positions_ascend_along_a_log(log):
    for count in (1, 3, 400, 1, 2):
        end = positions(log, "ada")[-1:] or [START]
        log.append("ada", numbered(count), end[0])
    found = positions(log, "ada")
    assert len(found) == 407
    assert found == sorted(set(found))


def test_positions_of_events_stay(log):
    add(log, "ada", "a", "b")
    before = log.read_back("ada").events
    add(log, "ada", "c")
    assert log.read_back("ada").events[:2] == before


def test_positions_are_greater_after_delete(log):
    position = log.append("ada", entries("a", "b", "c"), START)
    log.delete("ada")
    log.append("ada", entries("d"), START)
    assert positions(log, "ada")[0] > position


def test_positions_are_greater_after_delete_by_another_log(make_log):
    first, second = make_log(), make_log()
    position = add(first, "ada", "a", "b", "c")
    second.delete("ada")
    assert add(first, "ada", "d") > position


def test_positions_are_greater_in_a_log_that_is_opened_after_delete(make_log):
    log = make_log()
    position = add(log, "ada", "a", "b", "c")
    log.delete("ada")
    assert add(make_log(), "ada", "d") > position


def test_positions_are_greater_after_two_erasures(log):
    highest = START
    for _ in range(3):
        highest_then = highest
        highest = log.append("ada", entries("a", "b"), START)
        assert positions(log, "ada")[0] > highest_then
        log.delete("ada")


def test_positions_are_greater_after_replace(log):
    position = log.append("ada", entries("a", "b", "c"), START)
    log.replace("ada", entries("d", "e"), position)
    assert positions(log, "ada")[0] > position


def test_positions_are_greater_after_replace_by_nothing(log):
    position = log.append("ada", entries("a", "b", "c"), START)
    log.replace("ada", [], position)
    log.append("ada", entries("d"), START)
    assert positions(log, "ada")[0] > position


def test_positions_are_greater_after_append_and_replace_and_delete(log):
    first = log.append("ada", entries("a"), START)
    second = log.replace("ada", entries("b", "c"), first)
    third = log.append("ada", entries("d"), second)
    log.delete("ada")
    again = log.append("ada", entries("e"), START)
    assert START < first < second < third < again


def test_positions_are_greater_after_expiry(make_one):
    log = make_one(0.4)
    position = log.append("ada", entries("a", "b", "c"), START)
    wait_until(lambda: not log.read_back("ada").events, "expiry")
    log.append("ada", entries("d"), START)
    assert positions(log, "ada")[0] > position


def test_positions_are_greater_after_expired_events_were_erased(make_one):
    log = make_one(0.4)
    position = log.append("ada", entries("a", "b", "c"), START)
    wait_until(lambda: not log.read_back("ada").events, "expiry")
    while log.purge_expired():
        pass
    log.append("ada", entries("d"), START)
    assert positions(log, "ada")[0] > position


def test_late_append_finds_its_position_not_after_delete(log):
    """What arrives late must not bring back what was erased."""
    position = log.append("ada", entries("a"), START)
    log.delete("ada")
    assert log.append("ada", entries("late"), position) is None
    assert stored(log, "ada") == []


def test_late_append_finds_its_position_not_in_a_conversation_that_began_again(log):
    position = log.append("ada", entries("a"), START)
    log.delete("ada")
    log.append("ada", entries("b"), START)
    assert log.append("ada", entries("late"), position) is None
    assert stored(log, "ada") == ["b"]


def test_late_append_finds_its_position_not_after_replace(log):
    """What arrives late must not follow what was anonymised."""
    position = log.append("ada", entries("secret"), START)
    log.replace("ada", entries("***"), position)
    assert log.append("ada", entries("late"), position) is None
    assert log.append("ada", entries("late"), START) is None
    assert stored(log, "ada") == ["***"]


def test_late_append_finds_its_position_not_after_expiry(make_one):
    log = make_one(0.4)
    position = log.append("ada", entries("a"), START)
    wait_until(lambda: not log.read_back("ada").events, "expiry")
    assert log.append("ada", entries("late"), position) is None


def test_late_replace_finds_its_position_not_after_delete(log):
    position = log.append("ada", entries("a", "b"), START)
    log.delete("ada")
    log.append("ada", entries("c", "d"), START)
    assert log.replace("ada", entries("late"), position) is None
    assert stored(log, "ada") == ["c", "d"]


def test_append_after_start_that_is_late_begins_an_erased_conversation_again(log):
    """The one exception that the contract makes."""
    log.append("ada", entries("a"), START)
    log.delete("ada")
    assert log.append("ada", entries("late"), START) is not None
    assert stored(log, "ada") == ["late"]
