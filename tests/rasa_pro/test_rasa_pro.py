"""What Rasa Pro asks of a store, next to its own stores. Collected there only."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import rasa.core.agent  # noqa: F401 - first, or dialogue stacks import in a circle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasa.core.lock_store import InMemoryLockStore
from rasa.core.tracker_stores.auth_retry_tracker_store import AuthRetryTrackerStore
from rasa.privacy.privacy_manager import BackgroundPrivacyManager
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import (
    ActionExecuted,
    BotUttered,
    ConversationInactive,
    ConversationResumed,
    DialogueStackUpdated,
    Restarted,
    SessionEnded,
    SlotSet,
    UserUttered,
)
from rasa.shared.core.trackers import (
    DialogueStateTracker,
    get_latest_replay_safe_session_tracker,
)
from rasa.shared.engine_version import MANTLE_ENGINE_VERSION
from rasa.utils.endpoints import EndpointConfig

import rasa_api
from backends import redis_endpoint
from conversations import add, as_dicts, conversation, dicts, session_start, turn
from rasa_api import backend_log
from rasa_trackers import rasa_versions
from rasa_trackers.event_log import Entry
from rasa_trackers.rasa_versions import TrackerStore


def tracker(sender_id, events=(), user_id=None, domain=None):
    return DialogueStateTracker.from_events(
        sender_id,
        list(events),
        (domain or Domain.empty()).slots,
        user_id=user_id,
    )


@pytest.fixture
def rasas_store(domain):
    return rasa_api.InMemoryTrackerStore(domain)


def mantle(store):
    store.engine_version = MANTLE_ENGINE_VERSION
    return store


# Users


async def test_user_of_a_tracker_comes_back(store):
    await store.save(tracker("ada", conversation(2, 1), "u"))
    assert (await store.retrieve("ada")).user_id == "u"
    assert (await store.retrieve_full_tracker("ada")).user_id == "u"


async def test_user_that_is_learnt_later(store):
    """As ``MessageProcessor.get_tracker`` does with the metadata of a message."""
    events = conversation(2, 1)
    await store.save(tracker("ada", events))
    retrieved = await store.retrieve("ada")
    assert retrieved.user_id is None
    retrieved.user_id = "u"
    await store.save(retrieved)
    (found,) = await store.get_trackers_by_user_id("u")
    # When the conversation began, and not its last session.
    assert found["conversation_started_timestamp"] == events[0].timestamp
    assert len(found["events"]) == len(events)


async def test_conversation_that_was_erased_meanwhile_is_its_users_again(store):
    """A job for privacy has erased it, or it has expired."""
    await store.save(tracker("ada", conversation(2, 1), "u"))
    retrieved = await store.retrieve("ada")
    await store.delete("ada")
    add(retrieved, turn())
    await store.save(retrieved)
    assert (await store.retrieve("ada")).user_id == "u"
    (found,) = await store.get_trackers_by_user_id("u")
    assert found["events"] == as_dicts(await store.retrieve_full_tracker("ada"))
    started = found["conversation_started_timestamp"]
    assert started == found["events"][0]["timestamp"]


@pytest.mark.parametrize("known", [True, False])
async def test_user_is_written_once(store, monkeypatch, known):
    append, users = backend_log(store).append, []

    def recorded(sender_id, entries, after, user=None):
        users.append(user and user.user_id)
        return append(sender_id, entries, after, user)

    monkeypatch.setattr(backend_log(store), "append", recorded)
    kept = tracker("ada", conversation(1, 1), "u")
    await store.save(kept)
    for _ in range(2):
        if not known:
            kept = kept.copy()
        add(kept, turn())
        await store.save(kept)
    assert users == ["u", None, None]


async def test_user_id_that_cannot_be_stored_costs_no_message(store, caplog):
    for user_id in ("u" * 300_000, "u\0", "\ud800", ["u"]):
        caplog.clear()
        name = f"{len(caplog.records)}-{type(user_id).__name__}-{len(user_id)}"
        events = conversation(1, 1)
        await store.save(tracker(name, events, user_id))
        assert as_dicts(await store.retrieve(name)) == dicts(events)
    assert "without its user" in caplog.text


async def test_user_id_that_is_a_number(store):
    await store.save(tracker("ada", conversation(1, 1), 42))
    assert [found["sender_id"] for found in await store.get_trackers_by_user_id("42")]


async def test_serialized_trackers_are_those_of_rasas_store(store, rasas_store):
    for name, user_id in [("c", "u"), ("a", "u"), ("b", "v"), ("d", None), ("e", "u")]:
        for _ in range(2):
            for each in (store, rasas_store):
                kept = tracker(name, [], user_id)
                if each is store:
                    events = conversation(1, 1)
                for event in events:
                    event.metadata = {"session_id": f"session-{name}"}
                previous = await each.retrieve_full_tracker(name)
                add(kept, [*(previous.events if previous else []), *events])
                await each.save(kept)
    for user_id in ("u", "v", "nobody"):
        for limit in (None, 0, 1, 2, 5):
            for skip in (None, 0, 1, 2, 5):
                mine = await store.get_trackers_by_user_id(user_id, limit, skip)
                theirs = await rasas_store.get_trackers_by_user_id(user_id, limit, skip)
                assert mine == theirs
    first = (await store.get_serialized_trackers_by_user_id("u"))[0]
    assert set(first) == {
        "sender_id",
        "events",
        "user_id",
        "conversation_started_timestamp",
        "current_session_id",
    }
    assert first["current_session_id"] == "session-c"


async def test_session_of_a_user_who_has_gone_quiet(store):
    events = conversation(1, 1)
    for event in events:
        event.metadata = {"session_id": "s"}
    await store.save(tracker("ada", events, "u"))
    (found,) = await store.get_trackers_by_user_id("u")
    assert found["current_session_id"] == "s"
    retrieved = await store.retrieve("ada")
    add(retrieved, [ConversationInactive()])
    await store.save(retrieved)
    (found,) = await store.get_trackers_by_user_id("u")
    assert found["current_session_id"] is None


async def test_damaged_event_of_a_users_conversation(store, caplog):
    await store.save(tracker("ada", conversation(1, 1), "u"))
    end = backend_log(store).read_back("ada", limit=1).events[-1].position
    damaged = Entry("damaged", "slot", None, None, None)
    backend_log(store).append("ada", [damaged], end)
    (found,) = await store.get_trackers_by_user_id("u")
    assert len(found["events"]) == len(conversation(1, 1))
    assert "1 of the events of conversation 'ada' are damaged" in caplog.text


async def test_count_of_conversations_is_that_of_rasas_store(store, rasas_store):
    begin = time.time()
    for number in range(5):
        events = conversation(2, 1)
        for event in events:
            event.timestamp = begin + number
        for each in (store, rasas_store):
            await each.save(tracker(str(number), events))
    for after in (0.0, begin - 1, begin, begin + 2, begin + 2.5, begin + 9):
        count = await store.count_conversations(after)
        assert count == await rasas_store.count_conversations(after)


# Sessions


def patched(*patches):
    return [DialogueStackUpdated(json.dumps(patch)) for patch in patches]


BEGIN_FRAME = [
    {"op": "add", "path": "/0", "value": {"frame_id": "f", "flow_id": "x",
     "frame_type": "regular", "type": "flow", "step_id": "START"}}
]  # fmt: skip
NEXT_STEP = [{"op": "replace", "path": "/0/step_id", "value": "2"}]
END_FRAME = [{"op": "remove", "path": "/0"}]


def with_sessions(domain, after_expiry):
    domain.session_config = type(domain.session_config)(
        domain.session_config.session_expiration_time,
        domain.session_config.carry_over_slots,
        after_expiry,
    )


async def _same_as_rasa(store, sender_id, events, domain, after_expiry):
    with_sessions(domain, after_expiry)
    store.domain = domain
    await store.save(tracker(sender_id, events, "u", domain))
    stored = await store.retrieve_full_tracker(sender_id)
    assert as_dicts(stored) == dicts(events)
    expected = get_latest_replay_safe_session_tracker(
        stored, start_session_after_expiry=after_expiry
    )
    retrieved = await store.retrieve(sender_id)
    assert as_dicts(retrieved) == as_dicts(expected)
    assert retrieved.current_state() == expected.current_state()
    assert retrieved.stack.as_dict() == expected.stack.as_dict()
    assert retrieved.user_id == "u"
    new = turn("next")
    add(retrieved, new)
    await store.save(retrieved)
    full = await store.retrieve_full_tracker(sender_id)
    assert as_dicts(full) == dicts(events + new)


PARTS = {
    "session": lambda: conversation(1, 1),
    "long session": lambda: conversation(1, 14),
    # A custom action_session_start leaves the dialogue stack as it is.
    "bare session": lambda: [ActionExecuted("action_session_start"), *turn()],
    "turn": turn,
    "start": session_start,
    "inactive": lambda: [ConversationInactive()],
    "resumed": lambda: [ConversationResumed()],
    "restart": lambda: [Restarted()],
    "begin frame": lambda: patched(BEGIN_FRAME),
    "next step": lambda: patched(NEXT_STEP),
    "end frame": lambda: patched(END_FRAME),
}


@pytest.mark.parametrize("after_expiry", [True, False])
@pytest.mark.parametrize(
    "parts",
    [
        ["session", "session"],
        ["turn"],
        ["session", "inactive"],
        ["session", "inactive", "session"],
        ["session", "inactive", "turn", "inactive", "turn"],
        ["session", "begin frame", "bare session", "next step", "turn"],
        ["session", "begin frame", "turn", "inactive", "next step", "turn"],
        ["session", "begin frame", *["bare session"] * 3, "next step", "turn"],
        ["session", "begin frame", *["bare session"] * 20, "next step", "turn"],
        ["bare session", "begin frame", "turn", "bare session", "end frame", "turn"],
        ["session", "restart", "turn", "inactive", "resumed", "turn"],
    ],
    ids="+".join,
)
async def test_sessions_are_those_of_rasa(store, domain, parts, after_expiry):
    events = [event for part in parts for event in PARTS[part]()]
    await _same_as_rasa(store, "ada", events, domain, after_expiry)


@pytest.mark.parametrize("backend", ["memory", "sqlite"], indirect=True)
@given(
    parts=st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=12),
    after_expiry=st.booleans(),
    engine=st.sampled_from([None, MANTLE_ENGINE_VERSION]),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)
def test_sessions_of_random_histories_are_those_of_rasa(
    store, domain, parts, after_expiry, engine
):
    store.engine_version = engine
    events, applied = [], tracker("probe")
    for part in parts:
        added = PARTS[part]()
        try:  # what Rasa itself would not have said
            add(applied, added)
        except Exception:  # noqa: BLE001
            continue
        events += added
    if not events:
        return
    name = f"ada-{time.monotonic_ns()}"
    asyncio.run(_same_as_rasa(store, name, events, domain, after_expiry))


async def test_patch_that_fits_nowhere_costs_no_conversation(store, caplog):
    events = [*conversation(1, 1), *patched(NEXT_STEP), *turn()]
    saved = DialogueStateTracker("ada", Domain.empty().slots)
    saved.events.extend(events)
    await store.save(saved)
    assert as_dicts(await store.retrieve("ada")) == dicts(events)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events)
    assert "could not be applied" in caplog.text


async def test_ended_conversation(store):
    events = [*conversation(1, 1), SessionEnded()]
    await store.save(tracker("ada", events))
    retrieved = await store.retrieve("ada")
    assert retrieved.terminated
    assert as_dicts(retrieved) == dicts(events)


async def test_next_event_has_the_next_number(store):
    kept = tracker("ada")
    add(kept, conversation(1, 1))
    await store.save(kept)
    retrieved, copied = await store.retrieve("ada"), kept.copy()
    for each in (retrieved, copied):
        add(each, [BotUttered("next")])
    if store.uses_proto_json():
        assert retrieved.events[-1].sequence == copied.events[-1].sequence


# Side by side with each of Rasa Pro's own stores


@pytest.fixture(params=["memory", "sqlite", "redis", "mongo"])
def theirs(request, load, domain, tmp_path):
    """One of Rasa Pro's own stores, with a database of its own."""
    if request.param == "memory":
        yield rasa_api.InMemoryTrackerStore(domain)
        return
    if request.param == "sqlite":
        db = str(tmp_path / "theirs.db")
        yield load({"type": "SQL", "dialect": "sqlite", "db": db}, domain)
        return
    server = request.getfixturevalue(f"{request.param}_server")
    if request.param == "redis":
        with server.client(db=1) as client:
            client.flushdb()
        yield load({**redis_endpoint(server, db=1), "type": "redis"}, domain)
        return
    database = server.database_name()
    yield load({"type": "mongod", "url": server.url(), "db": database}, domain)
    server.drop_database(database)


side_by_side = pytest.mark.parametrize(
    "backend", ["memory", "sqlite", "postgresql", "redis", "mongo"], indirect=True
)


async def assert_same(mine, theirs, name):
    """A conversation is the same in two stores."""
    for ask in ("retrieve", "retrieve_full_tracker"):
        one, other = await getattr(mine, ask)(name), await getattr(theirs, ask)(name)
        assert (one is None) == (other is None)
        if one is None or other is None:
            continue
        assert as_dicts(one) == as_dicts(other)
        states = one.current_state(), other.current_state()
        for state in states:
            # After a restart Rasa's stores have different ones, for the next message
            # to forget.
            del state["followup_action"]
        assert states[0] == states[1]
        assert one.stack.as_dict() == other.stack.as_dict()
        assert one.user_id == other.user_id
    assert await mine.exists(name) == await theirs.exists(name)


HISTORIES = [
    ["session", "session", "turn"],
    ["turn"],
    ["session", "inactive"],
    ["session", "inactive", "session"],
    ["session", "inactive", "turn", "inactive", "turn"],
    ["session", "begin frame", "turn", "next step", "turn"],
    ["session", "begin frame", "turn", "end frame", "session", "turn"],
    ["long session", "session", "begin frame", "turn", "end frame"],
    ["bare session", "turn", "bare session", "turn"],
    ["session", "restart", "turn", "inactive", "resumed", "turn"],
]


def is_sql(store):
    return isinstance(store, rasa_api.SQLTrackerStore)


async def assert_same_users(mine, theirs):
    for user_id in ("user 0", "user 1", "user 2", "nobody"):
        for limit, skip in ((None, None), (2, None), (1, 1), (0, 0)):
            one, other = [
                await each.get_trackers_by_user_id(user_id, limit, skip)
                for each in (mine, theirs)
            ]
            for key in ("sender_id", "user_id", "current_session_id"):
                assert [found[key] for found in one] == [found[key] for found in other]
            events = [[found["events"] for found in each] for each in (one, other)]
            if mine.uses_proto_json():
                # Rasa's stores write it anew, or in its older form, where they like.
                events = [
                    [[event["timestamp"] for event in log] for log in each]
                    for each in events
                ]
            assert events[0] == events[1]


async def grow(store, name, user_id, events):
    """Save what is new in a conversation, as a turn does."""
    # Rasa's own store in memory forgets the sessions that a tracker lacks.
    forgets = isinstance(store, rasa_api.InMemoryTrackerStore)
    kept = await (store.retrieve_full_tracker if forgets else store.retrieve)(name)
    if kept is None:
        kept = tracker(name, [], user_id, store.domain)
    add(kept, events)
    await store.save(kept)


async def shrink(store, name, begin):
    """Leave of a conversation what comes after its beginning."""
    kept = await store.retrieve_full_tracker(name)
    left = tracker(name, list(kept.events)[begin:], kept.user_id, store.domain)
    await store.update(left, apply_deletion_only=True)


@side_by_side
@pytest.mark.parametrize("engine", [None, MANTLE_ENGINE_VERSION])
@pytest.mark.parametrize("after_expiry", [True, False])
async def test_conversations_are_those_of_each_of_rasas_stores(
    store, theirs, domain, after_expiry, engine
):
    """Growing part by part, then shortened, then some of them erased."""
    with_sessions(domain, after_expiry)
    both, clock = (store, theirs), itertools.count(1_700_000_000.0)
    for each in both:
        each.domain, each.engine_version = domain, engine
    for number, parts in enumerate(HISTORIES):
        name = str(number)
        for part in parts:
            events = PARTS[part]()
            for event in events:
                # Some of Rasa's stores go by it.
                event.timestamp = next(clock)
            await asyncio.gather(
                *(grow(each, name, f"user {number % 3}", events) for each in both)
            )
            if (part, after_expiry) == ("inactive", False) and is_sql(theirs):
                continue  # see the next test
            await assert_same(store, theirs, name)
    await assert_same_users(store, theirs)
    for number in (0, 2, 4, 5, 9):
        name, parts = str(number), HISTORIES[number]
        for each in both:
            await shrink(each, name, len(PARTS[parts[0]]()))
        await assert_same(store, theirs, name)
    await assert_same_users(store, theirs)
    for name in ("1", "3", "5", "unknown"):
        await asyncio.gather(*(each.delete(name) for each in both))
        await assert_same(store, theirs, name)
    await assert_same_users(store, theirs)
    counts = [await each.count_conversations(0.0) for each in both]
    assert counts == [7, 7]


@pytest.mark.parametrize("theirs", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("parts", "after_expiry"),
    [
        ("session, inactive, turn, inactive", False),
        ("session, begin frame, bare session, next step, begin frame, turn", True),
    ],
)
@side_by_side
async def test_sessions_where_rasas_own_stores_do_not_agree(
    store, theirs, domain, parts, after_expiry
):
    """Its SQL store has others than its function and its other stores."""
    with_sessions(domain, after_expiry)
    events = [event for part in parts.split(", ") for event in PARTS[part]()]
    for number, event in enumerate(events):
        event.timestamp = 1_700_000_000.0 + number
    for each in (store, theirs):
        each.domain = domain
        await each.save(tracker("ada", events, "u", domain))
    expected = get_latest_replay_safe_session_tracker(
        await store.retrieve_full_tracker("ada"),
        start_session_after_expiry=after_expiry,
    )
    retrieved = await store.retrieve("ada")
    assert as_dicts(retrieved) == as_dicts(expected)
    # If this fails, the two agree by now.
    others = await theirs.retrieve("ada")
    assert len(others.events) < len(retrieved.events)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_rasas_own_sql_store_works_on_the_same_database(
    make_store, load, endpoint, domain, first
):
    def rasas():
        return load({**endpoint, "type": "SQL"}, domain)

    if first == "ours":
        ours, own = make_store(), rasas()
    else:
        own, ours = rasas(), make_store()
    await ours.save(tracker("ada", conversation(1, 1), "u", domain))
    await own.save(tracker("grace", conversation(1, 1), "u", domain))
    for one, other in ((ours, own), (own, ours)):
        for name in ("ada", "grace"):
            kept = await one.retrieve(name)
            add(kept, turn())
            await one.save(kept)
            await assert_same(ours, own, name)
        users = await other.get_trackers_by_user_id("u")
        assert users == await one.get_trackers_by_user_id("u")
        assert [found["sender_id"] for found in users] == ["ada", "grace"]
    # One erases what the other has written.
    for one, other, name in ((ours, own, "grace"), (own, ours, "ada")):
        full = await other.retrieve_full_tracker(name)
        left = tracker(name, list(full.events)[5:], "u", domain)
        await one.update(left)
        await assert_same(ours, own, name)
        await one.delete(name)
        await assert_same(ours, own, name)
        users = await other.get_trackers_by_user_id("u")
        assert name not in [found["sender_id"] for found in users]
    assert await ours.get_trackers_by_user_id("u") == []


# ProtoJSON


async def test_proto_json_is_what_rasas_store_writes(store, rasas_store):
    mantle(store), mantle(rasas_store)
    kept = tracker("ada", [], "u")
    add(kept, [*conversation(1, 2), SessionEnded()])
    await store.save(kept)
    await rasas_store.save(kept)
    theirs = json.loads(rasas_store.store["ada"])["events"]
    mine = [
        json.loads(event.data) for event in backend_log(store).read_back("ada").events
    ]
    assert mine == theirs
    assert "event" not in mine[0]
    expected = await rasas_store.retrieve_full_tracker("ada")
    retrieved = await store.retrieve_full_tracker("ada")
    assert as_dicts(retrieved) == as_dicts(expected)
    assert [event.sequence for event in retrieved.events] == [
        event.sequence for event in expected.events
    ]
    ids = [event.event_id for event in retrieved.events]
    assert ids == [event.event_id for event in expected.events]
    assert any(ids)


async def test_proto_json_session_is_that_of_rasas_store(store, rasas_store):
    mantle(store), mantle(rasas_store)
    kept = tracker("ada", [], "u")
    add(kept, conversation(2, 2))
    await store.save(kept)
    await rasas_store.save(kept)
    retrieved = await store.retrieve("ada")
    assert as_dicts(retrieved) == as_dicts(await rasas_store.retrieve("ada"))
    assert len(retrieved.events) < len(kept.events)


async def test_older_events_stay_as_they_are_when_proto_json_begins(store):
    first, second = conversation(1, 1), turn()
    await store.save(tracker("ada", first))
    mantle(store)
    retrieved = await store.retrieve("ada")
    add(retrieved, second)
    await store.save(retrieved)
    texts = [
        json.loads(event.data) for event in backend_log(store).read_back("ada").events
    ]
    assert ["event" in text for text in texts] == [True] * len(first) + [
        text.get("event") == "slot" for text in texts[len(first) :]
    ]
    assert len((await store.retrieve("ada")).events) == len(first + second)


@pytest.mark.parametrize("proto", [True, False])
async def test_tracker_of_other_origin_is_stored_once(store, proto):
    """Numbers lose their kind in ProtoJSON, and the copy has them still."""
    if proto:
        mantle(store)
    kept = tracker("ada")
    add(kept, conversation(1, 2))
    add(kept, [UserUttered("x", {"name": "greet", "confidence": 1, "n": 2**60})])
    await store.save(kept)
    count = len(kept.events)
    for _ in range(2):
        again = tracker("ada", kept.copy().events)
        await store.save(again)
        assert len((await store.retrieve_full_tracker("ada")).events) == count
    add(again, turn())
    await store.save(again)
    assert len((await store.retrieve_full_tracker("ada")).events) == count + 8


async def test_event_that_proto_json_cannot_express_is_not_lost(store, caplog):
    mantle(store)
    kept = tracker("ada")
    add(kept, [UserUttered("lone \ud800"), BotUttered("next")])
    await store.save(kept)
    assert [event.text for event in (await store.retrieve("ada")).events] == [
        "lone \ud800",
        "next",
    ]
    assert "stored in its older form" in caplog.text
    assert "surrogate" not in caplog.text  # the text of the error


# Slots


@pytest.mark.parametrize("permissive", [True, False])
async def test_slots_that_no_domain_names(store, permissive):
    store.use_permissive_slots = permissive
    await store.save(tracker("ada", [*session_start(), SlotSet("nowhere", 1)]))
    slots = (await store.retrieve("ada")).current_slot_values()
    assert slots.get("nowhere") == (1 if permissive else None)


# Event brokers


class Broker:
    stream_pii = True
    engine_version = None

    def __init__(self, **attributes):
        self.published = []
        self.__dict__.update(attributes)

    def publish(self, event):
        self.published.append(event)


@pytest.mark.parametrize("engine", [None, MANTLE_ENGINE_VERSION])
async def test_messages_are_those_of_rasas_store(
    make_store, domain, monkeypatch, engine
):
    monkeypatch.setenv("RASA_ENVIRONMENT", "production")
    mine, theirs = Broker(), Broker()
    store = make_store(mine)
    rasas = rasa_api.InMemoryTrackerStore(domain, theirs)
    store.engine_version = rasas.engine_version = engine
    assert mine.engine_version == engine
    for each in (store, rasas):
        await each.save(tracker("ada", [], "u"))
    kept = tracker("ada", [], "u")
    for _ in range(2):
        add(kept, turn())
        for each in (store, rasas):
            await each.save(kept)
    assert mine.published == theirs.published
    assert mine.published[0]["user_id"] == "u"
    message = mine.published[0]
    if engine:
        assert message["deployment_environment"] == "production"
    else:
        assert message["metadata"]["rasa_environment"] == "production"


async def test_event_that_proto_json_cannot_express_costs_the_others_nothing(
    make_store, caplog
):
    broker = Broker()
    store = mantle(make_store(broker))
    kept = tracker("ada")
    add(kept, [UserUttered("lone \ud800"), BotUttered("next")])
    await store.save(kept)
    assert [message["bot"]["text"] for message in broker.published] == ["next"]
    assert "so Broker is not told of it" in caplog.text
    assert "surrogate" not in caplog.text  # the text of the error


async def test_broker_that_must_see_no_personal_data_gets_none(make_store):
    broker = Broker(stream_pii=False)
    store = make_store(broker)
    events = conversation(1, 1)
    await store.save(tracker("ada", events))
    assert broker.published == []
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


# The wrapper that Rasa Pro puts around every store


@pytest.fixture
def wrapped(endpoint, domain):
    made = TrackerStore.create(EndpointConfig(**endpoint), domain)
    assert isinstance(made, AuthRetryTrackerStore)
    yield made
    made._tracker_store.close()


async def test_rasas_wrapper_is_told_all(wrapped):
    await wrapped.save(tracker("ada", conversation(1, 1), "u"))
    assert (await wrapped.retrieve("ada")).user_id == "u"
    assert len(await wrapped.get_trackers_by_user_id("u")) == 1
    assert await wrapped.exists("ada")
    await wrapped.update(await wrapped.retrieve_full_tracker("ada"))
    await wrapped.delete("ada")
    assert await wrapped.keys() == []


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
async def test_store_in_memory_that_is_made_again_has_what_it_had(wrapped, endpoint):
    first = wrapped._tracker_store
    await wrapped.save(tracker("ada", conversation(1, 1), "u"))
    refused = tracker("grace", [SlotSet("name", object())])
    await wrapped.save(refused)
    assert wrapped._tracker_store is not first
    assert list(await wrapped.keys()) == ["ada"]
    assert (await wrapped.retrieve("ada")).user_id == "u"
    for options, is_same in (({}, True), ({"record_exp": 60}, False)):
        another = TrackerStore.create(EndpointConfig(**endpoint, **options))
        assert await another.exists("ada") is is_same


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
def test_store_in_memory_is_empty_when_no_other_has_it(endpoint):
    async def save():
        store = TrackerStore.create(EndpointConfig(**endpoint))
        assert not list(await store.keys())
        await store.save(tracker("ada", conversation(1, 1)))

    for _ in range(2):
        asyncio.run(save())
        gc.collect()


@pytest.mark.parametrize("backend", ["sqlite", "postgresql", "mongo"], indirect=True)
async def test_store_that_is_made_again_does_not_block_the_event_loop(
    wrapped, monkeypatch
):
    """Rasa Pro makes a new store after each failure, on the event loop."""
    first, log = wrapped._tracker_store, backend_log(wrapped)
    await wrapped.save(tracker("ada", conversation(1, 1), "u"))
    opened = []
    # A function, so that it is a method.
    monkeypatch.setattr(type(log), "open", lambda log: opened.append(log))  # noqa: PLW0108
    read_back = log.read_back

    def fails_once(*_arguments):
        monkeypatch.setattr(log, "read_back", read_back)
        raise rasa_versions.RasaException("refused")

    monkeypatch.setattr(log, "read_back", fails_once)
    kept = await wrapped.retrieve("ada")
    assert wrapped._tracker_store is not first
    assert kept.user_id == "u"
    # The new store uses the log that is open.
    assert backend_log(wrapped) is log
    assert opened == []
    first.close()


def texts_that_no_store_takes(backend):
    """Sender ids that a channel may let its users choose."""
    return {
        "sqlite": ["\ud800"],
        "postgresql": [300 * "x", "nul \0"],
        "redis": ["\ud800"],
        "mongo": ["\ud800"],
    }[backend.name]


@pytest.mark.parametrize(
    "backend", ["sqlite", "postgresql", "redis", "mongo"], indirect=True
)
async def test_input_of_a_user_makes_no_difference_to_others(
    backend, wrapped, monkeypatch
):
    """Rasa Pro makes a new store after each call that was refused.

    A message that cannot be stored has to be refused. So the new store is the old one in
    all but name: it opens and connects nothing, and knows what was erased.
    """
    await wrapped.save(tracker("ada", conversation(2, 1), "u"))
    held = await wrapped.retrieve("ada")
    await wrapped.delete("ada")
    first, log = wrapped._tracker_store, backend_log(wrapped)
    opened = []
    monkeypatch.setattr(type(log), "open", lambda log: opened.append(log))  # noqa: PLW0108
    for sender_id in texts_that_no_store_takes(backend):
        await wrapped.save(tracker(sender_id, conversation(1, 1)))
        assert wrapped._tracker_store is not first
        assert wrapped._tracker_store._shared is first._shared
        assert backend_log(wrapped) is log
    assert opened == []
    under_way, new = copy.deepcopy(held), conversation(1, 1)
    add(under_way, new)
    await wrapped.save(under_way)
    assert as_dicts(await wrapped.retrieve_full_tracker("ada")) == dicts(new)
    first.close()


@pytest.mark.parametrize(
    "backend", ["sqlite", "postgresql", "redis", "mongo"], indirect=True
)
async def test_unknown_conversation_is_no_reason_to_make_a_store_anew(backend, wrapped):
    first = wrapped._tracker_store
    assert await wrapped.retrieve(300 * "x") is None
    assert await wrapped.retrieve_full_tracker(300 * "x") is None
    assert not await wrapped.exists(300 * "x")
    assert wrapped._tracker_store is first


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_store_with_other_options_is_opened_at_once(wrapped, endpoint, domain):
    """Otherwise its mistakes would not show before the first message."""
    with pytest.raises(rasa_versions.RasaException, match="password"):
        TrackerStore.create(EndpointConfig(**{**endpoint, "password": "wrong"}), domain)


# Rasa Pro's jobs for privacy


@pytest.fixture(params=["when", "by event"])
def privacy_jobs(endpoint, domain, monkeypatch, request):
    """Rasa Pro's own manager of these jobs, on a store of its own.

    Which finds by the time or by an event that a session is over.
    """
    if request.param == "when":
        monkeypatch.setenv("USER_CHAT_INACTIVITY_IN_MINUTES", "1")
    endpoints = SimpleNamespace(
        tracker_store=EndpointConfig(**endpoint),
        event_broker=None,
        privacy={
            "tracker_store_settings": {
                "anonymization": {"min_after_session_end": 1, "cron": "0 0 1 1 *"},
                "deletion": {"min_after_session_end": 60, "cron": "0 0 2 1 *"},
            },
            "rules": [{"slot": "name", "anonymization": {"type": "mask"}}],
        },
    )
    manager = BackgroundPrivacyManager(endpoints, lock_store=InMemoryLockStore())
    manager.tracker_store.domain = domain
    yield manager
    manager.tracker_store._tracker_store.close()


def aged(minutes, session_id):
    events = [*conversation(1, 1), *([ConversationInactive()] if minutes else [])]
    begin = time.time() - 60 * minutes
    for number, event in enumerate(events):
        event.timestamp = begin + number / 1000
        event.metadata = {"session_id": session_id}
    return events


@pytest.mark.parametrize("engine", [None, MANTLE_ENGINE_VERSION])
@pytest.mark.filterwarnings("ignore:.*USER_CHAT_INACTIVITY_IN_MINUTES")
async def test_jobs_for_privacy(store, privacy_jobs, domain, engine):
    store.engine_version = privacy_jobs.tracker_store.engine_version = engine
    deleted, anonymised, kept = aged(90, "old"), aged(20, "middle"), aged(0, "new")
    await store.save(tracker("ada", deleted + anonymised + kept, "u", domain))
    ended = [*aged(90, "old")[:-1], SessionEnded(timestamp=time.time() - 80 * 60)]
    await store.save(tracker("gone", ended, "u"))
    await store.save(tracker("new", aged(0, "new"), "u"))

    await privacy_jobs._run_tracker_store_anonymization()
    full = await store.retrieve_full_tracker("ada")
    assert len(full.events) == len(deleted + anonymised + kept)
    values = [
        event.value for event in full.events if getattr(event, "key", "") == "name"
    ]
    assert values == ["[NAME]", "[NAME]", "hello"]
    assert as_dicts(full)[-len(kept) :] == dicts(kept)

    await privacy_jobs._run_tracker_store_deletion()
    full = await store.retrieve_full_tracker("ada")
    # Without the time, what was said before stays until the conversation has ended.
    by_time = privacy_jobs.user_chat_inactivity_in_minutes is not None
    left = [*([] if by_time else deleted), *anonymised, *kept]
    assert [event.timestamp for event in full.events] == [
        event.timestamp for event in left
    ]
    assert as_dicts(await store.retrieve("ada")) == dicts(kept)
    assert sorted(await store.keys()) == ["ada", "new"]
    found = await store.get_trackers_by_user_id("u")
    assert [each["sender_id"] for each in found] == ["ada", "new"]
    began = found[0]["conversation_started_timestamp"]
    assert began == left[0].timestamp


# Other versions


@pytest.mark.parametrize(
    ("distribution", "version", "is_tested"),
    [
        ("rasa-pro", "3.21.0", True),
        ("rasa-pro", "3.21.14", True),
        ("rasa-pro", "3.22.0", False),
        ("rasa-pro", "3.2.1", False),
        ("rasa", "3.6.21", True),
        ("rasa", "3.7.0b1", False),
        ("rasa", "4.0", False),
    ],
)
def test_untested_version_is_named(distribution, version, is_tested):
    message = rasa_versions.untested(distribution, version)
    assert (message is None) is is_tested
    assert is_tested or f"{distribution} {version}" in message


def test_newer_rasa_works_with_one_warning(tmp_path):
    info = tmp_path / "rasa_pro-9.9.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\nName: rasa-pro\nVersion: 9.9.0\n"
    )
    program = """
import asyncio, logging
logging.basicConfig(level="WARNING")
import rasa_trackers
from rasa.shared.core.events import BotUttered
from rasa.shared.core.trackers import DialogueStateTracker

async def main():
    for _ in range(2):
        store = rasa_trackers.InMemoryTrackerStore()
        await store.save(DialogueStateTracker.from_events("ada", [BotUttered("hi")]))
        print((await store.retrieve("ada")).events[0].text)

asyncio.run(main())
"""
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-2:] == ["hi", "hi"]
    assert done.stderr.count("was not tested with rasa-pro 9.9.0") == 1
