"""``export``: conversations as lines of JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

import click

from rasa_trackers.cli.arguments import endpoints_option, example
from rasa_trackers.cli.output import count
from rasa_trackers.cli.selection import selection, selection_options


@click.command(
    epilog=example(
        "rasa-trackers export conversations.jsonl.zst",
        "rasa-trackers export - --since 7d | gzip > week.jsonl.gz",
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
    """Write conversations to FILE, one a line, as JSON.

    FILE is compressed if its name ends in .gz or .zst; - is standard output. It appears
    when it is complete.
    """
    from rasa_trackers.cli.lines import PIPE, to_line, writing
    from rasa_trackers.cli.progress import progress, rate
    from rasa_trackers.cli.reading import conversations, sender_ids
    from rasa_trackers.cli.stores import opened

    chosen = selection(senders, since, before)
    with opened(endpoints, must_exist=True) as store:
        found = sender_ids(store, chosen)
        written = 0
        with progress("Exporting", len(found)) as shown:
            try:
                with writing(file) as stream:
                    for each in conversations(store, chosen, found, shown.advance):
                        stream.write(to_line(each))
                        written += 1
                        shown.advance(0, len(each.events))
            except KeyboardInterrupt:
                left = "" if file == PIPE else f" {file} was not written."
                raise KeyboardInterrupt(f"Interrupted.{left}") from None
        click.echo(
            f"{count(written, 'conversation')} exported: "
            f"{rate(shown.events, shown.seconds())}.",
            err=file == PIPE,
        )
