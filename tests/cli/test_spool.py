"""``spool``: what waits for the database, and ``spool drain``."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from cli.conftest import MakeStore, Result
from cli.conversations import BEGIN, CONVERSATIONS, session
from rasa_trackers.entries import entry_of
from rasa_trackers.event_log import START, Page
from rasa_trackers.outage.spool import Spool


def _waits(path: Path, sender_id: str, after: int = START) -> None:
    spool = Spool(path, 10**8)
    entries = [entry_of(each) for each in session(BEGIN)]
    spool.append(sender_id, entries, after, None, Page([], complete=True))
    spool.close()


@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_drains_what_waits(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path, name: str
) -> None:
    path = tmp_path / "spool.db"
    store = make(name, spool=str(path)).fill({"ada": CONVERSATIONS["bob"]})
    with store.log() as log:
        end = log.read_back("ada").events[-1].position
    _waits(path, "ada", end)
    _waits(path, "new")
    listed = run("spool", "-e", store.path, "--json").json()
    assert [(each["sender_id"], each["events"]) for each in listed] == [
        ("ada", 9),
        ("new", 9),
    ]
    assert "2023-11-14 22:13:20" in run("spool", "-e", store.path).out
    result = run("spool", "drain", "-e", store.path)
    assert result.status == 0, result.err
    assert "2 conversations with 18 events stored" in result.out
    assert store.texts() == {
        "ada": [*CONVERSATIONS["bob"].events, *session(BEGIN)],
        "new": session(BEGIN),
    }
    assert "Nothing waits" in run("spool", "-e", store.path).out
    assert "Nothing waits" in run("spool", "-e", store.path, "drain").out


def test_a_damaged_time_is_none(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "spool.db"
    store = make("sqlite", spool=str(path))
    spool = Spool(path, 10**8)
    spool.append("x", [entry_of("{damaged")], START, None, Page([], complete=True))
    spool.close()
    (found,) = run("spool", "-e", store.path, "--json").json()
    assert (found["first"], found["last"]) == (None, None)
    assert run("spool", "-e", store.path).status == 0


def test_what_waits_stays_while_the_database_is_away(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "spool.db"
    store = make("redis", spool=str(path), timeout=1).set(port=1)
    _waits(path, "ada")
    result = run("spool", "drain", "-e", store.path)
    assert result.status == 1
    assert len(run("spool", "-e", store.path, "--json").json()) == 1


def test_without_a_file_there_is_nothing_to_see(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run("spool", "-e", make("sqlite").path)
    assert result.status == 1
    assert "no spool in a file" in result.err
    result = run("spool", "-e", make("sqlite", spool=str(tmp_path / "no.db")).path)
    assert result.status == 1
    assert not (tmp_path / "no.db").exists()
