"""Several processes that write to one conversation at the same time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
    endpoint, make_store, fresh
):
    store = make_store()
    await store.save(tracker("ada", session_start()))
    _write_at_once(endpoint, fresh)
    texts = [
        event.text
        for event in (await store.retrieve_full_tracker("ada")).events
        if event.type_name == "user"
    ]
    assert len(texts) == WRITERS * EVENTS
    for writer in range(WRITERS):
        own = [text for text in texts if text.startswith(f"{writer} ")]
        assert own == [f"{writer} {number}" for number in range(EVENTS)]


async def test_four_writers_begin_on_an_empty_database(endpoint, make_store):
    _write_at_once(endpoint, False)
    full = await make_store().retrieve_full_tracker("ada")
    assert (
        len(full.events)
        == len({event.text for event in full.events})
        == WRITERS * EVENTS
    )


def _write_at_once(endpoint, fresh):
    writers = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("writer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(WRITERS)
    ]
    try:
        for number, writer in enumerate(writers):
            task = {
                "endpoint": endpoint,
                "sender_id": "ada",
                "writer": str(number),
                "events": EVENTS,
                "fresh": fresh,
            }
            writer.stdin.write(json.dumps(task) + "\n")
            writer.stdin.flush()
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for writer in writers:
            output, _ = writer.communicate(timeout=120)
            assert writer.returncode == 0
            assert len(output.split()) == EVENTS
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            writer.stdin.close()
            writer.stdout.close()
