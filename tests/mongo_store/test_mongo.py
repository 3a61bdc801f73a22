"""MongoDB: Rasa's own data, buckets, expiry, erasure, indexes."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading

import bson
import pymongo
import pymongo.monitoring
import pytest
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
from rasa_trackers.event_log import START, Entry, Page, User
from rasa_trackers.mongo import buckets
from rasa_trackers.mongo.log import MongoEventLog

pytestmark = pytest.mark.parametrize("backend", ["mongo"], indirect=True)


def utc_now():
    """As pymongo gives dates: in UTC, and without saying so."""
    return dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)


class Commands(pymongo.monitoring.CommandListener):
    """What a store sends, and what is to happen just before."""

    def __init__(self):
        self.names = []
        self.replies = []
        self.before = {}

    def started(self, event):
        self.names.append(event.command_name)
        then = self.before.pop(
            (event.command_name, self.names.count(event.command_name)), None
        )
        if then is not None:
            then()

    def succeeded(self, event):
        self.replies.append(event.reply)

    def failed(self, event):
        pass

    def clear(self):
        self.names.clear()
        self.replies.clear()


@pytest.fixture
def commands():
    return Commands()


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


@pytest.mark.parametrize("sender_id", ["123", "0", "9223372036854775807", "-5"])
async def test_number_as_sender_id_of_old_versions(store, collection, sender_id):
    old = conversation(1, 1)
    collection.insert_one({"sender_id": int(sender_id), "events": dicts(old)})
    known = (
        [] if sender_id == "-5" else dicts(old)
    )  # Rasa's own store does not find it either
    if not known:
        assert await store.retrieve(sender_id) is None
        return
    retrieved = await store.retrieve(sender_id)
    assert as_dicts(retrieved) == known
    new = turn()
    add(retrieved, new)
    await store.save(retrieved)
    assert as_dicts(await store.retrieve(sender_id)) == known + dicts(new)
    assert list(await store.keys()) == [sender_id]
    assert backend_log(store).delete(sender_id) is True
    assert collection.count_documents({}) == 0


@pytest.mark.parametrize("sender_id", ["007", "²", "99999999999999999999999999"])
async def test_sender_id_that_only_resembles_a_number(store, collection, sender_id):
    collection.insert_one({"sender_id": 7, "events": dicts(conversation(1, 1))})
    assert await store.retrieve(sender_id) is None
    await store.save(tracker(sender_id, session_start()))
    assert sorted(await store.keys()) == sorted(["7", sender_id])


async def test_document_by_name_counts_more_than_one_by_number(store, collection):
    named = conversation(1, 1)
    collection.insert_one({"sender_id": 7, "events": dicts(conversation(1, 2))})
    collection.insert_one({"sender_id": "7", "events": dicts(named)})
    collection.insert_one({"sender_id": "7", "events": dicts(conversation(1, 3))})
    assert as_dicts(await store.retrieve("7")) == dicts(named)
    assert list(await store.keys()) == ["7"]


async def test_values_of_rasas_document_that_json_has_not(store, collection):
    value = {
        "date": dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc),
        "id": bson.ObjectId("5f0000000000000000000000"),
        "long": bson.Int64(2**40),
        "decimal": bson.Decimal128("1.5"),
        "binary": b"\x00\xff",
    }
    collection.insert_one(
        {
            "sender_id": "ada",
            "events": [
                {"event": "slot", "timestamp": 1.0, "name": "anything", "value": value}
            ],
        }
    )
    (event,) = (await store.retrieve("ada")).events
    assert event.value == {
        "date": "2020-01-02T03:04:05",
        "id": "5f0000000000000000000000",
        "long": 2**40,
        "decimal": "1.5",
        "binary": "AP8=",
    }


@pytest.mark.parametrize("document", [{"events": []}, {}, {"events": None}])
async def test_document_without_events_is_no_conversation(store, collection, document):
    collection.insert_one({"sender_id": "ada", **document})
    collection.insert_one({"something": "else"})
    assert await store.retrieve("ada") is None
    assert list(await store.keys()) == []
    events = session_start()
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_two_workers_take_a_conversation_over_at_once(rasas, make_store):
    old = conversation(1, 2)
    await rasas.save(tracker("ada", old))
    logs = [backend_log(make_store()) for _ in range(2)]
    barrier, results = threading.Barrier(2), {}

    def work(number):
        barrier.wait()
        results[number] = logs[number].append("ada", entries(str(number)), len(old))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number, position in results.items() if position is not None]
    page = logs[0].read_back("ada")
    assert len(page.events) == len(old) + 1
    assert page.events[-1].data == entries(str(winner))[0].data


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
    """The script of the README."""
    await rasas.save(tracker("ada", conversation(2, 1)))
    for sender_id in ("ada", "grace"):
        kept = await store.get_or_create_full_tracker(sender_id)
        add(kept, conversation(2, 40))
        await store.save(kept)
    back = RasasOwnStore(
        domain, host=endpoint["url"], db=endpoint["db"], collection="back"
    )
    for sender_id in await store.keys():
        await back.save(await store.retrieve_full_tracker(sender_id))
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
        buckets = commands.replies[-1]["cursor"]["firstBatch"]
        found = sum(len(bucket["log"]) for bucket in buckets)
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


def test_pages_of_many_buckets(store):
    log = backend_log(store)
    position = START
    for number in range(10):
        position = log.append(
            "ada", entries(*(f"{number}.{index}" for index in range(99))), position
        )
    everything = log.read_back("ada").events
    assert len(everything) == 990
    for limit in (1, 7, 150, 400, 2000):
        for before in (
            None,
            everything[500].position,
            everything[1].position,
            everything[0].position,
        ):
            page = log.read_back("ada", limit=limit, before=before)
            older = [
                event
                for event in everything
                if before is None or event.position < before
            ]
            assert (
                page.events == older[-len(page.events) :] if page.events else not older
            )
            assert len(page.events) >= min(limit, len(older))
            assert page.complete == (len(page.events) == len(older))


def test_bucket_that_a_dead_writer_has_left_is_not_read(store, collection):
    log = backend_log(store)
    position = log.append("ada", many(200), START)
    first = log.read_back("ada").events[0].position
    # Of one that died before its append, and of one that died after another's.
    for offset in (0, 1, 50, 300):
        collection.insert_one(
            {
                "sender_id": "ada",
                "bucket": first + offset,
                "log": [{"type_name": "slot", "data": "left"}],
            }
        )
    for number in range(5):
        position = log.append("ada", entries(*[str(number)] * 90), position)
    everything = log.read_back("ada").events
    assert len(everything) == 650
    assert "left" not in [event.data for event in everything]
    for event in everything[1::37]:
        assert (
            log.read_back("ada", limit=1, before=event.position).events[-1].position
            == event.position - 1
        )
    assert log.delete("ada") is True
    assert collection.count_documents({}) == 0


def test_conversation_that_is_replaced_while_it_is_read(make_store, commands):
    log = backend_log(make_store(client_options={"event_listeners": [commands]}))
    other = backend_log(make_store())
    position = log.append("ada", many(1000), START)
    commands.clear()
    commands.before["find", 2] = lambda: other.replace("ada", entries("new"), position)
    page = log.read_back("ada")
    assert (names(page), page.complete) == (["new"], True)


def test_conversation_that_is_erased_while_it_is_read(make_store, commands):
    log = backend_log(make_store(client_options={"event_listeners": [commands]}))
    other = backend_log(make_store())
    log.append("ada", many(1000), START)
    commands.clear()
    commands.before["find", 2] = lambda: other.delete("ada")
    assert log.read_back("ada") == Page([], True)


def test_bucket_that_somebody_has_removed(store, collection, caplog):
    """What is left is read, and the loss is not passed over in silence."""
    log = backend_log(store)
    position = log.append("ada", many(1000), START)
    newest = max(
        document["bucket"]
        for document in collection.find({"bucket": {"$exists": True}})
    )
    collection.delete_one({"bucket": newest})
    page = log.read_back("ada")
    assert page.complete
    assert 0 < len(page.events) < 1000
    assert "a part of conversation 'ada' is missing" in caplog.text
    assert log.append("ada", entries("a"), position) == position + 1


@pytest.mark.parametrize("events", [1, 300])
def test_writer_that_was_overtaken_leaves_nothing(
    make_store, commands, collection, events
):
    log = backend_log(make_store(client_options={"event_listeners": [commands]}))
    other = backend_log(make_store())
    position = log.append("ada", many(200), START)
    commands.clear()
    # Both must close a bucket; the other one does so just before this one's update.
    commands.before["update", 2] = lambda: other.append("ada", many(100), position)
    assert log.append("ada", many(200), position) is None
    assert len(log.read_back("ada").events) == 300
    assert sum(len(document["log"]) for document in collection.find()) == 300


def test_two_workers_begin_a_conversation_at_once(make_store, commands):
    log = backend_log(make_store(client_options={"event_listeners": [commands]}))
    other = backend_log(make_store())
    commands.clear()
    commands.before["insert", 1] = lambda: other.append("ada", entries("theirs"), START)
    assert log.append("ada", entries("mine"), START) is None
    assert names(log.read_back("ada")) == ["theirs"]


async def test_events_can_be_queried(store, collection):
    """The pipeline of the README."""
    events = conversation(3, 40)
    await store.save(tracker("ada", events))
    pipeline = [
        {"$match": {"sender_id": "ada", "log": {"$exists": True}}},
        {"$project": {"open": {"$not": ["$bucket"]}, "bucket": 1, "log": 1}},
        {"$sort": {"open": 1, "bucket": 1}},
        {"$unwind": "$log"},
        {"$replaceRoot": {"newRoot": "$log"}},
    ]
    found = list(collection.aggregate(pipeline))
    assert [event["timestamp"] for event in found] == [
        event.timestamp for event in events
    ]
    assert {
        event.get("intent_name") for event in found if event["type_name"] == "user"
    } == {"greet"}


# Erasing


@pytest.fixture
def erased_by_dead(request, rasas, make_store, collection):
    """Stops a store in the midst of an erasure, before one of its commands."""

    class Died(BaseException):
        pass

    async def die(action, command):
        await rasas.save(tracker("ada", conversation(1, 2)))
        commands = Commands()
        store = make_store(client_options={"event_listeners": [commands]})
        kept = await store.retrieve("ada")
        for _ in range(50):
            add(kept, turn())
            await store.save(kept)
        log = backend_log(store)
        commands.clear()

        def fail():
            raise Died

        # A listener's exceptions are swallowed, so the command itself is stopped.
        stopped = {
            "delete_many": "delete_many",
            "delete_one": "delete_one",
            "update_one": "update_one",
        }[command]
        collection_class = type(log._collection)
        original = getattr(collection_class, stopped)

        def dying(self, *args, **kwargs):
            if self is log._collection:
                fail()
            return original(self, *args, **kwargs)

        before = [event.data for event in log.read_back("ada").events]
        position = log.read_back("ada", limit=1).events[-1].position
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collection_class, stopped, dying)
            with contextlib.suppress(Died):
                if action == "delete":
                    log.delete("ada")
                else:
                    log.replace("ada", many(500), position)
        return before

    return die


@pytest.mark.parametrize("command", ["update_one", "delete_many", "delete_one"])
async def test_erasure_whose_process_dies(
    erased_by_dead, make_store, collection, command
):
    before = await erased_by_dead("delete", command)
    if command == "update_one":
        log = backend_log(make_store())
        assert [event.data for event in log.read_back("ada").events] == before
        assert log.delete("ada") is True
    # The next start finishes it.
    log = backend_log(make_store())
    assert collection.count_documents({}) == 0
    assert log.read_back("ada") == Page([], True)
    assert list(log.sender_ids()) == []
    assert log.delete("ada") is False
    assert collection.count_documents({}) == 0


async def test_start_that_finishes_an_erasure_while_an_index_takes_long(
    erased_by_dead, make_store, collection, monkeypatch
):
    """One that another option needs: the one for erasures is there."""
    await erased_by_dead("delete", "delete_many")
    assert collection.count_documents({}) > 0
    go_on = threading.Event()
    monkeypatch.setattr("rasa_trackers.mongo.log._INDEX_PATIENCE", 0.1)
    monkeypatch.setattr(MongoEventLog, "_create_indexes", lambda *_: go_on.wait(30))
    try:
        make_store(record_exp=3600)
        assert collection.count_documents({}) == 0
    finally:
        go_on.set()


async def test_erasure_is_seen_before_it_is_finished(erased_by_dead, store, collection):
    await erased_by_dead("delete", "delete_many")
    assert collection.count_documents({}) > 2
    assert backend_log(store).read_back("ada") == Page([], True)
    assert list(backend_log(store).sender_ids()) == []
    position = backend_log(store).append("ada", entries("a"), START)
    assert names(backend_log(store).read_back("ada")) == ["a"]
    backend_log(store).append("ada", entries("b"), position)
    assert names(backend_log(store).read_back("ada")) == ["a", "b"]
    assert collection.count_documents({}) == 1


@pytest.mark.parametrize("command", ["update_one", "delete_many", "delete_one"])
async def test_replacement_whose_process_dies(
    erased_by_dead, make_store, collection, command
):
    before = await erased_by_dead("replace", command)
    log = backend_log(make_store())
    of_rasa = collection.count_documents({"events": {"$exists": True}})
    assert of_rasa == (1 if command == "update_one" else 0)
    now = [event.data for event in log.read_back("ada").events]
    assert (
        now == before
        if command == "update_one"
        else now == [entry.data for entry in many(500)]
    )
    assert log.delete("ada") is True
    assert collection.count_documents({}) == 0


def test_erasure_and_append_at_once(make_store, commands, collection):
    """The append comes between the erasure and what cleans up after it."""
    log = backend_log(make_store(client_options={"event_listeners": [commands]}))
    other = backend_log(make_store())
    log.append("ada", many(600), START)
    commands.clear()
    commands.before["delete", 1] = lambda: other.append("ada", many(700), START)
    assert log.delete("ada") is True
    assert len(log.read_back("ada").events) == 700
    assert collection.count_documents({"unclean": True}) == 0
    assert sum(len(document["log"]) for document in collection.find()) == 700


def test_positions_are_not_used_again(store):
    log = backend_log(store)
    position = log.append("ada", many(500), START)
    log.delete("ada")
    assert log.append("ada", entries("a"), START) > position


# Expiry


def expire(collection):
    """As if the time had come, and the server, which looks now and then, had not yet.

    All dates are moved back by two hours.
    """
    collection.drop_index("expires_at_1")
    for document in collection.find({"expires_at": {"$exists": True}}):
        collection.update_one(
            {"_id": document["_id"]},
            {"$set": {"expires_at": document["expires_at"] - dt.timedelta(hours=2)}},
        )


def assert_nothing_outlives_its_bucket(collection):
    opened = collection.find_one({"last": {"$exists": True}})
    for document in collection.find({"last": None}):
        assert document["expires_at"] >= opened["lease"] >= opened["expires_at"]


async def test_server_is_told_to_erase(make_store, collection):
    store = make_store(record_exp=3600)
    await store.save(tracker("ada", conversation(1, 60)))
    assert collection.index_information()["expires_at_1"]["expireAfterSeconds"] == 0
    for document in collection.find():
        assert document["expires_at"] > utc_now() + dt.timedelta(seconds=3500)
    assert_nothing_outlives_its_bucket(collection)


async def test_expired_conversation_of_many_documents(make_store, rasas, collection):
    store = make_store(record_exp=3600)
    await rasas.save(tracker("ada", conversation(1, 2)))
    kept = await store.retrieve("ada")
    for _ in range(60):
        add(kept, turn())
        await store.save(kept)
    assert collection.count_documents({}) > 3
    assert_nothing_outlives_its_bucket(collection)
    expire(collection)
    assert await store.retrieve_full_tracker("ada") is None
    assert list(await store.keys()) == []
    assert backend_log(store).delete("ada") is False
    assert collection.count_documents({}) == 0


async def test_rasas_document_does_not_come_back_when_the_server_has_erased_the_bucket(
    make_store, rasas, collection
):
    store = make_store(record_exp=3600)
    await rasas.save(tracker("ada", conversation(1, 2)))
    kept = await store.retrieve("ada")
    add(kept, turn())
    await store.save(kept)
    collection.delete_one(
        {"last": {"$exists": True}}
    )  # as the server does, sooner than the rest
    assert await store.retrieve("ada") is None
    assert list(await store.keys()) == []
    again = session_start()
    await store.save(tracker("ada", again))
    assert as_dicts(await store.retrieve("ada")) == dicts(again)


async def test_append_to_an_expired_conversation_begins_anew(make_store, collection):
    store = make_store(record_exp=3600)
    log = backend_log(store)
    position = log.append("ada", many(600), START)
    expire(collection)
    assert log.append("ada", entries("new"), position) is None
    assert log.append("ada", entries("new"), START) > position
    assert names(log.read_back("ada")) == ["new"]
    assert collection.count_documents({}) == 1


async def test_append_renews_the_whole_conversation(make_store, collection):
    log = backend_log(make_store(record_exp=3600))
    position = log.append("ada", many(600), START)
    later = backend_log(make_store(record_exp=36000))
    later.append("ada", entries("a"), position)
    assert_nothing_outlives_its_bucket(collection)
    assert collection.find_one({"last": {"$exists": True}})[
        "expires_at"
    ] > utc_now() + dt.timedelta(hours=9)


async def test_option_that_is_not_set_any_more(make_store, collection):
    position = backend_log(make_store(record_exp=3600)).append("ada", many(600), START)
    log = backend_log(make_store())
    position = log.append("ada", many(200), position)
    assert collection.count_documents({"expires_at": {"$exists": True}}) == 0
    assert log.append("ada", entries("a"), position) == position + 1


async def test_option_that_another_worker_has_still(
    make_store, collection, monkeypatch
):
    """It lets the older documents expire while the newest one is to live on."""
    position = backend_log(make_store(record_exp=3600)).append("ada", many(600), START)
    log, other = backend_log(make_store()), backend_log(make_store(record_exp=36000))
    insert = log._insert_closed

    def insert_later(*arguments):
        monkeypatch.setattr(log, "_insert_closed", insert)
        assert other.append("ada", [], position, User("u", None)) == position
        return insert(*arguments)

    monkeypatch.setattr(log, "_insert_closed", insert_later)
    position = log.append("ada", many(200), position)
    assert position is not None
    opened = collection.find_one({"last": {"$exists": True}})
    if "expires_at" in opened:
        assert_nothing_outlives_its_bucket(collection)
    else:
        assert collection.count_documents({"expires_at": {"$exists": True}}) == 0
    assert len(log.read_back("ada").events) == 800


async def test_option_that_is_set_later(make_store, collection):
    position = backend_log(make_store()).append("ada", many(600), START)
    log = backend_log(make_store(record_exp=3600))
    log.append("ada", entries("a"), position)
    assert collection.count_documents({"expires_at": None}) == 0
    assert_nothing_outlives_its_bucket(collection)
    assert len(log.read_back("ada").events) == 601


async def test_purge_erases_where_the_server_does_not(make_store, rasas, collection):
    store = make_store(record_exp=3600)
    await rasas.save(tracker("ada", conversation(1, 2)))
    for name in ("ada", "grace", "alan"):
        kept = await store.get_or_create_full_tracker(name)
        add(kept, conversation(1, 60))
        await store.save(kept)
    expire(collection)
    kept = tracker("alan", session_start())
    await store.save(kept)
    assert backend_log(store).purge_expired() == 2
    assert backend_log(store).purge_expired() == 0
    assert [document["sender_id"] for document in collection.find()] == ["alan"]


async def test_damaged_document_keeps_no_other_from_being_purged(
    make_store, collection
):
    store = make_store(record_exp=3600)
    for name in ("ada", "grace"):
        await store.save(tracker(name, session_start()))
    expire(collection)
    collection.update_one({"sender_id": "ada"}, {"$set": {"last": "x"}})
    assert backend_log(store).purge_expired() == 1
    assert [document["sender_id"] for document in collection.find()] == ["ada"]


# What stands in the way


async def refused(call):
    with pytest.raises(RasaException, match="unique index") as error:
        await call
    assert not isinstance(error.value, ConnectionException)


async def test_conversation_whose_sender_id_was_changed_in_the_database(
    store, collection
):
    await store.save(tracker("ada", session_start()))
    collection.update_many({"sender_id": "ada"}, {"$set": {"sender_id": "x1"}})
    await refused(store.save(tracker("ada", session_start())))


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
    monkeypatch.setattr(backend_log(store), "_push", lambda *_: False)
    monkeypatch.setattr(backend_log(store), "_change", lambda *_: False)
    for call in (store.save(tracker("ada", turn())), store.delete("ada")):
        with pytest.raises(ConnectionException, match="100 times"):
            await call


async def test_delete_erases_what_a_writer_that_died_never_began(store, collection):
    log = backend_log(store)
    orphans = log._insert_closed("ada", [[{"data": "x"}]], 1, None, None)
    await store.delete("ada")
    assert collection.count_documents({}) == 1  # it may be about to begin
    collection.delete_many({})
    old = bson.ObjectId.from_datetime(utc_now() - dt.timedelta(hours=2))
    collection.insert_one({"_id": old, "sender_id": "ada", "bucket": 1, "log": []})
    collection.insert_one({"_id": orphans[0], "sender_id": "grace", "bucket": 1})
    await store.delete("ada")
    assert [found["sender_id"] for found in collection.find()] == ["grace"]


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


async def test_sender_ids_alone_are_sent(watched, commands, rasas):
    said = conversation(5, 60)
    await rasas.save(tracker("grace", said))
    await watched.save(tracker("ada", said))
    commands.clear()
    assert sorted(await watched.keys()) == ["ada", "grace"]
    assert commands.names == ["find"]
    assert len(bson.encode(commands.replies[0])) < 1000
