"""``list``: which conversations there are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import click

from rasa_trackers.cli.arguments import endpoints_option, example, json_option
from rasa_trackers.cli.output import count, note, print_json, print_table, when
from rasa_trackers.cli.selection import selection, selection_options

#: What a list can be sorted by, and whether the greatest comes first.
_ORDERS: Dict[str, Tuple[Callable[[Any], Any], bool]] = {
    "sender": (lambda each: each.sender_id, False),
    "first": (lambda each: (_number(each.first), each.sender_id), False),
    "last": (lambda each: (_number(each.last), each.sender_id), True),
    "events": (lambda each: (each.events, each.sender_id), True),
    "sessions": (lambda each: (each.sessions, each.sender_id), True),
}


@click.command(
    epilog=example(
        "rasa-trackers list --since 1d",
        "rasa-trackers list --sort events --limit 10",
        "rasa-trackers list --user ada --json",
    )
)
@endpoints_option
@selection_options
@click.option("--user", metavar="ID", help="Only conversations of this user.")
@click.option(
    "--contains", metavar="TEXT", help="Only sender ids that contain this text."
)
@click.option(
    "--sort",
    type=click.Choice(list(_ORDERS)),
    default="last",
    show_default=True,
    help="What to sort by.",
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    metavar="N",
    help="How many to print; 0 for all.",
)
@click.option(
    "--skip",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="How many to leave out at the beginning.",
)
@json_option
def command(
    endpoints: Path,
    senders: Tuple[str, ...],
    since: Optional[float],
    before: Optional[float],
    user: Optional[str],
    contains: Optional[str],
    sort: str,
    reverse: bool,
    limit: int,
    skip: int,
    as_json: bool,
) -> None:
    """List conversations: first and last event (UTC), events, sessions, user."""
    from rasa_trackers.cli.progress import progress
    from rasa_trackers.cli.reading import conversations, sender_ids
    from rasa_trackers.cli.stores import opened
    from rasa_trackers.cli.summary import summary_of

    chosen = selection(senders, since, before)
    with opened(endpoints, must_exist=True) as store:
        named = [
            sender_id
            for sender_id in sender_ids(store, chosen)
            if contains is None or contains in sender_id
        ]
        with progress("Reading", len(named)) as shown:
            found = [
                summary_of(each)
                for each in conversations(store, chosen, named, shown.advance)
                if user is None or each.user_id == user
            ]
    key, is_descending = _ORDERS[sort]
    found.sort(key=key, reverse=is_descending != reverse)
    part = found[skip:][: limit or None]
    if as_json:
        print_json([each._asdict() for each in part])
        return
    print_table(
        ("sender id", "first event", "last event", "events", "sessions", "user"),
        [
            (
                each.sender_id,
                when(each.first),
                when(each.last),
                f"{each.events:,}",
                f"{each.sessions:,}",
                "" if each.user_id is None else each.user_id,
            )
            for each in part
        ],
        right=(3, 4),
        keep=(0,),
        width={1: 19, 2: 19},
    )
    if len(part) < len(found):
        note(
            f"{count(len(part), 'conversation')} of {len(found):,}; --skip and --limit "
            f"show others."
        )


def _number(time: Optional[float]) -> float:
    return -math.inf if time is None else time
