"""PostgreSQL that dies, hangs, is cut off or not there yet: each event once."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from rasa.shared.exceptions import ConnectionException, RasaException

from conversations import (
    add,
    as_dicts,
    as_messages,
    conversation,
    dicts,
    session_start,
    tracker,
    turn,
)
from rasa_trackers.sql import postgresql
from servers.postgres import PostgresServer
from servers.proxy import TcpProxy
from servers.silent import closed_port, silent_port, unreachable_port

#: What only an append sends.
APPEND = b"INSERT INTO"


@pytest.fixture
def server():
    """A server of the test's own, to be wrecked."""
    with PostgresServer() as server:
        yield server


def endpoint_of(server, **options):
    return {
        "type": "rasa_trackers.SQLTrackerStore",
        "dialect": "postgresql",
        "url": server.host,
        "port": server.port,
        "db": "postgres",
        "username": server.username,
        "password": server.password,
        **options,
    }


@pytest.fixture
def proxy(postgres_server):
    with TcpProxy(postgres_server.host, postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def connect(load, postgres_server, proxy):
    """Makes stores that reach the server through the proxy."""
    database = postgres_server.create_database()

    def connect(broker=None, **options):
        endpoint = endpoint_of(postgres_server, db=database, port=proxy.port, **options)
        return load(endpoint, broker=broker)

    yield connect
    proxy.clear()
    postgres_server.drop_database(database)


class Broker:
    def __init__(self):
        self.published = []

    def publish(self, event):
        self.published.append(
            {key: value for key, value in event.items() if key != "sender_id"}
        )


async def test_kill_between_saves(load, server):
    store = load(endpoint_of(server, db=server.create_database()))
    kept = tracker("ada")
    for _ in range(3):
        add(kept, turn())
        await store.save(kept)
        server.kill()
        server.start()
        assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_kill_during_saves(load, server):
    store = load(endpoint_of(server, db=server.create_database(), timeout=60))
    stop = threading.Event()

    def kill_again_and_again():
        for _ in range(4):
            time.sleep(0.2)
            server.kill()
            server.start()
        stop.set()

    killer = threading.Thread(target=kill_again_and_again)
    killer.start()
    kept = tracker("ada", session_start())
    while not stop.is_set():
        add(kept, turn())
        await store.save(kept)
    killer.join()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_reply_that_is_lost_after_the_commit(connect, proxy):
    broker = Broker()
    store = connect(broker)
    kept = tracker("ada", session_start())
    await store.save(kept)
    add(kept, turn())
    fault = proxy.drop_reply_after(APPEND)
    await store.save(kept)
    fault.wait()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
    assert broker.published == as_messages(kept)


async def test_reply_that_is_lost_of_the_first_save(connect, proxy):
    store = connect()
    fault = proxy.drop_reply_after(APPEND)
    saved = tracker("ada", session_start())
    await store.save(saved)
    fault.wait()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)


async def test_request_that_is_lost_before_the_server(connect, proxy):
    store = connect()
    fault = proxy.cut_before(APPEND)
    saved = tracker("ada", session_start())
    await store.save(saved)
    fault.wait()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)


async def test_request_that_arrives_after_its_retry_writes_nothing(connect, proxy):
    store = connect()
    held = proxy.hold(APPEND)
    saved = tracker("ada", session_start())
    await store.save(saved)
    held.release()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)


async def test_request_that_arrives_after_another_writer_writes_nothing(connect, proxy):
    store, other = connect(), connect()
    saved = tracker("ada", session_start())
    held = proxy.hold(APPEND)
    await store.save(saved)
    theirs = await other.retrieve("ada")
    add(theirs, turn())
    await other.save(theirs)
    held.release()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(theirs)


async def test_lost_reply_while_another_writer_appends(connect, proxy):
    store, other = connect(), connect()
    kept = tracker("ada", session_start())
    await store.save(kept)
    theirs = await other.retrieve("ada")
    before = as_dicts(kept)
    their_turn, my_turn = turn("theirs"), turn("mine")
    add(theirs, their_turn)
    add(kept, my_turn)
    fault = proxy.cut_before(APPEND)
    saving = asyncio.ensure_future(store.save(kept))
    await asyncio.get_running_loop().run_in_executor(None, fault.wait)
    await other.save(theirs)
    await saving
    full = as_dicts(await store.retrieve_full_tracker("ada"))
    assert full in (
        before + dicts(my_turn) + dicts(their_turn),
        before + dicts(their_turn) + dicts(my_turn),
    )


async def test_save_that_failed_is_made_good_by_the_next_one(connect, proxy):
    """The append was carried out, its reply was lost, and then the server was away."""
    broker = Broker()
    store = connect(broker, timeout=1)
    kept = tracker("ada", session_start())
    await store.save(kept)
    add(kept, turn())
    fault = proxy.drop_reply_after(APPEND)
    closing = threading.Thread(target=lambda: (fault.wait(), proxy.refuse()))
    closing.start()
    with pytest.raises(ConnectionException):
        await store.save(kept)
    closing.join()
    proxy.accept()
    add(kept, turn())
    await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
    assert broker.published == as_messages(kept)


async def test_server_that_is_away_is_an_error_in_time(connect, proxy):
    store = connect(timeout=1)
    saved = tracker("ada", session_start())
    proxy.refuse()
    proxy.cut()
    began = time.monotonic()
    with pytest.raises(ConnectionException, match=r"Check that the server runs"):
        await store.save(saved)
    with pytest.raises(ConnectionException):
        await store.retrieve("ada")
    assert time.monotonic() - began < 6
    proxy.accept()
    await store.save(saved)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)


async def test_connections_that_died_in_the_pool_are_replaced(connect, proxy):
    store = connect()
    saved = tracker("ada", session_start())
    await store.save(saved)
    proxy.cut()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)


async def test_server_that_hangs_is_an_error_in_time(load, server):
    store = load(endpoint_of(server, db=server.create_database(), timeout=1))
    kept = tracker("ada", conversation(1, 1))
    await store.save(kept)
    add(kept, turn())
    server.suspend()
    try:
        began = time.monotonic()
        # More calls than the store has threads: those must come free again.
        calls = [store.retrieve("ada") for _ in range(20)] + [store.save(kept)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {ConnectionException}
        assert "did not answer within 1 seconds" in str(results[0])
        assert time.monotonic() - began < 8
        # The server still hangs, and all threads of the store are free again.
        pool = store._calls._pool
        together = threading.Barrier(pool._max_workers)
        for each in [pool.submit(together.wait, 10) for _ in range(pool._max_workers)]:
            each.result()
    finally:
        server.resume()
    await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_append_that_ends_after_its_deadline_is_stored_and_published_once(
    connect, monkeypatch
):
    """The call has failed by then, and the next save was already begun."""
    broker = Broker()
    store = connect(broker, timeout=0.5)
    kept = tracker("ada", session_start())
    await store.save(kept)
    append, late = store._log.append, threading.Event()

    def append_late(*arguments):
        late.wait(10)
        return append(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store._log, "append", append_late)
        add(kept, turn())
        with pytest.raises(ConnectionException):
            await store.save(kept)
    add(kept, turn())
    await store.save(kept)
    late.set()
    store._calls._pool.shutdown()
    assert broker.published == as_messages(kept)
    stored = connect()
    assert as_dicts(await stored.retrieve("ada")) == as_dicts(kept)


async def test_commit_that_ends_after_its_deadline_is_published_by_the_next_save(
    connect, monkeypatch
):
    broker = Broker()
    store = connect(broker, timeout=0.5)
    kept = tracker("ada", session_start())
    await store.save(kept)
    append, late = store._log.append, threading.Event()

    def answer_late(*arguments):
        result = append(*arguments)
        late.wait(10)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(store._log, "append", answer_late)
        add(kept, turn())
        with pytest.raises(ConnectionException):
            await store.save(kept)
    late.set()
    await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
    assert broker.published == as_messages(kept)


async def test_saves_that_wait_for_one_another_are_errors_in_time(connect, proxy):
    store = connect(timeout=0.5)
    saved = tracker("ada", session_start())
    await store.save(saved)
    proxy.stall()
    began = time.monotonic()
    results = await asyncio.gather(
        *(store.save(tracker("ada", turn())) for _ in range(6)), return_exceptions=True
    )
    assert {type(result) for result in results} == {ConnectionException}
    assert time.monotonic() - began < 5
    proxy.resume()


async def test_silence_in_the_middle_of_an_append(connect, proxy):
    store = connect(timeout=1)
    kept = tracker("ada", session_start())
    await store.save(kept)
    proxy.stall()
    add(kept, turn())
    with pytest.raises(ConnectionException):
        await store.save(kept)
    proxy.resume()
    await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


@pytest.mark.parametrize("port", [closed_port, silent_port, unreachable_port])
def test_start_without_a_server_is_an_error_in_time(load, postgres_server, port):
    with port() as number:
        began = time.monotonic()
        with pytest.raises(RasaException) as raised:
            load(endpoint_of(postgres_server, port=number, timeout=1))
        assert time.monotonic() - began < 6
    assert f":{number}" in str(raised.value)
    assert postgres_server.password not in str(raised.value)


async def test_server_that_comes_up_after_the_store_is_waited_for(load, server):
    database = server.create_database()
    server.stop()
    starter = threading.Timer(0.5, server.start)
    starter.start()
    store = load(endpoint_of(server, db=database, timeout=1, startup_timeout=60))
    starter.join()
    assert await store.retrieve("ada") is None


async def test_one_round_trip_to_append_and_one_to_read(connect, proxy):
    store = connect()
    kept = tracker("ada", conversation(1, 5))
    await store.save(kept)
    await store.retrieve("ada")
    before = proxy.round_trips
    retrieved = await store.retrieve("ada")
    reading = proxy.round_trips - before
    add(retrieved, turn())
    await store.save(retrieved)
    appending = proxy.round_trips - before - reading
    assert (reading, appending) == (1, 1)


async def test_connection_is_tested_after_a_pause(connect, proxy, monkeypatch):
    monkeypatch.setattr(postgresql, "_UNTESTED", 0.0)
    store = connect()
    await store.save(tracker("ada", session_start()))
    before = proxy.round_trips
    await store.retrieve("ada")
    assert proxy.round_trips - before == 2
