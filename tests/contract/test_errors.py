"""What errors mean, and calls to a server that stays silent."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from contract.logs import add, entries, stored
from contract.places import EndpointPlace
from contract.waiting import LIMIT, wait_until
from rasa_trackers.event_log import START, Failure


@pytest.mark.parametrize(
    "error", [KeyError("a"), AttributeError("a"), AssertionError("a")]
)
def test_an_error_that_is_not_the_drivers_is_a_mistake(log, error):
    assert log.classify(error) is None


def test_interrupt_without_a_call_is_harmless(log):
    add(log, "ada", "a")
    log.interrupt()

    def goes_on():
        try:
            return stored(log, "ada") == ["a"]
        except Exception as error:  # noqa: BLE001 - classified
            failure = log.classify(error)
            assert failure is not None
            assert failure.transient
            return False

    wait_until(goes_on, "a call after interrupt()")
    assert add(log, "ada", "b") > START


# Servers. A log is configured with a `timeout` of a second.


@pytest.fixture
def make_networked(place, proxy):
    """Makes a log whose server is reached through `proxy`."""
    logs = []

    def make_networked(port=None):
        endpoint = {**place.database.endpoint(port or proxy.port), "timeout": 1}
        log = EndpointPlace(endpoint).make(None, keep_users=True)
        logs.append(log)
        return log

    yield make_networked
    for log in logs:
        log.close()


@pytest.fixture
def silent():
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield listener.getsockname()[1]


def call_of_a_store(log, call):
    """Call as a store does: in a thread, with an interrupt after `timeout` seconds."""
    future: Future = Future()

    def run():
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - for the caller
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    if not wait([future], timeout=1.0).done:
        log.interrupt()
    return future.exception(LIMIT)


def test_making_a_log_does_not_wait_for_a_server(make_networked, silent):
    """Nobody answers at that port: making one would not return."""
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(make_networked, silent).result(LIMIT)


def test_open_at_a_silent_server_fails_in_time(make_networked, silent):
    log = make_networked(silent)
    error = call_of_a_store(log, log.open)
    assert log.classify(error) == Failure(True, log.classify(error).remedy, away=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda log: log.append("ada", entries("b"), START),
        lambda log: log.read_back("ada", 5),
        lambda log: log.delete("ada"),
        lambda log: log.replace("ada", entries("b"), START),
        lambda log: log.conversations_of("u"),
        lambda log: list(log.sender_ids()),
        lambda log: list(log.count_conversations(0.0)),
    ],
    ids=[
        *("append", "read_back", "delete", "replace"),
        *("conversations_of", "sender_ids", "count_conversations"),
    ],
)
def test_call_to_a_server_that_falls_silent_fails_in_time(make_networked, proxy, call):
    log = make_networked()
    log.open()
    add(log, "ada", "a")
    proxy.stall()
    error = call_of_a_store(log, lambda: call(log))
    failure = log.classify(error)
    assert failure is not None
    assert failure.transient
    assert failure.away
    proxy.resume()


def test_open_at_a_port_that_refuses_is_transient(make_networked, proxy):
    log = make_networked()
    proxy.refuse()
    error = call_of_a_store(log, log.open)
    failure = log.classify(error)
    assert failure is not None
    assert failure.transient
    assert failure.away
    proxy.accept()
    wait_until(lambda: call_of_a_store(log, log.open) is None, "open")
    add(log, "ada", "a")
