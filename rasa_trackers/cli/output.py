"""What commands print: tables and plain text, or JSON.

Texts come from users and from databases, so control characters in them are shown as
escapes: a terminal would obey them.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
import sys
from typing import Any, Iterable, Mapping, Optional, Sequence

import click

#: C0 and C1 controls, and what changes the direction of a text.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def visible(text: str) -> str:
    """A text in one line, which a terminal shows and does not obey."""
    return _CONTROLS.sub(lambda match: _escape(match.group()), text)


def visible_lines(text: str) -> str:
    """As :func:`visible`, with the line breaks as they are."""
    return "\n".join(visible(line) for line in re.split("\r\n|\n", text))


def _escape(character: str) -> str:
    return (
        json.dumps(character)[1:-1]
        if character < "\x80"
        else (
            f"\\x{ord(character):02x}"
            if ord(character) < 256
            else f"\\u{ord(character):04x}"
        )
    )


def print_json(value: Any) -> None:
    """Print a value as JSON, indented, in ASCII."""
    click.echo(json.dumps(value, indent=2))


def print_json_line(value: Any) -> None:
    """Print a value as JSON in one line, in ASCII."""
    click.echo(json.dumps(value))


def console(*, err: bool = False) -> Any:
    """A ``rich`` console: colours only on a terminal, and never with ``NO_COLOR``."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    is_terminal = stream.isatty()
    # Off a terminal, lines are as long as they are: other programs read them.
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) > 0 else 200
    return Console(
        stderr=err,
        width=None if is_terminal else width,
        highlight=False,
        markup=False,
        emoji=False,
    )


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[int] = (),
    keep: Sequence[int] = (),
    width: Optional[Mapping[int, int]] = None,
) -> None:
    """Print a table.

    Args:
        headings: One for each column.
        rows: Texts, which may hold anything.
        right: Columns that are aligned to the right.
        keep: Columns that are wrapped and never cut.
        width: Characters that a column has at least.
    """
    shown = console()
    cells = [[visible(cell) for cell in row] for row in rows]
    if not shown.is_terminal:
        _print_plain([headings, *cells], right)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(
            heading,
            justify="right" if index in right else "left",
            no_wrap=True,
            overflow="fold" if index in keep else "ellipsis",
            min_width=(width or {}).get(index, len(heading)),
        )
    for row in cells:
        table.add_row(*map(Text, row))
    shown.print(table)


def _print_plain(rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    """Print columns as wide as their widest cell: other programs read them."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows)]
    for row in rows:
        padded = []
        for index, (cell, width) in enumerate(zip(row, widths)):
            room = " " * (width - cell_len(cell))
            padded.append(f"{room}{cell}" if index in right else f"{cell}{room}")
        click.echo("  ".join(padded).rstrip())


def when(timestamp: Optional[float], *, with_date: bool = True) -> str:
    """A time, in UTC."""
    if timestamp is None or not math.isfinite(timestamp):
        return "-"
    try:
        time = dt.datetime.fromtimestamp(timestamp, dt.timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{timestamp:g}"
    return time.strftime("%Y-%m-%d %H:%M:%S" if with_date else "%H:%M:%S")


def count(number: int, noun: str, plural: Optional[str] = None) -> str:
    """A number with its noun: ``1 event``, ``1,200 events``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(number: float) -> str:
    """A number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def note(text: str) -> None:
    """Say something beside the result, on standard error."""
    click.echo(visible(text), err=True)
