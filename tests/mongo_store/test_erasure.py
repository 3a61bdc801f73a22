"""Deleting and replacing: all of a conversation, and nothing of one that begins."""

from __future__ import annotations

import contextlib
import threading

import pymongo.collection
import pymongo.errors
import pytest

from mongo_store.entries import all_batches, end, entries, names, numbered
from rasa_trackers.event_log import START, Page, User
from rasa_trackers.mongo import indexes


class Died(BaseException):
    pass


@pytest.fixture
def dies(monkeypatch):
    """Lets a process die before one of its writes."""

    def dies(method, call, *arguments):
        def die(*_args, **_options):
            raise Died

        with monkeypatch.context() as patch, contextlib.suppress(Died):
            patch.setattr(pymongo.collection.Collection, method, die)
            call(*arguments)
            pytest.fail(f"no {method}")

    return dies


def orphan(collection, sender_id="ada", **fields):
    collection.insert_one(
        {
            "sender_id": sender_id,
            "bucket": 5,
            "log": [{"data": "secret"}],
            **fields,
        }
    )


@pytest.mark.parametrize("begun", [False, True])
def test_delete_erases_what_a_writer_that_just_died_has_left(log, collection, begun):
    orphan(collection)
    orphan(collection, "grace")
    if begun:
        log.append("ada", entries("a"), START)
    assert log.delete("ada") is begun
    assert [found["sender_id"] for found in collection.find()] == ["grace"]
    assert log.delete("ada") is False


def test_delete_of_nothing_writes_nothing(watched, commands):
    assert watched.delete("ada") is False
    assert set(commands.names) <= {"find", "aggregate"}


@pytest.mark.parametrize("method", ["insert_one", "insert_many", "update_one"])
def test_delete_after_a_writer_that_died_while_it_began(log, collection, dies, method):
    dies(method, log.append, "ada", numbered(1000), START)
    assert log.read_back("ada") == Page([], True)
    assert all_batches(log.sender_ids()) == []
    assert log.delete("ada") is False
    assert collection.count_documents({}) == 0


@pytest.mark.parametrize("command", ["insert", "update"])
@pytest.mark.parametrize("number", [1, 2])
def test_deletion_while_a_long_conversation_begins(
    make_log, commands, collection, command, number
):
    log, other = make_log(listener=commands), make_log()
    commands.clear()
    deleted = []
    commands.before[command, number] = lambda: deleted.append(other.delete("ada"))
    position = log.append("ada", numbered(1000), START)
    assert deleted
    if position is None:
        assert deleted == [True]
        assert collection.count_documents({}) == 0
        return
    page = log.read_back("ada")
    stored = [document["log"] for document in collection.find()]
    assert sum(map(len, stored)) == len(page.events)
    if page.events:
        assert names(page) == [str(number) for number in range(1000)]
        assert page.events[-1].position == position
    else:
        assert deleted == [True]


def test_long_conversation_that_begins_while_it_is_deleted(
    make_log, commands, collection
):
    log, other = make_log(listener=commands), make_log()
    log.append("ada", numbered(600), START)
    commands.clear()
    begin = lambda: other.append("ada", numbered(700), START)  # noqa: E731
    commands.before["delete", 1] = begin
    assert log.delete("ada") is True
    assert names(log.read_back("ada")) == [str(number) for number in range(700)]
    assert sum(len(document["log"]) for document in collection.find()) == 700
    assert collection.count_documents({"unclean": True}) == 0


@pytest.mark.parametrize("method", ["update_one", "delete_many", "delete_one"])
def test_deletion_whose_process_dies(make_log, collection, dies, method):
    log = make_log()
    log.append("ada", numbered(600), START, User("u", 1.0))
    dies(method, log.delete, "ada")
    was_erased = method != "update_one"
    assert bool(log.read_back("ada").events) is not was_erased
    assert all_batches(log.sender_ids()) == ([] if was_erased else ["ada"])
    assert len(log.conversations_of("u")) == (not was_erased)
    assert sum(log.count_conversations(0.0)) == (not was_erased)
    if not was_erased:
        log.delete("ada")
    make_log()  # the next start finishes it
    assert collection.count_documents({}) == 0


@pytest.mark.parametrize("method", ["insert_many", "update_one", "delete_many"])
def test_replacement_whose_process_dies(make_log, collection, dies, method):
    log = make_log()
    position = log.append("ada", numbered(600), START)
    dies(method, log.replace, "ada", numbered(500, 1000), position)
    page = make_log().read_back("ada")
    if method == "delete_many":
        assert names(page) == [str(number) for number in range(1000, 1500)]
        assert collection.count_documents({"unclean": True}) == 0
    else:
        assert names(page) == [str(number) for number in range(600)]
    assert make_log().delete("ada") is True
    assert collection.count_documents({}) == 0


def test_start_that_finishes_an_erasure_while_an_index_takes_long(
    make_log, collection, dies, monkeypatch
):
    """The index that another option needs: the one for erasures is there."""
    log = make_log()
    log.append("ada", numbered(600), START)
    dies("delete_many", log.delete, "ada")
    assert collection.count_documents({}) > 0
    go_on = threading.Event()
    monkeypatch.setattr(indexes, "_PATIENCE", 0.1)
    monkeypatch.setattr(indexes._Build, "_create", lambda *_: go_on.wait(30))
    try:
        make_log(record_exp=3600)
        assert collection.count_documents({}) == 0
    finally:
        go_on.set()


def test_erasure_is_seen_before_it_is_finished(log, collection, dies):
    log.append("ada", numbered(600), START)
    dies("delete_many", log.delete, "ada")
    assert collection.count_documents({}) > 2
    assert log.read_back("ada") == Page([], True)
    position = log.append("ada", entries("a"), START)
    log.append("ada", entries("b"), position)
    assert names(log.read_back("ada")) == ["a", "b"]
    assert collection.count_documents({}) == 1


@pytest.mark.parametrize("count", [1, 700])
def test_positions_are_greater_than_any_before(log, count):
    highest = START
    for erase in (log.delete, lambda _: log.replace("ada", [], end(log))) * 3:
        log.append("ada", numbered(count), START)
        positions = [event.position for event in log.read_back("ada").events]
        assert min(positions) > highest
        highest = max(positions)
        replaced = log.replace("ada", numbered(count), highest)
        assert replaced - count + 1 > highest
        highest = replaced
        erase("ada")


@pytest.mark.parametrize("events", [1, 300])
def test_writer_that_was_overtaken_leaves_nothing(
    make_log, commands, collection, events
):
    log, other = make_log(listener=commands), make_log()
    position = log.append("ada", numbered(200), START)
    commands.clear()
    # Both close a bucket; the other one does so just before this one's update.
    commands.before["update", 2] = lambda: other.append("ada", numbered(100), position)
    assert log.append("ada", numbered(200), position) is None
    assert len(log.read_back("ada").events) == 300
    assert sum(len(document["log"]) for document in collection.find()) == 300


def test_two_logs_begin_a_conversation_at_once(make_log, commands):
    log, other = make_log(listener=commands), make_log()
    for count in (1, 1000):
        log.delete("ada")
        commands.clear()
        commands.before["insert", 1] = lambda count=count: other.append(
            "ada", entries("theirs", *["x"] * (count - 1)), START
        )
        assert log.append("ada", numbered(count), START) is None
        assert names(log.read_back("ada"))[0] == "theirs"


def test_document_in_the_way_is_an_error(log, collection):
    log.append("ada", entries("a"), START)
    collection.update_many({"sender_id": "ada"}, {"$set": {"sender_id": "x1"}})
    with pytest.raises(pymongo.errors.DuplicateKeyError) as raised:
        log.append("ada", entries("a"), START)
    failure = log.classify(raised.value)
    assert not failure.transient
    assert "unique index" in failure.remedy


def test_closed_bucket_of_a_live_conversation_stays_when_another_is_erased(
    log, collection
):
    log.append("ada", numbered(1000), START)
    log.append("adam", numbered(1000), START)
    log.append("ada ", numbered(1000), START)
    log.delete("ada")
    assert len(log.read_back("adam").events) == 1000
    assert len(log.read_back("ada ").events) == 1000
    assert {each["sender_id"] for each in collection.find()} == {"adam", "ada "}
