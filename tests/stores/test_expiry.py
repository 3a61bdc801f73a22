"""Conversations that expire, as a store shows them."""

from __future__ import annotations

import pytest

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


@pytest.fixture
def is_gone(eventually):
    """Awaits until a conversation has expired."""

    async def is_gone(store, sender_id):
        async def gone():
            return not await store.exists(sender_id)

        await eventually(gone)

    return is_gone


async def test_expired_conversation_is_unknown(make_store, is_gone):
    store = make_store(record_exp=1)
    await store.save(tracker("ada", session_start()))
    await is_gone(store, "ada")
    assert await store.retrieve("ada") is None
    assert await store.retrieve_full_tracker("ada") is None
    assert list(await store.keys()) == []


async def test_record_exp_is_renewed_by_each_save(make_store, eventually):
    store = make_store(record_exp=1.5)
    kept, left = tracker("kept", session_start()), tracker("left", session_start())
    await store.save(kept)
    await store.save(left)

    async def left_is_gone():
        add(kept, turn())
        await store.save(kept)
        return not await store.exists("left")

    await eventually(left_is_gone)
    assert as_dicts(await store.retrieve_full_tracker("kept")) == as_dicts(kept)


async def test_conversation_that_begins_again_after_it_expired(make_store, is_gone):
    store = make_store(record_exp=1)
    await store.save(tracker("ada", conversation(1, 1)))
    await is_gone(store, "ada")
    again = session_start()
    await store.save(tracker("ada", again))
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(again)


@pytest.mark.parametrize("backend", DURABLE, indirect=True)
async def test_conversation_that_a_store_without_expiry_goes_on_with_stays(
    make_store, is_gone
):
    expiring, other = make_store(record_exp=1), make_store()
    events = session_start()
    await expiring.save(tracker("ada", events))
    await expiring.save(tracker("gone", events))
    theirs = await other.retrieve("ada")
    new = turn()
    add(theirs, new)
    await other.save(theirs)
    await is_gone(expiring, "gone")
    assert as_dicts(await expiring.retrieve_full_tracker("ada")) == dicts(events + new)


@pytest.mark.parametrize("backend", DURABLE, indirect=True)
async def test_saving_erases_what_has_expired(make_store, eventually):
    """A store without ``record_exp`` sees what nobody has erased yet."""
    store, keeping = make_store(record_exp=1), make_store()
    await store.save(tracker("ada", session_start()))

    async def erased():
        await store.save(tracker("other", turn()))
        return not await keeping.exists("ada")

    await eventually(erased)


async def test_old_conversation_without_expiry_stays(make_store, backend):
    events = session_start()
    store = make_store()
    await store.save(tracker("ada", events))
    expiring = make_store(record_exp=1) if backend.durable else store
    assert as_dicts(await expiring.retrieve_full_tracker("ada")) == dicts(events)
