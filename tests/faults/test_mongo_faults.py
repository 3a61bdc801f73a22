"""MongoDB that steps down or refuses: each event once. More is in `test_faults`."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pymongo
import pytest
from rasa.shared.exceptions import ConnectionException, RasaException

from conversations import (
    add,
    as_dicts,
    conversation,
    session_start,
    tracker,
    turn,
)
from rasa_api import backend_log
from rasa_trackers.event_log import START, Entry
from rasa_trackers.mongo import MongoTrackerStore, failures, indexes
from servers.mongo import MongoServer
from servers.process import wait_until


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


def endpoint_of(server, **options):
    return {
        "type": "rasa_trackers.MongoTrackerStore",
        "url": f"{server.url()}/?directConnection=true",
        **options,
    }


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
        {
            "type": "rasa_trackers.MongoTrackerStore",
            "url": server.url(),
            "timeout": 1,
            "spool": "off",
        }
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
    assert time.monotonic() - began < 20


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
    monkeypatch.setattr("rasa_trackers.mongo.indexes._PATIENCE", 0.1)
    looks, names = [], indexes._names

    def look(collection):
        looks.append(collection)
        return names(collection)

    monkeypatch.setattr(indexes, "_names", look)
    with server.failing(
        "alwaysOn", "createIndexes", blockConnection=True, blockTimeMS=700
    ):
        store = load(endpoint_of(server, timeout=5))
        assert "the server is creating the indexes" in caplog.text
        # Some servers tell nothing of a collection while they build an index of it.
        assert len(looks) == 1
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
    + [(9, False), (2, False)],  # unknown ones
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
        yield server, backend_log(store)
        store.close()


async def test_disk_that_is_full_is_an_error_with_a_remedy(server, load, caplog):
    store = load(endpoint_of(server, spool="off"))
    kept = tracker("ada", session_start())
    await store.save(kept)
    with server.failing("alwaysOn", "insert", errorCode=14031):
        for name in ("grace", "mary"):
            with pytest.raises(RasaException, match="Free space on the server's disk"):
                await store.save(tracker(name, session_start()))
            # What can be read is read, at once.
            assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
    await store.save(tracker("grace", session_start()))
    assert caplog.text.count(" is away since ") == 1
    assert caplog.text.count(" is back after ") == 1


async def test_conversation_that_is_not_known_here_is_read_while_the_disk_is_full(
    server, load, eventually
):
    kept = tracker("ada", session_start())
    await load(endpoint_of(server)).save(kept)
    store = load(endpoint_of(server))
    with server.failing("alwaysOn", "insert", errorCode=14031):
        await store.save(tracker("grace", session_start()))
        assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)

    async def is_stored():
        return not store._shared.outage.spool.sender_ids()

    await eventually(is_stored)
    assert await load(endpoint_of(server)).retrieve("grace")


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
    concern = backend_log(load(endpoint_of(server))).collection.write_concern.document
    assert (concern["w"], concern["j"]) == ("majority", True)
    given = {
        **endpoint_of(server),
        "url": f"{server.url()}/?directConnection=true&w=1&readPreference=secondary",
    }
    documents = backend_log(load(given)).collection
    assert documents.write_concern.document["w"] == 1
    assert documents.read_preference == pymongo.ReadPreference.PRIMARY


@pytest.mark.parametrize("options", [{}, {"client_options": {"retrywrites": True}}])
async def test_driver_does_not_repeat_writes(server, load, options):
    endpoint = endpoint_of(server, **options)
    endpoint["url"] += "&retryWrites=true"
    assert backend_log(load(endpoint))._client.options.retry_writes is False


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
            None, store._shared.threads._pool.shutdown
        )
    other = load(endpoint_of(server))
    assert as_dicts(await other.retrieve("ada")) == as_dicts(kept)
