"""``delete`` and ``expire``: a count, a question, and proof."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from cli.conftest import OURS, STORES, MakeStore, Result
from cli.conversations import CONVERSATIONS, DAY, Texts, append, session, text
from rasa_trackers.cli.inspection import traces
from rasa_trackers.cli.stores import opened
from rasa_trackers.entries import entry_of
from rasa_trackers.event_log import START, Page, User
from rasa_trackers.outage.spool import Spool


@pytest.mark.parametrize("name", STORES)
def test_nothing_is_left_of_a_sender(
    make: MakeStore, run: Callable[..., Result], name: str
) -> None:
    store = make(name).fill()
    result = run("delete", "ada", "bob", "nobody", "--yes", "-e", store.path)
    assert result.status == 0, result.err
    assert "2 conversations with 33 events" in result.out
    assert "1 sender id not found" in result.out
    assert "nothing is left" in result.out
    assert set(store.texts()) == set(CONVERSATIONS) - {"ada", "bob"}
    with opened(Path(store.path)) as its:
        found = traces(its, ["ada", "long"])
        assert not any(found.get("ada", {}).values())
        assert any(found["long"].values())


@pytest.mark.parametrize("name", OURS)
def test_all_conversations_of_a_user(
    make: MakeStore, run: Callable[..., Result], name: str
) -> None:
    store = make(name).fill()
    result = run("delete", "--user", "user-1", "--yes", "-e", store.path)
    assert result.status == 0, result.err
    assert set(store.texts()) == set(CONVERSATIONS) - {"ada", "bob"}
    with store.log() as log:
        assert log.conversations_of("user-1") == []


@pytest.mark.parametrize("name", STORES)
def test_what_is_older_expires(
    make: MakeStore, run: Callable[..., Result], name: str
) -> None:
    now = time.time()
    recent = {"recent": Texts(session(now - 10 * DAY))}
    # A damaged time says nothing.
    damaged = [
        *session(now - 100 * DAY),
        text("slot", math.nan),
        text("slot", math.inf),
    ]
    old = {} if name == "rasa-mongo" else {"damaged": Texts(damaged)}
    no_times = (
        {} if name == "rasa-mongo" else {"no times": Texts(['{"event": "slot"}'])}
    )
    store = make(name).fill({**CONVERSATIONS, **recent, **no_times, **old})
    result = run("expire", "--older-than", "90d", "--yes", "-e", store.path)
    assert result.status == 0, result.err
    assert f"{5 + len(old)} conversations" in result.out
    assert set(store.texts()) == {*recent, *no_times}


def test_a_conversation_that_goes_on_meanwhile_stays(
    make: MakeStore, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rasa_trackers.cli import erasing

    store = make("sqlite").fill()
    original = erasing._erase

    def goes_on(log: Any, sender_id: str, ends: Any) -> bool:
        if sender_id == "ada":
            event = entry_of(text("user", time.time(), text="I am back"))
            log.append("ada", [event], ends["ada"])
        return original(log, sender_id, ends)

    monkeypatch.setattr(erasing, "_erase", goes_on)
    result = run("expire", "--older-than", "90d", "--yes", "-e", store.path)
    assert "1 conversation went on meanwhile and stayed" in result.err
    assert set(store.texts()) == {"ada"}


@pytest.mark.parametrize(
    "arguments", [("delete", "ada"), ("expire", "--older-than", "90d")]
)
def test_nothing_is_erased_without_a_yes(
    make: MakeStore, run: Callable[..., Result], arguments: Any
) -> None:
    store = make("sqlite").fill()
    dry = run(*arguments, "--dry-run", "-e", store.path)
    assert dry.status == 0
    assert "Nothing was erased" in dry.out
    for answer in ("n\n", ""):
        result = run(*arguments, "-e", store.path, stdin=answer)
        assert result.status == 1
        assert "Nothing was erased" in result.err
    assert set(store.texts()) == set(CONVERSATIONS)
    assert run(*arguments, "-e", store.path, stdin="y\n").status == 0
    assert "ada" not in store.texts()


def test_no_table_has_a_row_of_an_erased_conversation(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    store = make("sqlite").fill({"ada": CONVERSATIONS["ada"]})
    run("delete", "ada", "--yes", "-e", store.path)
    connection = sqlite3.connect(store.endpoint["db"])
    tables = [
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type='table'"
        )
    ]
    for table in tables:
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()
        assert "ada" not in str(rows)


def test_the_spool_is_erased_too(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "spool.db"
    store = make("sqlite", spool=str(path)).fill()
    spool = Spool(path, 10**8)
    entries = [entry_of(each) for each in session(1.0)]
    spool.append("ada", entries, 5, None, Page([], complete=True))
    result = run("delete", "ada", "--yes", "-e", store.path)
    assert result.status == 0
    assert f"and in the spool {path}" in result.out
    assert spool.sender_ids() == set()


def test_a_conversation_of_the_user_that_only_waits_is_erased_too(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "spool.db"
    store = make("sqlite", spool=str(path)).fill()
    spool = Spool(path, 10**8)
    entries = [entry_of(each) for each in session(1.0)]
    nothing = Page([], complete=True)
    for sender_id, user_id in (("new", "user-1"), ("other", "user-2")):
        spool.append(sender_id, entries, START, User(user_id, 1.0), nothing)
    assert run("delete", "--user", "user-1", "--yes", "-e", store.path).status == 0
    assert spool.sender_ids() == {"other"}


@pytest.mark.parametrize("type_name", ["rasa_trackers.RedisTrackerStore", "redis"])
def test_the_users_of_rasa_pros_own_store_are_looked_at(
    make: MakeStore, run: Callable[..., Result], redis_server: Any, type_name: str
) -> None:
    store = make("redis").set(type=type_name)
    value = {"name": "ada", "user_id": "u", "events": [{"event": "restart"}]}
    with redis_server.client() as client:
        client.set("tracker:ada", json.dumps(value))
        client.zadd("user_trackers:u", {"ada": 1e12, "bob": 1e12})
        result = run("delete", "ada", "--yes", "-e", store.path)
        assert result.status == 0, result.err
        assert client.zrange("user_trackers:u", 0, -1) == [b"bob"]
        assert client.keys("*ada*") == []


def test_the_proof_costs_no_scan_for_each_conversation(
    make: MakeStore, run: Callable[..., Result], redis_server: Any
) -> None:
    many = {f"{number}": Texts(session(1.0), "u") for number in range(100)}
    store = make("redis").fill(many)
    with redis_server.client() as client:
        client.config_resetstat()
        run("expire", "--older-than", "90d", "--yes", "-e", store.path)
        scans = client.info("commandstats")["cmdstat_scan"]["calls"]
    assert store.texts() == {}
    assert scans < 50


def test_something_that_is_left_is_an_error(
    make: MakeStore, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rasa_trackers.cli import erasing

    store = make("sqlite").fill()
    monkeypatch.setattr(erasing, "_erase", lambda log, sender_id, ends: True)
    result = run("delete", "ada", "--yes", "-e", store.path)
    assert result.status == 1
    assert "Something is left of 1 conversation: 'ada'" in result.err
    assert "24 in table events" in result.err


def test_senders_or_a_user(run: Callable[..., Result]) -> None:
    assert run("delete").status == 2
    assert run("delete", "ada", "--user", "u").status == 2


def test_a_deleted_conversation_can_begin_again(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    for name in OURS:
        store = make(name).fill({"ada": CONVERSATIONS["ada"]})
        run("delete", "ada", "--yes", "-e", store.path)
        with store.log() as log:
            append(log, "ada", CONVERSATIONS["bob"])
        assert store.texts() == {"ada": CONVERSATIONS["bob"].events}
