"""How turns are measured: who takes them, in which order, and what is said of it.

Needs no Rasa. The contenders may be in this process or in another one that has it.
"""

import random
import statistics
from typing import Any, Dict, List, NamedTuple, Protocol, Sequence

Times = Dict[str, float]

#: Seconds of a turn of which there is one only.
_SLOW = 5.0
#: Turns that a contender takes even if there is little time, unless it is slow.
_FEWEST = 3


class Place(NamedTuple):
    """A server that runs."""

    #: Of the table `stores.KINDS`.
    kind: str
    #: The tracker_store section of an endpoints.yml for one of its databases.
    endpoint: Dict[str, Any]

    def options(self, name: str) -> Dict[str, Any]:
        """What a tracker store's class is given for a database, ours as Rasa's own."""
        others = ("type", "url", "db")
        options = {
            key: each for key, each in self.endpoint.items() if key not in others
        }
        if "url" in self.endpoint:
            options["host"] = self.endpoint["url"]
        return {**options, "db": int(name) if name.isdigit() else name}


class Shape(NamedTuple):
    """The age of a conversation."""

    events: int
    sessions: int

    @property
    def session(self) -> int:
        """Number of events in the last session, as in each."""
        return self.events // self.sessions


def sender_of(contender: str, shape: Shape) -> str:
    """The conversation of that age which is a contender's own."""
    return f"{contender}-{shape.events}-{shape.sessions}."


class Bench(Protocol):
    """Where contenders are: a `worker.Worker`, here or in another process."""

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method of the worker."""


class Case:
    """A contender with a conversation of a certain age.

    Attributes:
        contender: Its name in the results.
        wall: Seconds that each turn took.
        cpu: Seconds of processor time that the contender's process spent on each.
    """

    def __init__(self, bench: Bench, contender: str, which: str, shape: Shape) -> None:
        self.contender = contender
        self.shape = shape
        self.wall: List[float] = []
        self.cpu: List[float] = []
        self._bench = bench
        self._conversation = {
            "which": which,
            "sender_id": sender_of(contender, shape),
            "events": shape.events,
            "sessions": shape.sessions,
        }

    def fill(self) -> None:
        """Store the conversation."""
        self._bench.call("fill", **self._conversation)

    def take_turn(self) -> None:
        """Measure one turn, and put the conversation back."""
        wall, cpu = self._bench.call("take_turn", **self._conversation)
        self.wall.append(wall)
        self.cpu.append(cpu)


def measure(cases: Sequence[Case], turns: int, seconds: float, fewest: int = 1) -> None:
    """Let all cases take turns.

    Args:
        cases: Which to measure; filled in.
        turns: How many of each, at the most.
        seconds: How long each case may take in all, about.
        fewest: How many turns it takes, however slow it is.
    """
    shares = []
    for case in cases:
        case.take_turn()
        if case.wall[0] < _SLOW:
            # The first one also opens connections, and compiles statements.
            case.wall.clear()
            case.cpu.clear()
            case.take_turn()
        share = min(float(turns), max(float(fewest), seconds / case.wall[0]))
        if case.wall[0] < _SLOW / 5:
            share = max(share, float(_FEWEST))
        shares.append(share - 1)
    # Each comes after any other one: a turn that read 10,000 events leaves the
    # processor's caches cold to the next.
    chance = random.Random(0)  # noqa: S311 - nothing is to be kept secret
    order = list(zip(cases, shares))
    for number in range(turns):
        chance.shuffle(order)
        for case, share in order:
            # One that has fewer turns has them spread over all the time.
            if int((number + 1) * share / turns) > int(number * share / turns):
                case.take_turn()


def spread(seconds: Sequence[float]) -> Times:
    """Minimum, quartiles and maximum, in milliseconds."""
    if len(seconds) < 2:
        quartiles = [seconds[0]] * 3
    else:
        quartiles = statistics.quantiles(seconds, n=4, method="inclusive")
    numbers = [min(seconds), *quartiles, max(seconds)]
    names = ["minimum", "lower_quartile", "median", "upper_quartile", "maximum"]
    return {name: round(number * 1e3, 3) for name, number in zip(names, numbers)}
