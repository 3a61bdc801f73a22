"""Fails when a turn has become slow, as seen from ratios within one run.

For CI, where milliseconds say nothing: each store is measured beside Rasa's own, and
an old conversation beside a young one. Run it with `nox -s bench-check`.
"""

import argparse
import asyncio
import sys
from typing import Dict, List, NamedTuple, Tuple

from stores import OURS, RASAS, STORES
from turn import Case, Shape, filled, measure, opened

#: Each with its limit from the design, made wide for machines that are busy.
TIMES_FASTER_THAN_RASAS = 3.0
TIMES_SLOWER_WHEN_OLD = 2.0

ONE_SESSION = Shape(1_000, 1)
YOUNG = Shape(100, 1)
OLD = Shape(10_000, 100)

TURNS = 25
#: For each case; so many that a stall in the beginning does not leave a turn or two.
SECONDS = 10.0
#: What is too slow is measured once more before it counts.
ATTEMPTS = 2


class Ratio(NamedTuple):
    """A ratio of two costs, and the limit that it has to keep."""

    what: str
    value: float
    kept: bool

    def __str__(self) -> str:
        return f"{'ok  ' if self.kept else 'SLOW'} {self.what}: {self.value:.1f}"


async def ratios(name: str) -> List[Ratio]:
    """Measure a store.

    Args:
        name: Of the table `STORES`.

    Raises:
        LookupError: when this version of the package does not have it.
    """
    with opened(STORES[name]) as running:
        contenders = {contender.name: contender for contender in running.contenders}
        cases: Dict[Tuple[str, Shape], Case] = {
            (which, shape): Case(contenders[which], shape)
            for which, shape in (
                (OURS, YOUNG),
                (OURS, OLD),
                (OURS, ONE_SESSION),
                (RASAS, ONE_SESSION),
            )
        }
        await filled(running, list(cases.values()))
        await measure(list(cases.values()), TURNS, SECONDS)
    # A disturbance only ever adds, so the fastest turn has the least of it.
    cost = {which: min(case.wall) for which, case in cases.items()}
    faster = cost[RASAS, ONE_SESSION] / cost[OURS, ONE_SESSION]
    slower = cost[OURS, OLD] / cost[OURS, YOUNG]
    return [
        Ratio(
            f"{name}: times faster than Rasa's own at 1,000 events (at least "
            f"{TIMES_FASTER_THAN_RASAS:g})",
            faster,
            faster >= TIMES_FASTER_THAN_RASAS,
        ),
        Ratio(
            f"{name}: cost of 10,000 events in 100 sessions against 100 in one (at "
            f"most {TIMES_SLOWER_WHEN_OLD:g})",
            slower,
            slower <= TIMES_SLOWER_WHEN_OLD,
        ),
    ]


async def check(name: str) -> bool:
    """Measure a store and print the ratios; whether all limits are kept."""
    for _ in range(ATTEMPTS):
        found = await ratios(name)
        print(*found, sep="\n", flush=True)
        if all(ratio.kept for ratio in found):
            return True
    return False


async def main(names: List[str]) -> int:
    """Check stores; the exit code."""
    kept = []
    for name in names:
        try:
            kept.append(await check(name))
        except LookupError as error:
            print(f"{name}: skipped. {error}", flush=True)
    return 0 if kept and all(kept) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("stores", nargs="*", choices=[[], *STORES], default=[])
    sys.exit(asyncio.run(main(parser.parse_args().stores or list(STORES))))
