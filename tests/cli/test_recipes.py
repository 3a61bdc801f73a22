"""``docs/recipes.md`` shows the terminal as it looks: what it says was run.

After a change of the commands: ``RECIPES=write pytest tests/cli/test_recipes.py``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple

import pytest

from backends import BACKENDS
from cli.conftest import MakeStore
from cli.conversations import BEGIN, CONVERSATIONS, DAY, Texts, session
from rasa_trackers.entries import entry_of
from rasa_trackers.event_log import START, Page
from rasa_trackers.outage.spool import Spool
from servers.postgres import PostgresServer

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"

#: What differs from run to run, and what stands there on the page.
_VARYING = (
    (r"test_[0-9a-f]{32}", "rasa"),
    (r"127\.0\.0\.1:\d+", "db.example.com"),
    (r"\d+\.\d ms", "0.4 ms"),
    (r"[\d,]+ bytes", "98,304 bytes"),
    (r"\d+ of 100\b", "3 of 100"),
    (r"PostgreSQL \d+\.\d+.*", "PostgreSQL 18.1"),
    (r"Redis \d+\.\d+\.\d+", "Redis 6.2.5"),
    (r"before 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "before 2026-08-28 09:00:00"),
    (r", [\d,]+ a second", ""),
    (r"/tmp/[^ ']*/", ""),
)


INTRODUCTION = (
    "Each block is the output of a real run, which a test repeats. The stores are named "
    "by the `endpoints.yml` that Rasa reads; without `-e` it is `endpoints.yml` in this "
    "folder."
)


class Recipe(NamedTuple):
    """A task, and the commands that do it."""

    title: str
    text: str
    commands: List[str]
    #: What is shown of the longest output.
    most_lines: int = 40


RECIPES = [
    Recipe(
        "See whether the store is healthy before a deploy",
        "The exit status is 1 if the store cannot be used as it is; `--json` is for "
        "programs. Nothing is created or changed.",
        ["rasa-trackers check postgresql.yml"],
    ),
    Recipe(
        "Find a conversation and read it",
        "`--last 20` shows the end of a long one, `--follow` waits for what comes, "
        "`--html ada.html` writes a page that opens without a network.",
        [
            "rasa-trackers list -e sqlite.yml --sort events --limit 3",
            "rasa-trackers show ada -e sqlite.yml",
        ],
    ),
    Recipe(
        "Move from SQLite to PostgreSQL, and back to Rasa's own store",
        "Start the copy while the assistant runs; stop the assistant, run the copy once "
        "more, which adds what is new, and start the assistant with the other "
        "endpoints.yml. Rasa's own formats are targets too: the last command writes the "
        "keys of `type: redis`. To go from MongoDB back to `type: mongod`, name another "
        "`db` or `collection`.",
        [
            "rasa-trackers copy --from sqlite.yml --to postgresql.yml",
            "rasa-trackers copy --from sqlite.yml --to postgresql.yml --verify",
            "cat rasa.yml",
            "rasa-trackers copy --from postgresql.yml --to rasa.yml --verify",
        ],
    ),
    Recipe(
        "Back up to a file, and restore from it",
        "One conversation is one line of JSON. The file is for its owner alone and "
        "appears when it is complete; `-` is a pipe.",
        [
            "rasa-trackers export backup.jsonl.zst -e postgresql.yml",
            "rasa-trackers import backup.jsonl.zst -e postgresql.yml",
            "rasa-trackers export - -e sqlite.yml --sender bob | cut -c 1-88",
        ],
    ),
    Recipe(
        "Erase a person",
        "Without `--yes` it asks first. Afterwards it looks again in tables, indexes, "
        "users, older forms of the data and the spool file.",
        [
            "rasa-trackers delete --user user-1 -e postgresql.yml --dry-run",
            "rasa-trackers delete --user user-1 -e postgresql.yml --yes",
        ],
    ),
    Recipe(
        "Erase what is older than 90 days",
        "`record_exp` only reaches conversations that were saved since it was set; this "
        "reaches all.",
        ["rasa-trackers expire --older-than 90d -e postgresql.yml --yes"],
    ),
    Recipe(
        "See what waits for the database, and store it",
        "With `spool: /path/to/file`, that file keeps the messages of an outage. Rasa "
        "stores them by itself when the database is back. `drain` does it where Rasa does "
        "not run any more.",
        [
            "rasa-trackers spool -e redis.yml",
            "rasa-trackers spool drain -e redis.yml",
            "rasa-trackers spool -e redis.yml",
        ],
    ),
    Recipe(
        "See how much there is",
        "",
        ["rasa-trackers stats -e sqlite.yml"],
    ),
    Recipe(
        "Let an administrator create the tables",
        "With them in place, the store needs no right to create any.",
        ["rasa-trackers schema --dialect postgresql"],
        most_lines=12,
    ),
]


@pytest.fixture(scope="module")
def durable_postgresql() -> Iterator[Any]:
    """An endpoint of a server that is as an operator's should be."""
    with PostgresServer() as server:
        name = server.create_database()
        yield BACKENDS["postgresql"].endpoint(server, name)


@pytest.fixture
def folder(make: MakeStore, durable_postgresql: Any, tmp_path: Path) -> Path:
    """A folder with the files that the recipes name."""
    pizza = Texts(
        [
            *session(BEGIN, ("hello",)),
            *session(BEGIN + DAY, ("a pizza, please", "no, two")),
        ],
        "user-1",
    )
    store = make("sqlite", db=str(tmp_path / "rasa.db"))
    store.fill(
        {
            "ada": pizza,
            "bob": CONVERSATIONS["bob"],
            "carol": CONVERSATIONS["Bob"],
            "dan": Texts(session(BEGIN + 5 * DAY, ("hi", "a\ttab and\nlines"))),
            "erin": CONVERSATIONS["long"],
        }
    )
    _write(tmp_path / "sqlite.yml", {**store.endpoint, "db": "rasa.db"})
    _write(tmp_path / "postgresql.yml", durable_postgresql)
    redis = make("rasa-redis").endpoint
    _write(tmp_path / "rasa.yml", {**redis, "db": 0})
    spooled = make("redis", spool=str(tmp_path / "spool.db"))
    _write(tmp_path / "redis.yml", spooled.endpoint)
    spool = Spool(tmp_path / "spool.db", 10**8)
    for sender_id in ("ada", "bob"):
        said = [entry_of(each) for each in session(BEGIN, ("are you there?",))]
        spool.append(sender_id, said, START, None, Page([], complete=True))
    spool.close()
    program = tmp_path / "rasa-trackers"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rasa_trackers "$@"\n')
    program.chmod(0o700)
    return tmp_path


def _write(path: Path, endpoint: Any) -> None:
    options = "".join(
        f"  {name}: {json.dumps(value)}\n" for name, value in endpoint.items()
    )
    path.write_text(f"tracker_store:\n{options}")


def test_the_page_shows_what_the_commands_say(folder: Path) -> None:
    page = _page(folder)
    if os.environ.get("RECIPES") == "write":
        PAGE.write_text(page)
    assert PAGE.read_text() == page


def _page(folder: Path) -> str:
    parts = [
        "# Recipes",
        INTRODUCTION,
    ]
    for recipe in RECIPES:
        shown = "\n\n".join(_shown(folder, each, recipe) for each in recipe.commands)
        parts += [f"## {recipe.title}", recipe.text, f"```console\n{shown}\n```"]
    return "\n\n".join(filter(None, parts)) + "\n"


def _shown(folder: Path, command: str, recipe: Recipe) -> str:
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "COLUMNS": "88"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    lines = [line.rstrip() for line in done.stdout.strip("\n").splitlines()]
    if len(lines) > recipe.most_lines:
        lines = [*lines[: recipe.most_lines], "..."]
    text = "\n".join(lines)
    if command.startswith("cat"):
        text = re.sub(r"(url|port|db): .*", lambda found: f"{found[1]}: ...", text)
    for pattern, fixed in _VARYING:
        text = re.sub(pattern, fixed, text)
    return f"$ {command}\n{text}"
