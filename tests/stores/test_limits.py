"""``max_event_bytes`` and ``max_session_events``: a cut or an error, and nothing lost."""

from __future__ import annotations

import copy
import json

import pytest
from rasa.shared.core.events import SlotSet, UserUttered
from rasa.shared.exceptions import RasaException

from conversations import add, as_dicts, conversation, dicts, tracker, turn
from rasa_api import backend_log

MOST = 1000

# Memory forgets what another store with other options has stored. MongoDB's pages have
# more events than they are asked for.
pytestmark = pytest.mark.parametrize("backend", ["sqlite", "mongo"], indirect=True)


def timed(event, timestamp=1_800_000_000.0):
    event.timestamp = timestamp
    return event


def stored_texts(store):
    return [event.data for event in backend_log(store).read_back("ada").events]


@pytest.mark.parametrize("letter", ["x", "ü", "\U0001f600"])
async def test_long_message_is_cut_and_stored(make_store, letter):
    store = make_store(max_event_bytes=MOST)
    before, after = turn(), turn()
    message = timed(UserUttered(5000 * letter, {"name": "greet"}))
    await store.save(tracker("ada", [*before, message, *after]))
    full = await store.retrieve_full_tracker("ada")
    events = list(full.events)
    assert dicts(events[: len(before)]) == dicts(before)
    assert dicts(events[len(before) + 1 :]) == dicts(after)
    cut = events[len(before)]
    assert cut.intent_name == "greet"
    assert cut.text.endswith("...")
    assert set(cut.text) == {letter, "."}
    assert 0.8 * MOST < len(stored_texts(store)[len(before)]) <= MOST


async def test_cut_event_is_stored_once(make_store):
    """Copies of a tracker have the whole event, and so do trackers of Rasa's making."""
    store = make_store(max_event_bytes=MOST)
    events = [*turn(), timed(SlotSet("name", 5000 * "x"))]
    held = tracker("ada", events)
    await store.save(held)
    stored = stored_texts(store)
    for again in (held, copy.deepcopy(held), tracker("ada", copy.deepcopy(events))):
        await store.save(again)
        assert stored_texts(store) == stored
    new = turn()
    again = tracker("ada", copy.deepcopy(events))
    add(again, new)
    await store.save(again)
    assert len(stored_texts(store)) == len(events) + len(new)


async def test_event_from_before_the_limit_stays_whole(make_store):
    events = [*turn(), timed(SlotSet("name", 5000 * "x"))]
    await make_store().save(tracker("ada", events))
    store = make_store(max_event_bytes=MOST)
    before = stored_texts(store)
    await store.save(tracker("ada", copy.deepcopy(events)))
    assert stored_texts(store) == before
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events)


async def test_event_that_cannot_be_cut_is_an_error(make_store):
    store = make_store(max_event_bytes=MOST)
    kept = tracker("ada", turn())
    await store.save(kept)
    before = stored_texts(store)
    add(kept, [timed(UserUttered("hello", metadata={"x": list(range(1000))}))])
    with pytest.raises(RasaException, match="max_event_bytes"):
        await store.save(kept)
    assert stored_texts(store) == before


async def test_event_within_the_limit_is_as_without(make_store):
    store = make_store(max_event_bytes=100_000)
    events = conversation(1, 2)
    await store.save(tracker("ada", events))
    assert [json.loads(text) for text in stored_texts(store)] == dicts(events)


@pytest.mark.parametrize("gives_all", [False, True])
async def test_tracker_has_the_newest_events_of_a_long_session(make_store, gives_all):
    option = "retrieve_events_from_previous_conversation_sessions"
    store = make_store(max_session_events=100, **{option: gives_all})
    events = conversation(1, 40)
    await store.save(tracker("ada", events))
    held = await store.retrieve("ada")
    assert as_dicts(held) == dicts(events[-100:])
    new = turn()
    add(held, new)
    await store.save(held)
    full = await store.retrieve_full_tracker("ada")
    assert as_dicts(full) == dicts([*events, *new])


async def test_shorter_session_is_whole(make_store):
    store = make_store(max_session_events=100)
    older, last = conversation(2, 20), conversation(1, 5)
    await store.save(tracker("ada", [*older, *last]))
    assert as_dicts(await store.retrieve("ada")) == dicts(last)


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_event_bytes", 999), ("max_event_bytes", "x"), ("max_session_events", 99)],
)
def test_limit_that_makes_no_sense(make_store, option, value):
    with pytest.raises(RasaException, match=option):
        make_store(**{option: value})
