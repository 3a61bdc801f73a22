"""MongoDB: Rasa's own data, buckets, expiry, erasure, indexes."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any, Dict

import bson
import pytest
import yaml
from pymongo.errors import WTimeoutError
from rasa.shared.core.events import BotUttered, SlotSet
from rasa.shared.exceptions import ConnectionException, RasaException

from conversations import (
    add,
    as_dicts,
    conversation,
    dicts,
    session_start,
    tracker,
    turn,
)
from rasa_api import MongoTrackerStore as RasasOwnStore
from rasa_api import backend_log
from rasa_trackers.event_log import START, Entry
from rasa_trackers.mongo import buckets
from rasa_trackers.mongo import log as mongo_log

pytestmark = pytest.mark.parametrize("backend", ["mongo"], indirect=True)

PAGE = Path(__file__).parents[2].joinpath("docs/mongodb.md").read_text("utf-8")


def utc_now():
    """As pymongo gives dates: in UTC, and without saying so."""
    return dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)


@pytest.fixture
def collection(endpoint, mongo_server):
    """What the stores have stored."""
    with mongo_server.client() as client:
        yield client[endpoint["db"]]["conversations"]


@pytest.fixture
def watched(make_store, commands):
    """A store whose commands are recorded."""
    store = make_store(client_options={"event_listeners": [commands]})
    commands.clear()
    return store


def entries(*names):
    return [Entry(f'{{"name": "{name}"}}', "slot", 1.0, None, name) for name in names]


def names(page):
    return [stored.data.split('"')[3] for stored in page.events]


def many(count, size=0):
    return [
        Entry(f'{{"name": "{number}"}}' + " " * size, "slot", 1.0, None, None)
        for number in range(count)
    ]


# Documents of Rasa's own store


async def test_conversation_of_rasas_own_store_is_continued(rasas, store, collection):
    old = conversation(2, 3)
    await rasas.save(tracker("ada", old))
    before = collection.find_one({"sender_id": "ada"})
    retrieved = await store.retrieve("ada")
    assert as_dicts(retrieved) == dicts(old[len(old) // 2 :])
    new = turn()
    add(retrieved, new)
    await store.save(retrieved)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(old + new)
    assert as_dicts(await store.retrieve("ada")) == dicts(old[len(old) // 2 :] + new)
    assert list(await store.keys()) == ["ada"]
    assert collection.find_one({"_id": before["_id"]}) == before


async def test_long_conversation_of_rasas_own_store_is_read_in_pages(rasas, store):
    old = conversation(1, 200)
    await rasas.save(tracker("ada", old))
    full = as_dicts(await store.retrieve("ada"))
    assert full == dicts(old)
    texts = [stored.data for stored in backend_log(store).read_back("ada").events]
    before, pages = None, []
    while True:
        page = backend_log(store).read_back("ada", limit=150, before=before)
        pages = [stored.data for stored in page.events] + pages
        if page.complete:
            break
        before = page.events[0].position
    assert pages == texts


@pytest.mark.parametrize("sender_id", ["007", "²", "99999999999999999999999999"])
async def test_sender_id_that_only_resembles_a_number(store, collection, sender_id):
    collection.insert_one({"sender_id": 7, "events": dicts(conversation(1, 1))})
    assert await store.retrieve(sender_id) is None
    await store.save(tracker(sender_id, session_start()))
    assert sorted(await store.keys()) == sorted(["7", sender_id])


async def test_append_to_an_older_state_of_rasas_document_writes_nothing(rasas, store):
    old = conversation(1, 1)
    await rasas.save(tracker("ada", old))
    log = backend_log(store)
    assert log.append("ada", entries("a"), START) is None
    assert log.append("ada", entries("a"), len(old) - 1) is None
    assert log.append("ada", entries("a"), len(old)) == len(old) + 1


async def test_rasas_own_store_after_this_one(rasas, store):
    """It sees its own documents as they were, and begins anew where it has none."""
    old = conversation(1, 1)
    await rasas.save(tracker("ada", old))
    taken_over = await store.retrieve("ada")
    add(taken_over, turn())
    await store.save(taken_over)
    await store.save(tracker("grace", conversation(1, 60)))
    assert as_dicts(await rasas.retrieve_full_tracker("ada")) == dicts(old)
    assert await rasas.retrieve("grace") is None
    begun = conversation(1, 1)
    await rasas.save(tracker("grace", begun))
    assert as_dicts(await rasas.retrieve_full_tracker("grace")) == dicts(begun)
    assert set(await rasas.keys()) == {"ada", "grace"}


async def test_this_store_after_rasas_own_after_this_one(rasas, store):
    events = conversation(1, 60)
    await store.save(tracker("grace", events))
    await rasas.save(tracker("grace", conversation(1, 1)))
    assert as_dicts(await store.retrieve("grace")) == dicts(events)


async def test_conversations_are_copied_back_to_rasas_form(
    rasas, store, domain, endpoint
):
    """The script of the manual."""
    await rasas.save(tracker("ada", conversation(2, 1)))
    for sender_id in ("ada", "grace"):
        kept = await store.get_or_create_full_tracker(sender_id)
        add(kept, conversation(2, 40))
        await store.save(kept)
    (script,) = re.findall(r"```python\n(.*?)asyncio\.run", PAGE, re.DOTALL)
    # Rasa Pro has it elsewhere, as the page says.
    script = script.replace("rasa.core.tracker_store ", f"{RasasOwnStore.__module__} ")
    defined: Dict[str, Any] = {}
    exec(script, defined)
    await defined["copy_back"](domain, {"url": endpoint["url"], "db": endpoint["db"]})
    back = RasasOwnStore(
        domain, host=endpoint["url"], db=endpoint["db"], collection="back"
    )
    for sender_id in ("ada", "grace"):
        expected = as_dicts(await store.retrieve_full_tracker(sender_id))
        assert as_dicts(await back.retrieve_full_tracker(sender_id)) == expected
    back.client.close()


# Buckets


async def test_no_document_grows_without_bound(store, collection):
    kept = tracker("ada", session_start())
    for _ in range(120):
        add(kept, turn())
        await store.save(kept)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(kept)
    lengths = [len(document["log"]) for document in collection.find()]
    assert sum(lengths) == len(kept.events)
    assert len(lengths) > 4
    assert max(lengths) <= buckets.BUCKET_EVENTS


async def test_read_of_many_buckets_is_two_round_trips(watched, commands):
    position = backend_log(watched).append("ada", many(1000), START)
    for limit in (130, 500, 960, 1000, 2000, None):
        commands.clear()
        page = backend_log(watched).read_back("ada", limit)
        assert commands.names == ["find", "find"]
        assert page.events[-1].position == position
        assert len(page.events) >= min(limit or 1000, 1000)
        assert page.complete == (len(page.events) == 1000)
        # No bucket more than what is asked for stands in.
        sent = commands.replies[-1]["cursor"]["firstBatch"]
        found = sum(len(bucket["log"]) for bucket in sent)
        assert found < (limit or 1000) + buckets.BUCKET_EVENTS


async def test_conversation_of_40_megabytes(watched, commands, collection):
    text = "x" * 10_000
    kept = tracker("ada")
    for number in range(40):
        add(
            kept,
            session_start()
            + [BotUttered(f"{number} {text}", timestamp=1.0) for _ in range(100)],
        )
        await watched.save(kept)
    assert max(len(bson.encode(document)) for document in collection.find()) < 600_000
    commands.clear()
    session = await watched.retrieve("ada")
    assert as_dicts(session) == as_dicts(kept)[-103:]
    assert sum(len(bson.encode(reply)) for reply in commands.replies) < 8_000_000
    assert as_dicts(await watched.retrieve_full_tracker("ada")) == as_dicts(kept)


async def test_40_megabytes_in_one_append(store, collection):
    log = backend_log(store)
    events = many(400, 100_000)
    position = log.append("ada", events, START)
    assert [stored.data for stored in log.read_back("ada").events] == [
        entry.data for entry in events
    ]
    assert log.append("ada", events, position) == position + len(events)
    assert len(log.read_back("ada").events) == 800
    assert max(len(bson.encode(document)) for document in collection.find()) < 1_000_000


@pytest.mark.parametrize("earlier", [0, 3, 300])
async def test_event_larger_than_a_document_may_be(store, earlier):
    kept = tracker(
        "ada", [SlotSet("count", number, timestamp=1.0) for number in range(earlier)]
    )
    await store.save(kept)
    before = [stored.data for stored in backend_log(store).read_back("ada").events]
    add(
        kept,
        [
            SlotSet("a", 1, timestamp=1.0),
            BotUttered("x" * 17_000_000),
            SlotSet("a", 2, timestamp=1.0),
        ],
    )
    with pytest.raises(RasaException, match="16 MB; nothing was stored"):
        await store.save(kept)
    assert [
        stored.data for stored in backend_log(store).read_back("ada").events
    ] == before
    assert await store.exists("ada") is bool(earlier)


async def test_event_that_just_fits(store):
    events = [BotUttered("x" * 16_000_000, timestamp=1.0), *turn()]
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_one_round_trip_to_append_and_one_to_read(watched, commands):
    kept = tracker("ada", conversation(20, 10))
    await watched.save(kept)
    commands.clear()
    retrieved = await watched.retrieve("ada")
    assert commands.names == ["find"]
    commands.clear()
    add(retrieved, turn())
    await watched.save(retrieved)
    assert commands.names == ["update"]


async def test_expiry_costs_no_round_trip(make_store, commands):
    store = make_store(record_exp=3600, client_options={"event_listeners": [commands]})
    kept = tracker("ada", conversation(20, 10))
    await store.save(kept)
    retrieved = await store.retrieve("ada")
    commands.clear()
    for _ in range(3):
        add(retrieved, turn())
        await store.save(retrieved)
    # Besides what looks for expired conversations, once a minute.
    assert commands.names.count("update") == 3
    assert len(commands.names) == 3


@pytest.mark.parametrize("sessions", [1, 10, 50])
async def test_what_a_turn_reads_does_not_depend_on_the_age(
    watched, commands, sessions
):
    await watched.save(tracker("ada", conversation(sessions, 12)))
    commands.clear()
    await watched.retrieve("ada")
    assert commands.names == ["find"]
    assert sum(len(bson.encode(reply)) for reply in commands.replies) < 100_000


async def test_events_can_be_queried(store, collection):
    """The pipeline of the manual."""
    events = conversation(3, 40)
    await store.save(tracker("ada", events))
    (pipeline,) = re.findall(r"(?ms)^db\.conversations\.aggregate\((.*?)\)$", PAGE)
    # YAML reads what mongosh does.
    found = list(collection.aggregate(yaml.safe_load(pipeline)))
    assert [event["timestamp"] for event in found] == [
        event.timestamp for event in events
    ]
    assert {
        event.get("intent_name") for event in found if event["type_name"] == "user"
    } == {"greet"}


# What stands in the way


async def refused(call):
    with pytest.raises(RasaException, match="unique index") as error:
        await call
    assert not isinstance(error.value, ConnectionException)


@pytest.mark.parametrize("count", [0, 1])
async def test_unique_index_on_the_sender_id(store, collection, count):
    events = dicts(session_start())[:count]
    collection.insert_one({"sender_id": "ada", "events": events})
    collection.create_index("sender_id", unique=True, name="theirs")
    await refused(store.save(tracker("ada", turn())))


async def test_writer_that_never_comes_first(make_store, monkeypatch):
    """The deadline is not looked at in between, so there must be another end."""
    store = make_store(timeout=1)
    await store.save(tracker("ada", session_start()))
    # Few enough for a slow machine to try them before the deadline.
    monkeypatch.setattr(mongo_log, "_MOST_ROUNDS", 3)
    monkeypatch.setattr(backend_log(store), "_push", lambda *_: False)
    monkeypatch.setattr(backend_log(store), "_change", lambda *_: False)
    for call in (store.save(tracker("ada", turn())), store.delete("ada")):
        with pytest.raises(ConnectionException, match="3 times"):
            await call


async def test_document_without_its_log_is_an_error(store, collection):
    await store.save(tracker("ada", session_start()))
    collection.update_one({"sender_id": "ada"}, {"$unset": {"log": ""}})
    for call in (store.retrieve("ada"), store.save(tracker("ada", turn()))):
        with pytest.raises(RasaException, match="no sensible log"):
            await call


# What is not acknowledged by a majority yet


async def test_nothing_new_is_confirmed_by_a_write(watched, commands):
    """What is read may be lost with the primary, until a write is acknowledged."""
    events = session_start()
    await watched.save(tracker("ada", events))
    commands.clear()
    await watched.save(tracker("ada", events))
    assert commands.names[-1] == "update"


async def test_write_without_a_majority_is_confirmed_by_another(
    watched, commands, monkeypatch
):
    kept = tracker("ada", session_start())
    await watched.save(kept)
    push, failed = backend_log(watched)._push, []

    def without_majority(*arguments):
        done = push(*arguments)
        if not failed:
            failed.append(done)
            raise WTimeoutError("waiting for replication timed out", 64)
        return done

    monkeypatch.setattr(backend_log(watched), "_push", without_majority)
    add(kept, turn())
    commands.clear()
    await watched.save(kept)
    assert failed == [True]
    assert commands.names[-1] == "update"
    assert as_dicts(await watched.retrieve("ada")) == as_dicts(kept)


# Indexes and sender ids


def test_indexes(store, collection):
    assert collection.index_information()["sender_id_1_bucket_1"]["key"] == [
        ("sender_id", 1),
        ("bucket", 1),
    ]
    assert collection.index_information()["unclean_1"]["sparse"]
    assert "expires_at_1" not in collection.index_information()
