"""``stats``: how much there is, and how it grows."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import click

from rasa_trackers.cli.arguments import endpoints_option, example, json_option
from rasa_trackers.cli.output import console, count, print_json, print_table, size, when
from rasa_trackers.cli.selection import selection, selection_options

#: Conversations that are named as the longest, and types and intents.
_MOST = 10
#: Days before and after 1970 that a calendar knows: up to the year 9999.
_LATEST_DAY = 719_162
#: Bars of the plot.
_BARS = 30


@click.command(
    epilog=example(
        "rasa-trackers stats",
        "rasa-trackers stats --since 30d --json",
    )
)
@endpoints_option
@selection_options
@json_option
def command(
    endpoints: Path,
    senders: Tuple[str, ...],
    since: Optional[float],
    before: Optional[float],
    as_json: bool,
) -> None:
    """Conversations and events over time, sizes, growth, types and intents.

    Days are in UTC. All conversations of the selection are read.
    """
    from rasa_trackers.cli.progress import progress
    from rasa_trackers.cli.reading import conversations, sender_ids
    from rasa_trackers.cli.stores import opened

    chosen = selection(senders, since, before)
    with opened(endpoints, must_exist=True) as store:
        numbers = Numbers()
        found = sender_ids(store, chosen)
        with progress("Reading", len(found)) as shown:
            for each in conversations(store, chosen, found, shown.advance):
                numbers.add(each)
        if as_json:
            print_json(numbers.as_dict())
        else:
            click.echo(store.name)
            _print(numbers)


class Numbers:
    """What is counted."""

    def __init__(self) -> None:
        """Count from nothing."""
        self.conversations = self.events = self.bytes = self.users = 0
        self.first, self.last = math.inf, -math.inf
        #: Events whose time no calendar knows.
        self.outside = 0
        self.types: Counter[str] = Counter()
        self.intents: Counter[str] = Counter()
        #: Events, and conversations that began, by the number of the day.
        self.events_by_day: Counter[int] = Counter()
        self.begun_by_day: Counter[int] = Counter()
        #: Lengths of conversations in events, of each of them.
        self.lengths: List[int] = []
        #: Sender ids of the longest ones with their events.
        self.longest: List[Tuple[int, str]] = []

    def add(self, conversation: Any) -> None:
        """Count a conversation."""
        from rasa_trackers.entries import entry_of

        self.conversations += 1
        length = len(conversation.events)
        self.events += length
        self.bytes += conversation.size()
        self.users += conversation.user_id is not None
        self.lengths.append(length)
        self.longest = sorted(
            [*self.longest, (length, conversation.sender_id)], reverse=True
        )[:_MOST]
        begun = False
        for data in conversation.events:
            entry = entry_of(data)
            self.types[entry.type_name] += 1
            if entry.type_name == "user":
                self.intents[entry.intent_name or "(none)"] += 1
            if entry.timestamp is None:
                continue
            day = int(entry.timestamp // 86_400)
            if abs(day) > _LATEST_DAY:
                self.outside += 1
            else:
                self.events_by_day[day] += 1
                self.first = min(self.first, entry.timestamp)
                self.last = max(self.last, entry.timestamp)
                if not begun:
                    begun = True
                    self.begun_by_day[day] += 1

    def median(self) -> int:
        """The length of a usual conversation."""
        return sorted(self.lengths)[len(self.lengths) // 2] if self.lengths else 0

    def growth(self, days: int) -> Tuple[int, int]:
        """Events of the last days up to the last event, and of as many days before."""
        last = max(self.events_by_day, default=0)
        recent = sum(self.events_by_day[last - day] for day in range(days))
        older = sum(self.events_by_day[last - days - day] for day in range(days))
        return recent, older

    def as_dict(self) -> Dict[str, Any]:
        """All of it, for JSON."""
        return {
            "conversations": self.conversations,
            "events": self.events,
            "bytes": self.bytes,
            "conversations_with_user": self.users,
            "first": self.first if math.isfinite(self.first) else None,
            "last": self.last if math.isfinite(self.last) else None,
            "events_outside_of_calendar": self.outside,
            "median_events": self.median(),
            "longest": [
                {"sender_id": sender_id, "events": events}
                for events, sender_id in self.longest
            ],
            "types": dict(self.types.most_common()),
            "intents": dict(self.intents.most_common()),
            "days": [
                {
                    "day": _date(day),
                    "events": self.events_by_day[day],
                    "conversations_begun": self.begun_by_day[day],
                }
                for day in sorted(self.events_by_day)
            ],
        }


def _print(numbers: Numbers) -> None:
    if not numbers.conversations:
        click.echo("0 conversations")
        return
    mean = numbers.events / numbers.conversations
    click.echo(
        f"{count(numbers.conversations, 'conversation')}, "
        f"{count(numbers.events, 'event')}, {size(numbers.bytes)} of events; "
        f"{numbers.users:,} with a user"
    )
    click.echo(
        f"{when(numbers.first)} to {when(numbers.last)}; {mean:,.1f} events a "
        f"conversation, median {numbers.median():,}"
    )
    for days in (7, 30):
        recent, older = numbers.growth(days)
        change = f"{(recent - older) / older:+.0%}" if older else "none before"
        click.echo(f"last {days} days with events: {count(recent, 'event')} ({change})")
    _plot(numbers)
    if numbers.outside:
        click.echo(f"and {count(numbers.outside, 'event')} at no time of the calendar")
    click.echo()
    print_table(
        ("longest conversations", "events"),
        [(sender_id, f"{events:,}") for events, sender_id in numbers.longest],
        right=(1,),
        keep=(0,),
    )
    for title, counter in (
        ("events by type", numbers.types),
        ("intents", numbers.intents),
    ):
        click.echo()
        total = sum(counter.values())
        print_table(
            (title, "events", "share"),
            [
                (name, f"{number:,}", f"{number / total:.1%}")
                for name, number in counter.most_common(_MOST)
            ],
            right=(1, 2),
        )


def _plot(numbers: Numbers) -> None:
    """Bars of events, and numbers of conversations that began, over time."""
    from rich.text import Text

    first = min(numbers.events_by_day, default=0)
    last = max(numbers.events_by_day, default=0)
    step = max(1, -(-(last - first + 1) // _BARS))
    shown = console()
    room = max(10, min(shown.width, 100) - 50)
    bars = [
        (_date(first + number * step), events, begun)
        for number, events, begun in zip(
            range(_BARS),
            _by_step(numbers.events_by_day, first, step),
            _by_step(numbers.begun_by_day, first, step),
        )
        if first + number * step <= last
    ]
    highest = max((events for _, events, _ in bars), default=0) or 1
    period = "day" if step == 1 else f"{step} days"
    click.echo(f"\nevents and new conversations, a line for each {period}:")
    for label, events, begun in bars:
        text = Text(f"{label:10}  ")
        width = events * room / highest
        bar = "█" * int(width) + ("▌" if width % 1 >= 0.5 else "")
        text.append(f"{bar or ('▏' if events else ''):{room}}", "cyan")
        text.append(f"  {events:>10,}  {begun:>10,}")
        shown.print(text, soft_wrap=True)


def _by_step(by_day: Mapping[int, int], first: int, step: int) -> List[int]:
    """Sums of each ``step`` days. Damaged events may lie any number of days apart."""
    sums = [0] * _BARS
    for day, number in by_day.items():
        sums[(day - first) // step] += number
    return sums


def _date(day: int) -> str:
    return str(dt.date(1970, 1, 1) + dt.timedelta(days=day))
