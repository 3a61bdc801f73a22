"""``delete`` and ``expire``: a count, a question, and proof."""

from __future__ import annotations

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
        assert not any(traces(its, "ada").values())
        assert any(traces(its, "long").values())


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
    no_times = (
        {} if name == "rasa-mongo" else {"no times": Texts(['{"event": "slot"}'])}
    )
    store = make(name).fill({**CONVERSATIONS, **recent, **no_times})
    result = run("expire", "--older-than", "90d", "--yes", "-e", store.path)
    assert result.status == 0, result.err
    assert "5 conversations" in result.out
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


def test_an_erased_message_is_not_in_the_file_any_more(
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
    from rasa_trackers.event_log import Page
    from rasa_trackers.outage.spool import Spool

    path = tmp_path / "spool.db"
    store = make("sqlite", spool=str(path)).fill()
    spool = Spool(path, 10**8)
    entries = [entry_of(each) for each in session(1.0)]
    spool.append("ada", entries, 5, None, Page([], complete=True))
    result = run("delete", "ada", "--yes", "-e", store.path)
    assert result.status == 0
    assert f"and in the spool {path}" in result.out
    assert spool.sender_ids() == set()


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
