"""Users in Redis and Valkey: their indexes, and what Rasa Pro's own store left.

Only Rasa Pro knows of users.
"""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
import redis
from rasa.shared.exceptions import ConnectionException, RasaException

from backends import redis_endpoint
from contract.logs import all_sender_ids, count
from conversations import add, as_dicts, dicts, session_start, tracker, turn
from rasa_api import backend_log
from rasa_trackers.event_log import START, Conversation, Entry, User
from rasa_trackers.redis import (
    batches,
    scanning,
    scripts,
    user_conversations,
    user_index,
)
from rasa_trackers.redis.keys import Namespace
from rasa_trackers.redis.transport import Transport
from rasa_trackers.redis.user_index import UserIndex
from redis_fixtures import on_servers
from servers.redis import REDIS, VALKEY, RedisCluster, RedisServer

NAMES = Namespace(None, with_rasa_1=True)

on_both_flavours = pytest.mark.parametrize("flavour", [REDIS, VALKEY])
#: The last one loses its colon in the keys of Pro's own indexes.
any_prefix = pytest.mark.parametrize("key_prefix", [None, "bot1", "mytracker"])


@pytest.fixture
def pros_store(load, server, domain):
    """Makes Rasa Pro's own stores."""

    def pros_store(**options):
        endpoint = {"url": "localhost", **redis_endpoint(server, **options)}
        return load({**endpoint, "type": "redis"}, domain)

    return pros_store


def entry(name: str, timestamp: float = 1.0) -> Entry:
    data = json.dumps({"event": "slot", "name": name, "timestamp": timestamp})
    return Entry(data, "slot", timestamp, None, name)


def of(user_id, sender_id, events):
    """A user's tracker."""
    made = tracker(sender_id, events)
    made.user_id = user_id
    return made


def sender_ids(log, user_id, **paging):
    return [found.sender_id for found in log.conversations_of(user_id, **paging)]


def entries_of(client, log, user_id):
    """The sender ids in both indexes of a user: ours, and that of Rasa Pro's store."""
    keys = log.namespace.of_user(user_id)
    return [sorted(name.decode() for name in client.zrange(key, 0, -1)) for key in keys]


def just_before(monkeypatch, script, action):
    """Let something happen once, just before any log runs a script."""
    evaluate = Transport.evaluate

    def evaluate_after(self, that, *arguments):
        if that is script:
            monkeypatch.setattr(Transport, "evaluate", evaluate)
            action()
        return evaluate(self, that, *arguments)

    monkeypatch.setattr(Transport, "evaluate", evaluate_after)


def fail():
    raise redis.ConnectionError("the connection is lost")


# What Rasa Pro's own store left


@on_servers
@any_prefix
@pytest.mark.parametrize("first", ["conversations", "users"])
async def test_conversations_of_rasa_pros_own_store_are_found(
    client, connect, pros_store, key_prefix, first
):
    pro = pros_store(key_prefix=key_prefix)
    kept = {name: session_start() + turn() for name in ("b", "c", "a", "{x}y", "ü")}
    for name in reversed(list(kept)):
        await pro.save(of("u", name, kept[name]))
    await pro.save(of("v", "other", session_start()))
    await pro.save(tracker("nobodys", session_start()))
    theirs = await pro.get_serialized_trackers_by_user_id("u")
    assert [found["sender_id"] for found in theirs] == list(kept)
    store = connect(key_prefix=key_prefix)
    if first == "conversations":
        for name, events in kept.items():
            retrieved = await store.retrieve(name)
            assert as_dicts(retrieved) == dicts(events)
            assert retrieved.user_id == "u"
    assert await store.get_serialized_trackers_by_user_id("u") == theirs
    assert sender_ids(backend_log(store), "u", limit=2, skip=1) == ["c", "a"]
    assert sender_ids(backend_log(store), "v") == ["other"]
    assert sender_ids(backend_log(store), "nobodys") == []
    assert entries_of(client, backend_log(store), "u") == [sorted(kept), []]
    assert await pro.get_serialized_trackers_by_user_id("u") == []


@pytest.mark.parametrize("started", [1, 0.1 + 0.2, 1732500000.123457, None, True])
def test_beginning_is_taken_over_exactly(client, connect, started):
    dialogue = {
        "events": [json.loads(entry("a").data)],
        "name": "ada",
        "user_id": "u",
        "conversation_started_timestamp": started,
    }
    client.set("tracker:ada", json.dumps(dialogue))
    client.zadd("user_trackers:u", {"ada": float("inf")})
    expected = None if started is True else started
    assert backend_log(connect()).conversations_of("u") == [
        Conversation("ada", expected, [entry("a").data])
    ]


@on_servers
async def test_worker_with_rasa_pros_own_store_is_still_at_it(
    client, connect, pros_store
):
    pro, store = pros_store(), connect()
    kept = of("u", "ada", session_start())
    await pro.save(kept)
    assert sender_ids(backend_log(store), "u") == ["ada"]
    # What it goes on with, and what it begins.
    add(kept, turn())
    await pro.save(kept)
    new = session_start()
    await pro.save(of("u", "grace", new))
    found = await store.get_serialized_trackers_by_user_id("u")
    assert [each["sender_id"] for each in found] == ["ada", "grace"]
    assert [each["events"] for each in found] == [as_dicts(kept), dicts(new)]
    assert entries_of(client, backend_log(store), "u") == [["ada", "grace"], []]


async def test_users_of_both_stores_the_logs_own_counts(client, connect, pros_store):
    store = connect()
    backend_log(store).append("ada", [entry("a")], START, User("u", 5.0))
    kept = of("v", "ada", session_start())
    await pros_store().save(kept)
    assert sender_ids(backend_log(store), "v") == []
    ((sender_id, started, events),) = backend_log(store).conversations_of("u")
    assert (sender_id, started, len(events)) == ("ada", 5.0, 4)


def test_user_of_rasa_pros_is_that_of_a_log_without_one(client, connect):
    log = backend_log(connect())
    log.append("ada", [entry("a")], START)
    dialogue = {"events": [json.loads(entry("b").data)], "name": "ada", "user_id": "u"}
    client.set("tracker:ada", json.dumps(dialogue))
    assert log.read_back("ada").user_id == "u"
    assert log.conversations_of("u") == [
        Conversation("ada", None, [entry("a").data, entry("b").data])
    ]


@on_servers
async def test_dead_entries_of_rasa_pros_are_not_answered(
    client, connect, pros_store, monkeypatch
):
    pro, log = pros_store(record_exp=1000), backend_log(connect())
    for name in ("expired", "lives"):
        await pro.save(of("u", name, session_start()))
    client.delete("tracker:expired")
    index = NAMES.of_user("u").legacy
    client.zadd(index, {"for-ever": float("inf"), b"\xff": 1.0})
    assert sender_ids(log, "u") == ["lives"]
    # What expired long ago is cleared away; what may be on its way is not.
    assert client.zrange(index, 0, -1) == [b"expired", b"for-ever"]
    client.zadd(index, {"expired": 1.0})
    assert sender_ids(log, "u") == ["lives"]
    assert client.zrange(index, 0, -1) == [b"for-ever"]


async def test_index_lives_as_long_as_what_was_taken_over(client, connect, pros_store):
    await pros_store(record_exp=5000).save(of("u", "ada", session_start()))
    log = backend_log(connect())
    keys = NAMES.of_user("u")
    assert sender_ids(log, "u") == ["ada"]
    kept = client.pttl(NAMES.of("ada").log)
    assert 4_900_000 < kept <= 5_000_000
    assert client.pttl(keys.conversations) > kept
    await pros_store().save(of("u", "grace", session_start()))
    assert sender_ids(log, "u") == ["ada", "grace"]
    assert client.ttl(NAMES.of("grace").log) == -1
    assert client.ttl(keys.conversations) == -1


def test_expiry_that_a_later_takeover_moves_on(client, connect):
    """Rasa's own store may not say whose it is."""
    log = backend_log(connect(record_exp=1000))
    log.append("ada", [entry("a")], START, User("u", 5.0))
    dialogue = {"events": [json.loads(entry("b").data)], "name": "ada"}
    client.set("tracker:ada", json.dumps(dialogue), ex=100_000)
    log.read_back("ada", limit=1)
    kept = client.pttl(NAMES.of("ada").log)
    assert kept > 99_000_000
    assert client.pttl(NAMES.of_user("u").conversations) > kept


async def test_delete_of_what_rasa_pros_store_left(client, connect, pros_store):
    await pros_store().save(of("u", "ada", session_start()))
    assert backend_log(connect()).delete("ada") is True
    assert client.keys() == []


def test_index_of_rasa_pros_that_is_none(client, connect):
    """A conversation's key can read the same."""
    client.set("user_trackers:u", "text")
    log = backend_log(connect())
    log.append("ada", [entry("a")], START, User("u", 5.0))
    assert sender_ids(log, "u") == ["ada"]
    assert log.delete("ada")
    assert client.get("user_trackers:u") == b"text"


# Between two steps


def test_crash_between_the_index_and_the_append(connect, client, monkeypatch):
    log = backend_log(connect())
    just_before(monkeypatch, scripts.WRITE, fail)
    with pytest.raises(redis.ConnectionError):
        log.append("ada", [entry("a")], START, User("u", 5.0))
    assert entries_of(client, log, "u") == [["ada"], []]
    assert sender_ids(log, "u") == []
    assert all_sender_ids(log) == []
    assert log.read_back("ada").user_id is None
    log.append("ada", [entry("a")], START, User("u", 5.0))
    assert log.conversations_of("u") == [Conversation("ada", 5.0, [entry("a").data])]


def test_crash_before_the_index(connect, client, monkeypatch):
    """Nothing is there that could not be found."""
    log = backend_log(connect())
    position = log.append("ada", [entry("a")], START)
    just_before(monkeypatch, scripts.INDEX_ADD, fail)
    with pytest.raises(redis.ConnectionError):
        log.append("ada", [entry("b")], position, User("u", 5.0))
    page = log.read_back("ada")
    assert (len(page.events), page.user_id) == (1, None)


def test_crash_after_the_append(connect, client, monkeypatch):
    log = backend_log(connect())
    evaluate = Transport.evaluate

    def evaluate_and_fail(self, script, *arguments):
        reply = evaluate(self, script, *arguments)
        return fail() if script is scripts.WRITE else reply

    monkeypatch.setattr(Transport, "evaluate", evaluate_and_fail)
    with pytest.raises(redis.ConnectionError):
        log.append("ada", [entry("a")], START, User("u", 5.0))
    assert sender_ids(log, "u") == ["ada"]


async def test_save_whose_every_step_fails_once(connect, client, monkeypatch):
    store = connect()
    for script in (scripts.INDEX_ADD, scripts.WRITE, scripts.READ_BACK):
        just_before(monkeypatch, script, fail)
    kept = of("u", "ada", session_start())
    await store.save(kept)
    add(kept, turn())
    await store.save(kept)
    (found,) = await store.get_serialized_trackers_by_user_id("u")
    assert found["events"] == as_dicts(kept)


def test_erased_between_the_index_and_the_append(connect, client, monkeypatch):
    """Another writer has begun the conversation, a third erases it."""
    log, other = backend_log(connect()), backend_log(connect())

    def begin_and_erase():
        other.append("ada", [entry("a")], START, User("u", 4.0))
        assert other.delete("ada")
        assert entries_of(client, log, "u") == [[], []]

    just_before(monkeypatch, scripts.WRITE, begin_and_erase)
    log.append("ada", [entry("b")], START, User("u", 5.0))
    assert log.conversations_of("u") == [Conversation("ada", 5.0, [entry("b").data])]


@pytest.mark.parametrize("erases", ["delete", "replace"])
def test_begun_anew_while_it_is_erased(connect, client, monkeypatch, erases):
    log, other = backend_log(connect()), backend_log(connect())
    position = log.append("ada", [entry("a")], START, User("u", 4.0))

    def begin():
        assert other.append("ada", [entry("b")], START, User("u", 5.0))

    just_before(monkeypatch, scripts.INDEX_REMOVE, begin)
    if erases == "delete":
        assert log.delete("ada")
    else:
        assert log.replace("ada", [], position) == START
    assert sender_ids(log, "u") == ["ada"]


def test_erased_while_its_user_changes(connect, client, monkeypatch):
    """The entry of the user that it has by then is looked up anew."""
    log, other = backend_log(connect()), backend_log(connect())
    position = log.append("ada", [entry("a")], START, User("u", 4.0))

    def change():
        assert other.append("ada", [], position, User("v", None)) == position

    just_before(monkeypatch, scripts.INDEX_LOOK_UP, change)
    assert log.delete("ada")
    assert client.keys() == []


@on_servers
async def test_writers_and_erasers_at_once(connect, server):
    """Whatever comes first: what is there is found."""
    logs = [backend_log(connect()) for _ in range(4)]
    names = [f"user-{number}" for number in range(10)]

    def work(number):
        log = logs[number]
        for round_ in range(15):
            for name in names:
                if number == 0:
                    log.delete(name)
                    continue
                events = log.read_back(name, limit=1).events
                after = events[-1].position if events else START
                user = User("uv"[round_ % 2], 1.0)
                log.append(name, [entry("a")], after, user)

    await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(4)))
    log = logs[0]
    pages = {name: log.read_back(name) for name in names}
    for user_id in ("u", "v"):
        expected = [name for name in names if pages[name].user_id == user_id]
        assert sorted(sender_ids(log, user_id)) == sorted(expected)
    assert all(page.user_id for page in pages.values() if page.events)


# What is left over


@on_servers
@pytest.mark.parametrize("key_prefix", [None, "a{b}"])
def test_nothing_is_left_of_what_is_erased(connect, client, key_prefix):
    log = backend_log(connect(key_prefix=key_prefix))
    position = log.append("ada", [entry("a")], START, User("u", 5.0))
    position = log.append("ada", [entry("b")], position, User("v", None))
    assert entries_of(client, log, "u") == [[], []]
    position = log.replace("ada", [entry("b")], position, User("w", None))
    assert entries_of(client, log, "v") == [[], []]
    log.append("grace", [entry("a")], START, User("w", 5.0))
    assert log.delete("ada")
    assert entries_of(client, log, "w") == [["grace"], []]
    position = log.read_back("grace").events[-1].position
    assert log.replace("grace", [], position) == START
    assert list(client.scan_iter()) == []
    assert log.delete("grace") is False


def test_entry_that_is_noted_again_while_it_is_removed(connect, client, monkeypatch):
    log, other = backend_log(connect()), backend_log(connect())
    monkeypatch.setattr(user_index, "_GRACE", 0)
    log.append("ada", [entry("a")], START, User("u", 5.0))
    client.delete(NAMES.of("ada").log)

    def begin():
        other.append("ada", [entry("b")], START, User("u", 6.0))

    just_before(monkeypatch, scripts.INDEX_REMOVE, begin)
    assert sender_ids(log, "u") == []
    assert sender_ids(log, "u") == ["ada"]


# Expiry


# Names


USERS = [
    "u",
    "ü 😀",
    "{}",
    "}{",
    "a}b",
    "{x}y",
    "u:tracker:x",
    "tracker:x",
    "a\nb\0c",
    "",
]


@on_servers
@pytest.mark.parametrize("key_prefix", [None, "a{b}", "user_trackers", "tracker"])
def test_indexes_are_no_conversations(connect, client, key_prefix):
    log = backend_log(connect(key_prefix=key_prefix))
    for user_id in USERS:
        log.append(f"of {user_id}", [entry("a")], START, User(user_id, 5.0))
        client.zadd(NAMES.of_user(user_id).legacy, {"nobody": float("inf")})
    mine = sorted(f"of {user_id}" for user_id in USERS)
    assert all_sender_ids(log) == mine
    assert count(log, 0.0) == len(mine)
    for user_id in USERS:
        assert sender_ids(log, user_id) == [f"of {user_id}"]
    for other in (None, "a", "rasa_trackers", "rasa_trackers:users:{user_trackers:u"):
        if other != key_prefix:
            assert all_sender_ids(backend_log(connect(key_prefix=other))) == []
    assert all_sender_ids(log) == mine


@on_servers
def test_users_of_prefixes_are_apart(connect):
    prefixes = [None, "a", "a:rasa_trackers", "a:rasa_trackers:users", "users", "%7B"]
    logs = {prefix: backend_log(connect(key_prefix=prefix)) for prefix in prefixes}
    for prefix, log in logs.items():
        log.append(f"of {prefix}", [entry("a")], START, User("u", 5.0))
    for prefix, log in logs.items():
        assert sender_ids(log, "u") == [f"of {prefix}"]


# Cost, and what a server does


@on_servers
@pytest.mark.parametrize("limit", [None, 3])
def test_conversations_in_several_batches(connect, monkeypatch, limit):
    monkeypatch.setattr(batches, "BATCH", 7)
    monkeypatch.setattr(user_conversations, "MOST_EVENTS", 40)
    log = backend_log(connect())
    expected = []
    for number in range(30):
        events = [entry(str(each)) for each in range(1 + 50 * (number % 5 == 0))]
        log.append(str(number), events, START, User("u", float(number)))
        data = [each.data for each in events]
        expected.append(Conversation(str(number), float(number), data))
    answers = []
    execute_all = Transport.execute_all

    def execute_and_count(self, commands):
        replies = execute_all(self, commands)
        if commands and commands[0][0] == "LRANGE":
            answers.append([len(reply) for reply in replies])
        return replies

    monkeypatch.setattr(Transport, "execute_all", execute_and_count)
    for skip in (0, 1, 26, 29, 30):
        found = log.conversations_of("u", limit, skip)
        assert found == expected[skip:][:limit]
    assert all(sum(answer) <= 40 or len(answer) == 1 for answer in answers)
    assert any(len(answer) > 1 for answer in answers)
    assert count(log, 0.0) == 30


def test_round_trips(connect, redis_proxy):
    log = backend_log(connect(port=redis_proxy.port))
    for number in range(100):
        log.append(f"{number:03}", [entry("a")], START, User("u", 5.0))
    before = redis_proxy.round_trips
    assert len(log.conversations_of("u")) == 100
    # The index, what the logs say of themselves, the events; each in some pieces.
    assert redis_proxy.round_trips < before + 20
    before = redis_proxy.round_trips
    assert count(log, 0.0) == 100
    # SCAN, the last events, whether Rasa's own store left anything.
    assert redis_proxy.round_trips < before + 20
    position = log.read_back("000", limit=1).events[-1].position
    before = redis_proxy.round_trips
    log.append("000", [entry("a")], position, User("u", 5.0))
    assert redis_proxy.round_trips == before + 1


def test_conversation_that_is_erased_while_it_is_read(connect, monkeypatch):
    log, other = backend_log(connect()), backend_log(connect())
    for name in ("a", "b", "c"):
        log.append(name, [entry("a")], START, User("u", 5.0))
    execute_all = Transport.execute_all

    def erase_and_read(self, commands):
        if commands[0][0] == "LRANGE":
            other.delete("b")
        return execute_all(self, commands)

    monkeypatch.setattr(Transport, "execute_all", erase_and_read)
    assert sender_ids(log, "u") == ["a", "c"]


def test_conversation_whose_key_holds_something_else(connect, client):
    log = backend_log(connect())
    for name in ("a", "b", "c"):
        log.append(name, [entry("a")], START, User("u", 5.0))
    client.set(NAMES.of("a").log, "text")
    client.delete(NAMES.of("b").log)
    client.rpush(NAMES.of("b").log, "not ours", "{}")
    assert sender_ids(log, "u") == ["c"]


@on_both_flavours
def test_erasure_while_memory_is_full(load, flavour):
    with RedisServer(flavour) as server, server.client() as client:
        log = backend_log(load(redis_endpoint(server)))
        log.append("ada", [entry("a")], START, User("u", 5.0))
        dialogue = {"events": [], "name": "grace", "user_id": "u"}
        client.set("tracker:grace", json.dumps(dialogue))
        client.zadd("user_trackers:u", {"grace": float("inf")})
        client.config_set("maxmemory", 1)
        assert log.delete("ada") is True
        assert log.delete("grace") is True
        assert sender_ids(log, "u") == []
        assert entries_of(client, log, "u")[0] == []


@on_both_flavours
async def test_slot_that_moves(load, flavour):
    with RedisCluster(flavour) as cluster:
        store = load(redis_endpoint(cluster))
        log = backend_log(store)
        names = ["ada", "grace"]
        for name in names:
            log.append(name, [entry("a")], START, User("u", 5.0))
        cluster.move_slot(NAMES.of("ada").log)
        cluster.move_slot(NAMES.of_user("u").conversations)
        assert sender_ids(log, "u") == names
        assert count(log, 0.0) == 2
        # And one that is just moving: the index is not where it was, nor is Rasa's.
        key = NAMES.of_user("u").conversations
        source = cluster.owner(key)
        target = next(node for node in cluster.nodes if node is not source)
        with source.client() as giver, target.client() as taker:
            slot = giver.execute_command("CLUSTER KEYSLOT", key)
            ids = [
                one.execute_command("CLUSTER MYID").decode() for one in (giver, taker)
            ]
            taker.execute_command(f"CLUSTER SETSLOT {slot} IMPORTING {ids[0]}")
            giver.execute_command(f"CLUSTER SETSLOT {slot} MIGRATING {ids[1]}")
            for moves in (False, True):
                if moves:
                    giver.migrate(target.host, target.port, key, 0, 10_000)
                assert sender_ids(log, "u") == names
                names.append(str(moves))
                log.append(str(moves), [entry("a")], START, User("u", 6.0))
                assert sender_ids(log, "u") == names
                assert log.delete(names.pop())
                assert sender_ids(log, "u") == names
            for one in (taker, giver):
                one.execute_command(f"CLUSTER SETSLOT {slot} NODE {ids[1]}")
        assert sender_ids(log, "u") == names


async def test_node_that_is_away_is_an_error(load):
    """A part of the conversations must not pass for all."""
    with RedisCluster() as cluster:
        store = load(redis_endpoint(cluster, timeout=1))
        for number in range(20):
            await store.save(of("u", str(number), session_start()))
        own = cluster.owner(NAMES.of_user("u").conversations)
        next(node for node in cluster.nodes if node is not own).kill()
        with pytest.raises(ConnectionException):
            await store.get_serialized_trackers_by_user_id("u")
        with pytest.raises(ConnectionException):
            await store.count_conversations()


async def test_user_who_may_not_use_the_index(load):
    with RedisServer(VALKEY) as server:
        with server.client() as client:
            rights = "on >secret ~rasa_trackers:* ~tracker:* +@all"
            client.execute_command("ACL", "SETUSER", "rasa", *rights.split())
        store = load(redis_endpoint(server, username="rasa", password="secret"))
        await store.save(tracker("ada", session_start()))
        with pytest.raises(RasaException, match="ACL SETUSER"):
            await store.save(of("u", "grace", session_start()))


# Counting


def rasas_text(name, *timestamps):
    events = [json.loads(entry("a", timestamp).data) for timestamp in timestamps]
    return json.dumps({"events": events, "name": name})


@on_servers
@any_prefix
def test_count_with_what_rasas_own_store_left(connect, client, key_prefix, monkeypatch):
    monkeypatch.setattr(scanning, "MOST_BYTES", 100)
    log = backend_log(connect(key_prefix=key_prefix))
    names = Namespace(key_prefix, with_rasa_1=True)
    rasas = names.of("").legacy.decode()
    log.append("ours", [entry("a", 1.0), entry("b", 10.0)], START)
    log.append("both", [entry("a", 10.0)], START)
    client.set(f"{rasas}both", rasas_text("both", 1.0, 30.0))
    client.set(f"{rasas}theirs", rasas_text("theirs", 1.0, 20.0))
    client.set(f"{rasas}empty", rasas_text("empty"))
    client.set(f"{rasas}damaged", "{")
    client.hset(f"{rasas}hash", "field", 1)
    client.hset(names.of("hash").log, "field", 1)
    before = {key: client.dump(key) for key in client.scan_iter()}
    for after_timestamp, expected in [
        (0.0, 3),
        (10.5, 2),
        (20.0, 2),
        (25.0, 1),
        (31.0, 0),
    ]:
        assert count(log, after_timestamp) == expected
    assert {key: client.dump(key) for key in client.scan_iter()} == before


def test_count_with_what_rasa_1_left(connect, client):
    log = backend_log(connect())
    client.set("ada", rasas_text("ada", 10.0))
    client.set("other", rasas_text("another", 10.0))
    log.append("both", [entry("a", 1.0)], START)
    client.set("both", "not Rasa's")
    log.append("hash", [entry("a", 1.0)], START)
    client.hset("hash", "field", 1)
    assert count(log, 0.0) == 3
    assert count(log, 5.0) == 1


# Others who are faster each time


@on_servers
@pytest.mark.parametrize("call", ["append", "delete"])
def test_conversation_that_changes_hands_all_the_time(connect, monkeypatch, call):
    """An error in the end, and not a call that never returns."""
    log, other = backend_log(connect()), backend_log(connect())
    end = other.append("ada", [entry("a")], START, User("u0", 1.0))
    looks = []
    look_up = UserIndex.look_up

    def change_hands(self, user_id, sender_id):
        found = look_up(self, user_id, sender_id)
        if changing.acquire(blocking=False):
            looks.append(user_id)
            assert len(looks) < 1000
            other.append("ada", [], end, User(f"u{len(looks)}", None))
            changing.release()
        return found

    changing = threading.Lock()
    monkeypatch.setattr(UserIndex, "look_up", change_hands)
    arguments = ([], end, User("v", None)) if call == "append" else ()
    with pytest.raises(redis.ConnectionError, match="others have changed") as raised:
        getattr(log, call)("ada", *arguments)
    assert log.classify(raised.value).transient
    monkeypatch.undo()
    last = f"u{len(looks)}"
    assert sender_ids(log, last) == ["ada"]
    assert sender_ids(log, "v") == []
    assert log.delete("ada")
    assert sender_ids(log, last) == []
