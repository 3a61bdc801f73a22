"""MongoDB: users, also of Rasa Pro's own documents. Only Rasa Pro knows users."""

from __future__ import annotations

import json
import threading

import pymongo
import pymongo.monitoring
import pytest

from conversations import add, as_dicts, conversation, dicts, tracker, turn
from rasa_api import backend_log
from rasa_trackers.event_log import START, Conversation, Entry, User
from servers.mongo import MongoServer

pytestmark = pytest.mark.parametrize("backend", ["mongo"], indirect=True)

BOTH = {"user_id", "conversation_started_timestamp"}


class Commands(pymongo.monitoring.CommandListener):
    """What a store sends, and what is to happen just before."""

    def __init__(self):
        self.names = []
        self.before = {}

    def started(self, event):
        self.names.append(event.command_name)
        then = self.before.pop(
            (event.command_name, self.names.count(event.command_name)), None
        )
        if then is not None:
            then()

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


@pytest.fixture
def commands():
    return Commands()


@pytest.fixture
def watched(make_store, commands):
    """A log whose commands are recorded."""
    log = backend_log(make_store(client_options={"event_listeners": [commands]}))
    commands.names.clear()
    return log


@pytest.fixture
def log(store):
    return backend_log(store)


def entries(*names, timestamp=1.0):
    return [
        Entry(
            json.dumps({"event": "slot", "name": name, "timestamp": timestamp}),
            "slot",
            timestamp,
            None,
            name,
        )
        for name in names
    ]


def texts(added):
    return [entry.data for entry in added]


def many(count):
    return entries(*map(str, range(count)))


def sender_ids(log, user_id, **paging):
    return [found.sender_id for found in log.conversations_of(user_id, **paging)]


def end(log, sender_id):
    return log.read_back(sender_id, limit=1).events[-1].position


def open_bucket(collection, sender_id="ada"):
    return collection.find_one({"_id": f"open:{sender_id}"})


async def save(store, sender_id, user_id, events):
    """As Rasa Pro saves the conversation of a user."""
    kept = tracker(sender_id, events)
    kept.user_id = user_id
    await store.save(kept)


# Documents of Rasa Pro's own store


async def test_conversations_of_rasas_own_store_are_found(rasas, log):
    said = {name: conversation(1, 2) for name in ("b", "c", "a")}
    for name, events in said.items():
        await save(rasas, name, "u", events)
    await save(rasas, "other", "v", conversation(1, 1))
    await save(rasas, "nobodys", None, conversation(1, 1))
    found = log.conversations_of("u")
    assert [
        (
            each.sender_id,
            each.conversation_started,
            [json.loads(text) for text in each.events],
        )
        for each in found
    ] == [(name, events[0].timestamp, dicts(events)) for name, events in said.items()]
    assert sender_ids(log, "u", skip=1, limit=1) == ["c"]
    assert log.read_back("a", limit=1).user_id == "u"
    assert log.read_back("nobodys", limit=1).user_id is None


async def test_order_where_rasas_own_store_has_not_stored_the_beginning(
    rasas, log, collection
):
    await save(rasas, "first", "u", conversation(1, 1))
    await save(rasas, "second", "u", conversation(1, 1))
    collection.update_many({}, {"$unset": {"conversation_started_timestamp": ""}})
    first, second = log.conversations_of("u")
    assert (first.sender_id, second.sender_id) == ("first", "second")
    began = json.loads(first.events[0])["timestamp"]
    assert first.conversation_started == began
    # And it goes on with it.
    log.append("first", entries("a"), end(log, "first"), User("u", began + 9))
    assert log.conversations_of("u")[0].conversation_started == began


async def test_user_of_rasas_document_is_carried_over(rasas, log, collection):
    old = conversation(1, 2)
    await save(rasas, "ada", "u", old)
    before = collection.find_one({"sender_id": "ada"})
    log.append("ada", entries("a"), end(log, "ada"))
    bucket = open_bucket(collection)
    assert bucket["user_id"] == "u"
    assert bucket["conversation_started_timestamp"] == old[0].timestamp
    assert set(bucket["rasa"]) == {"_id", "sender_id", "events"}
    assert log.read_back("ada", limit=1).user_id == "u"
    (found,) = log.conversations_of("u")
    assert found.conversation_started == old[0].timestamp
    assert found.events == [event.data for event in log.read_back("ada").events]
    assert len(found.events) == len(old) + 1
    assert collection.find_one({"_id": before["_id"]}) == before


async def test_beginning_is_carried_over_without_a_user(rasas, log, collection):
    old = conversation(1, 1)
    await save(rasas, "ada", None, old)
    log.append("ada", entries("a"), end(log, "ada"), User("u", old[0].timestamp + 9))
    (found,) = log.conversations_of("u")
    assert found.conversation_started == old[0].timestamp


async def test_user_is_carried_over_by_an_append_that_is_refused(rasas, log):
    await save(rasas, "ada", "u", conversation(1, 1))
    events = [event.data for event in log.read_back("ada").events]
    assert log.append("ada", entries("a"), START, User("v", 1.0)) is None
    assert [found.events for found in log.conversations_of("u")] == [events]
    assert sender_ids(log, "v") == []
    assert sum(log.count_conversations(0.0)) == 1


async def test_rasas_document_is_not_answered_beside_the_open_bucket(rasas, log):
    await save(rasas, "grace", "u", conversation(1, 2))
    await save(rasas, "ada", "u", conversation(1, 2))
    log.append("ada", entries("a"), end(log, "ada"))
    log.append("grace", entries("a"), end(log, "grace"), User("v", 1.0))
    assert sender_ids(log, "u") == ["ada"]
    # Nor does it take another one's place.
    assert sender_ids(log, "u", limit=1) == ["ada"]
    assert sender_ids(log, "v") == ["grace"]
    assert sum(log.count_conversations(0.0)) == 2


@pytest.mark.parametrize("continued", [False, True])
async def test_rasas_document_is_not_answered_after_deletion(
    rasas, log, collection, continued
):
    await save(rasas, "ada", "u", conversation(1, 2))
    if continued:
        log.append("ada", entries("a"), end(log, "ada"))
    assert log.delete("ada") is True
    assert sender_ids(log, "u") == []
    assert sum(log.count_conversations(0.0)) == 0
    assert collection.count_documents({}) == 0


async def test_rasas_document_is_not_answered_after_expiry(
    rasas, make_store, collection
):
    """The server has erased the open bucket, sooner than the rest."""
    log = backend_log(make_store(record_exp=3600))
    await save(rasas, "ada", "u", conversation(1, 2))
    log.append("ada", entries("a"), end(log, "ada"))
    collection.delete_one({"_id": "open:ada"})
    assert sender_ids(log, "u") == []
    assert sum(log.count_conversations(0.0)) == 0
    log.append("ada", entries("b"), START)
    assert sender_ids(log, "u") == []
    assert not BOTH & set(open_bucket(collection))


async def test_rasas_document_that_is_replaced(rasas, log):
    await save(rasas, "ada", "u", conversation(1, 2))
    log.replace("ada", entries("x"), end(log, "ada"))
    (found,) = log.conversations_of("u")
    assert found.events == texts(entries("x"))


@pytest.mark.parametrize("continued", [False, True])
def test_number_as_sender_id_of_old_versions(log, collection, continued):
    old = dicts(conversation(1, 1))
    collection.insert_one({"sender_id": 7, "events": old, "user_id": "u"})
    assert log.read_back("7", limit=1).user_id == "u"
    expected = [json.dumps(event) for event in old]
    if continued:
        log.append("7", entries("a"), len(old))
        expected += texts(entries("a"))
    assert log.conversations_of("u") == [
        Conversation("7", old[0]["timestamp"], expected)
    ]
    assert sum(log.count_conversations(0.0)) == 1
    assert sum(log.count_conversations(2e9)) == 0
    log.delete("7")
    assert sender_ids(log, "u") == []


def test_of_two_documents_of_rasas_own_store_one_counts(log, collection):
    """That which a read gives: two workers of Rasa's may have made two at once."""
    old, older = dicts(conversation(1, 1)), dicts(conversation(1, 2))
    collection.insert_one({"sender_id": 7, "events": older, "user_id": "u"})
    collection.insert_one({"sender_id": "7", "events": old, "user_id": "v"})
    collection.insert_one({"sender_id": "7", "events": older, "user_id": "w"})
    assert log.read_back("7", limit=1).user_id == "v"
    assert sender_ids(log, "u") == sender_ids(log, "w") == []
    (found,) = log.conversations_of("v")
    assert len(found.events) == len(old)
    assert sum(log.count_conversations(0.0)) == 1


@pytest.mark.parametrize("document", [{"events": []}, {}, {"events": None}])
def test_document_without_events_is_nobodys_conversation(log, collection, document):
    collection.insert_one({"sender_id": "ada", "user_id": "u", **document})
    assert log.conversations_of("u") == []
    assert sum(log.count_conversations(0.0)) == 0


async def test_conversation_is_continued_by_tracker_and_found(rasas, store):
    old = conversation(2, 2)
    await save(rasas, "ada", "u", old)
    retrieved = await store.retrieve("ada")
    assert retrieved.user_id == "u"
    new = turn()
    add(retrieved, new)
    await store.save(retrieved)
    (found,) = await store.get_serialized_trackers_by_user_id("u")
    assert [event["timestamp"] for event in found["events"]] == [
        event.timestamp for event in old + new
    ]
    assert found["conversation_started_timestamp"] == old[0].timestamp


async def test_rasas_own_store_after_this_one(rasas, log):
    """It finds its own conversation as it was, and only lists one of this store."""
    old = conversation(1, 1)
    await save(rasas, "ada", "u", old)
    log.append("ada", entries("a"), end(log, "ada"))
    full = await rasas.retrieve_full_tracker("ada")
    assert (as_dicts(full), full.user_id) == (dicts(old), "u")
    log.append("grace", entries("a"), START, User("v", 5.0))
    (grace,) = await rasas.get_serialized_trackers_by_user_id("v")
    assert (grace["sender_id"], grace["events"]) == ("grace", [])
    assert await rasas.retrieve_full_tracker("grace") is None


# Round trips


def test_append_that_names_the_user_is_one_round_trip(watched, commands):
    position = watched.append("ada", entries("a"), START, User("u", 5.0))
    commands.names.clear()
    position = watched.append("ada", entries("b"), position, User("u", 5.0))
    position = watched.append("ada", entries("c"), position, User("v", None))
    assert watched.append("ada", [], position, User("v", None)) == position
    assert commands.names == ["update"] * 3


async def test_conversations_come_in_few_round_trips(watched, commands, rasas):
    for number in range(20):
        watched.append(f"short {number:02}", many(5), START, User("u", 1.0))
        watched.append(f"long {number:02}", many(700), START, User("u", 2.0))
        await save(rasas, f"old {number:02}", "u", conversation(1, 1))
    commands.names.clear()
    found = watched.conversations_of("u")
    # What there is; of Rasa's own, what counts; then open, closed, Rasa's own.
    assert commands.names == ["find"] * 5
    assert [len(each.events) for each in found] == [5] * 20 + [700] * 20 + [11] * 20
    commands.names.clear()
    assert sender_ids(watched, "u", limit=5) == [f"short {n:02}" for n in range(5)]
    assert commands.names == ["find"] * 3


def test_count_is_one_round_trip(watched, commands):
    for number in range(50):
        watched.append(str(number), many(3), START)
    commands.names.clear()
    assert sum(watched.count_conversations(0.0)) == 50
    assert commands.names == ["aggregate"]


# Buckets


def test_user_stays_while_buckets_are_closed(log, collection):
    position = log.append("ada", many(200), START, User("u", 5.0))
    for _ in range(4):
        position = log.append("ada", many(200), position)
    position = log.append("ada", many(200), position, User("v", 9.0))
    assert log.conversations_of("v") == [Conversation("ada", 5.0, texts(many(200)) * 6)]
    assert sender_ids(log, "u") == []
    for document in collection.find({"bucket": {"$exists": True}}):
        assert not BOTH & set(document)


@pytest.mark.parametrize("count", [1, 200, 700])
def test_user_of_a_long_log_that_is_there_already(log, count):
    position = log.append("ada", many(count), START)
    assert log.append("ada", [], position, User("u", 5.0)) == position
    expected = texts(many(count))
    assert log.conversations_of("u") == [Conversation("ada", 5.0, expected)]
    assert texts(log.read_back("ada").events) == expected
    assert log.append("ada", entries("b"), position) == position + 1
    assert log.conversations_of("u")[0].events == [*expected, *texts(entries("b"))]


def test_newest_event_that_has_a_bucket_of_its_own(log, collection):
    (large,) = entries("large", timestamp=20.0)
    large = large._replace(data=large.data + " " * 600_000)
    log.append("ada", [*many(3), large], START, User("u", 5.0))
    assert open_bucket(collection)["log"] == []
    assert sum(log.count_conversations(20.0)) == 1
    assert sum(log.count_conversations(21.0)) == 0
    assert log.append("ada", [], end(log, "ada"), User("v", None)) is not None
    assert log.conversations_of("v")[0].events == [*texts(many(3)), large.data]


# Others at the same time


def test_conversation_that_is_replaced_while_it_is_read(watched, commands, make_store):
    other = backend_log(make_store())
    position = watched.append("ada", many(1000), START, User("u", 5.0))
    watched.append("grace", many(1000), START, User("u", 6.0))
    commands.names.clear()
    # Before the closed buckets are read.
    commands.before["find", 3] = lambda: other.replace(
        "ada", entries("new"), position, User("u", 7.0)
    )
    ada, grace = sorted(watched.conversations_of("u"))
    assert ada == Conversation("ada", 7.0, texts(entries("new")))
    assert grace.events == texts(many(1000))


@pytest.mark.parametrize("find", [2, 3])
@pytest.mark.parametrize("how", ["delete", "becomes another's"])
def test_conversation_that_the_user_loses_while_it_is_read(
    watched, commands, make_store, find, how
):
    other = backend_log(make_store())
    position = watched.append("ada", many(1000), START, User("u", 5.0))
    watched.append("grace", many(1000), START, User("u", 6.0))
    commands.names.clear()
    commands.before["find", find] = lambda: (
        other.delete("ada")
        if how == "delete"
        else other.replace("ada", entries("new"), position, User("v", 5.0))
    )
    assert sender_ids(watched, "u") == ["grace"]


async def test_rasas_document_that_is_taken_over_while_it_is_read(
    watched, commands, make_store, rasas
):
    other = backend_log(make_store())
    old = conversation(1, 2)
    await save(rasas, "ada", "u", old)
    position = end(other, "ada")
    commands.names.clear()
    # Before Rasa's own documents are read with their events.
    commands.before["find", 4] = lambda: other.replace(
        "ada", entries("new"), position, User("u", 7.0)
    )
    assert watched.conversations_of("u") == [
        Conversation("ada", 7.0, texts(entries("new")))
    ]


def test_two_who_name_the_beginning_of_a_log_that_is_there(
    watched, commands, make_store
):
    """The first one counts, also where neither of them adds an event."""
    other = backend_log(make_store())
    position = watched.append("ada", entries("a"), START)
    commands.names.clear()
    commands.before["update", 2] = lambda: other.append(
        "ada", [], position, User("u", 5.0)
    )
    assert watched.append("ada", [], position, User("v", 6.0)) == position
    assert watched.conversations_of("v") == [
        Conversation("ada", 5.0, texts(entries("a")))
    ]


async def test_two_workers_take_a_conversation_over_at_once(rasas, make_store):
    await save(rasas, "ada", "u", conversation(1, 2))
    logs = [backend_log(make_store()) for _ in range(2)]
    position = end(logs[0], "ada")
    barrier, results = threading.Barrier(2), {}

    def work(number):
        barrier.wait()
        results[number] = logs[number].append("ada", entries(str(number)), position)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results.values(), key=bool) == [None, position + 1]
    assert sender_ids(logs[0], "u") == ["ada"]


# Processes that die


class Died(BaseException):
    pass


@pytest.fixture
def dying(monkeypatch):
    """Lets a process die before one of the things that it tells the server."""

    def dying(log, method, then, *arguments):
        collection_class = type(log.collection)
        original = getattr(collection_class, method)

        def die(self, *args, **kwargs):
            if self is log.collection:
                raise Died
            return original(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(collection_class, method, die)
            with pytest.raises(Died):
                then(*arguments)

    return dying


@pytest.mark.parametrize("old", [False, True])
async def test_writer_that_dies_before_it_closes_a_bucket(rasas, log, dying, old):
    """The user is that of the append which was carried out."""
    if old:
        await save(rasas, "ada", "u", conversation(1, 1))
    else:
        log.append("ada", many(200), START, User("u", 5.0))
    before = log.conversations_of("u")
    position = end(log, "ada")
    dying(log, "update_one", log.append, "ada", many(300), position, User("v", None))
    assert log.conversations_of("u") == before
    assert sender_ids(log, "v") == []
    assert log.append("ada", many(300), position, User("v", None)) is not None
    (found,) = log.conversations_of("v")
    assert found.conversation_started == before[0].conversation_started
    assert found.events == before[0].events + texts(many(300))


@pytest.mark.parametrize("method", ["update_one", "delete_many", "delete_one"])
@pytest.mark.parametrize("old", [False, True])
async def test_erasure_whose_process_dies(rasas, make_store, dying, method, old):
    log = backend_log(make_store())
    if old:
        await save(rasas, "ada", "u", conversation(1, 1))
    log.append("ada", many(600), end(log, "ada") if old else START, User("u", 5.0))
    dying(log, method, log.delete, "ada")
    assert sender_ids(log, "u") == (["ada"] if method == "update_one" else [])
    assert sum(log.count_conversations(0.0)) == (method == "update_one")
    if method != "update_one":
        assert log.read_back("ada").user_id is None
    # The next start finishes it.
    log = backend_log(make_store())
    log.delete("ada")
    log.append("ada", entries("b"), START)
    assert sender_ids(log, "u") == []
    assert log.read_back("ada").user_id is None


@pytest.mark.parametrize("method", ["insert_many", "update_one", "delete_many"])
def test_replacement_whose_process_dies(log, dying, method):
    position = log.append("ada", many(600), START, User("u", 5.0))
    dying(log, method, log.replace, "ada", many(500), position, User("v", 6.0))
    if method == "delete_many":
        expected = [Conversation("ada", 6.0, texts(many(500)))]
        assert log.conversations_of("v") == expected
        assert sender_ids(log, "u") == []
    else:
        expected = [Conversation("ada", 5.0, texts(many(600)))]
        assert log.conversations_of("u") == expected
        assert sender_ids(log, "v") == []


# Fields and index


def test_fields_are_those_of_rasa_pro(log, collection):
    position = log.append("ada", entries("a"), START)
    assert not BOTH & set(open_bucket(collection))
    position = log.append("ada", entries("b"), position, User("u", 5.0))
    bucket = open_bucket(collection)
    assert (bucket["user_id"], bucket["conversation_started_timestamp"]) == ("u", 5.0)
    log.replace("ada", entries("c"), position, User("v", None))
    assert BOTH & set(open_bucket(collection)) == {"user_id"}


def test_index_is_the_one_of_rasa_pro(store, rasas, collection, make_store):
    """Whichever store comes first, the other one takes its index."""
    ours = collection.index_information()["user_id_1"]
    assert ours["key"] == [("user_id", 1)]
    assert ours["sparse"] is True
    collection.drop_index("user_id_1")
    rasas._ensure_indices()
    assert collection.index_information()["user_id_1"] == ours
    make_store()
    on_it = [
        name
        for name, index in collection.index_information().items()
        if index["key"][0][0] == "user_id"
    ]
    assert on_it == ["user_id_1"]


def test_index_that_is_refused_is_a_warning(load, caplog, backend):
    class RefusingServer(MongoServer):
        def _command(self):
            return [*super()._command(), "--enable-test-commands"]

    with RefusingServer() as server, server.client() as client:
        data = {"failCommands": ["createIndexes"], "errorCode": 13}
        client.admin.command(
            "configureFailPoint", "failCommand", mode="alwaysOn", data=data
        )
        endpoint = {"type": "rasa_trackers.MongoTrackerStore", "url": server.url()}
        log = backend_log(load(endpoint))
        assert "index user_id_1 on user_id could not be created" in caplog.text
        assert "with the options {'sparse': True}" in caplog.text
        assert "user_id_1" not in client.rasa.conversations.index_information()
        log.append("ada", entries("a"), START, User("u", 5.0))
        assert sender_ids(log, "u") == ["ada"]
        log.close()
