"""``delete``: erase conversations of senders or of a user."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Tuple

import click

from rasa_trackers.cli.arguments import endpoints_option, example
from rasa_trackers.cli.output import count


@click.command(
    epilog=example(
        "rasa-trackers delete ada --dry-run",
        "rasa-trackers delete ada bob --yes",
        "rasa-trackers delete --user u-4711",
    )
)
@click.argument("senders", nargs=-1, metavar="[SENDER]...")
@endpoints_option
@click.option("--user", metavar="ID", help="All conversations of this user.")
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    senders: Tuple[str, ...],
    endpoints: Path,
    user: Optional[str],
    dry_run: bool,
    yes: bool,
) -> None:
    """Erase the conversations SENDER, or all of a user, and prove that nothing is left.

    Afterwards no table, index, user mapping, older form of the data or spool file has
    anything of them. Rasa's memory and backups of the database are not reached.
    """
    from rasa_trackers.cli.erasing import Erasure
    from rasa_trackers.cli.stores import opened

    if bool(senders) == (user is not None):
        raise click.UsageError("Name either sender ids or --user.")
    with opened(endpoints, must_exist=True) as store:
        erasure = Erasure(store)
        chosen: List[str] = list(dict.fromkeys(senders))
        if user is not None:
            chosen = erasure.conversations_of(user)
        found = erasure.count(chosen)
        click.echo(
            f"{count(found.conversations, 'conversation')} with "
            f"{count(found.events, 'event')} in {store.name}"
            + (f" of user {user}" if user is not None else "")
            + (
                f"; {count(found.missing, 'sender id')} not found"
                if found.missing
                else ""
            )
            + "."
        )
        erasure.erase(chosen, found, dry_run=dry_run, yes=yes)
