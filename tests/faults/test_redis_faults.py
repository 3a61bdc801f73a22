"""Redis that fails over, is full, moves slots: each event once.

More is in `test_faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time

import pytest
import redis
from rasa.shared.exceptions import ConnectionException, RasaException
from redis.crc import key_slot
from redis.exceptions import RedisClusterException

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
from rasa_trackers.redis.failures import FAILURES
from rasa_trackers.redis.keys import Namespace
from rasa_trackers.redis.log import RedisEventLog
from servers.process import wait_until
from servers.proxy import TcpProxy
from servers.redis import (
    REDIS,
    VALKEY,
    ClusterNode,
    RedisCluster,
    RedisSentinel,
    RedisServer,
)
from servers.silent import closed_port, silent_port, unreachable_port

on_both_flavours = pytest.mark.parametrize("flavour", [REDIS, VALKEY])


@pytest.fixture
def own_server(request):
    """Makes servers of the test's own, to be wrecked."""
    with contextlib.ExitStack() as servers:

        def own_server(*arguments, kind=RedisServer, **options):
            return servers.enter_context(kind(*arguments, **options))

        yield own_server


@pytest.fixture
def proxy(redis_server, redis_proxy):
    redis_server.flush()
    yield redis_proxy
    redis_proxy.clear()


@pytest.fixture
def connect(load, redis_server, proxy):
    """Makes stores that reach the server through the proxy."""

    def connect(**options):
        return load(redis_endpoint(redis_server, port=proxy.port, **options))

    return connect


async def save_until(stop, store, kept, pause=0.0):
    """Saves turn by turn until `stop` is set."""
    while not stop.is_set():
        add(kept, turn())
        await store.save(kept)
        await asyncio.sleep(pause)


def in_thread(function, *arguments):
    """Starts a function beside the test; awaiting what is returned waits for it."""
    return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


# Crashes


@on_both_flavours
async def test_failover_by_sentinel_during_saves(load, flavour):
    with RedisSentinel(flavour, sentinels=3) as sentinel:
        store = load(redis_endpoint(sentinel, timeout=60))
        kept = tracker("ada", session_start())
        await store.save(kept)
        for _ in range(20):
            add(kept, turn())
            await store.save(kept)
        with sentinel.client() as client:
            assert client.wait(1, 10_000) == 1
        replicated = as_dicts(kept)
        stop = threading.Event()

        def fail_over():
            try:
                sentinel.failover()
            finally:
                stop.set()

        failing = in_thread(fail_over)
        await save_until(stop, store, kept)
        await failing
        add(kept, turn())
        await store.save(kept)
        stored = as_dicts(await store.retrieve("ada"))
        assert stored[: len(replicated)] == replicated
        assert stored[-8:] == as_dicts(kept)[-8:]
        # A master answers before its replica has it: what it answered last may be lost
        # with it, but nothing is there twice or out of order.
        rest = iter(as_dicts(kept))
        assert all(event in rest for event in stored)
        assert len(as_dicts(kept)) - len(stored) < 200


async def test_failover_by_sentinel_while_nothing_is_saved(load):
    with RedisSentinel() as sentinel:
        store = load(redis_endpoint(sentinel, timeout=30))
        kept = tracker("ada", conversation(1, 1))
        await store.save(kept)
        with sentinel.client() as client:
            assert client.wait(1, 10_000) == 1
        failing = in_thread(sentinel.failover)
        add(kept, turn())
        await failing
        await store.save(kept)
        assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
        sentinel.start()
        assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_sentinels_that_are_silent(load):
    with RedisSentinel(sentinels=3) as sentinel:
        store = load(redis_endpoint(sentinel, timeout=5))
        kept = tracker("ada", session_start())
        await store.save(kept)
        for silent in sentinel.sentinels[:2]:
            silent.suspend()
        other = load(redis_endpoint(sentinel, timeout=5))
        assert as_dicts(await other.retrieve("ada")) == as_dicts(kept)


# Lost requests and replies


async def test_reply_that_is_lost_in_a_cluster(load, redis_cluster):
    """The cluster's client does not try again by itself either."""
    with redis_cluster.client() as client:
        client.flushall()
    store = load(redis_endpoint(redis_cluster))
    kept = tracker("ada", session_start())
    await store.save(kept)
    for _ in range(5):
        add(kept, turn())
        client = backend_log(store).transport.connected().__enter__()
        node = client.get_node_from_key("tracker:ada")
        connection = client.get_redis_connection(node).connection_pool.get_connection(
            "EVALSHA"
        )
        # The reply never arrives: it is read away.
        read = type(connection).read_response

        def lose(self, *arguments, connection=connection, read=read, **options):
            read(self, *arguments, **options)
            del connection.read_response
            connection.disconnect()
            raise redis.ConnectionError("lost")

        connection.read_response = lose.__get__(connection)
        client.get_redis_connection(node).connection_pool.release(connection)
        await store.save(kept)
        assert "read_response" not in vars(connection)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_reply_that_is_lost_of_a_takeover(connect, proxy, redis_server):
    events = conversation(1, 1)
    with redis_server.client() as client:
        client.set("tracker:ada", json.dumps({"events": dicts(events), "name": "ada"}))
    store = connect()
    fault = proxy.drop_reply_after(b"tracker:ada\r\n$40")
    assert as_dicts(await store.retrieve("ada")) == dicts(events)
    fault.wait()
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


# Away and silent


@pytest.mark.parametrize("port", [closed_port, silent_port, unreachable_port])
@pytest.mark.parametrize("mode", ["standard", "cluster", "sentinel"])
def test_start_without_a_server_is_an_error_in_time(load, port, mode):
    with port() as number:
        began = time.monotonic()
        with pytest.raises(ConnectionException) as raised:
            load(
                {
                    "type": "rasa_trackers.RedisTrackerStore",
                    "url": "127.0.0.1",
                    "port": number,
                    "password": "secret",
                    "deployment_mode": mode,
                    "endpoints": [f"127.0.0.1:{number}"] * 3,
                    "timeout": 1,
                }
            )
        assert time.monotonic() - began < 20
    assert f":{number}" in str(raised.value)
    assert "secret" not in str(raised.value)


# What a server answers


@on_both_flavours
async def test_scripts_that_the_server_has_forgotten(load, own_server, flavour):
    server = own_server(flavour)
    store = load(redis_endpoint(server))
    kept = tracker("ada", session_start())
    for _ in range(3):
        await store.save(kept)
        with server.client() as client:
            client.script_flush()
        assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
        with server.client() as client:
            client.script_flush()
        add(kept, turn())


@on_both_flavours
async def test_memory_that_is_full(load, own_server, flavour):
    server = own_server(flavour)
    store = load(redis_endpoint(server))
    kept = tracker("ada", session_start())
    await store.save(kept)
    before = as_dicts(kept)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        add(kept, turn())
        with pytest.raises(RasaException, match="maxmemory") as error:
            await store.save(kept)
        assert not isinstance(error.value, ConnectionException)
        assert as_dicts(await store.retrieve("ada")) == before
        assert backend_log(store).delete("ada")
        client.config_set("maxmemory", 0)
    add(kept, turn())
    await store.save(kept)


@on_both_flavours
async def test_old_conversation_while_memory_is_full(load, own_server, flavour):
    server = own_server(flavour)
    store = load(redis_endpoint(server))
    events = conversation(2, 1)
    text = json.dumps({"events": dicts(events), "name": "ada"})
    with server.client() as client:
        client.set("tracker:ada", text)
        client.config_set("maxmemory", 1)
        with pytest.raises(RasaException, match="maxmemory"):
            await store.retrieve("ada")
        assert client.get("tracker:ada") == text.encode()
        assert client.dbsize() == 1
        client.config_set("maxmemory", 0)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events)


def saves(store, kept):
    """Whether a tracker can be saved: a probe has found that the server is back."""

    async def is_saved():
        try:
            await store.save(kept)
        except ConnectionException:
            return False
        return True

    return is_saved


@on_both_flavours
async def test_disk_that_cannot_be_written(load, own_server, flavour, eventually):
    server = own_server(flavour, config={"save": "3600 1", "dbfilename": "taken"})
    store = load(redis_endpoint(server, spool="off"))
    server.folder.joinpath("taken", "x").mkdir(parents=True)
    with server.client() as client:
        client.set("x", 1)
        client.bgsave()
        wait_until(lambda: client.info()["rdb_last_bgsave_status"] == "err", "failure")
        with pytest.raises(RasaException, match="cannot write to its disk") as error:
            await store.save(tracker("ada", session_start()))
        assert isinstance(error.value, ConnectionException)
        client.config_set("stop-writes-on-bgsave-error", "no")
    await eventually(saves(store, tracker("ada", session_start())))


@on_both_flavours
def test_start_on_a_replica_is_an_error(load, own_server, flavour):
    master = own_server(flavour)
    replica = own_server(flavour, config={"replicaof": f"{master.host} {master.port}"})
    with replica.client() as client:
        wait_until(lambda: client.info()["master_link_status"] == "up", "replication")
    with pytest.raises(ConnectionException, match="'url' name the master"):
        load(redis_endpoint(replica, timeout=1))


@on_both_flavours
async def test_master_that_became_a_replica(load, own_server, flavour, eventually):
    master, other = own_server(flavour), own_server(flavour)
    kept = tracker("ada", session_start())
    with master.client() as client, other.client() as other_client:
        store = load(redis_endpoint(master, timeout=1, spool="off"))
        await store.save(kept)
        other_client.replicaof(master.host, master.port)
        wait_until(
            lambda: other_client.info()["master_link_status"] == "up", "replication"
        )
        client.replicaof(other.host, other.port)
        add(kept, turn())
        with pytest.raises(ConnectionException, match="is a replica"):
            await store.save(kept)
        other_client.replicaof("no", "one")
        client.replicaof("no", "one")
    await eventually(saves(store, kept))
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


@on_both_flavours
async def test_address_that_moved_to_another_server(load, own_server, flavour):
    """The old master lives on as a replica, and so do connections to it."""
    old, new = own_server(flavour), own_server(flavour)
    kept = tracker("ada", session_start())
    with TcpProxy(old.host, old.port) as address:
        store = load(redis_endpoint(old, port=address.port, timeout=5))
        await store.save(kept)
        with old.client() as client, new.client() as new_client:
            new_client.replicaof(old.host, old.port)
            wait_until(
                lambda: new_client.info()["master_link_status"] == "up", "replication"
            )
            new_client.replicaof("no", "one")
            address._target = (new.host, new.port)
            client.replicaof(new.host, new.port)
        add(kept, turn())
        await store.save(kept)
        assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


@on_both_flavours
async def test_server_that_still_reads_its_data(load, own_server, flavour):
    # In microseconds a key; clients are answered after each 2 MB.
    server = own_server(
        flavour, durable=True, config={"key-load-delay": 10_000, "rdbcompression": "no"}
    )
    store = load(redis_endpoint(server, timeout=60))
    kept = tracker("ada", session_start())
    await store.save(kept)
    with server.client() as client:
        for number in range(200):
            client.set(f"key-{number}", "x" * 100_000)
        client.bgrewriteaof()
        wait_until(
            lambda: (
                not client.info()["aof_rewrite_in_progress"]
                and not client.info()["aof_rewrite_scheduled"]
            ),
            "rewriting",
        )
    server.kill()
    server._spawn()

    def is_loading():
        try:
            with server.client() as client:
                client.ping()
        except redis.BusyLoadingError:
            return True
        except redis.ConnectionError:
            pass
        return False

    await in_thread(wait_until, is_loading, "loading")
    with pytest.raises(ConnectionException, match="'startup_timeout'"):
        load(redis_endpoint(server, timeout=60, startup_timeout=0.2))
    add(kept, turn())
    await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


# Clusters


@pytest.mark.parametrize("flavour", [REDIS, VALKEY])
async def test_slot_that_moves_during_saves(load, flavour):
    with RedisCluster(flavour) as cluster:
        store = load(redis_endpoint(cluster))
        kept = tracker("ada", session_start())
        stop = threading.Event()

        def move_again_and_again():
            try:
                for _ in range(6):
                    said = len(kept.events)
                    wait_until(lambda said=said: len(kept.events) > said + 40, "saves")
                    cluster.move_slot("tracker:ada")
            finally:
                stop.set()

        moving = in_thread(move_again_and_again)
        await save_until(stop, store, kept)
        await moving
        assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


@on_both_flavours
async def test_slot_that_is_half_moved(load, flavour):
    """As after a resharding that was broken off."""
    with RedisCluster(flavour) as cluster:
        store = load(redis_endpoint(cluster, timeout=5))
        kept = tracker("ada", session_start())
        await store.save(kept)
        source = cluster.owner("tracker:ada")
        target = next(node for node in cluster.nodes if node is not source)
        slot = key_slot(b"tracker:ada")
        with source.client() as giver, target.client() as taker:
            ids = [
                one.execute_command("CLUSTER MYID").decode() for one in (giver, taker)
            ]
            taker.execute_command(f"CLUSTER SETSLOT {slot} IMPORTING {ids[0]}")
            giver.execute_command(f"CLUSTER SETSLOT {slot} MIGRATING {ids[1]}")
            for moves in (False, True):
                if moves:
                    (key,) = giver.execute_command(f"CLUSTER GETKEYSINSLOT {slot} 9")
                    giver.migrate(target.host, target.port, key, 0, 10_000)
                add(kept, turn())
                await store.save(kept)
                assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
            # A slow machine may take what follows for an outage, in which a conversation
            # begins afresh if there is a spool.
            without_spool = load(redis_endpoint(cluster, timeout=5, spool="off"))
            with pytest.raises(ConnectionException):  # Rasa's own key could be there
                await without_spool.retrieve("{tracker:ada}")
            with pytest.raises(ConnectionException):
                without_spool._shared.threads.run_blocking(
                    lambda log: log.delete("ada"), timeout=1
                )
            for client in (taker, giver):
                client.execute_command(f"CLUSTER SETSLOT {slot} NODE {ids[1]}")
        assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
        assert await store.retrieve("{tracker:ada}") is None


async def test_node_that_dies_and_comes_back(load, caplog, eventually):
    with RedisCluster() as cluster:
        for node in cluster.nodes:
            with node.client() as client:
                client.config_set("cluster-require-full-coverage", "no")
        store = load(redis_endpoint(cluster))
        impatient = load(redis_endpoint(cluster, timeout=1, spool="off"))
        names = [f"user-{number}" for number in range(20)]
        kept = {name: tracker(name, session_start()) for name in names}
        for name in names:
            await store.save(kept[name])
        owners = {name: cluster.owner(f"tracker:{name}") for name in names}
        down = owners["user-0"]
        away = [name for name in names if owners[name] is down]
        down.kill()
        for _ in range(2):
            for name in names:
                add(kept[name], turn())
                await store.save(kept[name])
        # Conversations of the other nodes do not wait in the spool.
        assert store._shared.outage.spool.sender_ids() == set(away)
        for name in set(names) - set(away):
            key = backend_log(store).namespace.of(name).log
            with owners[name].client() as client:
                assert client.llen(key) > 10
        with pytest.raises(ConnectionException):
            await store.keys()
        with pytest.raises(ConnectionException):
            await impatient.retrieve(away[0])
        down.start()
        cluster.wait_until_well()
        await eventually(nothing_waits(store))
        for name in names:
            await store.save(kept[name])
            assert as_dicts(await store.retrieve(name)) == as_dicts(kept[name])
        await eventually(reads(impatient, away[0]))
        for name in names:
            assert as_dicts(await impatient.retrieve(name)) == as_dicts(kept[name])
    # One outage of one node.
    assert caplog.text.count(f"node {down.host}:{down.port} is away") == 2
    assert caplog.text.count(" is back after ") == 2


def nothing_waits(store):
    """Whether the database has all that was kept in an outage."""

    async def nothing_waits():
        return not store._shared.outage.spool.sender_ids()

    return nothing_waits


def reads(store, name):
    """Whether a conversation can be read."""

    async def is_read():
        try:
            await store.retrieve(name)
        except ConnectionException:
            return False
        return True

    return is_read


@pytest.mark.parametrize("number", [0, 2])
async def test_node_that_hangs_is_no_outage_of_the_others(load, number, eventually):
    with RedisCluster() as cluster:
        for node in cluster.nodes:
            with node.client() as client:
                client.config_set("cluster-require-full-coverage", "no")
                client.config_set("cluster-node-timeout", 600_000)
        store = load(redis_endpoint(cluster))
        names = [f"user-{number}" for number in range(20)]
        kept = {name: tracker(name, session_start()) for name in names}
        for name in names:
            await store.save(kept[name])
        hung = cluster.nodes[number]
        away = {name for name in names if cluster.owner(f"tracker:{name}") is hung}
        hung.suspend()
        try:
            for _ in range(2):
                for name in names:
                    add(kept[name], turn())
                    await store.save(kept[name])
                    assert as_dicts(await store.retrieve(name)) == as_dicts(kept[name])
            assert store._shared.outage.spool.sender_ids() == away
        finally:
            hung.resume()
        await eventually(nothing_waits(store))
        for name in names:
            assert as_dicts(await store.retrieve(name)) == as_dicts(kept[name])


async def test_cluster_that_is_away_and_comes_back_in_another_order(load, eventually):
    """redis-py 4.6 looks up no nodes any more when it has seen each of them fail."""
    with RedisCluster() as cluster:
        for node in cluster.nodes:
            with node.client() as client:
                client.config_set("cluster-require-full-coverage", "no")
                client.config_rewrite()
        store = load(redis_endpoint(cluster, timeout=2, spool="off"))
        on_each = {cluster.owner(f"tracker:{n}").port: str(n) for n in range(30)}
        assert len(on_each) == len(cluster.nodes)
        kept = {name: tracker(name, session_start()) for name in on_each.values()}
        for saved in kept.values():
            await store.save(saved)
            add(saved, turn())
        for node in cluster.nodes:
            node.kill()
        for saved in kept.values():
            with pytest.raises(ConnectionException):
                await store.save(saved)
        cluster.start()
        name, moved = next(iter(kept.items()))
        old = cluster.owner(f"tracker:{name}")
        cluster.move_slot(f"tracker:{name}")
        old.kill()
        await eventually(saves(store, moved))
        assert as_dicts(await store.retrieve(name)) == as_dicts(moved)
        old.start()
        cluster.wait_until_well()
        for name, saved in kept.items():
            # A save without new events asks no node, and so ends no outage.
            add(saved, turn())
            await eventually(saves(store, saved))
            assert as_dicts(await store.retrieve(name)) == as_dicts(saved)


async def test_keys_of_a_cluster_with_a_node_away_is_an_error(load):
    """Half of the conversations must not pass for all."""
    with RedisCluster() as cluster:
        store = load(redis_endpoint(cluster, timeout=1))
        cluster.nodes[2].kill()
        with pytest.raises(ConnectionException):
            await store.keys()


# The table of errors


def log():
    return RedisEventLog(
        lambda: None, Namespace(None, with_rasa_1=True), name="Redis at x:1"
    )


@pytest.mark.parametrize(
    ("error", "transient", "remedy"),
    [
        (
            redis.ConnectionError("Error 111 connecting to x:1. Connection refused."),
            True,
            "runs",
        ),
        (redis.TimeoutError("Timeout reading from socket"), True, "runs"),
        (
            redis.BusyLoadingError("Redis is loading the dataset in memory"),
            True,
            "startup_timeout",
        ),
        (
            redis.AuthenticationError("invalid username-password pair"),
            False,
            "password",
        ),
        (redis.AuthenticationWrongNumberOfArgsError("wrong number"), False, "password"),
        (redis.ResponseError("NOAUTH Authentication required."), False, "password"),
        (redis.exceptions.NoPermissionError("no permissions"), False, "ACL"),
        (redis.exceptions.OutOfMemoryError("command not allowed"), False, "maxmemory"),
        (redis.ReadOnlyError("You can't write"), True, "replica"),
        (redis.ResponseError("MISCONF Redis is configured to save RDB"), False, "disk"),
        (redis.ResponseError("NOREPLICAS Not enough good replicas"), True, "replicas"),
        (redis.ResponseError("BUSY Redis is busy running a script."), True, ""),
        (redis.ResponseError("ERR max number of clients reached"), True, "maxclients"),
        (redis.exceptions.MasterDownError("MASTERDOWN Link"), True, "masters"),
        (
            redis.exceptions.ClusterDownError("CLUSTERDOWN The cluster is down"),
            True,
            "masters",
        ),
        (redis.exceptions.TryAgainError("x"), True, ""),
        (redis.exceptions.ClusterError("TTL exhausted."), True, ""),
        (RedisClusterException("Redis Cluster cannot be connected"), True, ""),
        (
            redis.ResponseError("MOVED 3999 127.0.0.1:6381"),
            False,
            "deployment_mode: cluster",
        ),
        (redis.exceptions.InvalidResponse("Protocol Error"), True, "use_ssl"),
        (redis.ResponseError("ERR unknown command `EVALSHA`"), False, "EVALSHA"),
        (redis.ResponseError("ERR something new"), False, ""),
        (redis.DataError("Invalid input"), False, ""),
        (ConnectionResetError(), True, "runs"),
        (KeyError("a bug"), None, ""),
    ],
)
def test_errors(error, transient, remedy):
    failure = log().classify(error)
    assert (failure and failure.transient) is transient
    assert remedy in (failure.remedy if failure else "")


@pytest.mark.parametrize(
    "code", ["OOM", "READONLY", "WRONGTYPE", "MISCONF", "NOREPLICAS"]
)
def test_errors_within_a_script(code):
    """Redis 6.2 hides the code of an error within a script."""
    hidden = f"Error running script (call to f_1): @user_script:5: -{code} for a reason"
    wanted = next(failure for pattern, failure in FAILURES.items() if code in pattern)
    assert log().classify(redis.ResponseError(hidden)) is wanted


def test_errors_of_causes():
    error = RedisClusterException("Redis Cluster cannot be connected")
    error.__cause__ = redis.AuthenticationError("invalid password")
    assert log().classify(error).transient is False


def test_tags_that_are_numbers_are_in_the_slot():
    keys = Namespace(None, with_rasa_1=False).of("a}b")
    assert key_slot(keys.log) == key_slot(b"tracker:a}b")


def test_a_cluster_whose_nodes_have_not_met_is_waited_for(load, own_server):
    """redis-py's own error for it is an IndexError."""
    node = own_server(kind=ClusterNode)
    endpoint = {
        "type": "rasa_trackers.RedisTrackerStore",
        "deployment_mode": "cluster",
        "endpoints": [f"{node.host}:{node.port}"],
    }
    with pytest.raises(ConnectionException, match="no node serves any slot yet"):
        load({**endpoint, "startup_timeout": 1})

    def meet():
        with node.client() as client:
            client.execute_command("CLUSTER ADDSLOTS", *range(16384))

    soon = threading.Timer(1, meet)
    soon.start()
    load({**endpoint, "startup_timeout": 30})
    soon.join()
