"""The event broker gets what was appended: once, in order, after the commit."""

from __future__ import annotations

import asyncio
import time

import pytest
from rasa.core.brokers.broker import EventBroker
from rasa.shared.exceptions import RasaException

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


class RecordingBroker(EventBroker):
    """Notes what is published, and what the store held at that moment."""

    def __init__(self):
        self.published = []
        self.stored = []
        self.store = None
        self.loops = set()
        self.failing = set()

    def publish(self, event):
        self.loops.add(asyncio.get_running_loop())
        self.stored.append(
            backend_log(self.store).read_back(event["sender_id"]).events[-1].data
        )
        self.published.append(event)
        if event["event"] in self.failing:
            raise RuntimeError("the broker is away")


@pytest.fixture
def broker():
    return RecordingBroker()


@pytest.fixture
def store(make_store, broker):
    broker.store = make_store(broker)
    return broker.store


def messages(sender_id, events):
    """What Rasa's own stores publish (``_stream_new_events``)."""
    published = as_messages(tracker(sender_id, events))
    return [{"sender_id": sender_id, **message} for message in published]


async def test_new_events_are_published_once_and_in_order(store, broker):
    events = session_start()
    kept = tracker("ada", events)
    await store.save(kept)
    for _ in range(3):
        retrieved = await store.retrieve("ada")
        new = turn()
        events += new
        add(retrieved, new)
        await store.save(retrieved)
        await store.save(retrieved)
    assert broker.published == messages("ada", events)


async def test_events_are_stored_before_they_are_published(store, broker):
    from rasa_trackers.codec import encode

    events = session_start()
    await store.save(tracker("ada", events))
    assert broker.stored == [encode(events[-1]).data] * len(events)


async def test_reading_publishes_nothing(store, broker):
    await store.save(tracker("ada", conversation(2, 1)))
    broker.published.clear()
    await store.save(await store.retrieve("ada"))
    await store.save(await store.retrieve_full_tracker("ada"))
    assert broker.published == []


async def test_of_a_tracker_of_other_origin_only_what_is_new_is_published(
    store, broker
):
    events = conversation(1, 1)
    await store.save(tracker("ada", events))
    broker.published.clear()
    new = turn()
    await store.save(tracker("ada", events + new))
    assert broker.published == messages("ada", new)


async def test_broker_that_raises_loses_no_event(store, broker, caplog):
    broker.failing = {"slot"}
    events = session_start() + turn()
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)
    assert broker.published == messages("ada", events)
    assert "could not publish" in caplog.text


async def test_what_could_not_be_stored_is_not_published(store, broker, monkeypatch):
    def refuse(*_args):
        raise ZeroDivisionError

    monkeypatch.setattr(backend_log(store), "append", refuse)
    with pytest.raises(ZeroDivisionError):
        await store.save(tracker("ada", session_start()))
    assert broker.published == []


async def test_broker_is_called_on_the_event_loop(store, broker):
    await store.save(tracker("ada", session_start()))
    assert broker.loops == {asyncio.get_running_loop()}


async def test_save_whose_caller_is_cancelled_is_published(store, broker, eventually):
    """A client that hangs up cancels the handler of its request."""
    events = session_start()
    save = asyncio.ensure_future(store.save(tracker("ada", events)))
    await asyncio.sleep(0)
    save.cancel()
    with pytest.raises(asyncio.CancelledError):
        await save

    async def published():
        return len(broker.published) == len(events)

    await eventually(published)
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_two_saves_of_one_tracker_at_once_store_and_publish_once(store, broker):
    kept = tracker("ada", session_start() + turn())
    await asyncio.gather(*(store.save(kept) for _ in range(5)))
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)
    assert broker.published == messages("ada", kept.events)


async def test_event_that_is_not_json_is_an_error_and_loses_nothing_stored(store):
    events = session_start()
    kept = tracker("ada", events)
    await store.save(kept)
    add(kept, [turn()[0]])
    kept.events[-1].parse_data["when"] = object()
    with pytest.raises(RasaException, match=r"'user' cannot be stored.*not JSON"):
        await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == dicts(events)


async def test_save_that_fails_after_its_caller_was_cancelled_is_logged(
    make_store, monkeypatch, caplog, eventually
):
    store = make_store()
    refusal = RasaException("Refused.")

    def refuse(*_arguments):
        time.sleep(0.1)
        raise refusal

    monkeypatch.setattr(backend_log(store), "append", refuse)
    save = asyncio.ensure_future(store.save(tracker("ada", session_start())))
    await asyncio.sleep(0)
    save.cancel()
    with pytest.raises(asyncio.CancelledError):
        await save

    async def logged():
        return "'ada' was not saved: Refused." in caplog.text

    await eventually(logged)
