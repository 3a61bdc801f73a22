"""Conversations that expire: what the server erases, and what a sweep does."""

from __future__ import annotations

import datetime as dt

import pytest

from mongo_store.entries import all_batches, entries, names, numbered
from rasa_trackers.event_log import START, Page, User

HOURS = dt.timedelta(hours=2)


def make_older(collection):
    """As if two hours had passed, and the server had not looked yet."""
    collection.drop_index("expires_at_1")
    for name in ("expires_at", "check_at"):
        for document in collection.find({name: {"$exists": True}}):
            collection.update_one(
                {"_id": document["_id"]}, {"$set": {name: document[name] - HOURS}}
            )


def erase_as_the_server_does(collection):
    """Erase what a TTL index erases."""
    collection.delete_many({"expires_at": {"$lt": dt.datetime(2100, 1, 1)}})  # noqa: DTZ001


@pytest.fixture
def expiring(make_log):
    return make_log(record_exp=3600)


def older(collection):
    return list(collection.find({"last": None}))


def assert_only_the_open_bucket_expires(collection):
    assert older(collection)
    for document in older(collection):
        assert "expires_at" not in document
        assert "check_at" in document
    opened = collection.find_one({"last": {"$exists": True}})
    assert "expires_at" in opened
    assert "lease" not in opened


def test_server_erases_the_open_bucket_alone(expiring, collection):
    position = expiring.append("ada", numbered(1000), START)
    expiring.append("ada", numbered(200), position)
    assert collection.index_information()["expires_at_1"]["expireAfterSeconds"] == 0
    assert_only_the_open_bucket_expires(collection)


def test_conversation_is_gone_when_the_server_has_erased_the_open_bucket(
    expiring, collection
):
    position = expiring.append("ada", numbered(1000), START, User("u", 1.0))
    erase_as_the_server_does(collection)
    assert older(collection)
    assert expiring.read_back("ada") == Page([], True)
    assert all_batches(expiring.sender_ids()) == []
    assert sum(expiring.count_conversations(0.0)) == 0
    assert expiring.conversations_of("u") == []
    assert expiring.append("ada", entries("x"), position) is None
    assert expiring.append("ada", entries("new"), START) > position
    assert names(expiring.read_back("ada")) == ["new"]


@pytest.mark.parametrize("begun_again", [False, True])
def test_sweep_erases_what_the_server_has_left(expiring, collection, begun_again):
    expiring.append("ada", numbered(1000), START)
    expiring.append("grace", numbered(1000), START)
    make_older(collection)
    expiring.append(
        "grace", [], int(collection.find_one({"_id": "open:grace"})["last"])
    )
    erase_as_the_server_does(collection)
    if begun_again:
        expiring.append("ada", numbered(7), START)
    expiring.append("alan", numbered(700), START)
    while expiring.purge_expired():
        pass
    assert expiring.purge_expired() == 0
    found = {document["sender_id"] for document in collection.find()}
    assert found == ({"ada", "alan"} if begun_again else {"alan"})
    kept = list(collection.find({"sender_id": "ada"}))
    assert sum(len(document["log"]) for document in kept) == (7 if begun_again else 0)


def test_sweep_moves_on_what_belongs_to_a_living_conversation(expiring, collection):
    position = expiring.append("ada", numbered(1000), START)
    now = collection.find_one({"_id": "open:ada"})["expires_at"]
    due = {"$set": {"check_at": now - HOURS}}
    collection.update_many({"bucket": {"$exists": True}}, due)
    expiring.append("ada", entries("x"), position)
    assert expiring.purge_expired() == 0
    assert len(expiring.read_back("ada").events) == 1001
    opened = collection.find_one({"_id": "open:ada"})
    for document in older(collection):
        assert document["check_at"] == opened["expires_at"]


def test_purge_erases_where_the_server_does_not(expiring, collection):
    for name in ("ada", "grace", "alan"):
        expiring.append(name, numbered(700), START)
    make_older(collection)
    assert expiring.append("alan", entries("new"), START) is not None
    assert expiring.purge_expired() == 2
    assert expiring.purge_expired() == 0
    assert [document["sender_id"] for document in collection.find()] == ["alan"]


def test_damaged_document_keeps_no_other_from_being_purged(expiring, collection):
    for name in ("ada", "grace"):
        expiring.append(name, numbered(700), START)
    make_older(collection)
    collection.update_one({"_id": "open:ada"}, {"$set": {"last": "x"}})
    assert expiring.purge_expired() == 1
    assert {document["sender_id"] for document in collection.find()} == {"ada"}


def test_delete_of_an_expired_log(expiring, collection):
    expiring.append("ada", numbered(700), START, User("u", 1.0))
    make_older(collection)
    assert expiring.delete("ada") is False
    assert collection.count_documents({}) == 0


def test_delete_of_what_the_server_has_left(expiring, collection):
    expiring.append("ada", numbered(700), START)
    erase_as_the_server_does(collection)
    assert older(collection)
    assert expiring.delete("ada") is False
    assert collection.count_documents({}) == 0


@pytest.mark.parametrize("count", [3, 700])
@pytest.mark.parametrize("keeps", [True, False])
def test_replace_leaves_the_expiry_date_as_it_is(
    make_log, expiring, collection, count, keeps
):
    position = expiring.append("ada", numbered(count), START)
    before = collection.find_one({"_id": "open:ada"})["expires_at"]
    log = make_log(record_exp=7200) if keeps else make_log()
    assert log.replace("ada", numbered(count, 5), position)
    assert collection.find_one({"_id": "open:ada"})["expires_at"] == before
    if count == 700:
        assert_only_the_open_bucket_expires(collection)


def test_replace_does_not_begin_a_life_of_a_permanent_log(
    make_log, expiring, collection
):
    position = make_log().append("ada", numbered(3), START)
    expiring.replace("ada", numbered(3), position)
    assert "expires_at" not in collection.find_one({"_id": "open:ada"})


@pytest.mark.parametrize("count", [3, 700])
@pytest.mark.parametrize("expired", [True, False])
def test_replace_of_an_empty_log_begins_a_life(expiring, collection, count, expired):
    if expired:
        expiring.append("ada", numbered(700), START)
        make_older(collection)
    assert expiring.replace("ada", numbered(count), START)
    assert collection.find_one({"_id": "open:ada"})["expires_at"]
    assert len(expiring.read_back("ada").events) == count


def test_option_that_is_set_later(make_log, expiring, collection):
    position = make_log().append("ada", numbered(1000), START)
    assert all("check_at" not in each for each in older(collection))
    expiring.append("ada", entries("a"), position)
    assert_only_the_open_bucket_expires(collection)
    assert len(expiring.read_back("ada").events) == 1001


def test_option_that_is_not_set_any_more(make_log, expiring, collection):
    position = expiring.append("ada", numbered(1000), START)
    log = make_log()
    position = log.append("ada", numbered(200), position)
    assert collection.count_documents({"expires_at": {"$exists": True}}) == 0
    make_older(collection)
    assert expiring.purge_expired() == 0
    assert len(log.read_back("ada").events) == 1200
    # And set again:
    expiring.append("ada", entries("a"), position)
    assert_only_the_open_bucket_expires(collection)


def test_append_of_nothing_renews(expiring, collection, commands, make_log):
    position = expiring.append("ada", numbered(1000), START)
    before = collection.find_one({"_id": "open:ada"})["expires_at"]
    log = make_log(record_exp=7200, listener=commands)
    log.append("grace", entries("x"), START)  # reads the server's clock
    commands.clear()
    assert log.append("ada", [], position) == position
    assert commands.names == ["update"]
    assert collection.find_one({"_id": "open:ada"})["expires_at"] > before


def test_expired_conversation_that_becomes_permanent_while_it_is_purged(
    make_log, commands, collection
):
    """A log without record_exp still sees it, and appends in time."""
    log, other = make_log(record_exp=3600, listener=commands), make_log()
    position = log.append("ada", entries("a"), START)
    make_older(collection)
    commands.clear()
    commands.before["update", 1] = lambda: other.append("ada", [], position)
    assert log.purge_expired() == 0
    assert names(log.read_back("ada")) == ["a"]
