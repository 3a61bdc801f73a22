"""``check``: whether a store is healthy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, List

import click

from rasa_trackers.cli.arguments import example, json_option
from rasa_trackers.cli.endpoints import DEFAULT_FILE
from rasa_trackers.cli.errors import CommandError
from rasa_trackers.cli.output import console, print_json, visible
from rasa_trackers.health import ERROR, OK, WARNING, Fact

#: Round trips that are measured.
_ROUND_TRIPS = 5
#: Seconds for a round trip from which on each turn is slow.
_SLOW = 0.05

_MARKS = {
    OK: ("ok", "green"),
    WARNING: ("warning", "yellow"),
    ERROR: ("error", "bold red"),
}


@click.command(
    epilog=example(
        "rasa-trackers check",
        "rasa-trackers check production.yml --json",
    )
)
@click.argument(
    "endpoints",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    metavar="[ENDPOINTS]",
)
@click.option("--strict", is_flag=True, help="Exit with status 1 for a warning too.")
@json_option
def command(endpoints: Path, strict: bool, as_json: bool) -> int:
    """Connect to the store that ENDPOINTS names, and say how it is.

    Nothing is created or changed. The exit status is 1 if the store cannot be used as
    it is.
    """
    from rasa_trackers.cli.places import place_of
    from rasa_trackers.cli.stores import made, require_file

    place = place_of(endpoints)
    require_file(place)
    store = made(place)
    try:
        found = _facts(store)
    finally:
        store.close()
    levels = {fact.level for fact in found}
    is_bad = ERROR in levels or (strict and WARNING in levels)
    if as_json:
        print_json(
            {
                "store": place.type_name,
                "database": store.name,
                "healthy": not is_bad,
                "facts": [fact._asdict() for fact in found],
            }
        )
    else:
        click.echo(f"{visible(place.type_name)}: {visible(store.name)}")
        _print(found)
    return 1 if is_bad else 0


def _facts(store: Any) -> List[Fact]:
    from rasa_trackers.cli.inspection import facts
    from rasa_trackers.errors import is_store_error

    try:
        found = [*facts(store), _round_trip(store), *_counts(store)]
    except Exception as error:
        if not is_store_error(error):
            raise
        return [Fact("connection", "failed", ERROR, store.redacted(str(error)))]
    spool = store.place.values.get("spool", "off")
    if spool not in ("off", "memory"):
        found.append(Fact("spool", spool))
    elif store.place.rasas_own is None:
        found.append(
            Fact("spool", f"{spool}; a file would outlive Rasa's process")
            if spool == "memory"
            else Fact("spool", spool)
        )
    return [Fact("connection", "works"), *found]


def _round_trip(store: Any) -> Fact:
    from rasa_trackers.cli.inspection import ping

    def measure() -> float:
        begin = time.perf_counter()
        ping(store)
        return time.perf_counter() - begin

    seconds = min(measure() for _ in range(_ROUND_TRIPS))
    is_slow = seconds > _SLOW
    return Fact(
        "round trip",
        f"{seconds * 1000:.1f} ms",
        WARNING if is_slow else OK,
        "A turn takes three of them. Run Rasa nearer to the database."
        if is_slow
        else "",
    )


def _counts(store: Any) -> List[Fact]:
    from rasa_trackers.cli.inspection import count_conversations, count_events

    found = [Fact("conversations", f"{count_conversations(store):,}")]
    events = count_events(store)
    if events is not None:
        found.append(Fact("events", f"{events:,}"))
    return found


def _print(found: List[Fact]) -> None:
    from rich.text import Text

    if not found:
        raise CommandError("Nothing is known about the database.")
    shown = console()
    width = max(len(fact.name) for fact in found)
    for fact in found:
        mark, style = _MARKS[fact.level]
        text = Text(f"  {visible(fact.name):{width}}  ")
        text.append(f"{mark:8}", style)
        text.append(visible(fact.value))
        shown.print(text, soft_wrap=True)
        if fact.remedy:
            shown.print(
                Text(f"  {'':{width}}  {'':8}{visible(fact.remedy)}", style),
                soft_wrap=True,
            )
