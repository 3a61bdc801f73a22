"""``export`` and ``import``: lines of JSON in files and pipes."""

from __future__ import annotations

import gzip
import io
import json
import math
import stat
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import hypothesis
import hypothesis.strategies as st
import pytest
import zstandard

from cli.conftest import STORES, MakeStore, Result, command
from cli.conversations import CONVERSATIONS, Texts, text

_IDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    min_size=1,
    max_size=20,
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=5,
)
_EVENTS = st.builds(
    lambda event, timestamp, value: text(event, timestamp, value=value),
    st.sampled_from(["slot", "user", "action", "custom"]),
    st.floats(0, 2e9),
    _JSON,
)
#: What the logs of this package also hold: damaged texts.
_DAMAGED = st.text(st.characters(max_codepoint=0xD7FF, exclude_characters="\0"))


def _histories(events: st.SearchStrategy[str]) -> Any:
    conversations = st.builds(
        Texts, st.lists(events, min_size=1, max_size=8), st.none() | _IDS
    )
    return st.dictionaries(_IDS, conversations, max_size=4)


@pytest.mark.parametrize("name", STORES)
def test_a_random_history_comes_out_equal(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path, name: str
) -> None:
    events = _EVENTS if name in ("rasa-redis", "rasa-mongo") else _EVENTS | _DAMAGED
    store = make(name)

    @hypothesis.settings(
        max_examples=8,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(_histories(events))
    def round_trip(history: Dict[str, Texts]) -> None:
        with store.log() as log:
            for batch in list(log.sender_ids()):
                for sender_id in batch:
                    log.delete(sender_id)
        store.fill(history)
        first, second = str(tmp_path / "1.jsonl.gz"), str(tmp_path / "2.jsonl")
        assert run("export", first, "-e", store.path).status == 0
        with store.log() as log:
            for sender_id in history:
                log.delete(sender_id)
        assert run("import", first, "-e", store.path).status == 0
        assert dict(store.texts().items()) == {
            sender_id: each.events for sender_id, each in history.items()
        }
        assert run("export", second, "-e", store.path).status == 0
        lines = gzip.decompress(Path(first).read_bytes()).decode().splitlines()
        assert sorted(lines) == sorted(Path(second).read_text().splitlines())

    round_trip()


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_a_file_is_compressed_by_its_name(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path, ending: str
) -> None:
    old, new, file = make("sqlite").fill(), make("sqlite"), tmp_path / f"x.{ending}"
    assert run("export", str(file), "-e", old.path).status == 0
    content = file.read_bytes()
    if ending.endswith("gz"):
        content = gzip.decompress(content)
    elif ending.endswith("zst"):
        content = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()
    lines = [json.loads(line) for line in content.decode("ascii").splitlines()]
    assert {line["sender_id"] for line in lines} == set(CONVERSATIONS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    result = run("import", str(file), "-e", new.path)
    assert result.status == 0
    assert new.texts() == old.texts()
    assert "; 0 of them were new" in run("import", str(file), "-e", new.path).out


def test_a_pipe_from_a_store_to_another_one(make: MakeStore) -> None:
    old, new = make("sqlite").fill(), make("redis")
    export = subprocess.Popen(
        command("export", "-", "-e", old.path), stdout=subprocess.PIPE
    )
    done = subprocess.run(
        command("import", "-", "-e", new.path),
        stdin=export.stdout,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert export.wait(10) == 0
    assert done.returncode == 0, done.stderr
    assert new.texts() == old.texts()


def test_a_reader_that_has_enough_is_no_traceback(make: MakeStore) -> None:
    store = make("sqlite").fill({f"{n}": CONVERSATIONS["long"] for n in range(50)})
    done = subprocess.run(
        f"{' '.join(command('export', '-', '-e', store.path))} | head -c 100",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert len(done.stdout) == 100


def test_users_go_along(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    old, new, file = make("sqlite").fill(), make("redis"), str(tmp_path / "x.jsonl")
    run("export", file, "-e", old.path)
    run("import", file, "-e", new.path)
    with new.log() as log:
        assert log.read_back("ada").user_id == "user-1"
        found = log.conversations_of("user-1")
    assert [each.sender_id for each in found] == ["ada", "bob"]


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"sender_id": 5, "events": []}',
        '{"sender_id": "x"}',
        '{"sender_id": "x", "events": [5]}',
        '{"sender_id": "x", "events": "abc"}',
        '{"sender_id": "x", "events": [], "user_id": 5}',
        '{"sender_id": "x", "events": [], "expires_at": "soon"}',
        "[" * 100_000,
    ],
    ids=range(9),
)
def test_a_line_that_is_no_conversation_is_named(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path, line: str
) -> None:
    file = tmp_path / "x.jsonl"
    good = json.dumps({"sender_id": "good", "events": [{"event": "restart"}]})
    file.write_text(f"{good}\n\n{line}\n")
    store = make("sqlite")
    result = run("import", str(file), "-e", store.path)
    assert result.status == 1
    assert "Line 3 of" in result.err
    assert len(result.err.splitlines()) == 1
    assert set(store.texts()) <= {"good"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", b"\xff\xfe"),
        ("x.jsonl.gz", b"not gzip"),
        ("x.jsonl.gz", gzip.compress(b"{}" * 1000)[:-9]),
        ("x.jsonl.zst", b"not zstd"),
        ("missing.jsonl", None),
    ],
    ids=range(5),
)
def test_a_file_that_cannot_be_read_is_one_line(
    make: MakeStore,
    run: Callable[..., Result],
    tmp_path: Path,
    name: str,
    content: Optional[bytes],
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    result = run("import", str(file), "-e", make("sqlite").path)
    assert result.status == 1
    assert name in result.err
    assert len(result.err.splitlines()) == 1


def test_a_file_that_cannot_be_written_is_one_line(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    store = make("sqlite").fill()
    result = run("export", str(tmp_path / "no" / "x.jsonl"), "-e", store.path)
    assert result.status == 1
    assert "cannot be written" in result.err


def test_an_export_that_fails_leaves_the_older_file(
    make: MakeStore,
    run: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rasa_trackers.cli import lines

    store, file = make("sqlite").fill(), tmp_path / "x.jsonl"
    file.write_text("older\n")
    calls: List[Any] = []

    def interrupted(conversation: Any) -> str:
        calls.append(conversation)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return "line\n"

    monkeypatch.setattr(lines, "to_line", interrupted)
    result = run("export", str(file), "-e", store.path)
    assert result.status == 130
    assert "was not written" in result.err
    assert file.read_text() == "older\n"
    assert not list(tmp_path.glob("*.part"))


def test_an_import_takes_the_same_selection(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    old, file = make("sqlite").fill(), str(tmp_path / "x.jsonl")
    run("export", file, "-e", old.path)
    new = make("sqlite")
    run("import", file, "-e", new.path, "--sender", "ada", "--before", "2023-11-17")
    assert set(new.texts()) == {"ada"}


def test_numbers_keep_their_digits(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    events = [
        text("slot", 1.5, value=10**30),
        text("slot", 0.1 + 0.2, value=-0.0),
        '{"event": "slot", "timestamp": 1, "value": 1e400}',
        '{"event": "slot", "timestamp": 1, "value": 1, "value": 2}',
        json.dumps({"event": "slot", "value": math.nan}),
    ]
    old, new = make("sqlite").fill({"x": Texts(events)}), make("postgresql")
    file = str(tmp_path / "x.jsonl")
    run("export", file, "-e", old.path)
    run("import", file, "-e", new.path)
    assert new.texts() == {"x": events}
