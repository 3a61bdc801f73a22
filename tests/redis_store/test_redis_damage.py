"""Rows that others wrote: each bad one costs itself; keys that read like others'."""

from __future__ import annotations

import re

import pytest
import redis

from rasa_trackers.event_log import START, User
from redis_store.redis_logs import address, entries, legacy, make_log, names
from servers.redis import RedisServer

PRO = {"user_id": None, "conversation_started_timestamp": 1.5, "sender_id": "x"}


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def connect(server, client):
    """Makes logs."""
    logs = []

    def connect(**options):
        log = make_log({**address(server), **options})
        logs.append(log)
        return log

    yield connect
    for log in logs:
        log.close()


HEADER = '7 {{"conversation_started": {}, "indexed_until": {}, "user_id": {}}}'


@pytest.mark.parametrize(
    ("header", "listed"),
    [
        (HEADER.format('"x"', "null", '"u"'), True),
        (HEADER.format("NaN", "null", '"u"'), True),
        (HEADER.format("true", "null", '"u"'), True),
        (HEADER.format("1.0", '"x"', '"u"'), True),
        (HEADER.format("1.0", "null", '["u"]'), False),
        (HEADER.format("1.0", "null", '"u" "v"'), False),
        ("7 " + "[" * 100_000, False),
        ("7 null", False),
        ("", False),
        ("x", False),
    ],
    ids=range(10),
)
def test_header_that_is_damaged_costs_itself(client, connect, header, listed):
    log = connect()
    for name in ("a", "b", "c"):
        log.append(name, entries("event"), START, User("u", 5.0))
    client.lset("rasa_trackers:{tracker:b}b", 0, header)
    found = [each.sender_id for each in log.conversations_of("u")]
    assert sorted(found) == (["a", "b", "c"] if listed else ["a", "c"])
    assert sum(log.count_conversations(0.0)) == 3
    assert log.delete("b") is True
    assert log.read_back("b").events == []


def test_append_after_a_damaged_header(client, connect):
    log = connect(record_exp=100)
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    header = client.lindex("rasa_trackers:{tracker:ada}ada", 0)
    damaged = re.sub(b'"indexed_until": [0-9]+', b'"indexed_until": "x"', header)
    assert damaged != header
    client.lset("rasa_trackers:{tracker:ada}ada", 0, damaged)
    assert log.append("ada", entries("b"), position) == position + 1
    assert names(log.read_back("ada").events) == ["a", "b"]
    damaged = HEADER.format("1.0", '"x"', '"u" "v"').replace("7", str(position))
    client.lset("rasa_trackers:{tracker:ada}ada", 0, damaged)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        log.append("ada", entries("c"), position + 2)


def test_user_in_another_spelling_changes(client, connect):
    """JSON can say the same text in several ways."""
    log = connect()
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    header = client.lindex("rasa_trackers:{tracker:ada}ada", 0)
    spelt = header.replace(b'"u"', b'"\\u0075"')
    client.lset("rasa_trackers:{tracker:ada}ada", 0, spelt)
    log.append("ada", entries("b"), position, User("v", None))
    assert log.conversations_of("u") == []
    assert len(log.conversations_of("v")) == 1


def test_legacy_key_of_another_type_costs_itself(client, connect):
    log = connect()
    for name in ("a", "b", "c"):
        log.append(name, entries("event"), START, User("u", 5.0))
    client.hset("tracker:b", "field", 1)
    found = [each.sender_id for each in log.conversations_of("u")]
    assert found == ["a", "b", "c"]


# Conversations of Rasa Pro's own store by two names


@pytest.mark.parametrize("name", ["ada", "tracker:ada"])
@pytest.mark.parametrize("more", [{}, PRO])
@pytest.mark.parametrize("first", ["ada", "tracker:ada"])
def test_conversation_by_its_key_is_that_of_the_sender_id(
    client, connect, name, more, first
):
    """Whoever asks first."""
    client.set("tracker:ada", legacy(name, "old", **more))
    log = connect()
    senders = [each for batch in log.sender_ids() for each in batch]
    assert senders == ["ada"]
    log.read_back(first)
    assert names(log.read_back("ada").events) == ["old"]
    assert log.read_back("tracker:ada").events == []


@pytest.mark.parametrize("name", ["ada", "bot:tracker:ada"])
@pytest.mark.parametrize("more", [{}, PRO])
def test_conversation_of_a_prefix_is_left_to_its_store(client, connect, name, more):
    client.set("bot:tracker:ada", legacy(name, "old", **more))
    without = connect()
    assert [each for batch in without.sender_ids() for each in batch] == []
    assert without.read_back("bot:tracker:ada").events == []
    assert without.append("bot:tracker:ada", entries("new"), START)
    assert without.delete("bot:tracker:ada") is True
    with_prefix = connect(key_prefix="bot")
    assert names(with_prefix.read_back("ada").events) == ["old"]


@pytest.mark.parametrize(
    ("name", "prefix", "sender_id"),
    [
        ("tracker:ada", None, "tracker:ada"),
        ("ada", "tracker", "ada"),
        ("tracker:tracker:ada", "tracker", "ada"),
    ],
)
@pytest.mark.parametrize("first", [None, "tracker"])
def test_key_with_two_marks_has_one_owner(
    client, connect, name, prefix, sender_id, first
):
    client.set("tracker:tracker:ada", legacy(name, "old"))
    for each in (first, None, "tracker"):
        log = connect(key_prefix=each)
        found = [one for batch in log.sender_ids() for one in batch]
        assert found == ([sender_id] if each == prefix else [])
        log.read_back("tracker:ada" if each is None else "ada")
    assert names(connect(key_prefix=prefix).read_back(sender_id).events) == ["old"]


def test_page_before_the_first_event_is_complete_and_empty(connect):
    log = connect()
    last = log.append("ada", entries("a", "b", "c"), START, User("u", 5.0))
    assert log.read_back("ada", 3).complete
    assert not log.read_back("ada", 2).complete
    assert log.read_back("ada", 2, last).complete
    page = log.read_back("ada", 1, last - 2)
    assert (page.events, page.complete, page.user_id) == ([], True, None)
    assert log.read_back("ada", None, 1) == page
