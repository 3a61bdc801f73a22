"""Several processes that write to one conversation at the same time."""

from __future__ import annotations

import pytest

from backends import DURABLE
from conversations import session_start, tracker

#: Not once more for a prefix of keys and for another brand of one server.
pytestmark = pytest.mark.parametrize(
    "backend",
    [name for name in DURABLE if name not in ("redis-prefix", "valkey")],
    indirect=True,
)

WRITERS = 4
EVENTS = 75


@pytest.mark.parametrize("fresh", [False, True], ids=["retrieved", "fresh"])
async def test_four_writers_lose_nothing_and_double_nothing(
    endpoint, make_store, writers, fresh
):
    store = make_store()
    await store.save(tracker("ada", session_start()))
    _write_at_once(writers, endpoint, fresh)
    texts = [
        event.text
        for event in (await store.retrieve_full_tracker("ada")).events
        if event.type_name == "user"
    ]
    assert len(texts) == WRITERS * EVENTS
    for writer in range(WRITERS):
        own = [text for text in texts if text.startswith(f"{writer} ")]
        assert own == [f"{writer} {number}" for number in range(EVENTS)]


async def test_four_writers_begin_on_an_empty_database(endpoint, make_store, writers):
    _write_at_once(writers, endpoint, False)
    full = await make_store().retrieve_full_tracker("ada")
    assert (
        len(full.events)
        == len({event.text for event in full.events})
        == WRITERS * EVENTS
    )


def _write_at_once(writers, endpoint, fresh):
    tasks = [
        {
            "endpoint": endpoint,
            "sender_id": "ada",
            "writer": str(number),
            "events": EVENTS,
            "fresh": fresh,
        }
        for number in range(WRITERS)
    ]
    for said in writers.run(tasks):
        assert said == [str(number) for number in range(EVENTS)]
