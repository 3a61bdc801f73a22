"""``copy`` between all ordered pairs of stores, beside writers, killed and resumed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import permutations
from pathlib import Path
from typing import Any, Callable, List

import pytest

from cli.conftest import STORES, MakeStore, Result, Store
from cli.conversations import BEGIN, CONVERSATIONS, DAY, Texts, append, session, text
from rasa_trackers.cli.reading import canonical
from rasa_trackers.cli.stores import opened
from rasa_trackers.entries import entry_of

#: Each store with each other one. MariaDB, whose way through the command line is that of
#: the other SQL stores, is with a store of each driver's kind.
PAIRS = [
    (source, target)
    for source, target in permutations(STORES, 2)
    if "mariadb" not in (source, target)
    or (source, target) in (("mariadb", "postgresql"), ("redis", "mariadb"))
]

#: Copies, and ends as by SIGKILL while it writes the given number of conversations.
KILLED = """
import itertools, os, signal, sys
from rasa_trackers.cli import main, reading, transfer
reading._FIRST = 2
write, calls = transfer._write, itertools.count(1)
def write_or_die(*arguments):
    if next(calls) > int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return write(*arguments)
transfer._write = write_or_die
main.run(sys.argv[2:])
"""


class Writer(threading.Thread):
    """An assistant: appends to a conversation until it is stopped."""

    def __init__(self, store: Store, sender_id: str) -> None:
        super().__init__()
        self.written: List[str] = []
        self._store = store
        self._sender_id = sender_id
        self._stopped = threading.Event()

    def run(self) -> None:
        with self._store.log() as log:
            for number in itertools.count():
                if self._stopped.is_set():
                    return
                event = text(
                    "slot", BEGIN + number, name=self._store.name, value=number
                )
                while not self._append(log, event):
                    pass
                self.written.append(canonical(event))
                time.sleep(0.01)

    def _append(self, log: Any, event: str) -> bool:
        page = log.read_back(self._sender_id, 1)
        end = page.events[-1].position if page.events else 0
        return log.append(self._sender_id, [entry_of(event)], end) is not None

    def stop(self) -> None:
        self._stopped.set()
        self.join()


@pytest.mark.parametrize(
    ("source", "target"),
    [pytest.param(*pair, id="-to-".join(pair)) for pair in PAIRS],
)
def test_copies_a_store_to_another_one_although_it_is_killed(
    make: MakeStore, run: Callable[..., Result], source: str, target: str
) -> None:
    old, new = make(source), make(target)
    old.fill()
    arguments = ["copy", "--from", old.path, "--to", new.path]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "2", *arguments], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL

    with_writers = [Writer(old, "busy"), Writer(new, "busy")]
    for writer in with_writers:
        writer.start()
    try:
        result = run(*arguments)
    finally:
        for writer in with_writers:
            writer.stop()
    assert result.status == 0, result.err
    assert run(*arguments, "--verify").status == 0

    found = {
        sender_id: list(map(canonical, texts))
        for sender_id, texts in new.texts().items()
    }
    busy = found.pop("busy")
    for writer in with_writers:
        assert [each for each in busy if each in writer.written] == writer.written
    assert len(busy) == sum(len(writer.written) for writer in with_writers)
    assert found == {
        sender_id: list(map(canonical, each.events))
        for sender_id, each in CONVERSATIONS.items()
    }
    with new.log() as log:
        if log.keeps_users and old.name != "rasa-sql":
            assert log.read_back("ada").user_id == "user-1"


def test_copying_again_writes_nothing(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    old, new = make("sqlite").fill(), make("postgresql")
    arguments = ("copy", "--from", old.path, "--to", new.path)
    assert "0 of them were new" not in run(*arguments).out
    assert "; 0 of them were new" in run(*arguments).out


def test_adds_what_is_new(make: MakeStore, run: Callable[..., Result]) -> None:
    old, new = make("sqlite").fill(), make("redis")
    run("copy", "--from", old.path, "--to", new.path)
    with old.log() as log:
        end = log.read_back("bob").events[-1].position
        append(log, "bob", Texts(session(BEGIN + 9 * DAY)), end)
    result = run("copy", "--from", old.path, "--to", new.path, "--verify")
    assert "; 9 of them were new" in result.out
    assert "verified" in result.out
    assert new.texts() == old.texts()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("sqlite", "redis"),
        ("redis", "postgresql"),
        ("postgresql", "mongo"),
        ("mongo", "rasa-redis"),
        ("rasa-redis", "sqlite"),
    ],
)
def test_expiry_dates_go_along(
    make: MakeStore, run: Callable[..., Result], source: str, target: str
) -> None:
    old, new = make(source, record_exp=10_000), make(target, record_exp=90_000)
    old.fill({name: CONVERSATIONS[name] for name in ("ada", "long")})
    assert run("copy", "--from", old.path, "--to", new.path).status == 0
    exported = f"{new.path}.jsonl"
    run("export", exported, "-e", new.path)
    lines = list(map(json.loads, Path(exported).read_text().splitlines()))
    assert len(lines) == 2
    for line in lines:
        assert 9_000 < line["expires_at"] - time.time() < 10_001


def test_a_date_goes_along_to_what_an_interrupted_copy_has_written(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    """A copy can be killed between a conversation and its date."""
    old, new = make("redis", record_exp=10_000), make("sqlite", record_exp=90_000)
    for store in (old, new):
        store.fill({name: CONVERSATIONS[name] for name in ("ada", "bob")})
    with new.log() as log:
        end = log.read_back("bob").events[-1].position
        append(log, "bob", Texts(session(BEGIN + 9 * DAY)), end)
    run("copy", "--from", old.path, "--to", new.path)
    with opened(Path(new.path)) as target:
        dates = target.call(target.dates.expires_at, ["ada", "bob"])
    assert dates["ada"] - time.time() < 10_001
    # Its assistant goes on with this one, so that its own date holds.
    assert dates["bob"] - time.time() > 80_000


def test_a_user_is_known_for_as_long_as_the_conversation_lives(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    new, file = make("redis", record_exp=1), tmp_path / "x.jsonl"
    dates = {sender_id: time.time() + 5_000 for sender_id in ("ada", "bob")}
    file.write_text(
        "".join(
            json.dumps(
                {
                    "sender_id": sender_id,
                    "user_id": "user-1",
                    "expires_at": date,
                    "events": [{"event": "restart"}],
                }
            )
            + "\n"
            for sender_id, date in dates.items()
        )
    )
    assert run("import", str(file), "-e", new.path).status == 0
    with new.log() as log:
        index = dict(log._index.entries("user-1")[0][1])
    assert {name.decode() for name in index} == set(dates)
    for name, score in index.items():
        assert float(score) / 1000 >= dates[name.decode()] - 1


@pytest.mark.parametrize(
    ("date", "is_valid"), [("1e300", True), ("NaN", False), ("Infinity", False)]
)
def test_a_date_that_makes_no_sense(
    make: MakeStore,
    run: Callable[..., Result],
    tmp_path: Path,
    date: str,
    is_valid: bool,
) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(
        f'{{"sender_id": "x", "expires_at": {date}, "events": [{{"event": "restart"}}]}}'
    )
    for name in ("mongo", "redis"):
        store = make(name)
        result = run("import", str(file), "-e", store.path)
        assert result.status == (0 if is_valid else 1)
        assert set(store.texts()) == ({"x"} if is_valid else set())


@pytest.mark.parametrize("target", ["sqlite", "redis", "mongo"])
def test_a_date_that_went_along_is_kept_to(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path, target: str
) -> None:
    new, file = make(target, record_exp=90_000), tmp_path / "x.jsonl"
    soon = {"sender_id": "soon", "events": [{"event": "slot", "timestamp": 1}]}
    gone = {**soon, "sender_id": "gone", "expires_at": time.time() - 5}
    soon["expires_at"] = time.time() + 3
    file.write_text("".join(json.dumps(line) + "\n" for line in (soon, gone)))
    run("import", str(file), "-e", new.path)
    assert set(new.texts()) <= {"soon"}
    deadline = time.monotonic() + 20
    while new.texts():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_selects_by_sender_and_time(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    old = make("sqlite").fill()
    new = make("sqlite")
    run(
        "copy", "--from", old.path, "--to", new.path, "--sender", "ada", "--sender", "x"
    )
    assert set(new.texts()) == {"ada"}
    new = make("sqlite")
    run("copy", "--from", old.path, "--to", new.path, "--since", "2023-11-18T00:00")
    assert set(new.texts()) == {"long", "name with 'quotes', *stars* and ünïcode 🙂 "}
    new = make("sqlite")
    run("copy", "--from", old.path, "--to", new.path, "--before", "2023-11-17")
    assert set(new.texts()) == {"ada", "bob"}


def test_a_conversation_that_does_not_fit_stops_no_other(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    old = make("redis").fill({"x" * 300: CONVERSATIONS["bob"], **CONVERSATIONS})
    new = make("sqlite")
    result = run("copy", "--from", old.path, "--to", new.path)
    assert result.status == 1
    assert "has 300" in result.err
    assert "1 conversation could not be copied" in result.err
    assert set(new.texts()) == set(CONVERSATIONS)


@pytest.mark.parametrize("target", ["rasa-redis", "rasa-mongo"])
def test_a_damaged_event_is_named_where_the_format_holds_none(
    make: MakeStore, run: Callable[..., Result], target: str
) -> None:
    old = make("sqlite").fill({**CONVERSATIONS, "broken": Texts(["{damaged"])})
    new = make(target)
    result = run("copy", "--from", old.path, "--to", new.path)
    assert result.status == 1
    assert "'broken'" in result.err
    assert set(new.texts()) == set(CONVERSATIONS)


def test_damaged_events_go_along_as_they_are(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    old = make("sqlite").fill({"broken": Texts(["{damaged", '{"a":1}', "[]", ""])})
    new = make("mongo")
    assert run("copy", "--from", old.path, "--to", new.path, "--verify").status == 0
    assert new.texts() == {"broken": ["{damaged", '{"a":1}', "[]", ""]}


def test_refuses_to_copy_a_store_to_itself(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    store = make("sqlite")
    result = run("copy", "--from", store.path, "--to", store.path)
    assert result.status == 1
    assert "same store" in result.err


@pytest.mark.parametrize(
    ("name", "type_name", "says"),
    [
        ("sqlite", "SQL", "share their tables"),
        ("mongo", "mongod", "name the same collection"),
    ],
)
def test_refuses_two_stores_that_cannot_be_in_one_place(
    make: MakeStore,
    run: Callable[..., Result],
    tmp_path: Path,
    name: str,
    type_name: str,
    says: str,
) -> None:
    ours = make(name).fill()
    rasas = Store(name, {**ours.endpoint, "type": type_name}, tmp_path / "rasas.yml")
    result = run("copy", "--from", ours.path, "--to", rasas.path)
    assert result.status == 1
    assert says in result.err


def test_goes_back_to_rasas_own_store_in_the_same_redis(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    ours = make("redis").fill()
    rasas = Store("back", {**ours.endpoint, "type": "redis"}, tmp_path / "rasas.yml")
    arguments = ("copy", "--from", ours.path, "--to", rasas.path, "--verify")
    assert run(*arguments).status == 0
    assert run(*arguments).status == 0
    assert {
        sender_id: list(map(canonical, texts))
        for sender_id, texts in rasas.texts().items()
    } == {
        sender_id: list(map(canonical, each.events))
        for sender_id, each in CONVERSATIONS.items()
    }


def test_says_how_to_go_on_when_the_target_is_away(
    make: MakeStore,
    run: Callable[..., Result],
    redis_proxy: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = make("sqlite").fill(), make("redis", timeout=1)
    new.set(url=redis_proxy.host, port=redis_proxy.port)
    with new.log():
        pass
    from rasa_trackers.cli import transfer

    original = transfer.write_all

    def write_all(*arguments: Any) -> Any:
        redis_proxy.refuse()
        redis_proxy.cut()
        return original(*arguments)

    monkeypatch.setattr(transfer, "write_all", write_all)
    result = run("copy", "--from", old.path, "--to", new.path)
    assert result.status == 1
    assert "Run the same command again" in result.err


def test_ctrl_c_says_how_to_go_on(make: MakeStore, tmp_path: Path) -> None:
    many = {f"sender-{n}": CONVERSATIONS["ada"] for n in range(400)}
    old, new = make("sqlite").fill(many), make("redis")
    arguments = ["copy", "--from", old.path, "--to", new.path]
    slow = KILLED.replace(
        "os.kill(os.getpid(), signal.SIGKILL)", "__import__('time').sleep(0.2)"
    )
    slow = slow.replace("main.run(sys.argv[2:])", "sys.exit(main.run(sys.argv[2:]))")
    process = subprocess.Popen(
        [sys.executable, "-c", slow, "5", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RASA_TRACKERS_TRACEBACK": ""},
    )
    deadline = time.monotonic() + 30
    while not new.texts() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Run the same command again to go on" in err
    assert "Traceback" not in err
    # Nothing is half done.
    assert set(map(len, new.texts().values())) == {len(CONVERSATIONS["ada"].events)}


def test_long_conversations_are_not_in_memory_together(
    make: MakeStore, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rasa_trackers.cli import reading, transfer

    old, new = make("redis").fill(), make("postgresql")
    monkeypatch.setattr(reading, "_CHUNK", 2_000)
    written: List[List[int]] = []
    original = transfer.write_all

    def write_all(log: Any, conversations: Any, *more: Any) -> Any:
        written.append([each.size() for each in conversations])
        return original(log, conversations, *more)

    monkeypatch.setattr(transfer, "write_all", write_all)
    assert run("copy", "--from", old.path, "--to", new.path).status == 0
    assert new.texts() == old.texts()
    assert len(written) > 1
    assert all(sum(sizes[:-1]) <= 2_000 for sizes in written)


def test_table_that_mixes_conversations_is_not_read(
    make: MakeStore, run: Callable[..., Result], mariadb_server: Any
) -> None:
    """As Rasa's own store has made it on MariaDB: 'Anna' would have anna's messages."""
    old, new = make("mariadb").set(type="SQL"), make("sqlite")
    mariadb_server.administer(
        "CREATE TABLE events (id INTEGER AUTO_INCREMENT PRIMARY KEY, "
        "sender_id VARCHAR(255) NOT NULL, type_name VARCHAR(255) NOT NULL, "
        "timestamp FLOAT, intent_name VARCHAR(255), action_name VARCHAR(255), data TEXT, "
        "KEY ix_events_sender_id (sender_id)) CHARACTER SET utf8mb4",
        "INSERT INTO events (sender_id, type_name, data) VALUES "
        """('Anna', 'slot', '{"event": "restart"}'), ('anna', 'slot', '{}')""",
        database=old.endpoint["db"],
    )
    refused = run("copy", "--from", old.path, "--to", new.path)
    assert refused.status == 1
    assert "ALTER TABLE events MODIFY id BIGINT" in refused.err
    checked = run("check", old.path, "--json")
    assert checked.status == 1
    (columns,) = [each for each in checked.json()["facts"] if each["name"] == "columns"]
    assert columns["level"] == "error"
    assert "ALTER TABLE events MODIFY id BIGINT" in columns["remedy"]
    ours = make("mariadb").set(**{**old.endpoint, "alter_tables": True})
    ours.set(type="rasa_trackers.SQLTrackerStore").fill({})
    assert run("copy", "--from", old.path, "--to", new.path).status == 0
    assert {name: len(texts) for name, texts in new.texts().items()} == {
        "Anna": 1,
        "anna": 1,
    }
