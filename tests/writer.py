"""A process that writes to a conversation, for tests of several writers.

Run as ``python writer.py``; reads one JSON object from standard input: ``endpoint``,
``sender_id``, ``writer`` (its name), ``events`` (how many) and ``fresh`` (whether to
save a tracker of its own making each time, as after a failed read). Writes ``ready``
when its store is open, waits for a line, and then says what it has saved, line by
line, each after the save has returned.
"""

from __future__ import annotations

import asyncio
import json
import sys

from rasa.shared.core.domain import Domain
from rasa.shared.core.events import UserUttered
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.utils.endpoints import EndpointConfig

from rasa_api import TrackerStore


async def main() -> None:
    task = json.loads(sys.stdin.readline())
    store = TrackerStore.create(EndpointConfig(**task["endpoint"]), Domain.empty())
    assert type(store).__module__.startswith("rasa_trackers."), type(store)
    print("ready", flush=True)
    sys.stdin.readline()
    sender_id = task["sender_id"]
    for number in range(task["events"]):
        tracker = None if task["fresh"] else await store.retrieve(sender_id)
        if tracker is None:
            tracker = DialogueStateTracker(sender_id, [])
        tracker.update(UserUttered(f"{task['writer']} {number}"))
        await store.save(tracker)
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
