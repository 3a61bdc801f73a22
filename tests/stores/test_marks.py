"""Marks on events: what they cost, and that they stay clear."""

from __future__ import annotations

import copy

import pytest

from conversations import add, as_dicts, conversation, session_start, tracker, turn
from rasa_trackers.marks import KnownEnd, known_end, mark_events


@pytest.fixture
def events():
    return conversation(1, 3)


def marks_on(events):
    """The marks of each event, by their names."""
    return [
        {
            name: mark
            for name, mark in vars(event).items()
            if name.startswith("_rasa_trackers_position")
        }
        for event in events
    ]


@pytest.mark.parametrize("backend", ["memory", "sqlite"], indirect=True)
async def test_save_marks_only_what_is_new(store):
    kept = tracker("ada", session_start())
    await store.save(kept)
    before = marks_on(kept.events)
    add(kept, turn())
    await store.save(kept)
    after = marks_on(kept.events)
    assert all(a[name] is b[name] for a, b in zip(before, after) for name in (*a, *b))
    assert all(after)
    add(kept, turn())
    await store.save(copy.copy(kept))
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


def test_marks_ascend_over_saves(events):
    mark_events("place", "ada", events[:4], 10)
    mark_events("place", "ada", events, 50, marked=4)
    assert known_end("place", "ada", events) == KnownEnd(50, [])


def test_position_in_the_database_after_one_in_a_spool(events):
    """It is lower, so that all events are marked anew."""
    mark_events("place", "ada", events[:4], 1_000_000)
    mark_events("place", "ada", events, 50, marked=4)
    assert known_end("place", "ada", events) == KnownEnd(50, [])


def test_events_that_are_taken_for_marked_and_are_not(events):
    mark_events("other", "ada", events[:4], 10)
    mark_events("place", "ada", events, 50, marked=4)
    assert known_end("place", "ada", events) == KnownEnd(50, [])
