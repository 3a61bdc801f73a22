"""Which events are new, where nothing but their content tells."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rasa_trackers import reconciliation
from rasa_trackers.reconciliation import count_stored


def test_examples_of_its_documentation():
    assert doctest.testmod(reconciliation).failed == 0


@pytest.mark.parametrize(
    ("stored", "events", "count"),
    [
        ("", "abc", 0),
        ("abc", "", 0),
        ("abc", "abc", 3),
        ("abc", "bcd", 2),
        ("abc", "cde", 1),
        ("abXc", "abcd", 3),
        ("aXbYcZ", "abcd", 3),
        ("bcd", "abcde", 4),
        ("aBc", "abcd", 3),
        ("aa", "aaa", 2),
        ("aaa", "aa", 2),
        ("ab", "ba", 1),
        ("abcabc", "abcabcd", 6),
    ],
)
def test_count_stored(stored, events, count):
    assert count_stored(list(stored), list(events)) == count


unique = st.lists(st.integers(), unique=True, max_size=30).map(
    lambda numbers: [str(n) for n in numbers]
)


@given(unique, st.data())
def test_any_window_of_a_log_with_new_events_behind(events, data):
    log_end = data.draw(st.integers(0, len(events)))
    start = data.draw(st.integers(0, log_end))
    assert count_stored(events[:log_end], events[start:]) == log_end - start


@given(unique, st.data())
def test_events_of_other_writers_in_between_change_nothing(events, data):
    end = data.draw(st.integers(0, len(events)))
    stored = []
    for event in events[:end]:
        stored += [
            f"other-{number}" for number in range(data.draw(st.integers(0, 2)))
        ] + [event]
    assert count_stored(stored, events) == end
