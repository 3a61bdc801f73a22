"""How far a command is, on standard error: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any, Iterator, Optional

from rasa_trackers.cli.output import console, count, note

#: Seconds between two lines where standard error is no terminal.
_INTERVAL = 10.0


class Progress:
    """Counts conversations and events."""

    def __init__(self, what: str, total: Optional[int], bar: Any, task: Any) -> None:
        """Begin at nothing.

        Args:
            what: What is done, such as "Copying".
            total: Conversations in all, if that is known.
            bar: The bar on a terminal, or ``None``.
            task: The bar's task.
        """
        self.conversations = 0
        self.events = 0
        self._what = what
        self._total = total
        self._bar = bar
        self._task = task
        self._began = time.monotonic()
        self._next_line = self._began + _INTERVAL

    def advance(self, conversations: int = 1, events: int = 0) -> None:
        """Count what was done."""
        self.conversations += conversations
        self.events += events
        if self._bar is not None:
            self._bar.update(self._task, advance=conversations, events=self.events)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _INTERVAL
            total = f" of {self._total:,}" if self._total is not None else ""
            note(
                f"{self._what}: {self.conversations:,}{total} conversations, "
                f"{count(self.events, 'event')}"
            )

    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began


@contextlib.contextmanager
def progress(what: str, total: Optional[int] = None) -> Iterator[Progress]:
    """Show how far a command is, for as long as the context lasts."""
    if not sys.stderr.isatty():
        yield Progress(what, total, None, None)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("conversations, {task.fields[events]:,} events"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console(err=True), transient=True) as bar:
        yield Progress(what, total, bar, bar.add_task(what, total=total, events=0))


def rate(events: int, seconds: float) -> str:
    """A number of events with its speed."""
    per_second = f", {events / seconds:,.0f} a second" if seconds > 1 else ""
    return f"{count(events, 'event')}{per_second}"
