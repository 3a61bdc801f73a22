"""Users: what a log without them does, round trips, damage."""

from __future__ import annotations

import pytest

from mongo_store.entries import all_batches, end, entries, numbered, texts
from rasa_trackers.event_log import START, Conversation, User


def sender_ids(log, user_id, **paging):
    return [found.sender_id for found in log.conversations_of(user_id, **paging)]


def test_log_that_keeps_no_users(make_log, collection):
    keeping, log = make_log(), make_log(keeps_users=False)
    position = keeping.append("ada", entries("a"), START, User("u", 1.0))
    assert log.read_back("ada").user_id is None
    assert log.conversations_of("u") == []
    position = log.append("ada", entries("b"), position, User("v", 1.0))
    assert keeping.read_back("ada").user_id == "u"
    log.replace("ada", entries("c"), position, User("v", 1.0))
    assert sender_ids(keeping, "u") == ["ada"]
    assert log.delete("ada") is True
    assert collection.count_documents({}) == 0
    assert keeping.conversations_of("u") == []


def test_log_that_keeps_no_users_makes_no_index_for_them(make_log, collection):
    make_log(keeps_users=False)
    assert "user_id_1" not in collection.index_information()
    make_log()
    assert collection.index_information()["user_id_1"]["sparse"]


def test_append_that_names_the_user_is_one_round_trip(watched, commands):
    position = watched.append("ada", entries("a"), START, User("u", 5.0))
    commands.clear()
    position = watched.append("ada", entries("b"), position, User("u", 5.0))
    position = watched.append("ada", entries("c"), position, User("v", None))
    assert watched.append("ada", [], position, User("v", None)) == position
    assert commands.names == ["update"] * 3


def test_conversations_come_in_few_round_trips(watched, commands):
    for number in range(20):
        watched.append(f"short {number:02}", numbered(5), START, User("u", 1.0))
        watched.append(f"long {number:02}", numbered(700), START, User("u", 2.0))
    commands.clear()
    found = watched.conversations_of("u")
    assert commands.names == ["find"] * 3  # what there is, open buckets, closed ones
    assert [len(each.events) for each in found] == [5] * 20 + [700] * 20
    assert sender_ids(watched, "u", limit=2, skip=19) == ["short 19", "long 00"]


@pytest.mark.timeout(20)
def test_bucket_whose_previous_is_itself_costs_itself(log, collection):
    for name in ("ada", "grace"):
        log.append(name, numbered(700), START, User("u", 1.0))
    for document in list(collection.find({"sender_id": "ada", "last": None})):
        change = {"$set": {"previous": document["_id"]}, "$unset": {"base": ""}}
        collection.update_one({"_id": document["_id"]}, change)
    ada, grace = log.conversations_of("u")
    assert 0 < len(ada.events) < 700
    assert grace == Conversation("grace", 1.0, texts(numbered(700)))


@pytest.mark.parametrize(
    "change",
    [
        {"last": "x"},
        {"base": None},
        {"log": "x"},
        {"first": 3},
        {"previous": {"a": 1}},
        {"rasa": "x"},
        {"expires_at": "never"},
        {"conversation_started_timestamp": "x"},
    ],
)
def test_damaged_conversation_costs_itself(make_log, log, collection, change):
    for name in ("ada", "grace"):
        log.append(name, entries(name), START, User("u", 1.0))
    collection.update_one({"_id": "open:ada"}, {"$set": change})
    expiring = make_log(record_exp=3600)
    for each in (log, expiring):
        assert "grace" in sender_ids(each, "u")
        assert sorted(all_batches(each.sender_ids())) == ["ada", "grace"]
        assert sum(each.count_conversations(0.0)) >= 1
        each.purge_expired()


def test_newest_event_that_has_a_bucket_of_its_own(log, collection):
    (large,) = entries("large", timestamp=20.0)
    large = large._replace(data=large.data + " " * 600_000)
    log.append("ada", [*numbered(3), large], START, User("u", 5.0))
    assert collection.find_one({"_id": "open:ada"})["log"] == []
    assert sum(log.count_conversations(20.0)) == 1
    assert sum(log.count_conversations(21.0)) == 0
    assert log.append("ada", [], end(log), User("v", None)) is not None
    assert log.conversations_of("v")[0].events == [*texts(numbered(3)), large.data]


def test_batches_follow_the_answers(watched, commands):
    for number in range(350):
        watched.append(f"{number:03}", numbered(1), START)
    commands.clear()
    batches, received = [], []
    for batch in watched.sender_ids():
        batches.append(batch)
        received.append(len(commands.names))
    assert sorted(all_batches(batches)) == [f"{number:03}" for number in range(350)]
    assert len(batches) >= 4
    assert received[0] == 1
    assert sum(watched.count_conversations(0.0)) == 350
    assert len(list(watched.count_conversations(0.0))) >= 4


def test_sender_ids_alone_are_sent(watched, commands):
    watched.append("ada", numbered(240), START)
    commands.clear()
    assert all_batches(watched.sender_ids()) == ["ada"]
    assert commands.names == ["find"]
    assert commands.bytes_received() < 1000


def test_conversation_that_the_user_loses_while_it_is_read(make_log, commands):
    log, other = make_log(listener=commands), make_log()
    for find in (2, 3):
        position = log.append("ada", numbered(1000), START, User("u", 5.0))
        log.append("grace", numbered(1000), START, User("u", 6.0))
        commands.clear()
        commands.before["find", find] = lambda position=position: other.replace(
            "ada", entries("new"), position, User("v", 5.0)
        )
        assert sender_ids(log, "u") == ["grace"]
        other.delete("ada")
