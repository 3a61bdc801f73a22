"""A process that writes to conversations, for tests of several writers.

Run as ``python writer.py``; does one task after the other. A task is a JSON object on
one line of standard input: ``endpoint``, ``sender_id``, ``writer`` (its name),
``events`` (how many) and ``fresh`` (whether to save a tracker of its own making each
time, as after a failed read). Writes ``ready`` when its store is open, waits for a
line, says what it has saved, line by line, each after the save has returned, and
``done`` when its store is closed. Ends at the end of its input, or with an error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any, Dict

from rasa.shared.core.domain import Domain
from rasa.shared.core.events import UserUttered
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.utils.endpoints import EndpointConfig

from rasa_api import TrackerStore, unwrapped

# Rasa Pro logs to standard output; what is said there is the tasks' alone.
answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def say(word: object) -> None:
    print(word, file=answers, flush=True)


async def write(task: Dict[str, Any]) -> None:
    endpoint = EndpointConfig(**task["endpoint"])
    store = unwrapped(TrackerStore.create(endpoint, Domain.empty()))
    assert type(store).__module__.startswith("rasa_trackers."), type(store)
    say("ready")
    sys.stdin.readline()
    sender_id = task["sender_id"]
    for number in range(task["events"]):
        tracker = None if task["fresh"] else await store.retrieve(sender_id)
        if tracker is None:
            tracker = DialogueStateTracker(sender_id, [])
        tracker.update(UserUttered(f"{task['writer']} {number}"))
        await store.save(tracker)
        say(number)
    store.close()
    say("done")


if __name__ == "__main__":
    for line in sys.stdin:
        asyncio.run(write(json.loads(line)))
