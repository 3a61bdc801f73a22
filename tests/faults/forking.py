"""A process that forks while its store is in use, as gunicorn does with ``--preload``.

Run as ``python forking.py ENDPOINT``, an endpoint as JSON. Parent and children run turns in
one conversation, and each of them in one of its own, also while the parent forks. Ends
with an error if a turn fails or reads something wrong, in any process, or if the parent
has lost a connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import traceback
from typing import Any, List, Set

import psutil
import structlog
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import UserUttered
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.utils.endpoints import EndpointConfig

from rasa_api import TrackerStore, unwrapped

# A lock of structlog's that another thread holds stays held in a child for ever. Rasa logs
# through it in each turn; what is tested here is the store.
structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

CHILDREN = 4
TURNS = 12


async def turns(store: Any, name: str, sender_id: str, count: int = TURNS) -> None:
    """Save messages one by one, and see that each read has all of them in order."""
    said: List[str] = []
    for number in range(count):
        tracker = await store.retrieve(sender_id)
        if tracker is None:
            tracker = DialogueStateTracker(sender_id, [])
        assert tracker.sender_id == sender_id
        found = [event.text for event in tracker.events]
        own = [text for text in found if text.startswith(f"{name} ")]
        assert own == said, (name, sender_id, own, said)
        said.append(f"{name} {number}")
        tracker.update(UserUttered(said[-1]))
        await store.save(tracker)


async def all_turns(store: Any, name: str) -> None:
    """Turns in several conversations at once, so that there are several connections."""
    await asyncio.gather(
        turns(store, name, "of all"),
        *(turns(store, name, f"{number} of {name}") for number in range(6)),
    )
    for number in range(6):
        tracker = await store.retrieve(f"{number} of {name}")
        assert [event.text for event in tracker.events] == [
            f"{name} {count}" for count in range(TURNS)
        ]


def sockets() -> Set[str]:
    """The TCP connections of this process."""
    connections = psutil.Process().connections("tcp")
    return {f"{each.laddr} {each.raddr}" for each in connections}


def fork(store: Any, name: str) -> int:
    """Run turns in a child; gives its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        inherited = sockets()
        asyncio.run(all_turns(store, name))
        assert inherited <= sockets(), "the child has closed what its parent uses"
        if name == "child 0":
            # A child may fork, too.
            status = os.waitpid(fork(store, "grandchild"), 0)[1]
            asyncio.run(turns(store, "child once more", "of all"))
        else:
            status = 0
    except BaseException:  # noqa: BLE001 - shown, and the status tells the parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1 if status else 0)


def main() -> None:
    endpoint = EndpointConfig(**json.loads(sys.argv[1]))
    store = unwrapped(TrackerStore.create(endpoint, Domain.empty()))
    assert type(store).__module__.startswith("rasa_trackers."), type(store)
    asyncio.run(all_turns(store, "parent"))
    before = sockets()
    # The turns of another thread are under way when this one forks.
    failures: List[BaseException] = []

    def run_beside() -> None:
        try:
            asyncio.run(all_turns(store, "parent's other thread"))
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            traceback.print_exc()
            failures.append(error)

    beside = threading.Thread(target=run_beside)
    beside.start()
    children = [fork(store, f"child {number}") for number in range(CHILDREN)]
    asyncio.run(turns(store, "parent beside children", "of all"))
    beside.join()
    statuses = [os.waitpid(child, 0)[1] for child in children]
    asyncio.run(turns(store, "parent once more", "of all"))
    assert not failures, failures
    assert statuses == [0] * CHILDREN, statuses
    assert before <= sockets(), "the parent has lost a connection"
    if endpoint.type != "rasa_trackers.InMemoryTrackerStore":
        full = asyncio.run(store.retrieve_full_tracker("of all"))
        texts = [event.text for event in full.events]
        writers = 2 + CHILDREN + 4
        assert len(texts) == len(set(texts)) == writers * TURNS, len(texts)


if __name__ == "__main__":
    main()
