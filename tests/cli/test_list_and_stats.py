"""``list`` and ``stats``."""

from __future__ import annotations

import contextlib
import io
import json
import math
from typing import Callable, List

import hypothesis
import hypothesis.strategies as st
import pytest

from cli.conftest import STORES, MakeStore, Result
from cli.conversations import BEGIN, CONVERSATIONS, DAY, Texts, text
from rasa_trackers.cli.commands.stats import Numbers, _print
from rasa_trackers.cli.html import page
from rasa_trackers.cli.output import when
from rasa_trackers.cli.reading import Whole
from rasa_trackers.cli.summary import summary_of
from rasa_trackers.cli.timeline import Timeline


@pytest.mark.parametrize("name", STORES)
def test_lists_all_conversations_of_a_store(
    make: MakeStore, run: Callable[..., Result], name: str
) -> None:
    store = make(name).fill()
    found = run("list", "-e", store.path, "--sort", "sender", "--json").json()
    assert [each["sender_id"] for each in found] == sorted(CONVERSATIONS)
    ada = next(each for each in found if each["sender_id"] == "ada")
    user_id = ada.pop("user_id")
    assert user_id == "user-1"
    assert ada == {
        "sender_id": "ada",
        "first": BEGIN,
        "last": BEGIN + DAY + 2.5,
        "events": 24,
        "sessions": 2,
    }


def test_a_table_for_people(make: MakeStore, run: Callable[..., Result]) -> None:
    result = run("list", "-e", make("sqlite").fill().path, "--limit", "2")
    heading, *rows = result.out.splitlines()
    assert heading.split() == [
        "sender",
        "id",
        "first",
        "event",
        "last",
        "event",
        "events",
        "sessions",
        "user",
    ]
    assert len(rows) == 2
    assert rows[1].split()[0] == "long"
    assert "2 conversations of 5" in result.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sort", "first"], ["ada", "Bob", "bob", "long", "name"]),
        (["--sort", "events", "--limit", "1"], ["long"]),
        (["--sort", "sessions", "--limit", "1"], ["ada"]),
        (["--sort", "sender", "--reverse", "--limit", "1"], ["name"]),
        (["--user", "user-1", "--sort", "sender"], ["ada", "bob"]),
        (["--contains", "ob", "--sort", "sender"], ["Bob", "bob"]),
        (["--before", "2023-11-16"], ["ada"]),
        (["--since", "2023-11-19"], ["name"]),
        (["--sort", "sender", "--skip", "1", "--limit", "2"], ["ada", "bob"]),
        (["--sender", "bob", "--sender", "nobody"], ["bob"]),
    ],
)
def test_sorts_filters_and_pages(
    make: MakeStore,
    run: Callable[..., Result],
    arguments: list,  # type: ignore[type-arg]
    expected: list,  # type: ignore[type-arg]
) -> None:
    found = run("list", "-e", make("sqlite").fill().path, "--json", *arguments).json()
    assert [each["sender_id"].split()[0] for each in found] == expected


def test_an_empty_store_is_an_empty_list(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    store = make("redis")
    assert run("list", "-e", store.path, "--json").json() == []
    assert run("stats", "-e", store.path).status == 0


@pytest.mark.parametrize("name", ["sqlite", "redis", "mongo", "rasa-redis"])
def test_stats_count_everything(
    make: MakeStore, run: Callable[..., Result], name: str
) -> None:
    store = make(name).fill()
    found = run("stats", "-e", store.path, "--json").json()
    assert found["conversations"] == 5
    assert found["events"] == sum(len(each.events) for each in CONVERSATIONS.values())
    assert found["longest"][0] == {"sender_id": "long", "events": 363}
    assert found["intents"] == {"greet": 68, "order": 1}
    assert found["types"]["user"] == 69
    assert [day["conversations_begun"] for day in found["days"]] == [1, 0, 1, 1, 1, 1]
    assert sum(day["events"] for day in found["days"]) == found["events"]


def test_stats_for_people_have_a_plot(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    result = run("stats", "-e", make("sqlite").fill().path)
    assert "5 conversations" in result.out
    bars = [line for line in result.out.splitlines() if line.startswith("2023-11-1")]
    assert len(bars) >= 6
    assert max(bars, key=lambda line: line.count("█")).startswith("2023-11-18")


_TIMES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(
        ["1e400", "NaN", "-Infinity", 1e300, -1e300, 253402300800, 10**400]
    )
    | st.lists(st.none(), max_size=1)
)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    st.lists(
        st.builds(
            lambda event, timestamp: json.dumps(
                {"event": event, "timestamp": timestamp}
            ),
            st.sampled_from(["slot", "user", "action", "active_loop", "bot"]),
            _TIMES,
        )
        | st.text(max_size=5)
    )
)
def test_no_stored_time_breaks_anything(events: List[str]) -> None:
    conversation = Whole("x", events, None, 1)
    numbers = Numbers()
    numbers.add(conversation)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        _print(numbers)
    assert len(out.getvalue().splitlines()) < 100
    json.dumps(numbers.as_dict(), allow_nan=False)
    json.dumps(summary_of(conversation)._asdict(), allow_nan=False)
    assert conversation.latest() < math.inf
    assert conversation.started() is None or math.isfinite(conversation.started())
    lines = Timeline().lines(events)
    assert page("x", None, lines, len(events))
    assert all(when(line.timestamp) for line in lines)


def test_times_that_make_no_sense_break_nothing(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    events = [
        text("slot", 1e300),
        text("slot", -1e18),
        '{"event": "slot"}',
        '{"event": "slot", "timestamp": "soon"}',
        '{"event": "user", "timestamp": null, "parse_data": 5}',
        "{damaged",
    ]
    store = make("sqlite").fill({"x": Texts(events), "y": CONVERSATIONS["ada"]})
    assert (
        "and 2 events at no time of the calendar" in run("stats", "-e", store.path).out
    )
    for arguments in (["list"], ["stats"], ["stats", "--json"], ["show", "x"]):
        assert run(*arguments, "-e", store.path).status == 0
