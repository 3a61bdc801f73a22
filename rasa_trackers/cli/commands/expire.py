"""``expire``: erase conversations that have been quiet for long."""

from __future__ import annotations

import time
from pathlib import Path

import click

from rasa_trackers.cli.arguments import endpoints_option, example
from rasa_trackers.cli.output import count, when
from rasa_trackers.cli.selection import Age, Selection


@click.command(
    epilog=example(
        "rasa-trackers expire --older-than 90d --dry-run",
        "rasa-trackers expire --older-than 90d --yes",
    )
)
@endpoints_option
@click.option(
    "--older-than",
    required=True,
    type=Age(),
    metavar="AGE",
    help="How long ago the latest event must be, such as 90d or 12h.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(endpoints: Path, older_than: float, dry_run: bool, yes: bool) -> None:
    """Erase conversations whose latest event is older than AGE.

    It reaches all conversations; the option record_exp of a store only reaches those
    that were saved since it was set. A conversation that goes on meanwhile stays.
    Conversations without any time stay.
    """
    from rasa_trackers.cli.erasing import Erasure, Found
    from rasa_trackers.cli.progress import progress
    from rasa_trackers.cli.reading import conversations, sender_ids
    from rasa_trackers.cli.stores import opened

    limit = time.time() - older_than
    with opened(endpoints, must_exist=True) as store:
        quiet = Selection(before=limit)
        all_of_them = sender_ids(store, quiet)
        with progress("Reading", len(all_of_them)) as shown:
            ends = {}
            events = 0
            for each in conversations(store, quiet, all_of_them, shown.advance):
                ends[each.sender_id] = each.end
                events += len(each.events)
        click.echo(
            f"{count(len(ends), 'conversation')} with {count(events, 'event')} in "
            f"{store.name} had the latest event before {when(limit)}."
        )
        found = Found(len(ends), events, 0)
        Erasure(store).erase(list(ends), found, ends=ends, dry_run=dry_run, yes=yes)
