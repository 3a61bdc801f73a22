"""Which conversations a command is about: ``--sender``, ``--since`` and ``--before``."""

from __future__ import annotations

import datetime as dt
import math
import re
import time
from typing import Any, Callable, NamedTuple, Optional, Sequence, Tuple, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


class Selection(NamedTuple):
    """Conversations of a store; all of them unless something is given."""

    #: Only these; empty for any.
    senders: Tuple[str, ...] = ()
    #: Only those with an event at this time or later: seconds since the epoch.
    since: Optional[float] = None
    #: Only those whose latest event is before this time.
    before: Optional[float] = None

    def has_times(self) -> bool:
        """Whether events decide about a conversation."""
        return self.since is not None or self.before is not None

    def includes(self, latest: float) -> bool:
        """Whether a conversation belongs to it.

        Args:
            latest: The time of its latest event; minus infinity where none has a time.
        """
        if self.since is not None and latest < self.since:
            return False
        return self.before is None or -math.inf < latest < self.before


class Age(click.ParamType):  # type: ignore[type-arg]
    """A length of time such as ``90d``; gives seconds."""

    name = "age"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        match = _AGE.fullmatch(value.strip())
        if match is None:
            self.fail(
                f"{value!r} is not a length of time. Write it as 90d, 12h, 30m, 45s or 2w.",
                param,
                ctx,
            )
        return float(match[1]) * _UNITS[match[2]]


class Time(click.ParamType):  # type: ignore[type-arg]
    """A point in time; gives seconds since the epoch."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        text = value.strip()
        if _AGE.fullmatch(text):
            return time.time() - Age().convert(text, param, ctx)
        found = _from_iso(text)
        if found is None:
            self.fail(
                f"{value!r} is not a time. Write it as 2026-11-26, 2026-11-26T08:30, "
                f"2026-11-26T08:30+01:00 (UTC unless given), or as an age such as 90d.",
                param,
                ctx,
            )
        return found


def _from_iso(text: str) -> Optional[float]:
    # Python before 3.11 does not know the Z.
    text = re.sub("[zZ]$", "+00:00", text)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.timezone.utc)
    try:
        return moment.timestamp()
    except (OverflowError, ValueError):
        return None


def selection_options(command: F) -> F:
    """Add ``--sender``, ``--since`` and ``--before`` to a command."""
    for option in reversed(
        (
            click.option(
                "--sender",
                "senders",
                multiple=True,
                metavar="ID",
                help="Only this conversation; may be given several times.",
            ),
            click.option(
                "--since",
                type=Time(),
                metavar="TIME",
                help="Only conversations with an event at that time or later: a date, "
                "a time (UTC), or an age such as 90d.",
            ),
            click.option(
                "--before",
                type=Time(),
                metavar="TIME",
                help="Only conversations whose latest event is before that time.",
            ),
        )
    ):
        command = option(command)
    return command


def selection(
    senders: Sequence[str], since: Optional[float], before: Optional[float]
) -> Selection:
    """The selection that options name; each sender once."""
    return Selection(tuple(dict.fromkeys(senders)), since, before)
