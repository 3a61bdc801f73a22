"""Redis and Valkey: old data, prefixes, keys, expiry, ways to connect."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import ssl
from pathlib import Path

import pytest
import trustme
from rasa.shared.core.events import SlotSet
from rasa.shared.exceptions import ConnectionException, RasaException
from redis.crc import key_slot

from backends import redis_endpoint
from conversations import (
    add,
    as_dicts,
    conversation,
    dicts,
    session_start,
    tracker,
    turn,
)
from rasa_api import backend_log
from rasa_trackers.event_log import START, Entry, User
from rasa_trackers.redis.keys import Namespace, hash_tag
from rasa_trackers.redis.scripts import MIGRATE_LEGACY, sha1_of
from redis_fixtures import on_servers
from redis_store.redis_logs import make_log
from servers.proxy import TcpProxy
from servers.redis import REDIS, VALKEY, RedisCluster, RedisSentinel, RedisServer
from servers.tls import Certificates, tls_terminator

ENTRY = Entry('{"timestamp": 1.0}', "slot", 1.0, None, "a")

#: Names that mean something to Redis, to a cluster or to Rasa.
NAMES = [
    "ada",
    "ada ",
    "a:b",
    "a*",
    "a?[b]\\",
    "ü",
    "日本 😀",
    "{}",
    "}{",
    "a}b",
    "{x}y",
    "a{b}{c}",
    "{{z}}",
    "x{",
    "tracker:ada",
    "rasa_trackers:{tracker:ada}ada",
    "a\nb\0c",
    "%7B",
]
on_both_flavours = pytest.mark.parametrize(
    "server_fixture", ["redis_server", "valkey_server"]
)
any_prefix = pytest.mark.parametrize("key_prefix", [None, "bot1"])


@pytest.fixture
def rasas_store(load, redis_server, domain):
    """Makes Rasa's own stores."""

    def rasas_store(**options):
        endpoint = redis_endpoint(redis_server, **options)
        return load({**endpoint, "type": "redis"}, domain)

    return rasas_store


def rasas_text(sender_id, events):
    """What Rasa's own store keeps, since 1.10."""
    return json.dumps({"events": dicts(events), "name": sender_id})


def all_keys(client):
    return sorted(client.scan_iter())


# What Rasa's own store left


@any_prefix
async def test_conversation_of_rasas_own_store_goes_on(
    server, client, connect, rasas_store, key_prefix
):
    events = conversation(3, 2)
    await rasas_store(key_prefix=key_prefix).save(tracker("ada", events))
    before = all_keys(client)
    store = connect(key_prefix=key_prefix)
    assert list(await store.keys()) == ["ada"]
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events)
    assert not set(before) & set(all_keys(client))
    kept = await store.retrieve("ada")
    new = turn()
    add(kept, new)
    await store.save(kept)
    full = await connect(key_prefix=key_prefix).retrieve_full_tracker("ada")
    assert as_dicts(full) == dicts(events + new)
    assert list(await store.keys()) == ["ada"]


@on_servers
@any_prefix
@pytest.mark.parametrize("sender_id", NAMES)
async def test_old_conversation_of_any_name(
    server, client, connect, key_prefix, sender_id
):
    events = conversation(2, 1)
    key = f"{key_prefix}:tracker:{sender_id}" if key_prefix else f"tracker:{sender_id}"
    client.set(key, rasas_text(sender_id, events))
    store = connect(key_prefix=key_prefix)
    assert list(await store.keys()) == [sender_id]
    assert await store.exists(sender_id)
    assert as_dicts(await store.retrieve_full_tracker(sender_id)) == dicts(events)
    assert list(await store.keys()) == [sender_id]
    assert client.get(key) is None
    await connect(key_prefix=key_prefix).save(tracker(sender_id, session_start()))
    assert list(await store.keys()) == [sender_id]


# Two of the names are keys of the conversation "ada" today.
@on_both_flavours
@pytest.mark.parametrize(
    "sender_id", [name for name in NAMES if "tracker:" not in name]
)
async def test_conversation_of_rasa_1(server, client, connect, sender_id):
    events = conversation(2, 1)
    client.set(sender_id, rasas_text(sender_id, events))
    store = connect()
    assert list(await store.keys()) == [sender_id]
    assert as_dicts(await store.retrieve_full_tracker(sender_id)) == dicts(events)
    assert list(await store.keys()) == [sender_id]
    assert client.get(sender_id) is None


async def test_conversation_of_rasa_1_that_went_on_in_rasa_2(client, connect):
    first, then, now = session_start(), session_start(), turn()
    client.set("ada", rasas_text("ada", first))
    client.set("tracker:ada", rasas_text("ada", then))
    store = connect()
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(first + then)
    kept = await store.retrieve("ada")
    add(kept, now)
    await store.save(kept)
    full = await store.retrieve_full_tracker("ada")
    assert as_dicts(full) == dicts(first + then + now)
    assert delete(store, "ada")
    assert all_keys(client) == []


async def test_key_of_another_application_that_is_a_sender_id(client, connect):
    events = session_start()
    client.set("ada", '{"cart": 1}')
    client.set("tracker:ada", rasas_text("ada", events))
    assert as_dicts(await connect().retrieve("ada")) == dicts(events)
    assert client.get("ada") == b'{"cart": 1}'


async def test_conversation_that_rasas_store_never_stops_changing(
    client, connect, monkeypatch
):
    """The deadline is not looked at in between, so there must be another end."""
    client.set("tracker:ada", rasas_text("ada", session_start()))
    store = connect(timeout=1)
    monkeypatch.setattr(backend_log(store)._migration, "_migrate", lambda *_: None)
    with pytest.raises(ConnectionException, match="100 times"):
        await store.retrieve("ada")


async def test_user_of_rasa_pro_that_cannot_be_a_key(client, connect):
    events = session_start()
    dialogue = json.loads(rasas_text("ada", events))
    client.set("tracker:ada", json.dumps({**dialogue, "user_id": "\ud800"}))
    assert as_dicts(await connect().retrieve("ada")) == dicts(events)


def test_what_never_expires_is_not_made_to_by_a_log_that_does(client, connect):
    store = connect(record_exp=100)
    backend_log(store).append("ada", [ENTRY], START)
    client.set("tracker:ada", rasas_text("ada", session_start()))
    assert len(backend_log(store).read_back("ada").events) > 1
    assert client.ttl(all_keys(client)[0]) == -1


def test_server_is_heard_of_while_keys_are_listed(client, connect):
    """A database may have so many that it takes longer than ``timeout``."""
    with client.pipeline() as pipeline:
        for number in range(5000):
            pipeline.set(f"other {number}", "")
        pipeline.execute()
    log = backend_log(connect())
    log.append("ada", [ENTRY], START)
    batches = list(log.sender_ids())
    assert [sender_id for batch in batches for sender_id in batch] == ["ada"]
    assert len(batches) >= 4
    counts = list(log.count_conversations(0.0))
    assert sum(counts) == 1
    assert len(counts) >= 4


async def test_conversation_of_rasa_1_is_not_that_of_a_prefix(client, connect):
    client.set("ada", rasas_text("ada", session_start()))
    store = connect(key_prefix="bot")
    assert list(await store.keys()) == []
    assert await store.retrieve("ada") is None
    assert client.get("ada")


async def test_conversation_of_rasa_pro(client, connect):
    events = conversation(1, 1)
    dialogue = {
        "events": dicts(events),
        "name": "ada",
        "user_id": None,
        "conversation_started_timestamp": 1.5,
        "sender_id": "ada",
    }
    client.set("tracker:ada", json.dumps(dialogue))
    assert as_dicts(await connect().retrieve("ada")) == dicts(events)


async def test_values_are_taken_over_exactly(client, connect):
    values = [2**80, -1e308, 1e-7, 0.1 + 0.2, 1.0, [], {}, "\ud800\0ü", None, True]
    events = [
        SlotSet("anything", value, timestamp=1753011122.123457) for value in values
    ]
    client.set("tracker:ada", rasas_text("ada", events))
    taken_over = as_dicts(await connect().retrieve("ada"))
    assert json.dumps(taken_over) == json.dumps(dicts(events))


async def test_save_without_a_read_keeps_the_old_events_first(client, connect):
    old, new = conversation(1, 1), conversation(1, 1)
    client.set("tracker:ada", rasas_text("ada", old))
    store = connect()
    await store.save(tracker("ada", new))
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(old + new)


@pytest.mark.parametrize("saves", [False, True], ids=["read", "save"])
async def test_two_workers_take_over_at_once(client, connect, saves):
    workers = [connect(), connect()]
    names = [f"user-{number}" for number in range(30)]
    old = {name: conversation(1, 1) for name in names}
    for name in names:
        client.set(f"tracker:{name}", rasas_text(name, old[name]))

    async def use(store, name):
        retrieved = await store.retrieve(name)
        if saves:
            add(retrieved, turn())
            await store.save(retrieved)

    await asyncio.gather(*(use(store, name) for name in names for store in workers))
    for name in names:
        stored = as_dicts(await workers[0].retrieve_full_tracker(name))
        assert stored[: len(old[name])] == dicts(old[name])
        assert len(stored) == len(old[name]) + (2 * 8 if saves else 0)


async def test_takeover_that_comes_late_changes_nothing(client, connect, redis_proxy):
    events = conversation(1, 1)
    text = rasas_text("ada", events)
    client.set("tracker:ada", text)
    late = connect(port=redis_proxy.port)
    held = redis_proxy.hold(b"tracker:ada\r\n$40")
    assert as_dicts(await late.retrieve("ada")) == dicts(events)
    held.release()
    assert as_dicts(await late.retrieve("ada")) == dicts(events)
    # Rasa's own store may have written the same again meanwhile.
    client.set("tracker:ada", text)
    held = redis_proxy.hold(b"tracker:ada\r\n$40")
    assert as_dicts(await late.retrieve("ada")) == dicts(events)
    held.release()
    assert as_dicts(await late.retrieve("ada")) == dicts(events)


@pytest.mark.parametrize("changed", ["text", "log"])
async def test_takeover_of_what_has_changed_changes_nothing(client, connect, changed):
    store = connect()
    keys = backend_log(store).namespace.of("ada")
    old = rasas_text("ada", session_start()).encode()
    known = {"sha1": sha1_of(old), "after": 0}
    if changed == "log":
        await store.save(tracker("ada", turn()))
        client.set(keys.legacy, old)
    else:
        client.set(keys.legacy, rasas_text("ada", session_start() + turn()))
    before = {key: client.dump(key) for key in client.scan_iter()}
    user = ('"u"', "1.5", "null")
    backend_log(store).transport.evaluate(
        MIGRATE_LEGACY,
        (keys.log, keys.legacy),
        *(keys.rasa_1, "", keys.legacy, *known.values(), *user, "{}"),
    )
    assert {key: client.dump(key) for key in client.scan_iter()} == before


async def test_worker_with_rasas_own_store_is_still_at_it(connect, rasas_store):
    old = conversation(2, 1)
    rasas = rasas_store()
    await rasas.save(tracker("ada", old))
    theirs = await rasas.retrieve("ada")
    store = connect()
    ours = await store.retrieve("ada")
    my_turn, their_turn = turn("mine"), turn("theirs")
    add(theirs, their_turn)
    await rasas.save(theirs)
    add(ours, my_turn)
    await store.save(ours)
    full = as_dicts(await store.retrieve_full_tracker("ada"))
    assert full[: len(old)] == dicts(old)
    new = full[len(old) :]
    assert new in (dicts(my_turn + their_turn), dicts(their_turn + my_turn))


async def test_old_conversation_expires_when_it_would_have(client, connect, eventually):
    client.set("tracker:ada", rasas_text("ada", session_start()), px=1500)
    client.set("tracker:grace", rasas_text("grace", session_start()))
    store = connect()
    assert await store.exists("ada")
    assert await store.exists("grace")

    async def gone():
        return not await store.exists("ada")

    await eventually(gone)
    assert list(await store.keys()) == ["grace"]


async def test_old_conversation_that_goes_on_expires_no_more(client, connect):
    client.set("tracker:ada", rasas_text("ada", session_start()), ex=1000)
    store = connect()
    kept = await store.retrieve("ada")
    assert 0 < client.ttl(all_keys(client)[0]) <= 1000
    add(kept, turn())
    await store.save(kept)
    assert client.ttl(all_keys(client)[0]) == -1


async def test_old_and_new_expiry_the_later_one_counts(client, connect):
    store = connect(record_exp=500)
    await store.save(tracker("ada", session_start()))
    client.set("tracker:ada", rasas_text("ada", session_start()), ex=100)
    await store.retrieve("ada")
    assert 400 < client.ttl(all_keys(client)[0]) <= 500
    client.set("tracker:ada", rasas_text("ada", session_start()), ex=1000)
    await store.retrieve("ada")
    assert 900 < client.ttl(all_keys(client)[0]) <= 1000


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        '{"events": 1, "name": "ada"}',
        "\x80\x04pickle",
        "{" * 100_000,
    ],
)
async def test_damaged_old_conversation_stays_where_it_is(
    client, connect, caplog, text
):
    client.set("tracker:ada", text)
    store = connect()
    with caplog.at_level(logging.WARNING):
        assert await store.retrieve("ada") is None
    assert "tracker:ada" in caplog.text
    events = session_start()
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)
    assert client.get("tracker:ada") == text.encode()


def delete(store, sender_id):
    # TrackerStore.delete is Rasa Pro's.
    return backend_log(store).delete(sender_id)


@on_both_flavours
@any_prefix
@pytest.mark.parametrize("text", ["whole", "damaged"])
async def test_delete_erases_all_forms(client, connect, key_prefix, text):
    store = connect(key_prefix=key_prefix)
    await store.save(tracker("ada", session_start()))
    left = rasas_text("ada", session_start()) if text == "whole" else "{damaged"
    client.set(f"{key_prefix}:tracker:ada" if key_prefix else "tracker:ada", left)
    if not key_prefix:
        client.set("ada", rasas_text("ada", session_start()))
    assert delete(store, "ada") is True
    assert all_keys(client) == []
    assert delete(store, "ada") is False


async def test_delete_of_what_was_not_taken_over_yet(client, connect):
    client.set("tracker:ada", rasas_text("ada", session_start()))
    assert delete(connect(), "ada") is True
    assert all_keys(client) == []


# Other applications and other prefixes


@pytest.mark.parametrize(
    "text", ["text", "{}", '{"events": [], "name": "grace"}', '{"events": 1}']
)
async def test_key_of_another_application_is_left_alone(client, connect, text):
    client.set("ada", text)
    store = connect()
    assert list(await store.keys()) == []
    assert await store.retrieve("ada") is None
    await store.save(tracker("ada", session_start()))
    assert delete(store, "ada")
    assert client.get("ada") == text.encode()


async def test_keys_of_other_types_and_encodings_are_no_conversations(client, connect):
    client.hset("ada", "field", 1)
    client.sadd("grace", 1)
    client.set(b"\xff\xfe", '{"events": [')
    store = connect()
    assert list(await store.keys()) == []
    assert await store.retrieve("ada") is None


PREFIXES = [
    None,
    "a",
    "a:",
    "a:b",
    "a:rasa_trackers",
    "a:tracker:b",
    "tracker",
    "rasa_trackers",
    "rasa_trackers:{tracker",
    "*",
    "?",
    "[a]",
    "\\",
    "%7B",
    "{",
    "{x}",
    "ü",
]


@on_servers
async def test_prefixes_are_apart(connect, client):
    stores = {prefix: connect(key_prefix=prefix) for prefix in PREFIXES}
    events = {}
    for prefix, store in stores.items():
        for name in ("x", "b:tracker:x", "tracker:x", "{t}", str(prefix)):
            events[prefix, name] = session_start()
            await store.save(tracker(name, events[prefix, name]))
    for prefix, store in stores.items():
        mine = {name: said for (owner, name), said in events.items() if owner == prefix}
        assert sorted(await store.keys()) == sorted(mine)
        for name, said in mine.items():
            assert as_dicts(await store.retrieve_full_tracker(name)) == dicts(said)


async def test_old_conversations_of_prefixes_are_apart(client, connect):
    """Rasa's keys of different prefixes may read the same."""
    client.set("tracker:tracker:ada", rasas_text("ada", session_start()))
    client.set("a:tracker:b:tracker:x", rasas_text("b:tracker:x", session_start()))
    assert list(await connect().keys()) == []
    assert list(await connect(key_prefix="tracker").keys()) == ["ada"]
    assert list(await connect(key_prefix="a:tracker:b").keys()) == []
    assert list(await connect(key_prefix="a").keys()) == ["b:tracker:x"]
    assert await connect().retrieve("tracker:ada") is None
    assert await connect(key_prefix="a:tracker:b").retrieve("x") is None
    assert delete(connect(), "tracker:ada") is False
    assert await connect(key_prefix="tracker").exists("ada")
    assert await connect(key_prefix="a").exists("b:tracker:x")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("sender_id", [*NAMES, ""])
def test_log_is_in_the_slot_of_rasas_key(prefix, sender_id):
    namespace = Namespace(prefix, with_rasa_1=False)
    keys = namespace.of(sender_id)
    assert key_slot(keys.log) == key_slot(keys.legacy)
    assert namespace.sender_of_log(keys.log) == sender_id
    assert namespace.sender_of_legacy(keys.legacy) == sender_id
    assert namespace.sender_of_log(keys.legacy) is None


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("user_id", [*NAMES, ""])
def test_index_of_a_user_is_in_the_slot_of_rasas(prefix, user_id):
    namespace = Namespace(prefix, with_rasa_1=True)
    keys = namespace.of_user(user_id)
    assert key_slot(keys.conversations) == key_slot(keys.legacy)
    for key in keys:
        assert namespace.sender_of_log(key) is None
        assert namespace.sender_of_legacy(key) is None
    assert namespace.sender_of_rasa_1(keys.conversations) is None


@pytest.mark.parametrize(
    "key", [b"a", b"{a}b", b"a{}b}", b"a}b", b"{}{a}", b"a{b{c}d}"]
)
def test_hash_tag(key):
    assert key_slot(b"x{" + hash_tag(key) + b"}y") == key_slot(key)


@on_servers
async def test_keys_of_many(connect, client):
    store = connect()
    names = [f"user-{number}" for number in range(3000)]
    for name in names[::2]:
        client.set(f"tracker:{name}", rasas_text(name, []))
    for name in names[1::2]:
        keys = backend_log(store).namespace.of(name)
        client.rpush(keys.log, 1, "{}")
    assert sorted(await store.keys()) == sorted(names)


@on_servers
async def test_conversation_with_two_keys_is_named_once(connect, client):
    store = connect()
    await store.save(tracker("ada", session_start()))
    client.set("tracker:ada", rasas_text("ada", session_start()))
    assert list(await store.keys()) == ["ada"]


async def test_conversations_of_rasa_1_among_many_keys(client, connect):
    for number in range(2500):
        client.set(f"other-{number}", "text")
        if number % 100 == 0:
            client.set(f"user-{number}", rasas_text(f"user-{number}", turn()))
    assert len(list(await connect().keys())) == 25


# Damage


async def test_damaged_event_is_skipped(client, connect, caplog):
    events = session_start()
    store = connect()
    await store.save(tracker("ada", events))
    client.rpush(backend_log(store).namespace.of("ada").log, b"\xff{damaged")
    new = turn()
    await store.save(tracker("ada", events + new))
    with caplog.at_level(logging.WARNING):
        assert as_dicts(await connect().retrieve("ada")) == dicts(events + new)
    assert "skipped" in caplog.text


async def test_event_of_several_lines_is_one_event(client, connect):
    """What another program has added may have white space in it, which JSON allows."""
    events = conversation(1, 2)
    store = connect()
    await store.save(tracker("ada", events))
    added = turn()[0]
    text = json.dumps(added.as_dict(), indent=1)
    assert "\n" in text
    client.rpush(backend_log(store).namespace.of("ada").log, text)
    assert as_dicts(await connect().retrieve("ada")) == dicts([*events, added])


@on_both_flavours
@pytest.mark.parametrize("damage", ["legacy", "log", "list"])
async def test_key_of_the_wrong_kind_is_an_error(client, connect, damage):
    store = connect()
    keys = backend_log(store).namespace.of("ada")
    if damage == "list":
        client.rpush(keys.log, "not ours")
    else:
        client.hset(getattr(keys, damage), "field", 1)
    before = {key: client.dump(key) for key in client.scan_iter()}
    for attempt in (store.retrieve("ada"), store.save(tracker("ada", session_start()))):
        with pytest.raises(RasaException, match="key holds something") as error:
            await attempt
        assert not isinstance(error.value, ConnectionException)
    assert {key: client.dump(key) for key in client.scan_iter()} == before


async def test_sender_id_that_is_no_unicode_is_an_error(connect):
    with pytest.raises(RasaException, match="sender ids"):
        await connect().save(tracker("\ud800", session_start()))


# Cost


async def test_round_trips(connect, redis_proxy):
    store = connect(port=redis_proxy.port, record_exp=100)
    await store.save(tracker("ada", conversation(1, 10)))
    before = redis_proxy.round_trips
    retrieved = await store.retrieve("ada")
    assert redis_proxy.round_trips == before + 1
    add(retrieved, turn())
    await store.save(retrieved)
    assert redis_proxy.round_trips == before + 2


# Expiry


@on_servers
async def test_save_renews_the_expiry_of_all_that_is_kept(connect, client):
    store = connect(record_exp="100.5")
    kept = tracker("ada", session_start())
    await store.save(kept)
    (key,) = all_keys(client)
    assert 99_000 < client.pttl(key) <= 100_500
    client.pexpire(key, 1000)
    add(kept, turn())
    await store.save(kept)
    assert all_keys(client) == [key]
    assert 99_000 < client.pttl(key) <= 100_500
    await store.retrieve("ada")
    assert 99_000 < client.pttl(key) <= 100_500


async def test_expiry_of_ages(connect, client):
    store = connect(record_exp=1e300)
    await store.save(tracker("ada", session_start()))
    assert client.ttl(all_keys(client)[0]) > 10**9


# Ways to connect


@pytest.fixture
def own_server(request):
    """Makes servers of the test's own."""
    servers = []

    def own_server(*arguments, **options):
        server = RedisServer(*arguments, **options)
        servers.append(server)
        server.start()
        return server

    yield own_server
    for server in servers:
        server.remove()


async def works(store):
    events = conversation(1, 1)
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "{host}", "port": "{port}"},
        {"url": "{host}:{port}", "port": 1},
        {"url": "redis://{host}:{port}"},
        {"url": "redis://{host}:{port}/3", "db": 4},
        {"url": "redis://{host}:{port}?db=3"},
        {"url": "redis://{host}", "port": "{port}", "db": "3"},
        {"url": "unix://{path}"},
        {"url": "unix://{path}?db=3"},
        {"url": "unix://{path}", "db": 3},
    ],
)
async def test_urls(load, own_server, options):
    server = own_server()
    values = {"host": server.host, "port": server.port, "path": server.socket_path}
    filled = {
        name: value.format(**values) if isinstance(value, str) else value
        for name, value in options.items()
    }
    await works(load({"type": "rasa_trackers.RedisTrackerStore", **filled}))
    wanted = 3 if "3" in str(options) else 0
    with server.client(db=wanted) as client:
        assert client.dbsize() == 1


async def test_arguments_of_any_rasa(redis_server):
    from rasa_trackers import RedisTrackerStore

    address = f"{redis_server.host}:{redis_server.port}"
    for store in (
        RedisTrackerStore(None, address, None),
        RedisTrackerStore(domain=None, host=address, event_broker=None),
    ):
        assert backend_log(store).name == f"Redis at {address}, db 0"
        assert await store.retrieve("nobody") is None
        store.close()


PASSWORD = "p@ss:/#%?word"


@pytest.mark.parametrize("flavour", [REDIS, VALKEY])
@pytest.mark.parametrize("in_url", [False, True], ids=["options", "url"])
@pytest.mark.parametrize("username", [None, "ada"])
async def test_passwords(load, own_server, flavour, in_url, username):
    server = own_server(flavour, username=username, password=PASSWORD)
    endpoint = redis_endpoint(server)
    if in_url:
        endpoint = {"type": endpoint["type"], "url": server.url()}
    store = load(endpoint)
    await works(store)
    assert PASSWORD not in repr(store)


@pytest.mark.parametrize("flavour", [REDIS, VALKEY])
@pytest.mark.parametrize("username", [None, "ada", "nobody"])
def test_wrong_password(load, own_server, flavour, username):
    server = own_server(
        flavour, username="ada" if username else None, password=PASSWORD
    )
    for password in ("wr@ng", None):
        if password is None and username == "nobody":
            continue
        endpoint = redis_endpoint(server, username=username, password=password)
        with pytest.raises(RasaException, match="'username' and 'password'") as error:
            load(endpoint)
        assert not isinstance(error.value, ConnectionException)
        assert "wr@ng" not in str(error.value)
        assert PASSWORD not in str(error.value)


def test_password_that_the_server_does_not_ask_for(load, redis_server):
    with pytest.raises(RasaException, match="'username' and 'password'"):
        load(redis_endpoint(redis_server, password="secret"))


PAGE = Path(__file__).parents[2].joinpath("docs/redis.md").read_text(encoding="utf-8")


def acl(key_prefix=""):
    """The rights that the manual names."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith("user rasa on "))
    return line.replace("~", f"~{key_prefix}").partition(">change-me ")[2]


def uses_users(endpoint, client):
    """Calls all that only Rasa Pro asks for, beside what its own store left."""
    options = {name: value for name, value in endpoint.items() if name != "type"}
    log = make_log(options)
    log.open()
    key_prefix = f"{options['key_prefix']}:" if options.get("key_prefix") else ""
    dialogue = {"events": [{}], "name": "theirs", "user_id": "u"}
    client.set(f"{key_prefix}tracker:theirs", json.dumps(dialogue))
    client.zadd(f"{key_prefix}user_trackers:u", {"theirs": 1.0, "gone": 1.0})
    position = log.append("ours", [ENTRY], START, User("u", 5.0))
    log.append("ours", [], position, User("v", None))
    position = log.append("ours", [ENTRY], position, User("u", None))
    assert [one.sender_id for one in log.conversations_of("u")] == ["theirs", "ours"]
    dialogue["name"] = "counted"
    client.set(f"{key_prefix}tracker:counted", json.dumps(dialogue))
    assert sum(log.count_conversations(-math.inf)) >= 3
    assert log.replace("ours", [], position) == START
    for name in ("theirs", "counted"):
        assert log.delete(name)
    log.close()


@pytest.mark.parametrize("flavour", [REDIS, VALKEY])
@pytest.mark.parametrize("key_prefix", [None, "bot"])
async def test_user_with_the_rights_that_the_manual_names(
    load, own_server, flavour, key_prefix
):
    server = own_server(flavour)
    rights = acl(f"{key_prefix}:" if key_prefix else "")
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "rasa", "on", ">secret", *rights.split()
        )
        client.set(
            f"{key_prefix}:tracker:old" if key_prefix else "tracker:old",
            rasas_text("old", turn()),
        )
        client.set("elsewhere", 1)
    options = {"key_prefix": key_prefix, "username": "rasa", "password": "secret"}
    expiring = redis_endpoint(server, record_exp=1000, **options)
    store = load(expiring)
    await works(store)
    assert sorted(await store.keys()) == ["ada", "old"]
    assert await store.exists("old")
    assert await store.retrieve("elsewhere") is None
    assert delete(store, "ada")
    with server.client() as client:
        for endpoint in (expiring, redis_endpoint(server, **options)):
            uses_users(endpoint, client)


@pytest.mark.parametrize("flavour", [REDIS, VALKEY])
async def test_user_of_a_cluster_with_the_rights_that_the_manual_names(load, flavour):
    (more,) = re.findall(r"In a cluster, the user needs `(.*)` too", PAGE)
    rights = acl().split() + more.split()
    with RedisCluster(flavour) as cluster:
        for node in cluster.nodes:
            with node.client() as client:
                client.execute_command("ACL SETUSER", "rasa", "on", ">secret", *rights)
        endpoint = redis_endpoint(cluster, username="rasa", password="secret")
        store = load(endpoint)
        await works(store)
        assert list(await store.keys()) == ["ada"]
        with cluster.client() as client:
            uses_users(endpoint, client)


@pytest.mark.parametrize("flavour", [REDIS, VALKEY])
@pytest.mark.parametrize(
    "rights", ["~other:* +@all", "~* +@all -eval -evalsha", "~* +@all -rpush"]
)
async def test_user_without_rights(load, own_server, flavour, rights):
    server = own_server(flavour)
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "rasa", "on", ">secret", *rights.split()
        )

    async def use():
        store = load(redis_endpoint(server, username="rasa", password="secret"))
        await store.save(tracker("ada", session_start()))

    with pytest.raises(RasaException, match="ACL SETUSER") as error:
        await use()
    assert not isinstance(error.value, ConnectionException)


async def test_sentinel_and_cluster_with_a_password(load):
    with RedisSentinel(password=PASSWORD) as sentinel:
        await works(load(redis_endpoint(sentinel)))
        with pytest.raises(RasaException, match="'username' and 'password'"):
            await works(load(redis_endpoint(sentinel, password="wrong")))
        with pytest.raises(ConnectionException, match="'sentinel_service'"):
            load(redis_endpoint(sentinel, sentinel_service="other", timeout=1))
    with RedisCluster(password=PASSWORD) as cluster:
        await works(load(redis_endpoint(cluster)))
        with pytest.raises(RasaException, match="'username' and 'password'"):
            await works(load(redis_endpoint(cluster, password="wrong")))


async def test_cluster_by_one_of_its_nodes(load, redis_cluster):
    host, port = redis_cluster.endpoints[1].split(":")
    endpoint = {"type": "rasa_trackers.RedisTrackerStore", "url": host, "port": port}
    with redis_cluster.client() as client:
        client.flushall()
    await works(load({**endpoint, "deployment_mode": "cluster", "db": 0}))

    async def use_as_one_server():
        store = load(endpoint)
        for name in ("a", "b", "c", "d"):
            await store.retrieve(name)

    with pytest.raises(RasaException, match="deployment_mode: cluster"):
        await use_as_one_server()


def test_server_that_is_no_cluster(load, redis_server):
    with pytest.raises(RasaException, match="remove 'deployment_mode: cluster'"):
        load(redis_endpoint(redis_server, deployment_mode="cluster", timeout=2))


def test_url_that_makes_no_sense(load, redis_server):
    """Python's own error of it is none of the network's."""
    url = "rediss://127.0.0.1:1?ssl_cert_reqs=perhaps"
    with pytest.raises(RasaException, match="'ssl_cert_reqs' in the option 'url'"):
        load({**redis_endpoint(redis_server), "url": url})
    with pytest.raises(RasaException, match="no name of a host"):
        load({**redis_endpoint(redis_server), "url": "x" * 300})


# TLS


async def test_tls(load, certificates, redis_server):
    with tls_terminator(certificates, redis_server.host, redis_server.port) as tls:
        redis_server.flush()
        endpoint = redis_endpoint(
            redis_server, port=tls.port, ssl_ca_certs=certificates.ca_file
        )
        await works(load({**endpoint, "use_ssl": True}))
        await works(load({**endpoint, "url": f"rediss://{tls.host}:{tls.port}"}))
        await works(load({**endpoint, "url": f"rediss://localhost:{tls.port}"}))
        assert tls.accepted


def test_tls_with_a_certificate_of_an_unknown_authority(
    load, certificates, redis_server
):
    with tls_terminator(
        certificates, redis_server.host, redis_server.port
    ) as tls, Certificates() as others:
        endpoint = redis_endpoint(redis_server, port=tls.port, use_ssl=True)
        for trusted in ({}, {"ssl_ca_certs": others.ca_file}):
            with pytest.raises(RasaException, match="'ssl_ca_certs'") as error:
                load({**endpoint, **trusted})
            assert not isinstance(error.value, ConnectionException)


async def test_tls_with_a_certificate_of_another_host(load, redis_server, tmp_path):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("redis.example.com").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    endpoint = redis_endpoint(redis_server, ssl_ca_certs=str(tmp_path / "ca.pem"))
    with TcpProxy(redis_server.host, redis_server.port, context) as tls:
        url = f"rediss://{tls.host}:{tls.port}"
        with pytest.raises(RasaException, match="stands in the server's certificate"):
            load({**endpoint, "url": url})
        await works(load({**endpoint, "url": f"{url}?ssl_check_hostname=false"}))
        del endpoint["ssl_ca_certs"]
        await works(load({**endpoint, "url": f"{url}?ssl_cert_reqs=none"}))


async def test_tls_with_a_client_certificate(load, certificates, redis_server):
    with tls_terminator(
        certificates,
        redis_server.host,
        redis_server.port,
        client_certificate_required=True,
    ) as tls:
        endpoint = redis_endpoint(
            redis_server,
            port=tls.port,
            use_ssl=True,
            ssl_ca_certs=certificates.ca_file,
            timeout=2,
        )
        mine = {
            "ssl_certfile": certificates.client_certificate_file,
            "ssl_keyfile": certificates.client_key_file,
        }
        await works(load({**endpoint, **mine}))
        with pytest.raises(RasaException):
            load(endpoint)


def test_tls_where_there_is_none_and_the_other_way_round(
    load, certificates, redis_server
):
    # Long enough for the error to be said, and not silence, on a busy machine.
    endpoint = redis_endpoint(
        redis_server, timeout=6, ssl_ca_certs=certificates.ca_file
    )
    with pytest.raises(RasaException, match="'use_ssl'"):
        load({**endpoint, "use_ssl": True})
    tls = tls_terminator(certificates, redis_server.host, redis_server.port)
    with tls, pytest.raises(ConnectionException, match="'use_ssl'"):
        load({**endpoint, "port": tls.port})


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deployment_mode": "sentinell"}, "standard, cluster or sentinel"),
        ({"deployment_mode": "sentinel"}, "needs 'endpoints'"),
        ({"deployment_mode": "sentinel", "endpoints": "a:1"}, "must be a list"),
        ({"deployment_mode": "cluster", "endpoints": ["a"]}, "'a' .* not a host:port"),
        ({"deployment_mode": "cluster", "endpoints": [1]}, "not a host:port"),
        ({"deployment_mode": "cluster", "endpoints": ["a:99999"]}, "65535"),
        ({"deployment_mode": "cluster", "url": "unix:///x"}, "unix socket"),
        ({"url": "http://localhost"}, "redis://"),
        ({"url": "redis://:secret@localhost:port"}, "redis://user:password"),
        ({"url": "redis://localhost?retry_on_timeout=1"}, "retry_on_timeout"),
        ({"url": "redis://localhost/first"}, "a number"),
        ({"db": "first"}, "'db'"),
        ({"db": -1}, "'db'"),
        ({"port": 0}, "'port'"),
        ({"record_exp": 0}, "'record_exp'"),
        ({"use_ssl": "perhaps"}, "'use_ssl'"),
        ({"ssl_ca_certs": "/nowhere.pem"}, "'ssl_ca_certs'.*/nowhere.pem"),
        ({"key_prefix": ["a"]}, "'key_prefix'"),
        ({"pasword": "secret"}, "did you mean 'password'"),
        ({"timeout": "soon"}, "'timeout'"),
    ],
)
def test_option_without_sense_is_an_error(load, options, message):
    with pytest.raises(RasaException, match=message) as error:
        load({"type": "rasa_trackers.RedisTrackerStore", **options})
    assert "secret" not in str(error.value)


def test_database_that_the_server_does_not_have(load, redis_server):
    with pytest.raises(RasaException, match="Correct 'db'"):
        load(redis_endpoint(redis_server, db=1000))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoints": ["a:1"]}, "'endpoints' is ignored"),
        ({"ssl_ca_certs": __file__}, "not encrypted"),
    ],
)
def test_option_without_effect_is_a_warning(
    load, redis_server, caplog, options, message
):
    load(redis_endpoint(redis_server, **options))
    assert message in caplog.text


@pytest.mark.parametrize("flavour", [REDIS, VALKEY])
@pytest.mark.parametrize(
    ("policy", "record_exp", "warns"),
    [
        ("noeviction", 100, False),
        ("allkeys-lru", None, True),
        ("volatile-ttl", 100, True),
        ("volatile-ttl", None, False),
    ],
)
def test_server_that_may_evict_conversations(
    load, own_server, caplog, flavour, policy, record_exp, warns
):
    server = own_server(
        flavour, config={"maxmemory": "100mb", "maxmemory-policy": policy}
    )
    load(redis_endpoint(server, record_exp=record_exp))
    assert ("maxmemory-policy" in caplog.text) is warns
