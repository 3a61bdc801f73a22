"""``copy``: conversations from one store to another, each event once and in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Optional, Tuple

import click

from rasa_trackers.cli.arguments import example
from rasa_trackers.cli.errors import CommandError
from rasa_trackers.cli.output import count, note
from rasa_trackers.cli.progress import Progress, progress, rate
from rasa_trackers.cli.selection import selection, selection_options

if TYPE_CHECKING:
    from rasa_trackers.cli.transfer import Outcome

#: Conversations that could not be copied and are named.
_MOST_NAMED = 10


@click.command(
    epilog=example(
        "rasa-trackers copy --from sqlite.yml --to postgresql.yml",
        "rasa-trackers copy --from endpoints.yml --to rasa.yml --since 90d --verify",
    )
)
@click.option(
    "--from",
    "source_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The endpoints.yml of the store to read.",
)
@click.option(
    "--to",
    "target_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The endpoints.yml of the store to write.",
)
@selection_options
@click.option(
    "--verify",
    is_flag=True,
    help="Read each conversation again in the target and compare event by event.",
)
def command(
    source_path: Path,
    target_path: Path,
    senders: Tuple[str, ...],
    since: Optional[float],
    before: Optional[float],
    verify: bool,
) -> int:
    """Copy conversations from one store to another.

    Any store of rasa_trackers and of Rasa's own (SQL, redis, mongod) is a source and a
    target. Assistants may run on both sides. Events that the target has already are not
    written again: run the command again after an interruption, or to add what is new.
    Users and expiry dates go along. Nothing is erased on either side.
    """
    from rasa_trackers.cli.places import place_of, refuse_same_place
    from rasa_trackers.cli.reading import sender_ids
    from rasa_trackers.cli.stores import opened
    from rasa_trackers.cli.transfer import transfer

    chosen = selection(senders, since, before)
    source_place, target_place = place_of(source_path), place_of(target_path)
    refuse_same_place(source_place, target_place)
    with opened(None, place=source_place, must_exist=True) as source, opened(
        None, place=target_place
    ) as target:
        found = sender_ids(source, chosen)
        total = None if chosen.has_times() else len(found)
        with progress("Copying", total) as shown:
            outcomes = transfer(source, target, chosen, found, verify=verify)
            problems, new = _counted(outcomes, shown)
        done = shown.conversations - len(problems)
        click.echo(
            f"{count(done, 'conversation')} copied: "
            f"{rate(shown.events, shown.seconds())}; {new:,} of them "
            f"{'was' if new == 1 else 'were'} new in the target."
            + (" All of them were verified." if verify and not problems else "")
        )
        for problem in problems[:_MOST_NAMED]:
            note(f"rasa-trackers: {problem}")
        if problems:
            raise CommandError(
                f"{count(len(problems), 'conversation')} could not be copied."
            )
    return 0


def _counted(
    outcomes: Iterator[List[Outcome]], shown: Progress
) -> Tuple[List[str], int]:
    """The problems, and how many events were new."""
    problems: List[str] = []
    new = 0
    try:
        for some in outcomes:
            for outcome in some:
                shown.advance(1, outcome.events)
                new += outcome.new
                if outcome.problem:
                    problems.append(outcome.problem)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_how_to_go_on(shown)) from None
    except CommandError:
        raise
    except Exception as error:
        from rasa_trackers.errors import is_unavailable

        if is_unavailable(error):
            raise CommandError(f"{error} {_how_to_go_on(shown)}") from None
        raise
    return problems, new


def _how_to_go_on(shown: Progress) -> str:
    return (
        f"Interrupted after {count(shown.conversations, 'conversation')}. Run the same "
        f"command again to go on: what is there is not copied twice."
    )
