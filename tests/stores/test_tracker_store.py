"""What every store does, on every backend, through Rasa's own loader."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import sqlite3
import threading
import time

import pytest
from rasa.shared.core.events import (
    ActionExecuted,
    BotUttered,
    Event,
    SlotSet,
    UserUttered,
)
from rasa.shared.exceptions import ConnectionException, RasaException
from sqlalchemy.exc import OperationalError

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
from older_rasa import as_rasa_has_it, awaited, needs_coroutines
from rasa_api import (
    FailSafeTrackerStore,
    TrackerStore,
    backend_log,
    check_if_tracker_store_async,
    get_trackers_for_conversation_sessions,
)
from rasa_trackers import rasa_versions, sessions
from rasa_trackers.memory.log import MemoryEventLog
from rasa_trackers.outage.recent import NEWER
from rasa_trackers.threads import Threads


def _pickled(tracker):
    return pickle.loads(pickle.dumps(tracker))


async def test_unknown_conversation_is_none(store):
    assert await store.retrieve("unknown") is None
    assert await store.retrieve_full_tracker("unknown") is None
    assert await store.exists("unknown") is False
    assert list(await store.keys()) == []


async def test_what_is_saved_comes_back_equal(store, domain):
    events = session_start() + turn()
    await store.save(tracker("ada", events, domain))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_slots_come_back(store, domain):
    await store.save(tracker("ada", session_start() + turn("Grace"), domain))
    retrieved = await store.retrieve("ada")
    assert retrieved.current_slot_values() == {
        **retrieved.current_slot_values(),
        "name": "Grace",
        "count": 2.0,
        "anything": {"nested": [1, None, "ü"]},
    }


async def test_domain_that_is_set_later_is_used(store, make_store, domain):
    await store.save(tracker("ada", session_start(), domain))
    store.domain = None
    assert (await store.retrieve("ada")).get_slot("count") is None
    store.domain = domain
    assert (await store.retrieve("ada")).get_slot("count") == 1


async def test_saving_twice_stores_once(store):
    saved = tracker("ada", session_start() + turn())
    await store.save(saved)
    await store.save(saved)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(saved)


async def test_each_turn_is_appended(store):
    events = session_start()
    await store.save(tracker("ada", events))
    for _ in range(5):
        retrieved = await store.retrieve("ada")
        new = turn()
        add(retrieved, new)
        await store.save(retrieved)
        events += new
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_one_tracker_object_can_be_saved_after_each_turn(store):
    kept = tracker("ada", session_start())
    for _ in range(5):
        add(kept, turn())
        await store.save(kept)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(kept)


async def test_retrieve_gives_the_last_session(store):
    older, last = conversation(3, 2), conversation(1, 2)
    await store.save(tracker("ada", older + last))
    assert as_dicts(await store.retrieve("ada")) == dicts(last)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(older + last)


@pytest.mark.parametrize("turns", [0, 12, 60, 130])
async def test_sessions_of_any_length_are_cut_where_rasa_cuts(store, domain, turns):
    await store.save(
        tracker("ada", conversation(2, 3) + conversation(1, turns), domain)
    )
    full = await store.retrieve_full_tracker("ada")
    expected = get_trackers_for_conversation_sessions(full)[-1]
    retrieved = await store.retrieve("ada")
    assert as_dicts(retrieved) == as_dicts(expected)
    assert retrieved.current_state() == expected.current_state()


async def test_long_session_is_read_at_once_the_next_time(
    make_store, backend, monkeypatch
):
    store = make_store(read_newer=False)
    other = make_store() if backend.durable else store
    long, new = conversation(1, 60), conversation(1, 2)
    await other.save(tracker("ada", long))
    assert as_dicts(await store.retrieve("ada")) == dicts(long)
    limits = []
    read_back = backend_log(store).read_back

    def counted(sender_id, limit=None, before=None):
        limits.append(limit)
        return read_back(sender_id, limit, before)

    monkeypatch.setattr(backend_log(store), "read_back", counted)
    for _ in range(2):
        limits.clear()
        assert as_dicts(await store.retrieve("ada")) == dicts(long)
        assert len(limits) == 1
        long += turn()
        await other.save(tracker("ada", long))
    # A session that another process has begun is read as any other.
    await other.save(tracker("ada", long + new))
    limits.clear()
    for _ in range(2):
        assert as_dicts(await store.retrieve("ada")) == dicts(new)
    assert limits[0] > len(long)
    assert limits[1:] == [100]


async def test_long_session_is_read_from_where_the_copy_ends(
    store, make_store, backend, monkeypatch
):
    other = make_store(read_newer=False) if backend.durable else store
    long, new = conversation(1, 60), conversation(1, 2)
    await other.save(tracker("ada", long))
    assert as_dicts(await store.retrieve("ada")) == dicts(long)
    limits = []
    read_back = backend_log(store).read_back

    def counted(sender_id, limit=None, before=None):
        limits.append(limit)
        return read_back(sender_id, limit, before)

    monkeypatch.setattr(backend_log(store), "read_back", counted)
    for _ in range(2):
        long += turn()
        await other.save(tracker("ada", long))
        limits.clear()
        assert as_dicts(await store.retrieve("ada")) == dicts(long)
        # The store in memory has no copies beside it.
        assert limits == [NEWER] or not backend.durable
    await other.save(tracker("ada", long + new))
    assert as_dicts(await store.retrieve("ada")) == dicts(new)
    await other.delete("ada")
    assert await store.retrieve("ada") is None


def test_only_so_many_long_sessions_are_remembered(monkeypatch):
    monkeypatch.setattr(sessions, "_LONG_SESSIONS", 2)
    lengths = sessions.SessionLengths()
    for sender_id in ("a", "b", "a", "c"):
        lengths.note(sender_id, 1000, 150_000)
    assert lengths.expected("a") == lengths.expected("c") > 1000
    assert lengths.expected("b") == 100


async def test_conversation_without_a_session_start_is_one_session(store):
    events = [event for _ in range(40) for event in turn()]
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_message_that_names_the_session_start_starts_none(store):
    events = (
        conversation(1, 1)
        + turn("action_session_start")
        + [SlotSet("action_session_start", 1)]
    )
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_session_tracker_that_a_new_session_was_added_to(store):
    await store.save(tracker("ada", conversation(2, 1)))
    retrieved = await store.retrieve("ada")
    new = conversation(1, 1)
    add(retrieved, new)
    await store.save(retrieved)
    assert as_dicts(await store.retrieve("ada")) == dicts(new)


async def test_all_sessions_by_option(make_store):
    store = make_store(retrieve_events_from_previous_conversation_sessions=True)
    events = conversation(3, 1)
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_conversations_are_apart(store):
    names = [
        "ada",
        "ada ",
        "Ada",
        "a%a",
        "a_a",
        "ad'a",
        'ad"a',
        "a*",
        "ü",
        "日本",
        "😀",
        "a:b",
        "a\\b",
        "tracker:ada",
    ]
    said = {name: conversation(1, 1) for name in names}
    for name, events in said.items():
        await store.save(tracker(name, events))
    for name, events in said.items():
        assert as_dicts(await store.retrieve(name)) == dicts(events)
    assert sorted(await store.keys()) == sorted(names)


async def test_keys_names_each_conversation_once(store):
    for name in ("ada", "grace"):
        await store.save(tracker(name, conversation(2, 2)))
    assert sorted(await store.keys()) == ["ada", "grace"]


async def test_exists(store):
    await store.save(tracker("ada", session_start()))
    assert await store.exists("ada") is True


async def test_tracker_without_events_stores_nothing(store):
    empty = tracker("ada")
    await store.save(empty)
    assert await store.retrieve("ada") is None
    add(empty, session_start())
    await store.save(empty)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(empty)


async def test_get_or_create_tracker_begins_a_conversation(store):
    created = await store.get_or_create_tracker("ada")
    assert [event.as_dict()["name"] for event in created.events] == ["action_listen"]
    add(created, turn())
    await store.save(created)
    again = await store.get_or_create_tracker("ada")
    assert as_dicts(again) == as_dicts(created)


@pytest.mark.skipif(
    not hasattr(TrackerStore, "get_or_create_full_tracker"),
    reason="this Rasa has no get_or_create_full_tracker",
)
async def test_get_or_create_full_tracker_gives_all_sessions(store):
    events = conversation(2, 1)
    await store.save(tracker("ada", events))
    assert as_dicts(await store.get_or_create_full_tracker("ada")) == dicts(events)


async def test_methods_are_async_as_rasa_asks(store):
    plain = as_rasa_has_it(store)
    assert check_if_tracker_store_async(plain) == rasa_versions.IS_ASYNC
    assert inspect.iscoroutinefunction(plain.save) == rasa_versions.IS_ASYNC


# Trackers of other origin


async def test_copy_of_a_tracker_adds_what_is_new(store):
    await store.save(tracker("ada", conversation(2, 1)))
    copied = (await store.retrieve("ada")).copy()
    copied.sender_id = "ada"  # In Rasa 1 a copy has the id "default".
    new = turn()
    add(copied, new)
    before = as_dicts(await store.retrieve_full_tracker("ada"))
    await store.save(copied)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == before + dicts(new)


async def test_deep_copy_of_a_tracker_adds_what_is_new(store):
    await store.save(tracker("ada", conversation(1, 1)))
    copied = copy.deepcopy(await store.retrieve("ada"))
    add(copied, turn())
    await store.save(copied)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(copied)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, _pickled])
async def test_tracker_and_its_copy_that_are_both_saved(store, copied):
    kept = tracker("ada", conversation(1, 1))
    await store.save(kept)
    add(kept, turn())
    other = copied(kept)
    await store.save(kept)
    await store.save(other)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(kept)


async def test_full_tracker_saved_again_adds_what_is_new(store):
    await store.save(tracker("ada", conversation(3, 1)))
    full = await store.retrieve_full_tracker("ada")
    add(full, turn())
    await store.save(full)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(full)


async def test_fresh_tracker_after_a_failed_read_is_appended(store):
    stored = conversation(2, 2)
    await store.save(tracker("ada", stored))
    fresh = conversation(1, 1)
    await store.save(tracker("ada", fresh))
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(stored + fresh)


async def test_read_that_fails_once_loses_nothing(store, monkeypatch):
    """As Rasa's Agent does it: FailSafeTrackerStore makes a failed read a None."""
    stored = conversation(2, 2)
    await store.save(tracker("ada", stored))
    agent_store = awaited(FailSafeTrackerStore(as_rasa_has_it(store)))
    with monkeypatch.context() as patch:
        patch.setattr(backend_log(store), "read_back", _raise)
        fresh = await agent_store.get_or_create_tracker(
            "ada", append_action_listen=False
        )
    assert not fresh.events
    new = conversation(1, 1)
    add(fresh, new)
    await agent_store.save(fresh)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(stored + new)


def _raise(*_args, **_kwargs):
    raise RuntimeError("the read fails")


async def test_bounded_tracker_adds_what_is_new(store):
    events = conversation(1, 4)
    await store.save(tracker("ada", events))
    store.max_event_history = 10
    for _ in range(3):
        bounded = await store.retrieve("ada")
        assert as_dicts(bounded) == dicts(events[-10:])
        new = turn()
        add(bounded, new)
        await store.save(bounded)
        events += new
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events[-10:])
    store.max_event_history = None
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events)


async def test_bounded_tracker_of_unknown_origin_adds_what_is_new(store):
    events = conversation(1, 4)
    await store.save(tracker("ada", events))
    new = turn()
    await store.save(tracker("ada", events + new, max_event_history=12))
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events + new)


async def test_bounded_tracker_whose_stored_events_all_fell_out(store):
    events = conversation(1, 1)
    await store.save(tracker("ada", events))
    store.max_event_history = 8
    bounded = await store.retrieve("ada")
    new = turn()
    add(bounded, new)
    await store.save(bounded)
    store.max_event_history = None
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events + new)


async def test_bounded_tracker_of_events_that_are_equal(store):
    """Their content cannot tell which of them are stored."""
    same = ActionExecuted("action_listen", timestamp=1.0)
    store.max_event_history = 4
    await store.save(tracker("ada", [copy.copy(same) for _ in range(4)]))
    bounded = await store.retrieve("ada")
    add(bounded, [copy.copy(same) for _ in range(4)])
    await store.save(bounded)
    store.max_event_history = None
    assert len((await store.retrieve_full_tracker("ada")).events) == 8


async def test_bounded_tracker_has_the_state_of_its_whole_session(store):
    await store.save(
        tracker(
            "ada",
            session_start()
            + [SlotSet("name", "Ada")]
            + conversation(0, 0)
            + [ActionExecuted("a")] * 9,
            store.domain,
        )
    )
    store.max_event_history = 3
    assert (await store.retrieve("ada")).get_slot("name") == "Ada"


async def test_events_that_are_equal_are_all_stored(store):
    same = ActionExecuted("action_listen", timestamp=1.0)
    events = [copy.copy(same) for _ in range(6)]
    kept = tracker("ada", events[:2])
    await store.save(kept)
    add(kept, events[2:])
    await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_one_event_object_twice_is_stored_twice(store):
    event = BotUttered("again", timestamp=1.0)
    kept = tracker("ada", [event])
    await store.save(kept)
    add(kept, [event])
    await store.save(kept)
    assert len((await store.retrieve("ada")).events) == 2


@pytest.mark.parametrize("bound", [None, 10])
async def test_one_event_object_at_several_places(store, bound):
    """Custom code may hand out one object again and again."""
    same = BotUttered("again", timestamp=1.0)
    kept = tracker("ada", [*turn()[:3], same], max_event_history=bound)
    await store.save(kept)
    expected = as_dicts(kept)
    for _ in range(3):
        new = [*turn()[:3], same]
        add(kept, new)
        expected += dicts(new)
        await store.save(kept)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == expected


async def test_conversation_that_was_erased_while_a_tracker_is_held(store):
    kept = tracker("ada", conversation(1, 1))
    await store.save(kept)
    backend_log(store).delete("ada")
    new = turn()
    add(kept, new)
    await store.save(kept)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(new)


async def test_events_put_before_stored_ones_are_not_lost(store):
    """As ``PUT /conversations/<id>/tracker/events`` may do."""
    stored = conversation(1, 1)
    await store.save(tracker("ada", stored))
    between = turn()
    await store.save(tracker("ada", stored[:3] + between + stored[3:]))
    full = as_dicts(await store.retrieve_full_tracker("ada"))
    assert full == dicts(stored + between)


async def test_two_stores_that_save_equal_trackers_at_once(store, make_store, backend):
    other = make_store() if backend.durable else store
    await store.save(tracker("ada", session_start()))
    events = [*(await store.retrieve("ada")).events, *turn()]
    await asyncio.gather(
        store.save(tracker("ada", events)), other.save(tracker("ada", events))
    )
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events)


# Payloads


async def test_payloads_come_back_equal(store):
    events = [
        UserUttered(
            "\0 \ud800 😀 ' \" \\ % :x {} 日本" * 3,
            parse_data={"intent": {"name": "n\0" * 300}},
            timestamp=1.5,
        ),
        BotUttered(
            "x" * 3_000_000,
            {"$set": {"a.b": [2**80, -1e308, float("inf")]}},
            timestamp=2.123456,
        ),
        SlotSet("s" * 400, {"": None}, timestamp=1753011122.123457),
        ActionExecuted("action\0_\ud800", timestamp=1753011122.1234567),
    ]
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_long_history_is_saved_at_once(store):
    events = conversation(10, 30)
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events)


@needs_coroutines
def test_save_in_a_new_event_loop_after_one_that_was_broken_off(store, monkeypatch):
    append, go_on = backend_log(store).append, threading.Event()

    def append_late(*arguments):
        go_on.wait(60)
        return append(*arguments)

    monkeypatch.setattr(backend_log(store), "append", append_late)
    kept = tracker("ada", session_start())
    loop = asyncio.new_event_loop()
    with pytest.raises(asyncio.TimeoutError):
        loop.run_until_complete(asyncio.wait_for(store.save(kept), 0.1))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    go_on.set()
    events = [*kept.events, *turn()]
    asyncio.run(store.save(tracker("ada", events)))
    full = asyncio.run(store.retrieve_full_tracker("ada"))
    assert as_dicts(full) == dicts(events)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("ask", ["keys", "count_conversations"])
async def test_call_in_parts_that_breaks_off_each_time_is_an_error(
    make_store, monkeypatch, ask
):
    # A pause as long as what is left of the timeout would end the call as well.
    monkeypatch.setattr("rasa_trackers.retries._LONGEST_PAUSE", 0.05)
    store = make_store(timeout=0.3, startup_timeout=60)
    began = time.monotonic()

    def break_off(*_arguments):
        yield []
        if time.monotonic() < began + 60:
            raise OperationalError("", {}, sqlite3.OperationalError("is locked"))

    for method in ("sender_ids", "count_conversations"):
        monkeypatch.setattr(backend_log(store), method, break_off)
    with pytest.raises(ConnectionException):
        await getattr(store, ask)()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_call_in_batches_may_take_longer_than_its_timeout(
    make_store, monkeypatch
):
    store = make_store(timeout=0.3, startup_timeout=60)

    def take_long():
        for _ in range(10):
            time.sleep(0.15)
            yield []
        yield ["ada"]

    monkeypatch.setattr(backend_log(store), "sender_ids", take_long)
    assert list(await store.keys()) == ["ada"]


async def test_call_that_waits_for_others_interrupts_none_of_them(monkeypatch):
    log = MemoryEventLog()
    threads = Threads(log, timeout=0.3, workers=1)
    interrupted, go_on = [], threading.Event()
    monkeypatch.setattr(log, "interrupt", lambda: interrupted.append(log))

    working = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take_long(log):
        loop.call_soon_threadsafe(working.set)
        while not go_on.wait(0.1):
            log.deadline.renew()
        return "done"

    long = asyncio.ensure_future(threads.run(take_long))
    await working.wait()
    begun = []
    try:
        with pytest.raises(ConnectionException, match="busy with other calls"):
            await asyncio.wait_for(threads.run(begun.append), 60)
    finally:
        go_on.set()
    assert not interrupted
    assert await long == "done"
    threads.close(then=log.close)
    assert not begun


async def test_what_could_not_be_confirmed_is_looked_for_again(store, monkeypatch):
    """A server may have lost it when it failed over."""
    events = conversation(1, 1)
    await store.save(tracker("ada", events))
    # A tracker of another origin: its events do not know that they are saved.
    again = tracker("ada", [Event.from_parameters(each) for each in dicts(events)])

    def fail(*_arguments):
        raise RasaException("no majority")

    with monkeypatch.context() as patch:
        patch.setattr(backend_log(store), "confirm", fail)
        with pytest.raises(RasaException):
            await store.save(again)
    backend_log(store).delete("ada")
    await store.save(again)
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


# Two stores on one database


#: A store in memory has its conversations for itself.
on_durable_stores = pytest.mark.parametrize("backend", DURABLE, indirect=True)


@pytest.fixture
def other(make_store):
    return make_store()


@on_durable_stores
async def test_other_store_sees_what_was_saved(store, other):
    events = conversation(2, 1)
    await store.save(tracker("ada", events))
    assert as_dicts(await other.retrieve_full_tracker("ada")) == dicts(events)


@on_durable_stores
async def test_events_of_another_store_in_between_are_kept(store, other):
    events = conversation(1, 1)
    await store.save(tracker("ada", events))
    mine, theirs = await store.retrieve("ada"), await other.retrieve("ada")
    my_turn, their_turn = turn("mine"), turn("theirs")
    add(mine, my_turn)
    add(theirs, their_turn)
    await other.save(theirs)
    await store.save(mine)
    assert as_dicts(await store.retrieve("ada")) == dicts(events + their_turn + my_turn)


@on_durable_stores
async def test_tracker_of_one_store_saved_by_another(store, other):
    await store.save(tracker("ada", conversation(2, 1)))
    moved = await store.retrieve_full_tracker("ada")
    add(moved, turn())
    await other.save(moved)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(moved)
