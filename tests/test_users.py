"""What event logs promise about users, on every backend. Only Rasa Pro knows users."""

from __future__ import annotations

import asyncio
import json

import pytest

from backends import DURABLE
from rasa_api import backend_log
from rasa_trackers.event_log import START, Conversation, Entry, User


@pytest.fixture
def log(store):
    return backend_log(store)


def text(name: str, timestamp: float = 1.0) -> str:
    return json.dumps({"event": "slot", "name": name, "timestamp": timestamp})


def entries(*names: str, timestamp: float = 1.0):
    return [
        Entry(text(name, timestamp), "slot", timestamp, None, name) for name in names
    ]


def sender_ids(log, user_id: str, **paging):
    return [found.sender_id for found in log.conversations_of(user_id, **paging)]


#: Appends that fit into one message to the server, and some that do not.
@pytest.mark.parametrize("count", [1, 8, 400])
def test_user_is_kept_with_the_log(log, count):
    names = [str(number) for number in range(count)]
    assert log.append("ada", entries(*names), START, User("u", 5.0)) is not None
    assert log.read_back("ada", limit=1).user_id == "u"
    assert log.read_back("ada").user_id == "u"
    assert log.conversations_of("u") == [
        Conversation("ada", 5.0, [text(name) for name in names])
    ]


def test_log_without_a_user_has_none(log):
    log.append("ada", entries("a"), START)
    assert log.read_back("ada", limit=1).user_id is None
    assert log.read_back("unknown", limit=1).user_id is None
    assert log.conversations_of("ada") == []


def test_append_without_a_user_leaves_it_as_it_is(log):
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    log.append("ada", entries("b"), position)
    assert log.read_back("ada").user_id == "u"
    assert log.conversations_of("u") == [
        Conversation("ada", 5.0, [text("a"), text("b")])
    ]


def test_append_that_is_refused_leaves_the_user_as_it_is(log):
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    assert log.append("ada", entries("b"), START, User("v", 6.0)) is None
    assert log.append("ada", [], position + 1, User("v", 6.0)) is None
    assert sender_ids(log, "u") == ["ada"]
    assert sender_ids(log, "v") == []


@pytest.mark.parametrize("names", [[], ["b"]])
def test_user_of_a_log_that_is_there_already(log, names):
    position = log.append("ada", entries("a"), START)
    end = log.append("ada", entries(*names), position, User("u", 5.0))
    assert end == log.read_back("ada").events[-1].position
    assert (end == position) is (names == [])
    assert log.conversations_of("u") == [
        Conversation("ada", 5.0, [text(name) for name in ["a", *names]])
    ]


def test_no_user_of_a_log_that_is_empty(log):
    log.append("ada", [], START, User("u", 5.0))
    assert sender_ids(log, "u") == []
    assert list(log.sender_ids()) == []


def test_conversation_that_changes_its_user(log):
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    log.append("ada", entries("b"), position, User("v", 7.0))
    assert sender_ids(log, "u") == []
    # When it began is known already.
    assert log.conversations_of("v") == [
        Conversation("ada", 5.0, [text("a"), text("b")])
    ]
    assert log.read_back("ada").user_id == "v"


def test_when_it_began_is_filled_in(log):
    position = log.append("ada", entries("a"), START, User("u", None))
    assert log.conversations_of("u")[0].conversation_started is None
    log.append("ada", entries("b"), position, User("u", 5.0))
    assert log.conversations_of("u")[0].conversation_started == 5.0


def test_conversations_come_in_the_order_of_their_beginnings(log):
    for name, began in [("c", 2.0), ("b", 2.0), ("a", 3.0), ("z", None), ("y", 0.5)]:
        log.append(name, entries(name), START, User("u", began))
    log.append("other", entries("other"), START, User("v", 1.0))
    log.append("nobodys", entries("nobodys"), START)
    expected = ["z", "y", "b", "c", "a"]
    assert sender_ids(log, "u") == expected
    for skip in range(7):
        assert sender_ids(log, "u", skip=skip) == expected[skip:]
        for limit in range(1, 7):
            found = sender_ids(log, "u", limit=limit, skip=skip)
            assert found == expected[skip : skip + limit]


def test_many_conversations_of_a_user(log):
    """More than 1,000, which is what Oracle takes in one IN."""
    names = [f"{number:04}" for number in range(1010)]
    for name in names:
        log.append(name, entries("a"), START, User("u", 1.0))
    assert sender_ids(log, "u") == names


def test_deleted_conversation_is_nobodys(log):
    log.append("ada", entries("a"), START, User("u", 5.0))
    log.append("grace", entries("a"), START, User("u", 6.0))
    log.delete("ada")
    assert sender_ids(log, "u") == ["grace"]
    log.append("ada", entries("b"), START)
    assert log.read_back("ada").user_id is None
    assert sender_ids(log, "u") == ["grace"]
    # And may be somebody's again, having begun anew.
    position = log.read_back("ada").events[-1].position
    log.append("ada", entries("c"), position, User("u", 7.0))
    assert sender_ids(log, "u") == ["grace", "ada"]


def test_replace_keeps_the_user(log):
    position = log.append("ada", entries("a", "b"), START, User("u", 5.0))
    log.replace("ada", entries("b"), position)
    assert log.conversations_of("u") == [Conversation("ada", 5.0, [text("b")])]
    assert log.read_back("ada").user_id == "u"


def test_replace_with_another_user_and_beginning(log):
    position = log.append("ada", entries("a", "b"), START, User("u", 5.0))
    log.replace("ada", entries("b"), position, User("v", 6.0))
    assert sender_ids(log, "u") == []
    assert log.conversations_of("v") == [Conversation("ada", 6.0, [text("b")])]


def test_replace_that_is_refused_leaves_the_user_as_it_is(log):
    position = log.append("ada", entries("a", "b"), START, User("u", 5.0))
    assert log.replace("ada", entries("b"), position + 1, User("v", 6.0)) is None
    assert sender_ids(log, "u") == ["ada"]


def test_conversation_that_is_replaced_by_nothing_is_nobodys(log):
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    log.replace("ada", [], position, User("u", 5.0))
    assert sender_ids(log, "u") == []
    log.append("ada", entries("b"), START)
    assert log.read_back("ada").user_id is None


async def test_expired_conversation_is_nobodys(make_store, eventually):
    log = backend_log(make_store(record_exp=1.5))
    log.append("ada", entries("a"), START, User("u", 5.0))
    assert sender_ids(log, "u") == ["ada"]

    async def gone():
        return not sender_ids(log, "u")

    await eventually(gone)
    assert log.read_back("ada").user_id is None
    assert log.count_conversations(0.0) == 0
    # As one that was never there.
    log.append("ada", entries("b"), START)
    assert log.read_back("ada").user_id is None
    assert sender_ids(log, "u") == []
    log.append("grace", entries("b"), START, User("u", 8.0))
    assert log.conversations_of("u") == [Conversation("grace", 8.0, [text("b")])]


async def test_each_append_renews_what_leads_to_the_conversation(make_store):
    log = backend_log(make_store(record_exp=2.0))
    position = START
    for name in "abcdef":
        position = log.append("ada", entries(name), position, User("u", 5.0))
        assert position is not None
        await asyncio.sleep(0.5)
    assert sender_ids(log, "u") == ["ada"]


@pytest.mark.parametrize("backend", DURABLE, indirect=True)
async def test_user_outlives_an_append_that_knows_no_expiry(make_store):
    """One worker has record_exp, another has not: the conversation stays."""
    expiring, keeping = (
        backend_log(make_store(record_exp=0.3)),
        backend_log(make_store()),
    )
    position = expiring.append("ada", entries("a"), START, User("u", 5.0))
    keeping.append("ada", entries("b"), position, User("u", 5.0))
    await asyncio.sleep(0.7)
    expiring.purge_expired()
    assert sender_ids(keeping, "u") == ["ada"]
    assert sender_ids(expiring, "u") == ["ada"]


async def test_users_whose_conversations_have_expired_are_erased(make_store):
    log = backend_log(make_store(record_exp=0.2))
    log.append("ada", entries("a"), START, User("u", 5.0))
    await asyncio.sleep(0.5)
    log.purge_expired()
    assert sender_ids(log, "u") == []
    assert list(log.sender_ids()) == []


@pytest.mark.parametrize(
    "user_id", ["u v", "ü", "😀", "u'\"\\", "u%_*", "{u}", "a:b", "$x", "U"]
)
def test_user_ids_of_any_text(log, user_id):
    log.append("ada", entries("a"), START, User(user_id, 5.0))
    log.append("grace", entries("a"), START, User("u", 5.0))
    assert sender_ids(log, user_id) == ["ada"]
    assert log.read_back("ada").user_id == user_id


def test_user_ids_that_are_sender_ids(log):
    log.append("ada", entries("a"), START, User("ada", 5.0))
    log.append("grace", entries("a"), START, User("ada", 6.0))
    assert sender_ids(log, "ada") == ["ada", "grace"]
    assert sorted(log.sender_ids()) == ["ada", "grace"]
    log.delete("ada")
    assert sorted(log.sender_ids()) == ["grace"]
    assert sender_ids(log, "ada") == ["grace"]


@pytest.mark.parametrize("backend", DURABLE, indirect=True)
async def test_two_writers_that_begin_a_users_conversations_at_once(make_store):
    logs = [backend_log(make_store()) for _ in range(2)]
    names = [str(number) for number in range(20)]

    def begin(log):
        for name in names:
            log.append(name, entries("a"), START, User("u", 5.0))

    await asyncio.gather(*(asyncio.to_thread(begin, log) for log in logs))
    assert sorted(sender_ids(logs[0], "u")) == sorted(names)


# Counting


def test_count_of_conversations(log):
    assert log.count_conversations(0.0) == 0
    position = log.append("ada", entries("a", timestamp=10.0), START)
    log.append("grace", entries("a", timestamp=20.0), START)
    log.append("ada", entries("b", "c", timestamp=30.0), position)
    assert log.count_conversations(0.0) == 2
    assert log.count_conversations(20.0) == 2
    assert log.count_conversations(20.5) == 1
    assert log.count_conversations(30.0) == 1
    assert log.count_conversations(31.0) == 0
    log.delete("ada")
    assert log.count_conversations(0.0) == 1


def test_count_of_conversations_some_of_which_have_no_timestamp(log):
    log.append("ada", [Entry("damaged", "slot", None, None, None)], START)
    log.append("grace", entries("a", timestamp=20.0), START)
    assert log.count_conversations(0.0) == 1


def test_count_of_conversations_with_a_timestamp_that_no_number_holds(log):
    odd = text("a").replace("1.0", "1" + 400 * "0")
    log.append("odd", [Entry(odd, "slot", None, None, "a")], START)
    log.append("even", entries("a", timestamp=5.0), START)
    assert log.count_conversations(0.0) == 1


def test_count_of_many_conversations(log):
    for number in range(300):
        log.append(str(number), entries("a", timestamp=number), START)
    assert log.count_conversations(0.0) == 300
    assert log.count_conversations(100.0) == 200
