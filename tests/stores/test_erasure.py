"""``delete`` and ``update``, on every backend: for erasure and anonymisation."""

from __future__ import annotations

import asyncio
import copy

import pytest
from rasa.shared.core.events import SlotSet, UserUttered
from rasa.shared.exceptions import RasaException

from backends import DURABLE
from conversations import (
    add,
    as_dicts,
    conversation,
    dicts,
    session_start,
    tracker,
    turn,
)
from rasa_api import backend_log
from rasa_trackers.event_log import Entry, Failure


async def _stored(store):
    full = await store.retrieve_full_tracker("ada")
    return full and as_dicts(full)


def anonymised(events):
    """Copies in which no user says anything."""
    result = []
    for event in copy.deepcopy(events):
        if isinstance(event, UserUttered):
            event.text = event.parse_data["text"] = "***"
        result.append(event)
    return result


# delete


async def test_deleted_conversation_is_unknown(store):
    await store.save(tracker("ada", conversation(2, 1)))
    await store.save(tracker("grace", conversation(1, 1)))
    await store.delete("ada")
    assert await store.retrieve("ada") is None
    assert await store.exists("ada") is False
    assert list(await store.keys()) == ["grace"]


@pytest.mark.parametrize("sender_id", ["unknown", ""])
async def test_deleting_an_unknown_conversation_is_no_error(store, sender_id):
    await store.delete(sender_id)
    assert list(await store.keys()) == []


@pytest.mark.parametrize("sender_id", [1, None, b"ada"])
@pytest.mark.parametrize("method", ["delete", "retrieve", "exists", "save"])
async def test_sender_id_that_is_no_text_is_an_error(store, method, sender_id):
    argument = sender_id
    if method == "save":
        argument = tracker("x", session_start())
        argument.sender_id = sender_id
    with pytest.raises(RasaException, match=f"is a {type(sender_id).__name__}, not"):
        await getattr(store, method)(argument)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda kept: kept])
@pytest.mark.parametrize("made_anew", [False, True])
async def test_tracker_under_way_does_not_bring_back_what_was_erased(
    backend, make_store, copied, made_anew
):
    """Rasa Pro makes the store anew after a call that was refused."""
    if made_anew and not backend.durable:
        pytest.skip("another store in memory has other conversations")
    store = make_store()
    await store.save(tracker("anna", conversation(2, 2)))
    held = await store.retrieve("anna")
    await store.delete("anna")
    if made_anew:
        store = make_store()
    under_way = copied(held)
    events = turn("after the erasure")
    add(under_way, events)
    await store.save(under_way)
    assert as_dicts(await store.retrieve_full_tracker("anna")) == dicts(events)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda kept: kept])
async def test_tracker_under_way_goes_on_in_a_conversation_that_began_anew(
    store, copied
):
    await store.save(tracker("anna", conversation(2, 2)))
    held = await store.retrieve("anna")
    await store.delete("anna")
    first, second = turn("another writer's"), turn("after the erasure")
    await store.save(tracker("anna", first))
    under_way = copied(held)
    add(under_way, second)
    await store.save(under_way)
    full = await store.retrieve_full_tracker("anna")
    assert as_dicts(full) == dicts([*first, *second])


async def test_deleted_conversation_begins_anew(store):
    kept = tracker("ada", conversation(1, 1))
    await store.save(kept)
    await store.delete("ada")
    new = turn()
    add(kept, new)
    await store.save(kept)
    assert await _stored(store) == dicts(new)


async def test_delete_waits_for_a_save_that_is_under_way(store):
    """Otherwise the conversation would be there again a moment later."""
    saving = asyncio.ensure_future(store.save(tracker("ada", conversation(1, 1))))
    while not store._shared.turns._last:  # noqa: ASYNC110 - it has begun after a step or two
        await asyncio.sleep(0)
    await store.delete("ada")
    assert saving.done()
    assert await _stored(store) is None


# update


async def test_older_sessions_are_erased(store):
    older, last = conversation(2, 1), conversation(1, 2)
    await store.save(tracker("ada", older + last))
    full = await store.retrieve_full_tracker("ada")
    retained = list(full.events)[len(older) :]
    await store.update(tracker("ada", retained))
    assert await _stored(store) == dicts(last)
    assert as_dicts(await store.retrieve("ada")) == dicts(last)


async def test_sessions_between_others_are_erased(store):
    first, second, third = (conversation(1, 1) for _ in range(3))
    await store.save(tracker("ada", first + second + third))
    await store.update(tracker("ada", first + third))
    assert await _stored(store) == dicts(first + third)


@pytest.mark.parametrize("apply_deletion_only", [True, False])
async def test_events_are_changed(store, apply_deletion_only):
    events = conversation(2, 2)
    await store.save(tracker("ada", events))
    changed = anonymised(events)
    await store.update(tracker("ada", changed), apply_deletion_only=apply_deletion_only)
    assert await _stored(store) == dicts(changed)


async def test_long_conversation_is_changed(store):
    events = conversation(3, 60)
    await store.save(tracker("ada", events))
    changed = anonymised(events)
    await store.update(tracker("ada", changed), apply_deletion_only=False)
    assert await _stored(store) == dicts(changed)


async def test_tracker_that_has_all_changes_nothing(store):
    events = conversation(2, 1)
    await store.save(tracker("ada", events))
    before = [event.data for event in backend_log(store).read_back("ada").events]
    await store.update(await store.retrieve_full_tracker("ada"))
    assert [
        event.data for event in backend_log(store).read_back("ada").events
    ] == before


async def test_tracker_without_events_erases_the_conversation(store):
    await store.save(tracker("ada", conversation(1, 1)))
    await store.update(tracker("ada"))
    assert await _stored(store) is None
    assert list(await store.keys()) == []


async def test_update_of_an_unknown_conversation_begins_it(store):
    events = conversation(1, 1)
    await store.update(tracker("ada", events))
    assert await _stored(store) == dicts(events)


async def test_other_tracker_takes_the_place(store):
    await store.save(tracker("ada", conversation(1, 1)))
    events = conversation(1, 1)
    await store.update(tracker("ada", events))
    assert await _stored(store) == dicts(events)


async def test_events_that_came_in_meanwhile_are_kept(store, make_store, backend):
    """The tracker was read before them, so it says nothing of them."""
    older, last = conversation(1, 1), conversation(1, 1)
    await store.save(tracker("ada", older + last))
    full = await store.retrieve_full_tracker("ada")
    other = make_store() if backend.durable else store
    theirs = await other.retrieve("ada")
    late = turn("late")
    add(theirs, late)
    await other.save(theirs)
    await store.update(tracker("ada", list(full.events)[len(older) :]))
    assert await _stored(store) == dicts(last + late)


async def test_last_events_are_erased_of_a_tracker_that_was_retrieved(store):
    """It is known how far it was read, so what it lacks was left out on purpose."""
    events = conversation(1, 2)
    await store.save(tracker("ada", events))
    full = await store.retrieve_full_tracker("ada")
    for _ in range(8):
        full.events.pop()
    await store.update(full)
    assert await _stored(store) == dicts(events[:-8])


async def test_events_of_another_writer_at_the_same_time_are_kept(
    store, make_store, backend
):
    other = make_store() if backend.durable else store
    older, last = conversation(1, 1), conversation(1, 1)
    await store.save(tracker("ada", older + last))
    theirs = await other.retrieve("ada")
    added = []

    async def write():
        for number in range(10):
            new = turn(str(number))
            added.extend(new)
            add(theirs, new)
            await other.save(theirs)

    async def erase():
        for _ in range(5):
            await store.update(tracker("ada", last))

    await asyncio.gather(write(), erase())
    assert await _stored(store) == dicts(last + added)


async def test_event_that_cannot_be_read_is_kept(store, caplog):
    """When all before it is erased, it goes too: it may be what was to be forgotten."""
    first, second = conversation(1, 1), conversation(1, 1)
    unknown = '{"event": "holo", "timestamp": 1.0, "text": "kept"}'
    await store.save(tracker("ada", first))
    end = backend_log(store).read_back("ada", limit=1).events[-1].position
    backend_log(store).append("ada", [Entry(unknown, "holo", 1.0, None, None)], end)
    kept = await store.retrieve_full_tracker("ada")
    add(kept, second)
    await store.save(kept)
    assert "holo" in caplog.text

    def texts():
        return [event.data for event in backend_log(store).read_back("ada").events]

    await store.update(tracker("ada", anonymised(first + second)))
    assert texts().index(unknown) == len(first)
    assert await _stored(store) == dicts(anonymised(first + second))
    await store.update(tracker("ada", anonymised(second)))
    assert unknown not in texts()


async def test_tracker_that_is_held_goes_on_after_an_update(store):
    older, last = conversation(1, 1), conversation(1, 1)
    await store.save(tracker("ada", older + last))
    held = await store.retrieve("ada")
    await store.update(tracker("ada", last))
    new = turn()
    add(held, new)
    await store.save(held)
    assert await _stored(store) == dicts(last + new)


async def test_tracker_that_was_the_update_goes_on(store):
    events = conversation(2, 1)
    await store.save(tracker("ada", events))
    left = tracker("ada", anonymised(events))
    await store.update(left)
    new = turn()
    add(left, new)
    await store.save(left)
    assert await _stored(store) == as_dicts(left)


async def test_update_publishes_nothing(make_store):
    class Broker:
        published = 0

        def publish(self, event):
            self.published += 1

    broker = Broker()
    store = make_store(broker)
    events = conversation(1, 1)
    await store.save(tracker("ada", events))
    before = broker.published
    assert before == len(events)
    await store.update(tracker("ada", anonymised(events)), apply_deletion_only=False)
    assert broker.published == before


async def test_slots_after_an_update(store, domain):
    await store.save(tracker("ada", [*session_start(), *turn("Ada")], domain))
    left = [
        SlotSet("name", None) if isinstance(event, SlotSet) else event
        for event in (await store.retrieve_full_tracker("ada")).events
    ]
    await store.update(tracker("ada", left, domain))
    assert (await store.retrieve("ada")).get_slot("name") is None


@pytest.mark.parametrize("backend", DURABLE, indirect=True)
async def test_update_that_may_have_been_done_is_done_once(store, monkeypatch):
    """The answer is lost, and the call repeated."""
    older, last = conversation(1, 1), conversation(1, 1)
    await store.save(tracker("ada", older + last))
    replace, calls = backend_log(store).replace, []

    def answer_is_lost(*arguments):
        calls.append(replace(*arguments))
        if len(calls) == 1:
            raise ConnectionResetError
        return calls[-1]

    monkeypatch.setattr(backend_log(store), "replace", answer_is_lost)
    monkeypatch.setattr(backend_log(store), "classify", lambda _error: Failure(True))
    await store.update(tracker("ada", last))
    assert len(calls) > 1
    assert await _stored(store) == dicts(last)
