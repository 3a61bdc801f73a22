"""Collections that version 0.1.0 has written, before and beside this version.

Its closed buckets have no ``base`` and are chained by ``previous`` alone. With
``record_exp`` each of them, and Rasa's own document, has ``expires_at``, which the server
heeds, and the open bucket has a ``lease`` before which none of them expires.
"""

from __future__ import annotations

import datetime as dt

import bson
import pytest

from mongo_store.entries import all_batches, end, entries, names, numbered
from rasa_trackers.event_log import START, Conversation, User

NEWEST = bson.ObjectId("650000000000000000000003")
MIDDLE = bson.ObjectId("650000000000000000000002")
OLDEST = bson.ObjectId("650000000000000000000001")
LEFT = bson.ObjectId("650000000000000000000009")
RASAS = bson.ObjectId("640000000000000000000001")


def logged(*names):
    return [
        {
            "type_name": "slot",
            "timestamp": 1.0,
            "action_name": name,
            "data": f'{{"event": "slot", "name": "{name}", "timestamp": 1.0}}',
        }
        for name in names
    ]


def in_hours(hours):
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None, microsecond=0)
    return now + dt.timedelta(hours=hours)


def write(collection, *, expires=False, of_rasa=False):
    """A conversation of the events 1 to 9, as version 0.1.0 stores it."""
    dates = {"expires_at": in_hours(25)} if expires else {}
    names = "123456789"
    first = 4 if of_rasa else 1
    oldest = {} if of_rasa else {"previous": OLDEST}
    documents = [
        {
            "_id": "open:ada",
            "sender_id": "ada",
            "log": logged("8", "9"),
            "first": 8,
            "last": 9,
            "base": 1,
            "bytes": 500,
            "previous": NEWEST,
            "user_id": "u",
            "conversation_started_timestamp": 5.0,
        },
        {
            "_id": NEWEST,
            "sender_id": "ada",
            "bucket": 6,
            "log": logged("6", "7"),
            "previous": MIDDLE,
            **dates,
        },
        {
            "_id": MIDDLE,
            "sender_id": "ada",
            "bucket": 4,
            "log": logged("4", "5"),
            **oldest,
            **dates,
        },
        # A writer that died, or came too late, has left it.
        {
            "_id": LEFT,
            "sender_id": "ada",
            "bucket": 6,
            "log": logged("left", "left"),
            "previous": MIDDLE,
            **dates,
        },
    ]
    if expires:
        documents[0].update(expires_at=in_hours(1), lease=in_hours(25))
    if of_rasa:
        documents[0]["rasa"] = {"_id": RASAS, "sender_id": "ada", "events": 3}
        documents.append(
            {
                "_id": RASAS,
                "sender_id": "ada",
                "events": [
                    {"event": "slot", "name": name, "timestamp": 1.0}
                    # It goes on with Rasa's own store, which is not seen here.
                    for name in [*names[: first - 1], "unseen"]
                ],
                "user_id": "of Rasa",
                **dates,
            }
        )
    else:
        documents.append(
            {
                "_id": OLDEST,
                "sender_id": "ada",
                "bucket": 1,
                "log": logged("1", "2", "3"),
                **dates,
            }
        )
    collection.insert_many(documents)


every_form = pytest.mark.parametrize("of_rasa", [False, True])
ALL = list("123456789")


@every_form
@pytest.mark.parametrize("expires", [False, True])
def test_conversation_is_read(make_log, collection, of_rasa, expires):
    write(collection, expires=expires, of_rasa=of_rasa)
    for log in (make_log(), make_log(record_exp=3600)):
        assert names(log.read_back("ada")) == ALL
        for before in range(1, 11):
            for limit in (1, 2, 5, 9, None):
                page = log.read_back("ada", limit, before)
                count = len(page.events)
                assert names(page) == ALL[max(0, before - 1 - count) : before - 1]
                assert count >= min(limit or 9, before - 1)
                assert page.complete == (count == before - 1)
        assert all_batches(log.sender_ids()) == ["ada"]
        assert sum(log.count_conversations(1.0)) == 1
        assert sum(log.count_conversations(1.5)) == 0
        (found,) = log.conversations_of("u")
        assert found == Conversation(
            "ada", 5.0, [event.data for event in log.read_back("ada").events]
        )
        assert log.conversations_of("of Rasa") == []


@every_form
@pytest.mark.parametrize("expires", [False, True])
@pytest.mark.parametrize("life", [None, 3600, 360_000])
def test_conversation_goes_on(make_log, collection, of_rasa, expires, life):
    write(collection, expires=expires, of_rasa=of_rasa)
    log = make_log() if life is None else make_log(record_exp=life)
    position = log.append("ada", entries("10"), 9)
    assert position == 10
    for begin in range(11, 700, 60):
        position = log.append("ada", numbered(60, begin), position)
    expected = [*ALL, *map(str, range(10, position + 1))]
    assert names(log.read_back("ada")) == expected
    page = log.read_back("ada", 20, 300)
    assert names(page) == expected[299 - len(page.events) : 299]
    page = log.read_back("ada", 3, 9)
    assert names(page) == expected[8 - len(page.events) : 8]
    # The server erases no part of it before the open bucket, or ever.
    opened = collection.find_one({"_id": "open:ada"})
    assert "lease" not in opened
    assert ("expires_at" in opened) is (life is not None)
    for document in collection.find({"last": None}):
        assert "expires_at" not in document
        assert life is None or "check_at" in document


@every_form
@pytest.mark.parametrize("expires", [False, True])
def test_conversation_is_erased(make_log, collection, of_rasa, expires):
    write(collection, expires=expires, of_rasa=of_rasa)
    assert make_log().delete("ada") is True
    assert collection.count_documents({}) == 0


@every_form
def test_conversation_is_replaced(make_log, collection, of_rasa):
    write(collection, expires=True, of_rasa=of_rasa)
    before = collection.find_one({"_id": "open:ada"})["expires_at"]
    log = make_log(record_exp=7200)
    position = log.replace("ada", numbered(500), 9)
    assert position > 509
    assert len(log.read_back("ada").events) == 500
    opened = collection.find_one({"_id": "open:ada"})
    assert (opened["expires_at"], "lease" in opened) == (before, False)
    for document in collection.find({"last": None}):
        assert document["check_at"] == before
        assert "expires_at" not in document


@every_form
def test_conversation_expires(make_log, collection, of_rasa):
    """The server may erase the open bucket before the others."""
    write(collection, expires=True, of_rasa=of_rasa)
    log = make_log(record_exp=3600)
    collection.delete_one({"_id": "open:ada"})
    assert log.read_back("ada").events == []
    assert all_batches(log.sender_ids()) == []
    assert log.conversations_of("u") == log.conversations_of("of Rasa") == []
    assert sum(log.count_conversations(0.0)) == 0
    assert log.append("ada", entries("new"), START) is not None
    assert names(log.read_back("ada")) == ["new"]
    collection.drop_index("expires_at_1")
    for document in collection.find({"last": None}):
        past = {"$set": {"expires_at": in_hours(-1)}}
        collection.update_one({"_id": document["_id"]}, past)
    assert log.purge_expired() == 1
    assert [each["_id"] for each in collection.find()] == ["open:ada"]


@every_form
def test_conversation_expires_after_it_went_on(make_log, collection, of_rasa):
    write(collection, expires=True, of_rasa=of_rasa)
    log = make_log(record_exp=3600)
    log.append("ada", entries("10"), 9)
    collection.delete_one({"_id": "open:ada"})
    assert log.read_back("ada").events == []
    assert all_batches(log.sender_ids()) == []
    past = {"$set": {"check_at": in_hours(-1)}}
    collection.update_many({}, past)
    assert log.purge_expired() == 1
    assert collection.count_documents({}) == 0


def test_sweep_takes_a_date_of_the_earlier_version_from_a_living_conversation(
    make_log, collection
):
    """Both versions ran at the same time, and the other one was slower."""
    write(collection, expires=True)
    log = make_log(record_exp=360_000)
    log.append("ada", entries("10"), 9)
    collection.drop_index("expires_at_1")
    closed = {"bucket": {"$exists": True}}
    collection.update_many(closed, {"$set": {"expires_at": in_hours(-1)}})
    assert log.purge_expired() == 0
    assert collection.count_documents({**closed, "expires_at": None}) == 4
    assert names(log.read_back("ada")) == [*ALL, "10"]


def test_erasure_that_the_earlier_version_did_not_finish(make_log, collection):
    write(collection)
    gone = {"log": [], "first": 100, "last": 99, "base": 100, "unclean": True}
    collection.update_one(
        {"_id": "open:ada"}, {"$set": gone, "$unset": {"previous": ""}}
    )
    make_log()
    assert collection.count_documents({}) == 0


def test_earlier_version_finds_what_this_version_writes(make_log, collection):
    """It follows ``previous``, and so do the pages of this version without the mark."""
    log = make_log()
    position = START
    for begin in range(0, 900, 90):
        position = log.append("ada", numbered(90, begin), position, User("u", 1.0))
    opened = collection.find_one({"_id": "open:ada"})
    found, previous = opened["log"], opened["previous"]
    while previous is not None:
        document = collection.find_one({"_id": previous, "sender_id": "ada"})
        found = document["log"] + found
        previous = document.get("previous")
    assert [each["action_name"] for each in found] == list(map(str, range(900)))
    assert end(log) == opened["last"] == opened["first"] + len(opened["log"]) - 1
