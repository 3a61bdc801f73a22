"""What errors mean, and how little of the data their texts show."""

from __future__ import annotations

import contextlib
import traceback

import bson.errors
import pymongo.errors
import pytest

from mongo_store.entries import all_batches, entries
from rasa_trackers.event_log import START
from rasa_trackers.mongo import failures
from rasa_trackers.mongo.options import MONGO
from rasa_trackers.store_options import checked
from servers.mongo import MongoServer

ANSWER = {
    "ok": 0.0,
    "$clusterTime": {"clusterTime": 1},
    "keyValue": {"_id": "open:ada"},
    "errInfo": {"log": "secret"},
}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            pymongo.errors.DuplicateKeyError(
                "E11000 duplicate key error collection: rasa.conversations index: _id_ "
                'dup key: { _id: "open:ada" }',
                11000,
                ANSWER,
            ),
            "E11000 duplicate key error collection: rasa.conversations index: _id_",
        ),
        (
            pymongo.errors.OperationFailure(
                'not authorized on rasa to execute command { insert: "x", secret: 1 }',
                13,
                ANSWER,
            ),
            "not authorized on rasa to execute command",
        ),
        (
            pymongo.errors.WriteError(
                'The field log must be an array in document {_id: "open:ada"}',
                2,
                ANSWER,
            ),
            "The field log must be an array in document",
        ),
        (
            pymongo.errors.BulkWriteError(
                {"writeErrors": [{"errmsg": "refused", "op": {"log": "secret"}}]}
            ),
            "refused",
        ),
        (
            pymongo.errors.BulkWriteError(
                {"writeErrors": [], "writeConcernErrors": [{"errmsg": "timed out"}]}
            ),
            "timed out",
        ),
        (
            pymongo.errors.NotPrimaryError("not primary", ANSWER),
            "not primary",
        ),
        (
            pymongo.errors.ServerSelectionTimeoutError(
                "localhost:1: [Errno 111] Connection refused, Timeout: 0.5s, Topology "
                "Description: <TopologyDescription id: 1>"
            ),
            "localhost:1: [Errno 111] Connection refused",
        ),
        (pymongo.errors.AutoReconnect("connection closed"), "connection closed"),
    ],
)
def test_text_is_the_primary_message(error, text):
    assert failures.primary_message(error) == text
    with contextlib.suppress(pymongo.errors.PyMongoError), failures.primary_messages():
        raise error
    assert str(error) == text


@pytest.mark.parametrize(
    ("error", "transient", "away"),
    [
        (pymongo.errors.AutoReconnect("x"), True, True),
        (pymongo.errors.NetworkTimeout("x"), True, True),
        (pymongo.errors.ServerSelectionTimeoutError("x"), True, True),
        (pymongo.errors.NotPrimaryError("x", {"code": 10107}), True, True),
        (pymongo.errors.WaitQueueTimeoutError("x"), True, False),
        (pymongo.errors.WTimeoutError("x", 64), True, True),
        (pymongo.errors.OperationFailure("x", 112), True, False),
        (pymongo.errors.OperationFailure("x", 13), False, False),
        (pymongo.errors.OperationFailure("x", 14031), False, True),
        (pymongo.errors.OperationFailure("x", 59), False, False),
        (pymongo.errors.OperationFailure("x"), False, False),
        (
            pymongo.errors.OperationFailure(
                "x", 99999, {"errorLabels": ["RetryableWriteError"]}
            ),
            True,
            True,
        ),
        (pymongo.errors.ConfigurationError("x"), False, False),
        (pymongo.errors.InvalidOperation("x"), False, False),
        (pymongo.errors.DocumentTooLarge("x"), False, False),
        (bson.errors.InvalidBSON("x"), False, False),
        (OSError("x"), True, True),
        (failures.contention_error("ada", 100), True, False),
    ],
)
def test_meaning(error, transient, away):
    failure = failures.classify(error)
    assert (failure.transient, failure.away) == (transient, away)


def test_error_that_is_not_the_drivers():
    assert failures.classify(KeyError("a bug")) is None


def test_every_refusal_says_what_to_do():
    tables = [*failures.FAILURES_BY_CODE.items(), *failures.FAILURES_BY_CLASS]
    for kind, failure in tables:
        if kind is not pymongo.errors.PyMongoError:
            assert failure.remedy.endswith((".", "sender ids.")), kind
        assert failure.transient or failure.away in (False, kind == 14031)


@pytest.mark.parametrize(
    ("text", "remedy", "away"),
    [
        ("bad auth : authentication failed", "'password'", False),
        ("you are over your space quota, using 513 MB of 512 MB", "plan", True),
    ],
)
def test_errors_of_atlas_have_one_code(text, remedy, away):
    failure = failures.classify(pymongo.errors.OperationFailure(text, 8000))
    assert remedy in failure.remedy
    assert failure.away is away


def shown(error):
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


class FailingServer(MongoServer):
    """Fails as it is told, by MongoDB's own means for tests of drivers."""

    def _command(self):
        return [*super()._command(), "--enable-test-commands"]


def test_errors_of_a_server_show_nothing_stored():
    with FailingServer() as server, server.client() as client:
        values = checked(MONGO.store, MONGO.options, {"url": server.url()})
        log = MONGO.make_log(values, True).log
        log.open()
        calls = {
            "insert": lambda: log.append("secret", entries("secret"), START),
            "find": lambda: log.read_back("secret"),
            "delete": lambda: log.delete("secret"),
        }
        for command, call in calls.items():
            data = {"failCommands": [command], "errorCode": 59}
            client.admin.command(
                "configureFailPoint", "failCommand", mode="alwaysOn", data=data
            )
            with pytest.raises(pymongo.errors.OperationFailure) as raised:
                call()
            client.admin.command("configureFailPoint", "failCommand", mode="off")
            assert "full error" not in shown(raised.value)
            log.append("secret", entries("secret"), START)
        data = {"failCommands": ["find", "aggregate"], "errorCode": 59}
        client.admin.command(
            "configureFailPoint", "failCommand", mode="alwaysOn", data=data
        )
        for batches in (log.sender_ids, lambda: log.count_conversations(0.0)):
            with pytest.raises(pymongo.errors.OperationFailure) as raised:
                all_batches(list(batches()))
            assert "full error" not in str(raised.value)
        log.close()


def test_server_that_is_away_shows_no_topology():
    given = {"url": "127.0.0.1:1", "timeout": 0.2}
    log = MONGO.make_log(checked(MONGO.store, MONGO.options, given), True).log
    with pytest.raises(pymongo.errors.ServerSelectionTimeoutError) as raised:
        log.open()
    assert "<Topology" not in shown(raised.value)
    assert "127.0.0.1:1" in str(raised.value)
    log.close()
