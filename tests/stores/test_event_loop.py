"""Rasa serves every user from one event loop: a store must never hold it."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest

from conversations import add, conversation, dicts, tracker, turn
from pulse import Pulse

pytestmark = pytest.mark.alone

EVENTS = 3000
LONGEST_STALL = 0.05
#: The loop may also stall so many times as long as it does beside a thread without a store.
TIMES_THE_MACHINES_OWN = 2


@pytest.fixture
def forget_the_heap():
    """Leaves what was loaded so far to no garbage collection.

    A full collection stops the process for a time that grows with all objects in it
    (150 ms with this suite loaded), whoever made the object that set it off.
    """

    def forget() -> None:
        gc.collect()
        gc.freeze()

    yield forget
    gc.unfreeze()


async def the_machines_own_stall() -> float:
    """How long the loop stalls while a thread encodes and decodes events by itself.

    Where other programs keep the processors busy, that takes longer, too.
    """
    events = dicts(conversation(1, EVENTS // 8))

    def work() -> None:
        for _ in range(8):
            json.loads(json.dumps(events))

    async with Pulse() as pulse:
        await asyncio.get_running_loop().run_in_executor(None, work)
    return pulse.longest


async def test_long_sessions_do_not_hold_the_event_loop(
    make_store, domain, forget_the_heap
):
    store = make_store()
    stalls, own, limit = [], [], LONGEST_STALL
    # Whatever holds the loop does so in every run; another program on the machine, and
    # the garbage collector, only in some.
    while len(stalls) < 20 and min(stalls, default=limit) >= limit:
        trackers = [
            tracker(
                f"user-{len(stalls)}-{number}", conversation(1, EVENTS // 8), domain
            )
            for number in range(2)
        ]
        forget_the_heap()
        async with Pulse() as pulse:
            await asyncio.gather(*(store.save(each) for each in trackers))
            retrieved = await asyncio.gather(
                *(store.retrieve(each.sender_id) for each in trackers)
            )
            for each in retrieved:
                add(each, turn())
                await store.save(each)
        stalls.append(pulse.longest)
        own.append(await the_machines_own_stall())
        limit = max(LONGEST_STALL, TIMES_THE_MACHINES_OWN * min(own))
    assert min(stalls) < limit, (stalls, own)


async def test_calls_overlap(make_store, backend):
    """One slow answer does not make the others wait."""
    store = make_store()
    async with Pulse() as pulse:
        await asyncio.gather(
            *(store.save(tracker(f"user-{number}", turn())) for number in range(50))
        )
    assert len(list(await store.keys())) == 50
    assert pulse.longest < 5
