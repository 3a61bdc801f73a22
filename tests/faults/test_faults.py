"""A server that dies, hangs, is cut off or not there yet: each event once.

What only one backend's server can do stands in a file of its own.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time

import pytest
from rasa.shared.exceptions import ConnectionException, RasaException

from backends import BACKENDS, names_for
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
from rasa_api import backend_log
from rasa_trackers.sql import connections
from servers.process import wait_until
from servers.proxy import TcpProxy
from servers.silent import closed_port, silent_port, unreachable_port


@pytest.fixture(params=names_for("faults"))
def backend(request):
    return BACKENDS[request.param]


@pytest.fixture
def server(backend):
    """A server of the test's own, to be wrecked."""
    with backend.make_server() as server:
        yield server


@pytest.fixture
def connect_alone(backend, server, load):
    """Makes stores on that server, which are closed before it is gone."""
    database = backend.create(server)

    def connect_alone(**options):
        endpoint = backend.endpoint(server, database)
        return load({**endpoint, "startup_timeout": 60, **options})

    return connect_alone


@pytest.fixture
def shared_server(request, backend):
    return backend.server_for_all(request)


@pytest.fixture
def proxy(shared_server):
    with TcpProxy(shared_server.host, shared_server.port) as proxy:
        yield proxy
        proxy.clear()


@pytest.fixture
def connect(backend, shared_server, proxy, load):
    """Makes stores that reach the server through the proxy."""
    database = backend.create(shared_server)

    def connect(broker=None, **options):
        endpoint = backend.endpoint(shared_server, database, proxy.port)
        options.setdefault("startup_timeout", 60)
        return load({**endpoint, **options}, broker=broker)

    yield connect
    proxy.clear()
    backend.drop(shared_server, database)


@pytest.fixture(params=["begins", "goes on"])
def append(request, backend):
    """A tracker to be saved by a store, and the bytes of that append."""

    async def append(store):
        # From here on the server knows all statements and scripts.
        await store.save(tracker("grace", session_start()))
        kept = tracker("ada", session_start())
        if request.param == "begins":
            return kept, backend.begin
        await store.save(kept)
        add(kept, turn())
        return kept, backend.append

    return append


class Broker:
    def __init__(self):
        self.published = []

    def publish(self, event):
        if event["sender_id"] == "ada":
            self.published.append(
                {key: value for key, value in event.items() if key != "sender_id"}
            )


def in_thread(function, *arguments):
    """Starts a function beside the test; awaiting what is returned waits for it."""
    return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


# Crashes


async def test_kill_between_saves(connect_alone, server):
    store = connect_alone(timeout=30)
    kept = tracker("ada")
    for _ in range(3):
        add(kept, conversation(1, 15))
        await store.save(kept)
        server.kill()
        server.start()
        assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(kept)


async def test_kill_during_saves(connect_alone, server):
    store = connect_alone(timeout=60)
    kept = tracker("ada", session_start())
    stop = threading.Event()

    def kill_again_and_again():
        try:
            for _ in range(4):
                said = len(kept.events)
                wait_until(lambda said=said: len(kept.events) > said + 80, "saves")
                server.kill()
                server.start()
        finally:
            stop.set()

    killing = in_thread(kill_again_and_again)
    while not stop.is_set():
        add(kept, turn())
        await store.save(kept)
        await asyncio.sleep(0)
    await killing
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


# Lost requests and replies


@pytest.mark.parametrize("times", [1, 4])
async def test_reply_that_is_lost_after_the_append(
    connect, proxy, append, times, eventually
):
    broker = Broker()
    store = connect(broker)
    kept, pattern = await append(store)
    fault = proxy.drop_reply_after(pattern, times)
    await store.save(kept)
    fault.wait()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
    await eventually(published(broker, kept))


def published(broker, kept):
    """Whether the broker has got each event of a tracker once, in order."""

    async def is_published():
        return broker.published == as_messages(kept)

    return is_published


async def test_request_that_is_lost_before_the_server(connect, proxy, append):
    store = connect()
    kept, pattern = await append(store)
    fault = proxy.cut_before(pattern)
    await store.save(kept)
    fault.wait()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_request_that_arrives_after_its_retry_writes_nothing(
    connect, proxy, append
):
    store = connect()
    kept, pattern = await append(store)
    held = proxy.hold(pattern)
    await store.save(kept)
    assert held.release()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_request_that_arrives_after_another_writer_writes_nothing(
    connect, proxy, append
):
    store, other = connect(), connect()
    kept, pattern = await append(store)
    held = proxy.hold(pattern)
    await store.save(kept)
    theirs = await other.retrieve("ada")
    add(theirs, turn())
    await other.save(theirs)
    assert held.release()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(theirs)


@pytest.mark.parametrize("sessions", [0, 20])
async def test_lost_request_while_another_writer_appends(
    connect, proxy, backend, sessions
):
    store, other = connect(), connect()
    kept = tracker("ada", conversation(sessions, 10) + session_start())
    await store.save(kept)
    theirs = await other.retrieve("ada")
    before = as_dicts(kept)
    their_turn, my_turn = turn("theirs"), turn("mine")
    add(theirs, their_turn)
    add(kept, my_turn)
    fault = proxy.cut_before(backend.append, times=2)
    saving = asyncio.ensure_future(store.save(kept))
    await in_thread(fault.wait)
    await other.save(theirs)
    await saving
    full = as_dicts(await store.retrieve_full_tracker("ada"))
    assert full in (
        before + dicts(my_turn) + dicts(their_turn),
        before + dicts(their_turn) + dicts(my_turn),
    )


async def test_save_whose_reply_was_lost_before_an_outage_is_stored_once(
    connect, proxy, backend, eventually
):
    """The append was carried out, its reply was lost, and then the server was away."""
    broker = Broker()
    store = connect(broker)
    kept = tracker("ada", session_start())
    await store.save(kept)
    add(kept, turn())
    fault = proxy.drop_reply_after(backend.append)
    closing = threading.Thread(target=lambda: (fault.wait(), proxy.refuse()))
    closing.start()
    await store.save(kept)
    closing.join()
    proxy.accept()
    add(kept, turn())
    await store.save(kept)
    await eventually(published(broker, kept))
    assert as_dicts(await connect().retrieve("ada")) == as_dicts(kept)


async def test_connections_that_died_in_the_pool_are_replaced(connect, proxy):
    store = connect()
    saved = tracker("ada", session_start())
    await store.save(saved)
    proxy.cut()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)


@pytest.mark.parametrize("backend", ["mongo", "mongo-replica-set"], indirect=True)
@pytest.mark.parametrize("pattern", ["begin", "append"])
@pytest.mark.parametrize("fault", ["cut_before", "drop_reply_after"])
async def test_fault_while_a_bucket_is_closed(connect, proxy, backend, pattern, fault):
    """A closed bucket is inserted before the open one is changed."""
    store = connect()
    kept = tracker("ada", conversation(1, 29))
    await store.save(kept)
    add(kept, conversation(1, 15))
    fault = getattr(proxy, fault)(getattr(backend, pattern))
    await store.save(kept)
    fault.wait()
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(kept)


# Away and silent


async def test_without_a_spool_a_server_that_is_away_is_an_error_in_time(
    connect, proxy, eventually
):
    store = connect(timeout=1, spool="off")
    saved = tracker("ada", session_start())
    proxy.refuse()
    proxy.cut()
    began = time.monotonic()
    with pytest.raises(ConnectionException, match=r"Check that the server runs"):
        await store.save(saved)
    with pytest.raises(ConnectionException):
        await store.retrieve("ada")
    assert time.monotonic() - began < 20
    proxy.accept()
    await eventually(saves(store, saved))
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)


def saves(store, kept):
    """Whether a tracker can be saved: a probe has found that the server is back."""

    async def is_saved():
        try:
            await store.save(kept)
        except ConnectionException:
            return False
        return True

    return is_saved


@pytest.mark.parametrize("timeout", [0.3, 1, 10])
@pytest.mark.parametrize("how", ["refused", "silent"])
async def test_first_call_that_meets_an_outage_is_no_error(
    connect, proxy, eventually, timeout, how
):
    """Whatever ``timeout`` is, and although nobody has looked for the server yet."""
    store = connect(timeout=timeout)
    kept = tracker("ada", session_start())
    await store.save(kept)
    if how == "refused":
        proxy.refuse()
        proxy.cut()
    else:
        proxy.stall()
    add(kept, turn())
    await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
    proxy.accept()
    proxy.resume()

    async def is_stored():
        return not store._shared.outage.spool.sender_ids()

    await eventually(is_stored)
    assert as_dicts(await connect().retrieve("ada")) == as_dicts(kept)


async def test_server_that_hangs_is_an_error_in_time(connect_alone, server, eventually):
    store = connect_alone(timeout=1, spool="off")
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
        assert time.monotonic() - began < 20
        # The server still hangs.
        assert all_threads_come_free(store)
    finally:
        server.resume()
    await eventually(saves(store, kept))
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


def all_threads_come_free(store):
    """Whether all threads of a store do something else within a minute."""
    pool = store._shared.threads._pool
    together = threading.Barrier(pool.workers)
    places = []

    def wait():
        places.append(together.wait(60))

    waiting = [pool.submit(wait, is_long=False) for _ in range(pool.workers)]
    for each in waiting:
        each.result()
    return sorted(places) == list(range(pool.workers))


async def test_threads_of_calls_that_were_cancelled_come_free(connect_alone, server):
    """Nobody waits for them any more, and the server does not answer."""
    store = connect_alone(timeout=1)
    await store.save(tracker("ada", session_start()))
    server.suspend()
    try:
        calls = [asyncio.wait_for(store.retrieve("ada"), 0.2) for _ in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.TimeoutError}
        assert all_threads_come_free(store)
    finally:
        server.resume()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("call", ["retrieve", "purge"])
def test_process_ends_while_a_server_is_silent(backend, server, call, tmp_path):
    """A thread in libpq waits without end, and Python for all threads of a pool."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    endpoint = {**backend.endpoint(server, backend.create(server)), "timeout": 1}
    del endpoint["type"]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", program, json.dumps(endpoint), call],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline().strip() == b"ready"
        server.suspend()
        try:
            process.communicate(b"\n", timeout=60)
        finally:
            process.kill()
            server.resume()
    assert process.returncode == 0


PROGRAM = """
import asyncio, contextlib, json, sys
import rasa_trackers

endpoint, call = json.loads(sys.argv[1]), sys.argv[2]
store = rasa_trackers.SQLTrackerStore(record_exp=60, **endpoint)


async def main():
    await store.retrieve("ada")
    print("ready", flush=True)
    sys.stdin.readline()
    if call == "purge":
        store._shared._next_purge = 0
        store._shared.purge_now_and_then()
    else:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(store.retrieve("ada"), 0.2)


asyncio.run(main())
"""


async def test_call_ends_in_time_where_it_cannot_be_interrupted(
    connect_alone, server, monkeypatch
):
    store = connect_alone(timeout=1, spool="off")
    await store.save(tracker("ada", session_start()))

    def fail():
        raise RuntimeError("cannot be interrupted")

    monkeypatch.setattr(backend_log(store), "interrupt", fail)
    server.suspend()
    try:
        with pytest.raises(ConnectionException):
            await asyncio.wait_for(store.retrieve("ada"), 60)
    finally:
        server.resume()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_connection_to_a_server_that_became_a_standby_is_replaced(connect):
    store = connect(timeout=3)
    kept = tracker("ada", session_start())
    await store.save(kept)
    with backend_log(store).engine.connect() as connection:
        # As that of one that was the primary, and still lives.
        connection.exec_driver_sql("SET default_transaction_read_only = on")
    for _ in range(3):
        add(kept, turn())
        await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_saves_that_wait_for_one_another_are_errors_in_time(connect, proxy):
    store = connect(timeout=0.5, spool="off")
    saved = tracker("ada", session_start())
    await store.save(saved)
    proxy.stall()
    began = time.monotonic()
    results = await asyncio.gather(
        *(store.save(tracker("ada", turn())) for _ in range(6)), return_exceptions=True
    )
    assert {type(result) for result in results} == {ConnectionException}
    assert time.monotonic() - began < 20
    proxy.resume()


async def test_silence_in_the_middle_of_an_append(connect, proxy, eventually):
    store = connect(timeout=1, spool="off")
    kept = tracker("ada", session_start())
    await store.save(kept)
    proxy.stall()
    add(kept, turn())
    with pytest.raises(ConnectionException):
        await store.save(kept)
    proxy.resume()
    await eventually(saves(store, kept))
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


@pytest.mark.parametrize("port", [closed_port, silent_port, unreachable_port])
def test_start_without_a_server_is_an_error_in_time(load, backend, shared_server, port):
    with port() as number:
        endpoint = backend.endpoint(
            shared_server, backend.create(shared_server), number
        )
        began = time.monotonic()
        with pytest.raises(RasaException) as raised:
            load({**endpoint, "timeout": 1})
        assert time.monotonic() - began < 20
    assert f":{number}" in str(raised.value)
    if shared_server.password:
        assert shared_server.password not in str(raised.value)


async def test_server_that_comes_up_after_the_store_is_waited_for(
    connect_alone, server
):
    server.stop()
    starter = threading.Timer(0.5, server.start)
    starter.start()
    store = connect_alone(timeout=1, startup_timeout=60)
    starter.join()
    assert await store.retrieve("ada") is None


# Answers that come late


async def fails_in_time(store, kept, monkeypatch, append):
    """A save by another append."""
    with monkeypatch.context() as patch:
        patch.setattr(backend_log(store), "append", append)
        add(kept, turn())
        with pytest.raises(ConnectionException):
            await store.save(kept)


@pytest.mark.parametrize("begun", [False, True])
async def test_append_that_ends_after_its_deadline_is_stored_and_published_once(
    connect, monkeypatch, begun
):
    """The call has failed by then, and the next save was already begun."""
    broker = Broker()
    store = connect(broker, timeout=0.5)
    kept = tracker("ada", session_start())
    if begun:
        await store.save(kept)
    append, late = backend_log(store).append, threading.Event()

    def append_late(*arguments):
        late.wait(60)
        return append(*arguments)

    await fails_in_time(store, kept, monkeypatch, append_late)
    add(kept, turn())
    await store.save(kept)
    late.set()
    store._shared.threads._pool.shutdown()
    assert broker.published == as_messages(kept)
    assert as_dicts(await connect().retrieve("ada")) == as_dicts(kept)


@pytest.mark.parametrize("begun", [False, True])
async def test_append_that_is_answered_after_its_deadline_is_published_by_the_next_save(
    connect, monkeypatch, begun
):
    broker = Broker()
    store = connect(broker, timeout=0.5)
    kept = tracker("ada", session_start())
    if begun:
        await store.save(kept)
    append, late = backend_log(store).append, threading.Event()

    def answer_late(*arguments):
        result = append(*arguments)
        late.wait(60)
        return result

    await fails_in_time(store, kept, monkeypatch, answer_late)
    late.set()
    await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
    assert broker.published == as_messages(kept)


# And when all is well


@pytest.mark.parametrize("sessions", [1, 20])
async def test_one_round_trip_to_append_and_one_to_read(connect, proxy, sessions):
    store = connect()
    kept = tracker("ada", conversation(sessions, 5))
    await store.save(kept)
    await store.retrieve("ada")
    before = proxy.round_trips
    retrieved = await store.retrieve("ada")
    reading = proxy.round_trips - before
    add(retrieved, turn())
    await store.save(retrieved)
    appending = proxy.round_trips - before - reading
    assert (reading, appending) == (1, 1)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_conversations_are_sent_as_they_are_found(connect, proxy, monkeypatch):
    store = connect()
    for number in range(6):
        await store.save(tracker(str(number), session_start()))
    monkeypatch.setattr(backend_log(store), "_fetched", 2)
    before = proxy.round_trips
    assert len(list(await store.keys())) == 6
    # BEGIN, DECLARE, three times two, nothing more, COMMIT.
    assert proxy.round_trips - before == 7


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_connection_is_tested_after_a_pause(connect, proxy, monkeypatch):
    monkeypatch.setattr(connections, "UNTESTED", 0.0)
    store = connect()
    await store.save(tracker("ada", session_start()))
    before = proxy.round_trips
    await store.retrieve("ada")
    assert proxy.round_trips - before == 2
