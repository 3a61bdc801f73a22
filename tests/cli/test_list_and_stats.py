"""``list`` and ``stats``."""

from __future__ import annotations

from typing import Callable

import pytest

from cli.conftest import STORES, MakeStore, Result
from cli.conversations import BEGIN, CONVERSATIONS, DAY, Texts, text


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
    store = make("sqlite").fill({"x": Texts(events)})
    for arguments in (["list"], ["stats"], ["stats", "--json"], ["show", "x"]):
        assert run(*arguments, "-e", store.path).status == 0
