"""The command line in this process, and stores for it on real servers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence

import pytest

from backends import BACKENDS, Endpoint
from cli.conversations import CONVERSATIONS, Texts, append

#: The stores that every command is tested on: ours and Rasa's own.
OURS = ("sqlite", "postgresql", "mariadb", "oracle", "redis", "mongo")
RASAS = {
    "rasa-sql": ("sqlite", "SQL"),
    "rasa-redis": ("redis", "redis"),
    "rasa-mongo": ("mongo", "mongod"),
}
STORES = (*OURS, *RASAS)


class Result(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Store:
    """A store, named by an endpoints.yml."""

    def __init__(self, name: str, endpoint: Endpoint, path: Path) -> None:
        self.name = name
        self.endpoint = endpoint
        self.path = str(path)
        self.set()

    def set(self, **options: Any) -> Store:
        """Write the file, with more options."""
        self.endpoint = {**self.endpoint, **options}
        Path(self.path).write_text(json.dumps({"tracker_store": self.endpoint}))
        return self

    @contextlib.contextmanager
    def log(self) -> Iterator[Any]:
        """The log of the store, open."""
        from rasa_trackers.cli.stores import opened

        with opened(Path(self.path)) as store:
            yield store.log

    def fill(self, conversations: Dict[str, Texts] = CONVERSATIONS) -> Store:
        with self.log() as log:
            for sender_id, texts in conversations.items():
                append(log, sender_id, texts)
        return self

    def texts(self) -> Dict[str, List[str]]:
        """All that is stored, by sender id."""
        with self.log() as log:
            return {
                sender_id: [each.data for each in log.read_back(sender_id).events]
                for batch in log.sender_ids()
                for sender_id in batch
            }


#: Makes a store: ``make("redis")``.
MakeStore = Callable[..., Store]


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    with contextlib.ExitStack() as stack:
        made: List[str] = []

        def make(name: str, **options: Any) -> Store:
            backend, type_name = RASAS.get(name, (name, ""))
            database = stack.enter_context(BACKENDS[backend].database(request))
            endpoint = database.endpoint()
            if type_name:
                endpoint = {**endpoint, "type": type_name}
            if name == "rasa-redis":
                endpoint["db"] = 1
            made.append(name)
            path = tmp_path / f"{name}-{len(made)}.yml"
            return Store(name, {**endpoint, **options}, path)

        yield make


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in this process."""
    monkeypatch.setenv("RASA_TRACKERS_TRACEBACK", "1")

    def run(*arguments: str, stdin: str = "") -> Result:
        from rasa_trackers.cli import main

        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main.run(list(arguments))
        return Result(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Result]:
    """Runs the program in a process of its own, without Rasa's environment."""

    def program(*arguments: str, stdin: str = "", **environment: str) -> Result:
        done = subprocess.run(
            command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return program


def command(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "rasa_trackers", *arguments]
