"""What is special to the store in memory: it can forget."""

from __future__ import annotations

import pytest

from conversations import as_dicts, session_start, tracker

pytestmark = pytest.mark.parametrize("backend", ["memory"], indirect=True)


async def test_any_number_of_conversations_by_default(store):
    for number in range(200):
        await store.save(tracker(f"user-{number}", session_start()))
    assert len(list(await store.keys())) == 200


async def test_beyond_max_conversations_the_least_recently_used_one_goes(make_store):
    store = make_store(max_conversations="3")
    for name in ("a", "b", "c"):
        await store.save(tracker(name, session_start()))
    await store.retrieve("a")  # so that "b" is the one not used for the longest time
    last = tracker("d", session_start())
    await store.save(last)
    assert sorted(await store.keys()) == ["a", "c", "d"]
    assert as_dicts(await store.retrieve("d")) == as_dicts(last)


async def test_saving_is_a_use_too(make_store):
    store = make_store(max_conversations=2)
    for name in ("a", "b", "a", "c"):
        await store.save(tracker(name, session_start()))
    assert sorted(await store.keys()) == ["a", "c"]
