"""Long sessions are decoded once, and unpickled afterwards."""

from __future__ import annotations

import copy
from typing import Any, Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasa.shared.core.events import SlotSet, UserUttered

from conversations import as_dicts, conversation, dicts, tracker
from random_events import events
from rasa_trackers import decoded
from rasa_trackers.codec import encode
from rasa_trackers.computing import SLICE
from rasa_trackers.decoded import DecodedSession, DecodedSessions


@pytest.fixture
def long():
    """Events of a long session. Saved ones are marked, so each test has its own."""
    return conversation(1, 60)


class Custom(SlotSet):
    """An event of an add-on, whose pickles lack an attribute."""

    type_name = "custom_slot"

    @classmethod
    def _from_parameters(cls, parameters: Dict[str, Any]) -> Any:
        return cls(parameters["name"], parameters["value"])

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "value": None}


def session_of(several):
    """The texts of as many events as a run has, and one read of them."""
    texts = [encode(event).data for event in (several * SLICE)[:SLICE]]
    session = DecodedSession({}, 10**9)
    first, errors = session.decode_all(texts)
    assert not errors
    return texts, session, first


@settings(max_examples=200)
@given(several=st.lists(events(), min_size=1, max_size=5))
def test_pickled_events_are_equal_to_decoded_ones(several):
    texts, session, first = session_of(several)
    assert session.used
    again, errors = DecodedSession(session.used, 10**9).decode_all(texts)
    assert not errors
    for one, other in zip(first, again):
        assert type(one) is type(other)
        assert repr(one.__dict__) == repr(other.__dict__)  # NaN is not equal to itself
        assert one is not other


def test_event_of_an_addon_is_decoded_each_time():
    _, session, first = session_of([SlotSet("name", "value"), Custom("name", "value")])
    assert not session.used
    assert [event.value for event in first] == ["value"] * SLICE


def test_run_of_which_one_text_has_changed_is_decoded():
    texts, session, _ = session_of([SlotSet("name", "old")])
    changed = [*texts[:-1], encode(SlotSet("name", "new")).data]
    found, _ = DecodedSession(session.used, 10**9).decode_all(changed)
    assert [event.value for event in found] == ["old"] * (SLICE - 1) + ["new"]


def test_damaged_event_is_told_each_time():
    texts, _, _ = session_of([SlotSet("name", "value")])
    session = DecodedSession({}, 10**9)
    for _ in range(2):
        found, errors = session.decode_all([*texts[:-1], "{"])
        assert (len(found), list(errors)) == (SLICE - 1, [SLICE - 1])
    assert not session.used


def test_only_so_many_bytes_are_kept():
    _, session, _ = session_of([SlotSet("name", "value")])
    (run,) = session.used.values()
    sessions = DecodedSessions(2 * run.size)
    for sender_id in ("a", "b", "a", "c"):
        sessions.keep(sender_id, session)
    assert [len(sessions.of(each)._known) for each in "abc"] == [1, 0, 1]
    sessions.forget("a")
    assert not sessions.of("a")._known


def test_session_that_is_too_long_is_decoded_each_time(monkeypatch):
    texts, session, _ = session_of([SlotSet("name", "value")])
    too_little = DecodedSession({}, session.size - 1)
    too_little.decode_all(texts)
    assert not too_little.used
    # Nor is anything pickled for nothing.
    monkeypatch.setattr(decoded, "pickle", None)
    too_little.decode_all(texts)
    DecodedSession({}, 0).decode_all(texts)


async def test_long_session_is_decoded_once(long, store, monkeypatch):
    await store.save(tracker("ada", long))
    first = await store.retrieve("ada")
    texts = []
    decode_all = decoded.DECODER.decode_all
    monkeypatch.setattr(
        decoded.DECODER,
        "decode_all",
        lambda some: texts.extend(some) or decode_all(some),
    )
    again = await store.retrieve("ada")
    assert 0 < len(texts) < SLICE < len(long)
    assert as_dicts(again) == as_dicts(first) == dicts(long)
    assert again.events[0] is not first.events[0]


async def test_what_an_action_changes_in_a_tracker_is_not_kept(long, store):
    """Rasa changes events in place."""
    await store.save(tracker("ada", long))
    for _ in range(2):
        retrieved = await store.retrieve("ada")
        assert as_dicts(retrieved) == dicts(long)
        for event in retrieved.events:
            if isinstance(event, UserUttered):
                event.text = "changed"


@pytest.mark.parametrize("erase", ["delete", "update"])
async def test_erased_conversation_is_not_kept(long, store, erase):
    await store.save(tracker("ada", long))
    retrieved = await store.retrieve("ada")
    assert store._shared.decoded.of("ada")._known
    if erase == "delete":
        await store.delete("ada")
    else:
        shorter = tracker("ada", copy.deepcopy(list(retrieved.events)[-2:]))
        await store.update(shorter)
    assert not store._shared.decoded.of("ada")._known


async def test_what_another_process_has_erased_is_not_kept(
    long, store, make_store, backend
):
    if not backend.durable:
        pytest.skip("no other process has its conversations")
    await store.save(tracker("ada", long))
    await store.retrieve("ada")
    await make_store(timeout=31).delete("ada")
    assert await store.retrieve("ada") is None
    assert not store._shared.decoded.of("ada")._known


async def test_session_that_is_cut_is_not_kept(long, make_store):
    """Its beginning moves, so no run of it is found again."""
    store = make_store(max_session_events=300)
    await store.save(tracker("ada", long))
    assert len((await store.retrieve("ada")).events) == 300
    assert not store._shared.decoded.of("ada")._known
