"""Fails when a turn has become slow, as seen from ratios within one run.

For CI, where milliseconds say nothing: each store is measured beside Rasa's own, and
an old conversation beside a young one. Run it with `nox -s bench-check`.
"""

import argparse
import statistics
import sys
from typing import Dict, List, NamedTuple, Tuple

from measured_servers import STORES
from measured_servers import opened as opened_server
from measuring import Case, Shape, measure
from outage_layer import seconds_a_turn
from stores import OURS, RASAS
from worker import Worker

#: The limits of the design, made wide for machines that are busy.
TIMES_FASTER_THAN_RASAS = 3.0
TIMES_SLOWER_WHEN_OLD = 2.0
#: What the layer for outages may add, as a share of a turn.
SHARE_OF_OUTAGE_LAYER = 0.03

ONE_SESSION = Shape(1_000, 1)
YOUNG = Shape(100, 1)
OLD = Shape(10_000, 100)

TURNS = 51
#: For each case; so many that a stall in the beginning does not leave a turn or two.
SECONDS = 5.0
#: What is too slow is measured anew before it counts.
ATTEMPTS = 3


class Ratio(NamedTuple):
    """A ratio of two costs, and the limit that it has to keep."""

    what: str
    value: float
    kept: bool

    def __str__(self) -> str:
        return f"{'ok  ' if self.kept else 'SLOW'} {self.what}: {self.value:.3g}"


def ratios(name: str, bench: Worker) -> List[Ratio]:
    """Measure a store.

    Args:
        name: One of `STORES`.
        bench: Where.
    """
    wanted = ((OURS, YOUNG), (OURS, OLD), (OURS, ONE_SESSION), (RASAS, ONE_SESSION))
    with opened_server(name) as opened:
        names = {which: opened.new_database() for which in (OURS, RASAS)}
        missing = bench.call("open", names=names, **opened.place._asdict())
        assert not missing, missing
        cases: Dict[Tuple[str, Shape], Case] = {
            (which, shape): Case(bench, which, which, shape) for which, shape in wanted
        }
        for case in cases.values():
            case.fill()
        opened.settle(list(names.values()))
        bench.call("settle")
        measure(list(cases.values()), TURNS, SECONDS)
        bench.call("close")
    # They took turns, so that what else the machine did fell on all of them; but not on
    # all alike. What has become slow is slow in the median and at its fastest.
    faster, slower = [], []
    for typical in (statistics.median, min):
        cost = {which: typical(case.wall) for which, case in cases.items()}
        faster.append(cost[RASAS, ONE_SESSION] / cost[OURS, ONE_SESSION])
        slower.append(cost[OURS, OLD] / cost[OURS, YOUNG])
    young = statistics.median(cases[OURS, YOUNG].wall)
    share = seconds_a_turn() / young
    return [
        Ratio(
            f"{name}: what the layer for outages adds to a turn of 100 events (at most "
            f"{SHARE_OF_OUTAGE_LAYER:g})",
            share,
            share <= SHARE_OF_OUTAGE_LAYER,
        ),
        Ratio(
            f"{name}: times faster than Rasa's own at 1,000 events (at least "
            f"{TIMES_FASTER_THAN_RASAS:g})",
            max(faster),
            max(faster) >= TIMES_FASTER_THAN_RASAS,
        ),
        Ratio(
            f"{name}: cost of 10,000 events in 100 sessions against 100 in one (at "
            f"most {TIMES_SLOWER_WHEN_OLD:g})",
            min(slower),
            min(slower) <= TIMES_SLOWER_WHEN_OLD,
        ),
    ]


def check(name: str, bench: Worker) -> bool:
    """Measure a store and print the ratios; whether all limits are kept."""
    for _ in range(ATTEMPTS):
        found = ratios(name, bench)
        print(*found, sep="\n", flush=True)
        if all(ratio.kept for ratio in found):
            return True
    return False


def main(names: List[str]) -> int:
    """Check stores; the exit code."""
    bench = Worker()
    kept = [check(name, bench) for name in names]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("stores", nargs="*", choices=[[], *STORES], default=[])
    sys.exit(main(parser.parse_args().stores or list(STORES)))
