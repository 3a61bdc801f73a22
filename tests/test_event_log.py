"""What every event log promises, on every backend (``rasa_trackers.event_log``)."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest
import sqlalchemy as sa

from backends import DURABLE
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
from rasa_trackers.codec import encode
from rasa_trackers.event_log import START, Entry


@pytest.fixture
def log(store):
    return backend_log(store)


def entries(*names: str):
    return [
        Entry(f'{{"event": "slot", "name": "{name}"}}', "slot", 1.0, None, name)
        for name in names
    ]


def data(page):
    return [stored.data for stored in page.events]


def names(page):
    return [text.split('"')[7] for text in data(page)]


def test_empty_log(log):
    page = log.read_back("ada", limit=5)
    assert page.events == []
    assert page.complete
    assert list(log.sender_ids()) == []
    assert log.delete("ada") is False


def test_append_gives_the_last_position(log):
    position = log.append("ada", entries("a", "b"), START)
    page = log.read_back("ada")
    assert names(page) == ["a", "b"]
    assert page.events[-1].position == position > page.events[0].position > START


def test_data_comes_back_byte_for_byte(log):
    texts = [
        '{"event":  "slot" }',
        '{"$a.b": 1.0, "\\u0000": 123456789012345678901234567890}',
        "not json",
        "x" * 2_000_000,
    ]
    log.append("ada", [Entry(text, "slot", None, None, None) for text in texts], START)
    assert data(log.read_back("ada")) == texts


def test_append_after_the_last_event(log):
    first = log.append("ada", entries("a"), START)
    second = log.append("ada", entries("b"), first)
    assert second > first
    assert names(log.read_back("ada")) == ["a", "b"]


def test_append_after_an_older_event_writes_nothing(log):
    first = log.append("ada", entries("a"), START)
    log.append("ada", entries("b"), first)
    assert log.append("ada", entries("c"), first) is None
    assert log.append("ada", entries("c"), START) is None
    assert names(log.read_back("ada")) == ["a", "b"]


def test_logs_do_not_get_in_each_others_way(log):
    ada = log.append("ada", entries("a"), START)
    log.append("grace", entries("b"), START)
    assert log.append("ada", entries("c"), ada) is not None
    assert names(log.read_back("ada")) == ["a", "c"]
    assert names(log.read_back("grace")) == ["b"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 500, 1000])
def test_read_back_in_pages(log, limit):
    position, expected = START, []
    for batch in range(12):
        added = [f"{batch}-{number}" for number in range(batch * 9 % 50 + 1)]
        position = log.append("ada", entries(*added), position)
        expected += added
    found, before = [], None
    for _ in range(len(expected) + 1):
        page = log.read_back("ada", limit, before)
        assert page.complete or len(page.events) >= limit
        found = names(page) + found
        if page.complete:
            break
        before = page.events[0].position
    assert found == expected


def test_read_back_of_all_before_a_position(log):
    log.append("ada", entries("a", "b", "c"), START)
    middle = log.read_back("ada").events[1].position
    page = log.read_back("ada", None, middle)
    assert names(page) == ["a"]
    assert page.complete


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
def test_append_waits_for_one_that_is_not_committed_yet(log, make_store):
    """And then sees what it wrote."""
    other = backend_log(make_store())
    with ThreadPoolExecutor(1) as thread:
        with other._writing("ada") as connection:
            other._insert(connection, "ada", entries("first"), START)
            waiting = thread.submit(log.append, "ada", entries("second"), START)
            with pytest.raises(FutureTimeoutError):
                waiting.result(0.3)
        assert waiting.result(10) is None
    assert names(log.read_back("ada")) == ["first"]


def test_append_to_a_log_that_was_erased_writes_nothing(log):
    """One that arrives late must not bring back what was to be forgotten."""
    position = log.append("ada", entries("a"), START)
    log.delete("ada")
    assert log.append("ada", entries("late"), position) is None
    assert log.read_back("ada").events == []


def test_positions_are_not_used_again(log):
    position = log.append("ada", entries("a", "b"), START)
    log.delete("ada")
    again = log.append("ada", entries("c", "d"), START)
    assert again > position
    assert log.replace("ada", entries("x"), position) is None
    assert names(log.read_back("ada")) == ["c", "d"]


def test_delete(log):
    position = log.append("ada", entries("a"), START)
    log.append("grace", entries("b"), START)
    assert log.delete("ada") is True
    assert log.read_back("ada").events == []
    assert list(log.sender_ids()) == ["grace"]
    assert log.delete("ada") is False
    again = log.append("ada", entries("c"), START)
    assert again > START
    assert names(log.read_back("ada")) == ["c"]
    assert position > START


def test_replace(log):
    position = log.append("ada", entries("a", "b"), START)
    replaced = log.replace("ada", entries("x", "y", "z"), position)
    page = log.read_back("ada")
    assert names(page) == ["x", "y", "z"]
    assert page.events[-1].position == replaced
    assert log.append("ada", entries("c"), replaced) is not None
    assert names(log.read_back("ada")) == ["x", "y", "z", "c"]


def test_replace_of_what_has_changed_writes_nothing(log):
    position = log.append("ada", entries("a"), START)
    log.append("ada", entries("b"), position)
    assert log.replace("ada", entries("x"), position) is None
    assert names(log.read_back("ada")) == ["a", "b"]


def test_replace_by_nothing_erases(log):
    position = log.append("ada", entries("a"), START)
    assert log.replace("ada", [], position) == START
    assert list(log.sender_ids()) == []


def test_append_that_knew_the_log_before_a_replace_writes_nothing(log):
    """A delayed append must not come back after an anonymisation."""
    position = log.append("ada", entries("secret"), START)
    log.replace("ada", entries("***"), position)
    assert log.append("ada", entries("late"), START) is None
    assert names(log.read_back("ada")) == ["***"]


def test_sender_ids_names_each_once(log):
    for sender_id, _ in itertools.product(["a", "b"], range(2)):
        position = log.read_back(sender_id).events
        log.append(
            sender_id, entries("x"), position[-1].position if position else START
        )
    assert sorted(log.sender_ids()) == ["a", "b"]


def test_error_that_is_no_drivers_is_ours(log):
    assert log.classify(KeyError("a bug")) is None


# Expiry


async def test_record_exp_erases_a_conversation(make_store, eventually):
    store = make_store(record_exp=1)
    await store.save(tracker("ada", session_start()))
    assert await store.exists("ada")

    async def gone():
        return not await store.exists("ada")

    await eventually(gone)
    assert await store.retrieve("ada") is None
    assert await store.retrieve_full_tracker("ada") is None
    assert list(await store.keys()) == []


async def test_record_exp_is_renewed_by_each_save(make_store, eventually):
    store = make_store(record_exp=1.5)
    kept, left = tracker("kept", session_start()), tracker("left", session_start())
    await store.save(kept)
    await store.save(left)

    async def left_is_gone():
        kept.update_with_events(turn(), None)
        await store.save(kept)
        return not await store.exists("left")

    await eventually(left_is_gone)
    assert as_dicts(await store.retrieve_full_tracker("kept")) == as_dicts(kept)


async def test_conversation_that_begins_again_after_it_expired(make_store, eventually):
    store = make_store(record_exp=1)
    await store.save(tracker("ada", conversation(1, 1)))

    async def gone():
        return not await store.exists("ada")

    await eventually(gone)
    again = session_start()
    await store.save(tracker("ada", again))
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(again)


@pytest.mark.parametrize("backend", DURABLE, indirect=True)
async def test_conversation_that_another_store_goes_on_with_stays(
    make_store, eventually
):
    """That one has no ``record_exp``, and knows nothing of expiry."""
    expiring, other = make_store(record_exp=1), make_store()
    events = session_start()
    await expiring.save(tracker("ada", events))
    await expiring.save(tracker("gone", events))
    theirs = await other.retrieve("ada")
    new = turn()
    add(theirs, new)
    await other.save(theirs)

    async def the_other_one_is_gone():
        return not await expiring.exists("gone")

    await eventually(the_other_one_is_gone)
    backend_log(expiring).purge_expired()
    assert as_dicts(await expiring.retrieve_full_tracker("ada")) == dicts(events + new)


async def test_what_expired_is_erased_by_itself(make_store, eventually):
    store = make_store(record_exp=1)
    await store.save(tracker("ada", session_start()))

    async def erased():
        await store.save(tracker("other", turn()))
        store._next_purge = min(store._next_purge, time.monotonic() + 0.1)
        return not _all_events(store, "ada")

    await eventually(erased)


def _all_events(store, sender_id):
    """Also those that a reader does not see any more."""
    if hasattr(backend_log(store), "_logs"):
        return backend_log(store)._logs.get(sender_id)
    engine = getattr(backend_log(store), "_engine", None)
    if engine is None:
        return backend_log(store).read_back(sender_id).events
    with engine.connect() as connection:
        return connection.execute(
            sa.text("SELECT id FROM events WHERE sender_id = :sender_id"),
            {"sender_id": sender_id},
        ).all()


async def test_what_expired_is_erased_for_good(make_store, eventually):
    store = make_store(record_exp=1)
    await store.save(tracker("ada", session_start()))

    async def gone():
        return not await store.exists("ada")

    await eventually(gone)
    backend_log(store).purge_expired()
    without_expiry = (
        store
        if backend_log(store).name.startswith("The store in memory")
        else make_store()
    )
    assert await without_expiry.retrieve_full_tracker("ada") is None


async def test_old_conversation_without_expiry_stays(make_store, backend):
    events = session_start()
    store = make_store()
    await store.save(tracker("ada", events))
    expiring = make_store(record_exp=1) if backend.durable else store
    assert as_dicts(await expiring.retrieve_full_tracker("ada")) == dicts(events)


def test_encoded_event_says_what_queries_need():
    user, slot = turn()[:2]
    assert encode(user)[1:] == ("user", user.timestamp, "greet", None)
    assert encode(slot)[1:] == ("slot", slot.timestamp, None, "name")
