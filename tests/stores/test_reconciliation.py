"""How new events are found where nothing but their content tells."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rasa_trackers import reconciliation
from rasa_trackers.reconciliation import new_events


def test_examples_of_its_documentation():
    assert doctest.testmod(reconciliation).failed == 0


@pytest.mark.parametrize(
    ("stored", "events", "new"),
    [
        ("", "abc", "abc"),
        ("abc", "", ""),
        ("abc", "abc", ""),
        ("abc", "bcd", "d"),
        ("abc", "cde", "de"),
        ("abXc", "abcd", "d"),
        ("aXbYcZ", "abcd", "d"),
        ("bcd", "abcde", "e"),
        ("aa", "aaa", "a"),
        ("aaa", "aa", ""),
        ("abcabc", "abcabcd", "d"),
        # Put in between or before what is stored: new, and not to be lost.
        ("ac", "abc", "b"),
        ("xyc", "abc", "ab"),
    ],
)
def test_new_events(stored, events, new):
    places = new_events(list(stored), list(events), complete=True)
    assert "".join(events[place] for place in places) == new


def test_event_that_was_changed_in_the_log_is_not_new():
    """As by anonymisation, which leaves type and timestamp as they are."""
    said = [
        f'{{"event": "user", "timestamp": {number}, "text": "my name"}}'
        for number in range(4)
    ]
    changed = [text.replace("my name", "***") for text in said]
    stored = [said[0], changed[1], changed[2], said[3]]
    assert new_events(stored, [*said, "new"], complete=True) == [4]
    assert new_events([said[0], said[3]], [*said, "new"], complete=True) == [1, 2, 4]


def test_beginning_is_only_taken_for_erased_when_all_of_the_log_was_read():
    assert new_events(["b"], ["a", "b"], complete=True) == []
    assert new_events(["b"], ["a", "b"], complete=False) == [0]


unique = st.lists(st.integers(), unique=True, max_size=30).map(
    lambda numbers: [str(n) for n in numbers]
)


@given(unique, st.data())
def test_any_window_of_a_log_with_new_events_behind(events, data):
    log_end = data.draw(st.integers(0, len(events)))
    start = data.draw(st.integers(0, log_end))
    new = new_events(events[:log_end], events[start:], complete=True)
    assert new == list(range(log_end - start, len(events) - start))


@given(unique, st.data())
def test_events_of_other_writers_in_between_change_nothing(events, data):
    end = data.draw(st.integers(0, len(events)))
    stored = []
    for event in events[:end]:
        stored += [
            f"other-{number}" for number in range(data.draw(st.integers(0, 2)))
        ] + [event]
    new = new_events(stored, events, complete=True)
    assert new == list(range(end, len(events)))
