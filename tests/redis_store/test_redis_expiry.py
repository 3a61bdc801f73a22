"""What expires is gone: conversations, users, and sender ids in users' indexes."""

from __future__ import annotations

import pytest

from rasa_trackers.event_log import START, User
from redis_store.redis_logs import address, entries, make_log, names, user_ids_indexed
from servers.process import wait_until
from servers.redis import REDIS, VALKEY, RedisServer

ADA = User("u", 5.0)


@pytest.fixture(scope="module", params=[REDIS, VALKEY])
def server(request):
    with RedisServer(request.param) as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def connect(server, client):
    """Makes open logs."""
    logs = []

    def connect(**options):
        log = make_log({**address(server), **options})
        log.open()
        logs.append(log)
        return log

    yield connect
    for log in logs:
        log.close()


def log_key(client):
    (key,) = client.keys("rasa_trackers:{*")
    return key


def test_all_keys_of_a_user_expire_with_the_last_conversation(client, connect):
    connect(record_exp=1).append("ada", entries("a"), START, ADA)
    # -2 is a key that has expired meanwhile, -1 one that never does.
    assert all(-1 != client.pttl(key) <= 2000 for key in client.keys("*"))
    wait_until(lambda: not client.keys("*"), "expiry")


def test_next_conversation_removes_what_is_due(client, connect):
    log = connect(record_exp=0.2)
    log.append("short", entries("a"), START, ADA)
    connect(record_exp=100).append("long", entries("a"), START, ADA)
    (index,) = user_ids_indexed(client)
    wait_until(lambda: is_due(client, index, "short"), "the date of the entry")
    connect(record_exp=100).append("next", entries("a"), START, ADA)
    assert user_ids_indexed(client) == {index: ["long", "next"]}


def is_due(client, index, name):
    second, microsecond = client.time()
    return client.zscore(index, name) <= second * 1000 + microsecond // 1000


def test_purge_removes_what_is_due(client, connect):
    """Beside a conversation without an expiry date, the index does not expire."""
    log = connect(record_exp=0.2)
    connect().append("for-ever", entries("a"), START, ADA)
    log.append("short", entries("a"), START, ADA)
    (index,) = user_ids_indexed(client)
    assert client.ttl(index) == -1
    assert log.purge_expired() == 0
    wait_until(lambda: is_due(client, index, "short"), "the date of the entry")
    assert log.purge_expired() + log.purge_expired() == 1
    assert log.purge_expired() == 0
    assert user_ids_indexed(client) == {index: ["for-ever"]}


def test_conversation_that_begins_to_expire_takes_its_entry_along(client, connect):
    position = connect().append("ada", entries("a"), START, ADA)
    assert client.ttl(log_key(client)) == -1
    connect(record_exp=0.2).append("ada", entries("b"), position)
    wait_until(lambda: not client.keys("*"), "expiry")


def test_conversation_that_expires_no_more_keeps_its_entry(client, connect):
    expiring, keeping = connect(record_exp=0.3), connect()
    position = expiring.append("ada", entries("a"), START, ADA)
    position = keeping.append("ada", entries("b"), position)
    assert all(client.ttl(key) == -1 for key in client.keys("*"))
    # Back and forth.
    position = expiring.append("ada", entries("c"), position)
    keeping.append("ada", entries("d"), position)
    assert all(client.ttl(key) == -1 for key in client.keys("*"))
    (found,) = keeping.conversations_of("u")
    assert names(found.events) == ["a", "b", "c", "d"]


def test_writer_that_does_not_come_first_shortens_nothing(client, connect):
    connect().append("ada", entries("a"), START, ADA)
    assert connect(record_exp=0.2).append("ada", entries("b"), START, ADA) is None
    assert all(client.ttl(key) == -1 for key in client.keys("*"))


@pytest.mark.parametrize("record_exp", [None, 1000])
@pytest.mark.parametrize("user", [None, ADA, User("v", 6.0)])
def test_replace_leaves_the_expiry_date(client, connect, record_exp, user):
    position = connect(record_exp=100).append("ada", entries("a", "b"), START, ADA)
    log = connect(record_exp=record_exp)
    assert log.replace("ada", entries("c"), position, user) > position
    assert 90_000 < client.pttl(log_key(client)) <= 100_000
    assert names(log.read_back("ada").events) == ["c"]
    (found,) = log.conversations_of(user.user_id if user else "u")
    assert found.sender_id == "ada"
    (index,) = user_ids_indexed(client)
    assert client.pttl(log_key(client)) <= client.pttl(index)


def test_replace_keeps_a_conversation_without_an_expiry_date(client, connect):
    position = connect().append("ada", entries("a"), START, ADA)
    connect(record_exp=1).replace("ada", entries("b"), position, User("v", 1.0))
    assert all(client.ttl(key) == -1 for key in client.keys("*"))


def test_replace_of_an_empty_log_begins_a_life(client, connect):
    connect(record_exp=100).replace("ada", entries("a"), START, ADA)
    assert 90_000 < client.pttl(log_key(client)) <= 100_000


def test_append_of_nothing_to_an_empty_log_writes_nothing(client, connect):
    log = connect(record_exp=100)
    assert log.append("ada", [], START, ADA) == START
    assert log.append("ada", [], 7, ADA) is None
    assert client.keys("*") == []


def test_round_trips_of_an_append_with_a_user(connect, server, client):
    log = connect(record_exp=100)
    position = log.append("ada", entries("a"), START, ADA)
    position = log.append("ada", entries("b"), position, ADA)
    before = client.info("commandstats")
    position = log.append("ada", entries("c"), position, ADA)
    log.read_back("ada", 10)
    after = client.info("commandstats")
    calls = {
        name: stats["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, stats in after.items()
    }
    assert calls["cmdstat_evalsha"] == 2
    assert calls.get("cmdstat_zadd", 0) == 0


def test_users_of_a_log_that_keeps_none(server, client, connect):
    with_users = connect()
    position = with_users.append("ada", entries("a"), START, ADA)
    without = make_log(address(server), users=False)
    assert without.read_back("ada").user_id is None
    assert without.conversations_of("u") == []
    without.append("ada", entries("b"), position, User("v", 1.0))
    assert with_users.read_back("ada").user_id == "u"
    assert without.delete("ada")
    assert client.keys("*") == []
    without.close()


def test_index_of_rasa_pros_own_store_gets_no_expiry_date(client, connect):
    """Its scores are seconds, or infinite."""
    client.zadd("user_trackers:u", {"gone": 1.0, "for-ever": float("inf")})
    log = connect(record_exp=100)
    log.append("ada", entries("a"), START, ADA)
    for left in ([b"for-ever"], [b"for-ever"]):
        assert [each.sender_id for each in log.conversations_of("u")] == ["ada"]
        assert client.zrange("user_trackers:u", 0, -1) == left
        assert client.ttl("user_trackers:u") == -1


def test_halves_of_a_surrogate_pair_are_no_user_id(client, connect):
    with pytest.raises(UnicodeEncodeError):
        connect().append("ada", entries("a"), START, User("\ud83d\ude00", 5.0))
    assert client.keys("*") == []
