"""MongoDB that dies, hangs, steps down, is cut off or refuses: each event once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pymongo
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
from rasa_trackers.event_log import START, Entry
from rasa_trackers.mongo import MongoTrackerStore, failures
from servers.mongo import MongoServer
from servers.process import wait_until
from servers.proxy import TcpProxy
from servers.silent import closed_port, silent_port, unreachable_port

#: What only an append to an open bucket sends, and what only the first one does.
PUSH = b"$push"
INSERT = b"insert\0"


class FailingServer(MongoServer):
    """Fails as it is told, by MongoDB's own means for tests of drivers."""

    def _command(self):
        return [*super()._command(), "--enable-test-commands"]

    @contextlib.contextmanager
    def failing(self, mode, *commands, **data):
        with self.client() as client:
            data = {"failCommands": list(commands), **data}
            client.admin.command(
                "configureFailPoint", "failCommand", mode=mode, data=data
            )
            yield
            client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.fixture
def server():
    """A server of the test's own, to be wrecked."""
    with FailingServer(replica_set=True) as server:
        yield server


@pytest.fixture(scope="module", params=["replica set", "standalone"])
def shared_server(request):
    """As the driver sees it; by default, it would repeat a write on the former."""
    with MongoServer(replica_set=request.param == "replica set") as server:
        yield server


def endpoint_of(server, port=None, **options):
    return {
        "type": "rasa_trackers.MongoTrackerStore",
        "url": f"{server.url(port)}/?directConnection=true",
        **options,
    }


@pytest.fixture
def proxy(shared_server):
    with TcpProxy(shared_server.host, shared_server.port) as proxy:
        yield proxy


@pytest.fixture
def connect(shared_server, proxy, load):
    """Makes stores that reach the server through the proxy."""
    database = shared_server.database_name()

    def connect(broker=None, **options):
        return load(
            endpoint_of(shared_server, proxy.port, db=database, **options),
            broker=broker,
        )

    yield connect
    proxy.clear()
    shared_server.drop_database(database)


class Broker:
    def __init__(self):
        self.published = []

    def publish(self, event):
        self.published.append(
            {key: value for key, value in event.items() if key != "sender_id"}
        )


async def test_kill_between_saves(server, load):
    store = load(endpoint_of(server))
    kept = tracker("ada")
    for _ in range(3):
        add(kept, conversation(1, 15))
        await store.save(kept)
        server.kill()
        server.start()
        assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(kept)


async def test_kill_during_saves(server, load):
    store = load(endpoint_of(server, timeout=60))
    stop = threading.Event()

    def kill_again_and_again():
        for _ in range(4):
            time.sleep(0.3)
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


@pytest.mark.parametrize("pattern", [PUSH, INSERT])
async def test_reply_that_is_lost_after_the_write(connect, proxy, pattern):
    broker = Broker()
    store = connect(broker)
    kept = tracker("ada", session_start())
    if pattern == PUSH:
        await store.save(kept)
        add(kept, turn())
    fault = proxy.drop_reply_after(pattern)
    await store.save(kept)
    fault.wait()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
    assert broker.published == as_messages(kept)


@pytest.mark.parametrize("pattern", [PUSH, INSERT])
@pytest.mark.parametrize("fault", ["cut_before", "drop_reply_after"])
async def test_fault_while_a_bucket_is_closed(connect, proxy, pattern, fault):
    store = connect()
    kept = tracker("ada", conversation(1, 29))
    await store.save(kept)
    add(kept, conversation(1, 15))
    fault = getattr(proxy, fault)(pattern)
    await store.save(kept)
    fault.wait()
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(kept)


@pytest.mark.parametrize("pattern", [PUSH, INSERT])
async def test_request_that_is_lost_before_the_server(connect, proxy, pattern):
    store = connect()
    kept = tracker("ada", session_start())
    if pattern == PUSH:
        await store.save(kept)
        add(kept, turn())
    fault = proxy.cut_before(pattern)
    await store.save(kept)
    fault.wait()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


@pytest.mark.parametrize("pattern", [PUSH, INSERT])
async def test_request_that_arrives_after_its_retry_writes_nothing(
    connect, proxy, pattern
):
    store = connect()
    kept = tracker("ada", session_start())
    if pattern == PUSH:
        await store.save(kept)
        add(kept, turn())
    held = proxy.hold(pattern)
    await store.save(kept)
    held.release()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_request_that_arrives_after_another_writer_writes_nothing(connect, proxy):
    store, other = connect(), connect()
    kept = tracker("ada", session_start())
    await store.save(kept)
    add(kept, turn())
    held = proxy.hold(PUSH)
    await store.save(kept)
    theirs = await other.retrieve("ada")
    add(theirs, turn())
    await other.save(theirs)
    held.release()
    assert as_dicts(await store.retrieve("ada")) == as_dicts(theirs)


@pytest.mark.parametrize("sessions", [0, 20])
async def test_lost_reply_while_another_writer_appends(connect, proxy, sessions):
    store, other = connect(), connect()
    kept = tracker("ada", conversation(sessions, 10) + session_start())
    await store.save(kept)
    theirs = await other.retrieve("ada")
    before = as_dicts(kept)
    their_turn, my_turn = turn("theirs"), turn("mine")
    add(theirs, their_turn)
    add(kept, my_turn)
    fault = proxy.cut_before(PUSH, times=2)
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
    fault = proxy.drop_reply_after(PUSH)
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
    with pytest.raises(ConnectionException, match="Check that the server runs"):
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


async def test_server_that_hangs_is_an_error_in_time(server, load):
    store = load(endpoint_of(server, timeout=1))
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
        assert time.monotonic() - began < 8
    finally:
        server.resume()
    await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


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


async def test_primary_that_steps_down(server, load):
    store = load(
        {"type": "rasa_trackers.MongoTrackerStore", "url": server.url(), "timeout": 30}
    )
    kept = tracker("ada", session_start())
    await store.save(kept)
    client, away = server.client(), contextlib.suppress(pymongo.errors.AutoReconnect)
    with client, away:
        client.admin.command("replSetStepDown", 2, force=True)
    for _ in range(3):
        add(kept, turn())
        await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_primary_that_stays_away_is_an_error_in_time(server, load):
    store = load(
        {"type": "rasa_trackers.MongoTrackerStore", "url": server.url(), "timeout": 1}
    )
    kept = tracker("ada", session_start())
    await store.save(kept)
    client, away = server.client(), contextlib.suppress(pymongo.errors.AutoReconnect)
    with client, away:
        client.admin.command("replSetStepDown", 60, force=True)
    add(kept, turn())
    began = time.monotonic()
    with pytest.raises(ConnectionException):
        await store.save(kept)
    assert time.monotonic() - began < 6


@pytest.mark.parametrize("port", [closed_port, silent_port, unreachable_port])
def test_start_without_a_server_is_an_error_in_time(load, shared_server, port):
    with port() as number:
        began = time.monotonic()
        with pytest.raises(RasaException) as raised:
            load(endpoint_of(shared_server, number, timeout=1))
        assert time.monotonic() - began < 6
    assert f":{number}" in str(raised.value)
    assert "timeout" in str(raised.value) or "Check that the server runs" in str(
        raised.value
    )


async def test_server_that_comes_up_after_the_store_is_waited_for(server, load):
    server.stop()
    starter = threading.Timer(0.5, server.start)
    starter.start()
    store = load(endpoint_of(server, timeout=1, startup_timeout=60))
    starter.join()
    assert await store.retrieve("ada") is None


async def test_one_round_trip_to_append_and_one_to_read(connect, proxy):
    # Servers are watched over connections of their own, every 10 seconds.
    store = connect()
    kept = tracker("ada", conversation(20, 5))
    await store.save(kept)
    await store.retrieve("ada")
    before = proxy.round_trips
    retrieved = await store.retrieve("ada")
    reading = proxy.round_trips - before
    add(retrieved, turn())
    await store.save(retrieved)
    appending = proxy.round_trips - before - reading
    assert (reading, appending) == (1, 1)


# Refusals


@pytest.mark.parametrize("code", [13, 67, 115])
async def test_index_that_is_refused_is_a_warning(server, load, caplog, code):
    with server.failing("alwaysOn", "createIndexes", errorCode=code):
        store = load(endpoint_of(server, record_exp=3600))
    assert (
        "index sender_id_1_bucket_1 on sender_id, bucket could not be created"
        in caplog.text
    )
    assert "index expires_at_1 on expires_at could not be created" in caplog.text
    assert "Let an administrator create it" in caplog.text
    kept = tracker("ada", conversation(30, 5))
    await store.save(kept)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(kept)
    caplog.clear()
    load(endpoint_of(server, record_exp=3600))
    assert "could not be created" not in caplog.text


async def test_indexes_that_are_there_need_no_right(server, load, caplog):
    load(endpoint_of(server))
    with server.failing("alwaysOn", "createIndexes", errorCode=13):
        load(endpoint_of(server))
    assert "could not be created" not in caplog.text


async def test_index_that_takes_long_does_not_hold_up_the_start(
    server, load, caplog, monkeypatch
):
    monkeypatch.setattr("rasa_trackers.mongo.log._INDEX_PATIENCE", 0.1)
    with server.failing(
        "alwaysOn", "createIndexes", blockConnection=True, blockTimeMS=700
    ):
        store = load(endpoint_of(server, timeout=5))
        assert "the server is creating the indexes" in caplog.text
        saved = tracker("ada", session_start())
        await store.save(saved)
        assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)
        with server.client() as client:
            wait_until(
                lambda: "unclean_1" in client.rasa.conversations.index_information(),
                "indexes",
            )


@pytest.mark.parametrize(
    ("code", "transient"),
    [(code, failure.transient) for code, failure in failures.FAILURES_BY_CODE.items()]
    + [(59, False), (2, False)],
)
def test_what_the_server_says_is_understood(server_with_log, code, transient):
    """The first command with an error, the next one without."""
    server, log = server_with_log
    sender_id = f"ada {code}"
    fails = pytest.raises(pymongo.errors.PyMongoError)
    with server.failing("alwaysOn", "insert", errorCode=code), fails as raised:
        log.append(sender_id, [Entry("{}", "slot", 1.0, None, None)], START)
    assert log.classify(raised.value).transient is transient
    wait_until(
        lambda: log.append(sender_id, [Entry("{}", "slot", 1.0, None, None)], START),
        "end of the failure",
        retry_on=(pymongo.errors.ConnectionFailure,),
    )
    assert len(log.read_back(sender_id).events) == 1


@pytest.fixture(scope="module")
def server_with_log():
    with FailingServer() as server:
        store = MongoTrackerStore(url=server.url(), timeout=1)
        yield server, store._log
        store.close()


async def test_disk_that_is_full_is_an_error_with_a_remedy(server, load):
    store = load(endpoint_of(server))
    with server.failing("alwaysOn", "insert", errorCode=14031), pytest.raises(
        RasaException, match="Free space on the server's disk"
    ) as raised:
        await store.save(tracker("ada", session_start()))
    assert not isinstance(raised.value, ConnectionException)


async def test_write_concern_that_times_out_stores_each_event_once(server, load):
    store = load(endpoint_of(server))
    kept = tracker("ada", session_start())
    await store.save(kept)
    add(kept, turn())
    with server.failing(
        {"times": 1},
        "update",
        writeConcernError={"code": 64, "errmsg": "waiting for replication timed out"},
    ):
        await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


async def test_writes_are_acknowledged_by_a_majority_and_from_the_journal(server, load):
    concern = load(endpoint_of(server))._log._documents.write_concern.document
    assert (concern["w"], concern["j"]) == ("majority", True)
    given = {
        **endpoint_of(server),
        "url": f"{server.url()}/?directConnection=true&w=1&readPreference=secondary",
    }
    documents = load(given)._log._documents
    assert documents.write_concern.document["w"] == 1
    assert documents.read_preference == pymongo.ReadPreference.PRIMARY


@pytest.mark.parametrize("options", [{}, {"client_options": {"retrywrites": True}}])
async def test_driver_does_not_repeat_writes(server, load, options):
    endpoint = endpoint_of(server, **options)
    endpoint["url"] += "&retryWrites=true"
    assert load(endpoint)._log._client.options.retry_writes is False


async def test_call_that_was_given_up_begins_nothing_new(server, load):
    """Its append comes after that of the save that was to make up for it."""
    patient = {"socketTimeoutMS": 20_000}
    store = load(endpoint_of(server, timeout=1, client_options=patient))
    kept = tracker("ada", session_start())
    await store.save(kept)
    add(kept, turn())
    with server.failing({"times": 1}, "update", blockConnection=True, blockTimeMS=4000):
        with pytest.raises(ConnectionException, match="did not answer within 1 sec"):
            await store.save(kept)
        await store.save(kept)
        await asyncio.get_running_loop().run_in_executor(
            None, store._calls._pool.shutdown
        )
    other = load(endpoint_of(server))
    assert as_dicts(await other.retrieve("ada")) == as_dicts(kept)
