"""``import``: conversations from lines of JSON."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple

import click

from rasa_trackers.cli.arguments import endpoints_option, example
from rasa_trackers.cli.errors import CommandError
from rasa_trackers.cli.output import count, note
from rasa_trackers.cli.selection import Selection, selection, selection_options

#: Conversations, and characters, that one thread writes at a time.
_MOST = 50
_CHUNK = 1_000_000
#: Conversations that could not be imported and are named.
_MOST_NAMED = 10


@click.command(
    epilog=example(
        "rasa-trackers import conversations.jsonl.zst",
        "zcat week.jsonl.gz | rasa-trackers import -",
    )
)
@click.argument("file")
@endpoints_option
@selection_options
def command(
    file: str,
    endpoints: Path,
    senders: Tuple[str, ...],
    since: Optional[float],
    before: Optional[float],
) -> None:
    """Read conversations from FILE, as export writes them.

    FILE is decompressed if its name ends in .gz or .zst; - is standard input. Events
    that the store has already are not written again: run the command again after an
    interruption.
    """
    from rasa_trackers.cli.lines import reading
    from rasa_trackers.cli.progress import progress, rate
    from rasa_trackers.cli.reading import in_parallel
    from rasa_trackers.cli.stores import opened
    from rasa_trackers.cli.transfer import write_all

    chosen = selection(senders, since, before)
    problems: List[str] = []
    new = 0
    with opened(endpoints) as store, reading(file) as lines, progress(
        "Importing"
    ) as shown:

        def write(chunk: List[Any]) -> Any:
            return store.call(write_all, chunk, store, False)

        try:
            for outcomes in in_parallel(write, _chunks(lines, file, chosen)):
                for outcome in outcomes:
                    shown.advance(1, outcome.events)
                    new += outcome.new
                    if outcome.problem:
                        problems.append(outcome.problem)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted after {count(shown.conversations, 'conversation')}. Run "
                f"the same command again to go on: what is there is not written twice."
            ) from None
    done = shown.conversations - len(problems)
    click.echo(
        f"{count(done, 'conversation')} imported: "
        f"{rate(shown.events, shown.seconds())}; {new:,} of them "
        f"{'was' if new == 1 else 'were'} new in the store."
    )
    for problem in problems[:_MOST_NAMED]:
        note(f"rasa-trackers: {problem}")
    if problems:
        raise CommandError(
            f"{count(len(problems), 'conversation')} could not be imported."
        )


def _chunks(lines: Iterator[str], file: str, chosen: Selection) -> Iterator[List[Any]]:
    from rasa_trackers.cli.lines import from_line

    def selected() -> Iterator[Any]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            each = from_line(line, number, file)
            if chosen.senders and each.sender_id not in chosen.senders:
                continue
            if each.events and (
                not chosen.has_times() or chosen.includes(each.latest())
            ):
                yield each

    conversations = selected()
    most = 1
    while True:
        chunk = list(islice(conversations, most))
        if not chunk:
            return
        yield chunk
        mean = sum(each.size() for each in chunk) / len(chunk)
        most = max(1, min(_MOST, int(_CHUNK / max(mean, 1)), 2 * most))
