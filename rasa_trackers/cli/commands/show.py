"""``show``: a conversation as a person would read it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import click

from rasa_trackers.cli.arguments import endpoints_option, example, json_option
from rasa_trackers.cli.errors import CommandError
from rasa_trackers.cli.output import (
    console,
    count,
    note,
    print_json,
    print_json_line,
    visible,
    visible_lines,
    when,
)
from rasa_trackers.cli.timeline import (
    ACTION,
    BOT,
    DAMAGED,
    FORM,
    SESSION,
    SLOT,
    USER,
    Line,
    Timeline,
)

#: Seconds between two looks with ``--follow``.
_PAUSE = 1.0

#: How a kind of line is marked and coloured.
_MARKS = {
    USER: ("user", "bold cyan"),
    BOT: ("bot", "bold green"),
    ACTION: ("action", "yellow"),
    SLOT: ("slot", "magenta"),
    FORM: ("form", "blue"),
    DAMAGED: ("damaged", "red"),
}


@click.command(
    epilog=example(
        "rasa-trackers show ada --last 20",
        "rasa-trackers show ada --follow",
        "rasa-trackers show ada --html ada.html",
    )
)
@click.argument("sender")
@endpoints_option
@click.option(
    "--last",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the last N events.",
)
@click.option(
    "--follow", is_flag=True, help="Wait for new events, until Ctrl-C ends it."
)
@json_option
@click.option(
    "--html",
    "html_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write one HTML file, which needs no network.",
)
def command(
    sender: str,
    endpoints: Path,
    last: Optional[int],
    follow: bool,
    as_json: bool,
    html_path: Optional[Path],
) -> None:
    """Show the conversation SENDER: sessions, who said what, intents, slots, actions.

    Times are in UTC.
    """
    from rasa_trackers.cli.stores import opened

    if html_path and (follow or as_json):
        raise click.UsageError("--html goes with neither --follow nor --json.")
    with opened(endpoints, must_exist=True) as store:
        page = store.whole(sender)
        events = [event.data for event in page.events]
        if not events and not follow:
            raise CommandError(
                f"{store.name} has no conversation {sender!r}. `rasa-trackers list` "
                f"shows which there are."
            )
        if as_json:
            _print_json(
                sender, page.user_id, events[-last:] if last else events, follow
            )
        elif html_path:
            _write_html(html_path, sender, page.user_id, events, last)
            return
        timeline = Timeline()
        shown = _last_lines(timeline, events, last)
        if not as_json:
            if events:
                _print_head(sender, page.user_id, len(events), last)
            _print_lines(shown)
        if follow:
            end = page.events[-1].position if page.events else 0
            _follow(store, sender, end, timeline, as_json)


def _last_lines(
    timeline: Timeline, events: Sequence[str], last: Optional[int]
) -> List[Line]:
    """The lines of the last events; those before them say what slots were."""
    if last is not None and last < len(events):
        timeline.lines(events[:-last])
        events = events[-last:]
    return timeline.lines(events)


def _print_head(
    sender: str, user_id: Optional[str], events: int, last: Optional[int]
) -> None:
    user = f", user {visible(user_id)}" if user_id is not None else ""
    part = f", the last {last:,}" if last is not None and last < events else ""
    click.echo(f"{visible(sender)}: {count(events, 'event')}{part}{user}")


def _print_lines(lines: Sequence[Line]) -> None:
    from rich.text import Text

    shown = console()
    for line in lines:
        if line.kind == SESSION:
            shown.print(
                Text(f"\n── {line.text} · {when(line.timestamp)} ──", "bold"),
                soft_wrap=True,
            )
            continue
        mark, style = _MARKS.get(line.kind, ("·", "dim"))
        # Not as the style of the whole text, which would dim what was said.
        text = Text()
        text.append(f"{when(line.timestamp, with_date=False):>8}  ", "dim")
        text.append(f"{mark:>7}  ", style)
        said = visible_lines(line.text).replace("\n", f"\n{' ' * 19}")
        text.append(said, "" if line.kind in (USER, BOT) else style)
        if line.details:
            text.append(f"  ({visible(line.details)})", "dim")
        shown.print(text, soft_wrap=True)


def _print_json(
    sender: str, user_id: Optional[str], events: Sequence[str], follow: bool
) -> None:
    if follow:
        for event in events:
            print_json_line(_parsed(event))
    else:
        print_json(
            {
                "sender_id": sender,
                "user_id": user_id,
                "events": [_parsed(event) for event in events],
            }
        )


def _parsed(data: str) -> Any:
    import json

    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data


def _write_html(
    path: Path,
    sender: str,
    user_id: Optional[str],
    events: Sequence[str],
    last: Optional[int],
) -> None:
    from rasa_trackers.cli.html import page
    from rasa_trackers.cli.lines import private_file

    lines = _last_lines(Timeline(), events, last)
    number = len(events) if last is None else min(last, len(events))
    with private_file(str(path)) as stream:
        stream.write(page(sender, user_id, lines, number).encode("utf-8"))
    click.echo(f"{count(number, 'event')} written to {visible(str(path))}.")


def _follow(
    store: Any, sender: str, end: int, timeline: Timeline, as_json: bool
) -> None:
    from rasa_trackers.paging import pages_newest_first

    def newer(log: Any, end: int) -> Dict[int, str]:
        found: Dict[int, str] = {}
        for page in pages_newest_first(log, sender):
            found.update(event for event in page.events if event.position > end)
            if page.events and page.events[0].position <= end:
                break
        return found

    note("Waiting for new events; Ctrl-C ends it.")
    try:
        while True:
            found = store.call(newer, end)
            texts = [found[position] for position in sorted(found)]
            if as_json:
                for text in texts:
                    print_json_line(_parsed(text))
            else:
                _print_lines(timeline.lines(texts))
            end = max(found, default=end)
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted.") from None
