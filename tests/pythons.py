"""Which Rasa is tested on which Python, and how the outcome is told.

For noxfile.py, beside which there is no Rasa, and for the tests, beside which there is
no Nox: this module imports neither.
"""

from __future__ import annotations

from typing import Collection, List, NamedTuple, Tuple
from xml.etree import ElementTree as ET


class Generation(NamedTuple):
    """A release of Rasa that stands for all that behave alike.

    Attributes:
        label: What people call it.
        rasa: Requirement that installs it.
        pythons: The versions of Python on which it is tested, the oldest first. Each
            is a line of .python-version too, since pyenv offers no other.
        extras: Other requirements that its environment needs.
        instead: Requirements that replace what this Rasa itself asks for.
    """

    label: str
    rasa: str
    pythons: Tuple[str, ...]
    extras: Tuple[str, ...] = ()
    instead: Tuple[str, ...] = ()

    @property
    def requirements(self) -> Tuple[str, ...]:
        """All that an environment needs for this Rasa."""
        return (self.rasa, *self.extras)

    @property
    def lock(self) -> str:
        """Name of the file of requirements/ that pins them, without its ending."""
        return self.label.lower().replace(" ", "-")


OPEN_SOURCE = Generation("Rasa 3.6", "rasa==3.6.21", ("3.8", "3.9", "3.10"))
PRO = Generation("Rasa Pro 3.21", "rasa-pro==3.21.0", ("3.11", "3.12", "3.13", "3.14"))

#: Those that `nox -s tests` runs, the oldest first.
GENERATIONS = (OPEN_SOURCE, PRO)

#: Those before, which `nox -s generations` runs. Their own requirements have no upper
#: bounds, and do not go with the newest protobuf and websockets.
OLDER = (
    Generation(
        *("Rasa 1.10", "rasa==1.10.26", ("3.7",), ("protobuf<3.21",)),
        instead=("SQLAlchemy>=1.4,<1.5",),
    ),
    Generation(
        *("Rasa 2.8", "rasa==2.8.34", ("3.8",), ("protobuf<3.21", "websockets<11"))
    ),
    Generation(
        *("Rasa 3.1", "rasa==3.1.7", ("3.8",), ("protobuf<3.21", "websockets<11")),
        # For clusters. Rasa 1.10 is tested with redis-py 3.5, which both install.
        instead=("redis>=4.5,<5", "async-timeout<4"),
    ),
    Generation(
        *("Rasa 3.3", "rasa==3.3.8", ("3.8",)),
        ("websockets<11",),
    ),
)


class Choice(NamedTuple):
    """The Pythons on which a generation of Rasa is tested on one machine.

    Attributes:
        generation: Of Rasa.
        pythons: The oldest and the newest Python that the machine has or can download.
            They may be the same, which is listed once. Empty if there is none.
        between: Those that it has or can download beside them.
        missing: Those that it can do neither with.
    """

    generation: Generation
    pythons: Tuple[str, ...]
    between: Tuple[str, ...]
    missing: Tuple[str, ...]

    def __str__(self) -> str:
        """What is tested, and why the rest is not, in one line."""
        if not self.pythons:
            return f"NOT TESTED: {advice(self.generation)}"
        line = f"{self.generation.label} on Python {_listed(self.pythons)}"
        if self.missing:
            line += f"; not on {_listed(self.missing)}: not installed, no download"
        if self.between:
            line += f"; not on {_listed(self.between)}: see `nox -s matrix`"
        return line


def choose(
    generation: Generation, found: Collection[str], fetchable: Collection[str] = ()
) -> Choice:
    """Choose the oldest and the newest Python for a generation of Rasa.

    Args:
        generation: Of Rasa.
        found: The versions of Python that the machine has.
        fetchable: The versions that it can download.
    """
    had = [one for one in generation.pythons if one in found or one in fetchable]
    return Choice(
        generation,
        pythons=tuple(dict.fromkeys([*had[:1], *had[-1:]])),
        between=tuple(had[1:-1]),
        missing=tuple(one for one in generation.pythons if one not in had),
    )


def newest(
    generation: Generation, found: Collection[str], fetchable: Collection[str] = ()
) -> str:
    """The newest installed Python for a generation of Rasa.

    Where none is installed, it is the newest that can be downloaded; "" if there is
    none at all.
    """
    for versions in (found, fetchable):
        for python in reversed(generation.pythons):
            if python in versions:
                return python
    return ""


def advice(generation: Generation) -> str:
    """What to do where there is no Python for a generation of Rasa, in one sentence."""
    first, last = generation.pythons[0], generation.pythons[-1]
    allowed = first if first == last else f"{first} to {last}"
    return (
        f"{generation.label} needs Python {allowed}, which is neither installed here "
        f"nor can be downloaded: install Python {last} with your system's packages, "
        f"with pyenv or, where there is a network, with `uv python install {last}`, "
        "and run this command again"
    )


class Outcome(NamedTuple):
    """How the tests went on one Rasa and one Python.

    Attributes:
        label: Of the generation of Rasa.
        python: Version.
        succeeded: Whether all went well, the installation included.
        passed: How many tests passed.
        failed: How many failed.
        skipped: Why a test was skipped, for each that was.
        seconds: How long the tests took.
    """

    label: str
    python: str
    succeeded: bool
    passed: int
    failed: int
    skipped: Tuple[str, ...]
    seconds: float

    @classmethod
    def of_junit(cls, label: str, python: str, succeeded: bool, report: str) -> Outcome:
        """Read what `pytest --junitxml` has written, if it came to that."""
        if not report:
            return cls(label, python, succeeded, 0, 0, (), 0.0)
        (suite,) = ET.fromstring(report).iter("testsuite")
        skipped = tuple(
            str(element.get("message")) for element in suite.iter("skipped")
        )
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        passed = int(suite.get("tests", 0)) - failed - len(skipped)
        seconds = float(suite.get("time", 0))
        return cls(label, python, succeeded, passed, failed, skipped, seconds)

    def __str__(self) -> str:
        """Rasa, Python, passed, skipped and why, in one line."""
        counts = [f"{self.passed:,} passed"]
        if not self.succeeded:
            counts.insert(0, f"{self.failed:,} FAILED" if self.failed else "FAILED")
        if self.skipped:
            reasons = "; ".join(_counted(self.skipped))
            counts.append(f"{len(self.skipped):,} skipped ({reasons})")
        told = f"{', '.join(counts)}; {self.seconds:.0f} s"
        return f"{self.label} on Python {self.python}: {told}"


def _counted(reasons: Tuple[str, ...]) -> List[str]:
    """Each reason once, with its number, the most frequent first."""
    numbers = {reason: reasons.count(reason) for reason in sorted(reasons)}
    frequent = sorted(numbers, key=lambda reason: -numbers[reason])
    return [f"{numbers[reason]:,}: {reason}" for reason in frequent]


def _listed(versions: Tuple[str, ...]) -> str:
    *others, last = versions
    return f"{', '.join(others)} and {last}" if others else last
