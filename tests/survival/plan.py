"""What a run does, from a seed: the same one plans the same turns and faults.

What it does not plan is what depends on the machine: how far the writers come in the
time, which request a fault hits, and in which order writers come to one conversation.
"""

from __future__ import annotations

import random
from typing import Iterator, List, NamedTuple, Optional, Sequence

#: How a writer comes by the tracker that it saves.
RETRIEVED = "retrieved"
ALL_SESSIONS = "all sessions"
#: Made afresh, as Rasa's `FailSafeTrackerStore` does after a failed read.
FRESH = "fresh"
#: The one of its turn before in this conversation, with what came since unread.
KEPT = "kept"
_WAYS = {RETRIEVED: 60, ALL_SESSIONS: 5, FRESH: 15, KEPT: 20}

#: Seconds by which a writer's clock jumps.
_JUMPS = (-86400.0, -3600.0, -1.0, 1.0, 3600.0, 86400.0)
#: Where writers keep what they save in an outage, one after the other. Two of them have a
#: file in common.
OFF, MEMORY, FILE = "off", "memory", "file"
_SPOOLS = (FILE, MEMORY, FILE, OFF)
#: Conversations that many writers are in at the same time.
_BUSY = 4


class Turn(NamedTuple):
    """What a lane of a writer does at one time."""

    number: int
    conversation: str
    #: How many events it adds.
    events: int
    way: str
    #: Whether a session begins, so that a read ends here.
    begins_session: bool
    #: How often the same tracker is saved again when that fails.
    retries: int
    #: Seconds after the save has begun that the writer dies, by SIGKILL.
    dies_after: Optional[float]
    #: Seconds by which the writer's clock jumps before it.
    clock_jump: float


class PlannedFault(NamedTuple):
    """What goes wrong beside the writers."""

    kind: str
    #: Seconds of peace before it.
    pause: float
    #: Seconds that it lasts, where it lasts.
    lasts: float
    #: Which writer it hits, where it hits one.
    writer: int


class Plan(NamedTuple):
    """All that is decided beforehand.

    Attributes:
        store: Name of the store; each has another plan.
        seconds: How long is written, at least: each kind of fault has its turn.
        writers: Processes that write.
        lanes: Conversations that each of them is in at the same time.
        timeout: What the stores are configured with, in seconds.
        peace: Seconds between two faults, on average.
        deaths: Of how many saves one kills its writer.
    """

    store: str
    seed: int
    seconds: float
    writers: int = 4
    lanes: int = 6
    conversations: int = 200
    timeout: float = 2.0
    peace: float = 1.0
    deaths: int = 50

    def turn(self, writer: int, lane: int, number: int) -> Turn:
        """What a lane does as its `number`-th turn, whatever came of those before."""
        chance = self._chance("turn", writer, lane, number)
        # One in three is where others are, the rest is spread over all.
        which = chance.randrange(_BUSY if chance.random() < 1 / 3 else self._spread)
        return Turn(
            number=number,
            conversation=f"conversation-{which}",
            events=chance.randint(1, 8),
            way=chance.choices(list(_WAYS), list(_WAYS.values()))[0],
            begins_session=chance.random() < 0.1,
            retries=chance.choice((0, 0, 1, 5)),
            dies_after=(
                chance.uniform(0, 0.02) if chance.random() < 1 / self.deaths else None
            ),
            clock_jump=chance.choice(_JUMPS) if chance.random() < 0.1 else 0.0,
        )

    @classmethod
    def quick(cls, store: str, seed: int = 1, seconds: float = 10.0) -> Plan:
        """One that comes by each kind of fault about once in a few seconds."""
        return cls(store, seed, seconds, timeout=1.0, peace=0.3, deaths=30)

    @property
    def _spread(self) -> int:
        return max(self.conversations, _BUSY)

    @staticmethod
    def spool(writer: int) -> str:
        """Where a writer keeps what it saves in an outage."""
        return _SPOOLS[writer % len(_SPOOLS)]

    def has_small_pool(self, writer: int, life: int) -> bool:
        """Whether a writer, in one of its lives, has few connections for its lanes."""
        return self._chance("pool", writer, life).random() < 0.5

    def faults(self, kinds: Sequence[str]) -> Iterator[PlannedFault]:
        """What goes wrong, one after the other, without end.

        All kinds come before one comes again.
        """
        chance = self._chance("faults")
        while True:
            deck: List[str] = chance.sample(list(kinds), len(kinds))
            for kind in deck:
                yield PlannedFault(
                    kind,
                    pause=chance.uniform(0, 2 * self.peace),
                    # Some are over before a call gives up, some are not.
                    lasts=chance.uniform(0.1, 2.5 * self.timeout),
                    writer=chance.randrange(self.writers),
                )

    def _chance(self, *what: object) -> random.Random:
        # A text as its seed gives the same numbers in every process and version of Python.
        return random.Random(f"{self.store} {self.seed} {what}")
