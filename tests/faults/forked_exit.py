"""A child of a fork that ends as a program does, as gunicorn's workers do.

Run as ``python forked_exit.py ENDPOINT``, an endpoint as JSON. At its end the interpreter
collects what is left, also what the child has of its parent. Ends with an error if the
parent has lost a connection by that.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from rasa.shared.core.domain import Domain
from rasa.shared.core.events import UserUttered
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.utils.endpoints import EndpointConfig

from faults.forking import sockets
from rasa_api import TrackerStore, unwrapped


def save(store: Any, sender_id: str) -> None:
    tracker = DialogueStateTracker(sender_id, [])
    tracker.update(UserUttered("hello"))
    asyncio.run(store.save(tracker))


def main() -> None:
    endpoint = EndpointConfig(**json.loads(sys.argv[1]))
    store = unwrapped(TrackerStore.create(endpoint, Domain.empty()))
    save(store, "of the parent")
    before = sockets()
    assert before
    child = os.fork()
    if not child:
        save(store, "of the child")
        return
    assert os.waitpid(child, 0)[1] == 0
    save(store, "of the parent once more")
    assert before <= sockets(), "the parent has lost a connection"


if __name__ == "__main__":
    main()
