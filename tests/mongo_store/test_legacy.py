"""Documents of Rasa's own store."""

from __future__ import annotations

import datetime as dt
import threading

import bson
import pytest

from mongo_store.entries import all_batches, end, entries, names, numbered, texts
from rasa_trackers.event_log import START, Conversation, User


def rasas_own(sender_id, count, begin=0, **fields):
    """A document as Rasa's own store writes it."""
    return {
        "sender_id": sender_id,
        "events": [
            {"event": "slot", "name": str(number), "timestamp": 1.0 + number}
            for number in range(begin, begin + count)
        ],
        **fields,
    }


def without_expiry_or_with(make_log):
    return make_log(), make_log(record_exp=3600)


@pytest.mark.parametrize("life", [{}, {"record_exp": 3600}])
def test_conversation_is_read_continued_and_erased(make_log, collection, life):
    log = make_log(**life)
    collection.insert_one(rasas_own("ada", 300, user_id="u"))
    before = collection.find_one()
    expected = list(map(str, range(300)))
    assert names(log.read_back("ada")) == expected
    position = 300
    for begin in range(300, 700, 100):
        page = log.read_back("ada", 70, position - 99)
        older = expected[: position - 100]
        assert names(page) == older[len(older) - len(page.events) :]
        position = log.append("ada", numbered(100, begin), position)
        expected += map(str, range(begin, begin + 100))
        assert names(log.read_back("ada")) == expected
        assert all_batches(log.sender_ids()) == ["ada"]
    (found,) = log.conversations_of("u")
    assert (found.conversation_started, len(found.events)) == (1.0, 700)
    after = collection.find_one({"_id": before["_id"]})
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == ({"check_at"} if life else set())
    assert log.delete("ada") is True
    assert collection.count_documents({}) == 0


def test_read_leaves_a_conversation_to_rasas_own_store(log, collection):
    """Whoever looks before the switch does not detach what Rasa's own store adds."""
    collection.insert_one(rasas_own("ada", 3))
    log.read_back("ada")
    all_batches(log.sender_ids())
    assert collection.count_documents({}) == 1
    more = rasas_own("ada", 2, 3)["events"]
    collection.update_one({}, {"$push": {"events": {"$each": more}}})
    assert names(log.read_back("ada")) == ["0", "1", "2", "3", "4"]
    assert log.append("ada", entries("a"), 3) is None
    assert log.append("ada", entries("a"), 5) == 6


@pytest.mark.parametrize("count", [3, 3000])
def test_page_holds_no_more_than_asked_for(watched, commands, collection, count):
    collection.insert_one(rasas_own("ada", count))
    commands.clear()
    page = watched.read_back("ada", 2, count)
    assert names(page) == [str(count - 3), str(count - 2)]
    assert commands.bytes_received() < 2000


def test_process_that_dies_while_it_continues_a_conversation(log, collection):
    """The open bucket is there, without any event of its own."""
    collection.insert_one(rasas_own("ada", 5, user_id="u"))
    assert log.append("ada", entries("a"), START) is None
    assert collection.count_documents({}) == 2
    assert names(log.read_back("ada")) == list("01234")
    assert sum(log.count_conversations(5.0)) == 1
    assert log.conversations_of("u")[0].events == [
        event.data for event in log.read_back("ada").events
    ]
    assert log.append("ada", entries("a"), 5) == 6


def test_does_not_come_back_when_the_server_has_erased_the_open_bucket(
    make_log, collection
):
    log = make_log(record_exp=3600)
    collection.insert_one(rasas_own("ada", 5, user_id="u"))
    log.append("ada", entries("a"), 5)
    collection.delete_one({"_id": "open:ada"})
    for other in (log, make_log()):
        assert other.read_back("ada").events == []
        assert all_batches(other.sender_ids()) == []
        assert other.conversations_of("u") == []
        assert sum(other.count_conversations(0.0)) == 0
    log.append("ada", entries("new"), START)
    assert names(log.read_back("ada")) == ["new"]
    past = dt.datetime(2020, 1, 1)  # noqa: DTZ001
    collection.update_many({}, {"$set": {"check_at": past}})
    assert log.purge_expired() == 1
    assert collection.count_documents({}) == 1


def test_document_of_a_living_conversation_is_not_swept(make_log, collection):
    log = make_log(record_exp=3600)
    collection.insert_one(rasas_own("ada", 5))
    log.append("ada", numbered(600), 5)
    past = dt.datetime(2020, 1, 1)  # noqa: DTZ001
    collection.update_many({"last": None}, {"$set": {"check_at": past}})
    assert log.purge_expired() == 0
    assert len(log.read_back("ada").events) == 605


@pytest.mark.parametrize("continued", [False, True])
def test_number_as_sender_id_of_old_versions(log, collection, continued):
    collection.insert_one(rasas_own(7, 2, user_id="u"))
    expected = [event.data for event in log.read_back("7").events]
    assert len(expected) == 2
    if continued:
        log.append("7", entries("a"), 2)
        expected += texts(entries("a"))
    assert log.conversations_of("u") == [Conversation("7", 1.0, expected)]
    assert all_batches(log.sender_ids()) == ["7"]
    assert sum(log.count_conversations(0.0)) == 1
    assert log.delete("7") is True
    assert collection.count_documents({}) == 0


def test_of_two_documents_one_counts(log, collection):
    collection.insert_one(rasas_own(7, 2, user_id="u"))
    collection.insert_one(rasas_own("7", 3, user_id="v"))
    collection.insert_one(rasas_own("7", 4, user_id="w"))
    assert len(log.read_back("7").events) == 3
    assert log.conversations_of("u") == log.conversations_of("w") == []
    assert len(log.conversations_of("v")[0].events) == 3
    assert all_batches(log.sender_ids()) == ["7"]
    assert sum(log.count_conversations(0.0)) == 1


def test_each_conversation_comes_once(log, collection):
    """A scan may meet its documents far from each other."""
    documents = [rasas_own("ada", 2), rasas_own("grace", 2)]
    documents += [rasas_own(f"other {number}", 1) for number in range(300)]
    documents += [rasas_own("ada", 3), rasas_own("grace", 3)]
    collection.insert_many(documents)
    assert log.append("grace", entries("a"), 2) is not None
    sender_ids = all_batches(log.sender_ids())
    assert len(sender_ids) == len(set(sender_ids)) == 302
    assert sum(log.count_conversations(0.0)) == 302


@pytest.mark.parametrize("fields", [{"events": []}, {}, {"events": None}])
def test_document_without_events_is_no_conversation(log, collection, fields):
    collection.insert_one({"sender_id": "ada", "user_id": "u", **fields})
    collection.insert_one({"something": "else"})
    assert log.read_back("ada").events == []
    assert all_batches(log.sender_ids()) == []
    assert log.conversations_of("u") == []
    assert sum(log.count_conversations(0.0)) == 0
    assert log.append("ada", entries("a"), START)
    assert names(log.read_back("ada")) == ["a"]
    assert log.delete("ada") is True
    assert collection.count_documents({"sender_id": "ada"}) == 0


@pytest.mark.parametrize("sender_id", [{"a": 1}, [1], None, 1.5, True])
def test_sender_id_of_another_type_costs_itself(log, collection, sender_id):
    collection.insert_one(rasas_own(sender_id, 2, user_id="u"))
    log.append("ada", entries("a"), START, User("u", 1.0))
    # MongoDB takes an array for each of its elements.
    named = [str(sender_id)] * isinstance(sender_id, list)
    assert sorted(all_batches(log.sender_ids())) == sorted([*named, "ada"])
    assert [each.sender_id for each in log.conversations_of("u")] == ["ada"]
    assert sum(log.count_conversations(0.0)) == 1 + len(named)


def test_two_logs_continue_a_conversation_at_once(make_log, collection):
    collection.insert_one(rasas_own("ada", 5, user_id="u"))
    logs = [make_log() for _ in range(2)]
    barrier, results = threading.Barrier(2), {}

    def work(number):
        barrier.wait()
        results[number] = logs[number].append("ada", entries(f"of {number}"), 5)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results.values(), key=bool) == [None, 6]
    assert len(names(logs[0].read_back("ada"))) == 6


def test_values_that_json_lacks(log, collection):
    value = {
        "date": dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc),
        "id": bson.ObjectId("5f0000000000000000000000"),
        "binary": b"\x00\xff",
    }
    collection.insert_one({"sender_id": "ada", "events": [{"name": value}]})
    assert names(log.read_back("ada")) == [
        {
            "date": "2020-01-02T03:04:05",
            "id": "5f0000000000000000000000",
            "binary": "AP8=",
        }
    ]


def test_user_is_carried_over(log, collection):
    collection.insert_one(rasas_own("ada", 2, user_id="u"))
    assert log.read_back("ada").user_id == "u"
    log.append("ada", entries("a"), 2)
    assert log.read_back("ada").user_id == "u"
    assert log.conversations_of("u")[0].conversation_started == 1.0
    log.append("ada", entries("b"), end(log), User("v", 9.0))
    assert log.conversations_of("u") == []
    assert log.conversations_of("v")[0].conversation_started == 1.0
