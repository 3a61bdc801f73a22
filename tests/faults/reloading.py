"""A process that makes stores one after the other and never closes one, as Rasa does.

Run as ``python reloading.py ENDPOINT``, an endpoint as JSON. Nothing is collected as
garbage meanwhile. Ends with an error unless threads and connections end with the last
reference to a store.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import threading
import time
from typing import Any, Dict

import psutil
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import UserUttered
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.exceptions import RasaException
from rasa.utils.endpoints import EndpointConfig

from rasa_api import TrackerStore, unwrapped

RELOADS = 4
USERS = 10
#: Seconds; a store takes some thousandths of one.
PATIENCE = 120


def held() -> Dict[str, int]:
    """What the stores of this process hold."""
    process = psutil.Process()
    files = [file for file in process.open_files() if "rasa-" in file.path]
    threads = [
        each
        for each in threading.enumerate()
        # This one of the package serves all stores, and ends by itself.
        if each.name != "rasa_trackers-watchdog"
    ]
    return {
        "threads": len(threads),
        "connections": len(process.connections("tcp")),
        "files": len(files),
    }


async def use(endpoint: EndpointConfig, number: int) -> None:
    store = unwrapped(TrackerStore.create(endpoint, Domain.empty()))
    assert type(store).__module__.startswith("rasa_trackers."), type(store)

    async def save(user: int, store: Any = store) -> None:
        tracker = DialogueStateTracker(f"user {user}", [])
        tracker.update(UserUttered(f"message {number}"))
        await store.save(tracker)

    await asyncio.gather(*map(save, range(USERS)))
    # Drivers raise errors that hold themselves, and by that all callers.
    with contextlib.suppress(RasaException):
        await store.retrieve("\ud800")
    # The last save is under way when the store is left.
    last = asyncio.ensure_future(save(USERS))
    del store, save
    await last


def main() -> None:
    endpoint = EndpointConfig(**json.loads(sys.argv[1]))
    before = held()
    gc.collect()
    gc.disable()
    for number in range(RELOADS):
        # Other options, so that no store shares what another one has opened.
        endpoint.kwargs["timeout"] = 60 + number
        asyncio.run(use(endpoint, number))
    deadline = time.monotonic() + PATIENCE
    while held() != before:
        assert time.monotonic() < deadline, (before, held(), threading.enumerate())
        time.sleep(0.05)


if __name__ == "__main__":
    main()
