"""How long an ordinary conversation waits while a few abusive ones are read in loops.

A person with 30 events has turns: the conversation is retrieved and saved, with a pause
between. Meanwhile eight others are read again and again, with no pause: sessions of
20,000 events, messages of 10 MB. All are served by one store and one event loop, as in
Rasa.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import statistics
import time
from typing import Any, AsyncIterator, Dict, List

from rasa.shared.core.domain import Domain
from rasa.shared.core.events import UserUttered
from rasa.utils.endpoints import EndpointConfig

from backends import BACKENDS
from conversations import add, session_start, tracker, turn
from pulse import Pulse
from rasa_api import TrackerStore, unwrapped

ATTACKERS = 8
#: Seconds between two turns of the ordinary conversation.
PAUSE = 0.02


async def _attack(store: Any, sender_id: str, reads: List[float]) -> None:
    while True:
        begin = time.perf_counter()
        await store.retrieve(sender_id)
        reads.append(time.perf_counter() - begin)


@contextlib.asynccontextmanager
async def attacked(
    store: Any, sender_ids: List[str], reads: List[float]
) -> AsyncIterator[None]:
    """Read those conversations again and again; notes the seconds of each read."""
    attacks = [
        asyncio.ensure_future(_attack(store, sender_id, reads))
        for sender_id in sender_ids
    ]
    try:
        yield
    finally:
        for each in attacks:
            each.cancel()
        await asyncio.gather(*attacks, return_exceptions=True)


async def victims_turns(store: Any, seconds: float) -> List[float]:
    """Seconds that each turn of the ordinary conversation takes."""
    turns: List[float] = []
    end = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < end:
        number += 1
        sender_id = f"victim-{number}"
        await store.save(
            tracker(sender_id, [*session_start(), *turn(), *turn(), *turn()])
        )
        begin = time.perf_counter()
        retrieved = await store.retrieve(sender_id)
        add(retrieved, turn()[:4])
        await store.save(retrieved)
        turns.append(time.perf_counter() - begin)
        await asyncio.sleep(PAUSE)
    return turns


async def experiment(
    store: Any, sender_ids: List[str], seconds: float
) -> Dict[str, Any]:
    """Live through an attack of those conversations."""
    reads: List[float] = []
    gc.collect()
    gc.freeze()
    async with attacked(store, sender_ids, reads):
        await asyncio.sleep(1)
        async with Pulse(0.001) as pulse:
            turns = await victims_turns(store, seconds)
    gc.unfreeze()
    turns.sort()
    return {
        "turns": len(turns),
        "median_ms": round(1000 * statistics.median(turns), 1),
        "p95_ms": round(1000 * turns[int(0.95 * len(turns))], 1),
        "worst_ms": round(1000 * turns[-1], 1),
        "still_ms": round(1000 * pulse.longest, 1),
        "reads": len(reads),
        "read_s": round(statistics.median(reads), 2) if reads else None,
        "load": round(os.getloadavg()[0], 1),
    }


async def fill(store: Any, kind: str) -> List[str]:
    """Store the conversations of the attackers."""
    sender_ids = [f"{kind}-{number}" for number in range(ATTACKERS)]
    for sender_id in sender_ids:
        events = session_start()
        if kind == "events":
            for _ in range(2500):
                events += turn()
        elif kind == "message":
            events += [UserUttered("x" * 10_000_000)]
        elif kind == "numbers":
            events += [UserUttered("x", metadata={"x": list(range(1_200_000))})]
        else:
            return []
        await store.save(tracker(sender_id, events))
    return sender_ids


async def run(
    name: str, seconds: float, kinds: List[str], options: Dict[str, Any]
) -> None:
    """Print what each kind of attack does to the others."""
    backend = BACKENDS[name]
    with backend.make_server() as server:
        endpoint = {**backend.endpoint(server, backend.create(server)), **options}
        config = EndpointConfig(endpoint.pop("url", None), **endpoint)
        store = unwrapped(TrackerStore.create(config, Domain.empty()))
        for kind in kinds:
            sender_ids = await fill(store, kind)
            found = await experiment(store, sender_ids, seconds)
            print(f"{kind:8}", json.dumps(found), flush=True)
        store.close()


def main() -> None:
    """Run it, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="redis")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--kinds", default="none,events,message,numbers")
    parser.add_argument("--options", type=json.loads, default={})
    given = parser.parse_args()
    asyncio.run(run(given.store, given.seconds, given.kinds.split(","), given.options))


if __name__ == "__main__":
    main()
