"""``read_back``: pages, their bounds, and whether they are complete."""

from __future__ import annotations

import pytest

from contract.logs import add, entries, names, numbered, raw
from rasa_trackers.event_log import PAGE_SLACK, START, Page, User


@pytest.fixture
def ten(log):
    """Ten events in three appends."""
    add(log, "ada", *"abc")
    add(log, "ada", "d")
    add(log, "ada", *"efghij")
    return log


def test_unknown_conversation_is_an_empty_log(log):
    for limit in (None, 1, 100):
        for before in (None, START, 1, 1000):
            assert log.read_back("ada", limit, before) == Page([], True, None)


def test_all_events_without_a_limit(ten):
    page = ten.read_back("ada")
    assert names(page) == list("abcdefghij")
    assert page.complete


def test_newest_events_oldest_first(ten):
    for limit in range(1, 13):
        found = names(ten.read_back("ada", limit))
        assert "abcdefghij".endswith("".join(found))
        assert len(found) >= min(limit, 10)


def test_events_before_a_position(ten):
    events = ten.read_back("ada").events
    for index, event in enumerate(events):
        page = ten.read_back("ada", None, event.position)
        assert page.events == events[:index]
        assert page.complete


def test_before_need_not_be_the_position_of_an_event(log):
    first = log.append("ada", entries("a"), START)
    position = log.append("ada", entries("b"), first)
    assert names(log.read_back("ada", None, position + 1)) == ["a", "b"]
    assert names(log.read_back("ada", 1, position + 1000))[-1] == "b"


def test_page_before_a_position_is_consecutive(ten):
    events = ten.read_back("ada").events
    for index, event in enumerate(events):
        for limit in range(1, 12):
            found = ten.read_back("ada", limit, event.position).events
            assert found == events[index - len(found) : index]
            assert len(found) >= min(limit, index)


def test_page_is_complete_if_and_only_if_it_begins_with_the_first_event(ten):
    events = ten.read_back("ada").events
    befores = [None, *(event.position for event in events[1:])]
    for before in befores:
        for limit in range(1, 12):
            page = ten.read_back("ada", limit, before)
            assert page.complete == (page.events[0] == events[0])


def test_page_of_exactly_as_many_events_as_the_limit_is_complete(log):
    position = START
    for number in range(1, 6):
        position = log.append("ada", entries(str(number)), position)
        page = log.read_back("ada", number)
        assert len(page.events) == number
        assert page.complete


def test_page_without_the_first_event_is_not_complete(log):
    log.append("ada", numbered(PAGE_SLACK + 2), START)
    page = log.read_back("ada", 1)
    assert not page.complete


def test_page_with_a_limit_beyond_the_log_is_complete(ten):
    page = ten.read_back("ada", 11)
    assert len(page.events) == 10
    assert page.complete


def test_nothing_is_older_than_the_first_event(ten):
    first = ten.read_back("ada").events[0].position
    for limit in (None, 1, 100):
        for before in (first, first - 1, START):
            page = ten.read_back("ada", limit, before)
            assert page.events == []
            assert page.complete


def test_page_without_events_names_no_user(log):
    log.append("ada", entries("a"), START, User("u", 1.0))
    first = log.read_back("ada").events[0].position
    assert log.read_back("ada", 1, first) == Page([], True, None)


@pytest.mark.parametrize("limit", [1, 7, 300])
@pytest.mark.parametrize("batch", [1, 40, 900])
def test_page_has_at_most_page_slack_beyond_the_limit(log, limit, batch):
    position = START
    for number in range(max(1, 900 // batch) if batch > 1 else 60):
        position = log.append("ada", numbered(batch, f"{number}-"), position)
    before, pages = None, 0
    while True:
        page = log.read_back("ada", limit, before)
        assert len(page.events) <= limit + PAGE_SLACK
        assert page.complete or len(page.events) >= limit
        pages += 1
        if page.complete:
            break
        before = page.events[0].position


@pytest.mark.parametrize("limit", [1, 2, 7, 250, 1000])
def test_pages_give_the_whole_log(log, limit):
    position, expected = START, []
    for batch in range(12):
        added = [f"{batch}-{number}" for number in range(batch * 9 % 50 + 1)]
        position = log.append("ada", entries(*added), position)
        expected += added
    found, before = [], None
    for _ in range(len(expected) + 1):
        page = log.read_back("ada", limit, before)
        assert page.complete or len(page.events) >= limit
        found = names(page) + found
        if page.complete:
            break
        before = page.events[0].position
    assert found == expected


def test_pages_of_events_of_very_different_sizes(log):
    position, expected = START, []
    for number in range(40):
        data = str(number) + (number % 7) * 20_000 * "x"
        position = log.append("ada", raw(data), position)
        expected.append(data)
    found, before = [], None
    while True:
        page = log.read_back("ada", 3, before)
        found = [event.data for event in page.events] + found
        if page.complete:
            break
        before = page.events[0].position
    assert found == expected


def test_reading_changes_nothing(ten):
    before = ten.read_back("ada")
    ten.read_back("ada", 3)
    ten.read_back("grace")
    assert ten.read_back("ada") == before
