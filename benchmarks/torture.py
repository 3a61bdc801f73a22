"""Tortures the stores, and counts what survives: see tests/survival.

Writes `torture.json` beside this file; run it with `nox -s torture`, which takes
seconds, seed and stores after `--`. The same seed plans the same turns and faults.
"""

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any, Dict

from backends import BACKENDS
from run import machine
from stores import versions
from survival.checker import LATEST
from survival.plan import Plan
from survival.run import Outcome, run
from survival.stores import STORES, Target

RESULTS = Path(__file__).with_name("torture.json")
SECONDS, QUICK_SECONDS = 60.0, 10.0


def torture(plan: Plan) -> Outcome:
    """Run a plan on a new server."""
    with Target(plan.store) as target:
        return run(plan, target)


def summary(label: str, outcome: Outcome) -> str:
    """What a run has come to, for a person."""
    faults = ", ".join(f"{count} {kind}" for kind, count in outcome.faults.items())
    counts = (
        f"{outcome.written:,} events written, {outcome.acknowledged:,} acknowledged, "
        f"{outcome.stored:,} stored; {len(outcome.lost)} lost, "
        f"{len(outcome.duplicated)} duplicated, {len(outcome.reordered)} reordered, "
        f"{len(outcome.torn)} saves torn, {len(outcome.alien)} alien, "
        f"{len(outcome.unreadable)} conversations unreadable, "
        f"{len(outcome.crashed)} writers crashed, "
        f"{len(outcome.waiting)} conversations still wait."
    )
    slowest = "; ".join(
        f"{kind} {most:.2f} ({last:.2f})"
        for kind, (most, last) in outcome.slowest.items()
    )
    risks = (
        f"  Killed with events in memory alone: {outcome.risked}, of which "
        f"{outcome.risked_and_lost} are lost. Slowest save of 1,000 (of all) by spool, in "
        f"seconds: {slowest}. {len(outcome.late)} of those with a spool took longer than "
        f"{LATEST:g}."
    )
    lines = [
        f"{label}, seed {outcome.seed}: {counts}",
        risks,
        f"  Faults: {faults}.",
    ]
    for what, where in {**outcome.wrong, "late": outcome.late}.items():
        lines += [f"  {what.upper()}: {'; '.join(where[:5])}"] if where else []
    return "\n".join(lines)


def main() -> int:
    """Torture all stores that are asked for; fails if anything is wrong."""
    options = arguments()
    found: Dict[str, Any] = {}
    wrong = False
    for name in options.stores:
        if options.quick:
            plan = Plan.quick(name, options.seed, options.seconds)
        else:
            plan = Plan(name, options.seed, options.seconds)
        outcome = torture(plan)
        wrong = wrong or bool(outcome.wrong or outcome.late)
        label = BACKENDS[name].label
        found[label] = outcome.as_figures()
        print(summary(label, outcome), flush=True)
    now = dt.datetime.now(dt.timezone.utc)
    results = {
        "date": now.isoformat(timespec="seconds"),
        "seed": options.seed,
        "machine": machine(),
        "versions": versions(),
        "stores": found,
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"Written: {options.output}", flush=True)
    return int(wrong)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "seconds", nargs="?", type=float, help=f"of each store; {SECONDS:g}"
    )
    parser.add_argument("seed", nargs="?", type=int, default=1)
    parser.add_argument(
        "stores", nargs="*", metavar="STORE", help=f"{', '.join(STORES)}; all of them"
    )
    parser.add_argument("--quick", action="store_true", help="as in the tests")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the data file")
    options = parser.parse_args()
    unknown = set(options.stores) - set(STORES)
    if unknown:
        parser.error(f"no such store: {', '.join(sorted(unknown))}")
    options.stores = options.stores or list(STORES)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    return options


if __name__ == "__main__":
    sys.exit(main())
