"""``endpoints.yml`` is read as Rasa reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from cli.conftest import Result
from rasa_trackers.cli.endpoints import read_section
from rasa_trackers.cli.errors import CommandError
from rasa_trackers.cli.places import place_of


def _write(folder: Path, text: str) -> Path:
    path = folder / "endpoints.yml"
    path.write_text(text)
    return path


TEXT = """
# a comment
action_endpoint: {url: "http://localhost"}
tracker_store:
    type: ${TYPE}
    url: ${HOST}:${PORT}
    password: pre-${SECRET}-post
    port: ${PORT}
    db: 5
    login_db: off
    username: 012
    query:
      sslmode: ${MODE}
      list: [1, "${MODE}"]  # in quotes it stays as it is
    token: not-for-the-store
"""


def test_environment_variables_stand_anywhere_in_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TYPE": "SQL",
        "HOST": "db",
        "PORT": "5432",
        "SECRET": "a${b}c d",
        "MODE": "require",
    }.items():
        monkeypatch.setenv(name, value)
    section = read_section(_write(tmp_path, TEXT))
    assert section.type == "SQL"
    assert section.options == {
        "url": "db:5432",
        "password": "pre-a${b}c d-post",
        "port": "5432",
        "db": 5,
        "login_db": "off",
        "username": 12,
        "query": {"sslmode": "require", "list": [1, "${MODE}"]},
    }


def test_rasa_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = pytest.importorskip("rasa.utils.endpoints")
    for name in ("TYPE", "HOST", "PORT", "SECRET", "MODE"):
        monkeypatch.setenv(name, f"value of {name}")
    path = _write(tmp_path, TEXT)
    rasas: Any = endpoints.read_endpoint_config(str(path), "tracker_store")
    section = read_section(path)
    assert section.type == rasas.type
    assert section.options == {**rasas.kwargs, "url": rasas.url}


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path, "tracker_store:\n  type: SQL\n  password: ${NO_SUCH_ONE}\n")
    with pytest.raises(CommandError, match=r"line 3, needs .*not set: NO_SUCH_ONE"):
        read_section(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no section tracker_store"),
        ("tracker_store:", "no section tracker_store"),
        ("tracker_store: [1]", "no section tracker_store"),
        ("[]", "no section tracker_store"),
        ("tracker_store: {type: 5}", "not a text"),
        ("tracker_store: {password: 'secret-word", "not valid YAML, line"),
        ("a: &a [*a]\ntracker_store: *b", "not valid YAML"),
        ("tracker_store: !!python/object:os.system {}", "not valid YAML"),
        ("tracker_store: {a: 1, a: 2}", "not valid YAML"),
        ("tracker_store: {}", "memory of Rasa's process"),
        ("tracker_store: {dialect: sqlite}", "memory of Rasa's process"),
        ("tracker_store: {type: rasa_trackers.InMemoryTrackerStore}", "memory of Rasa"),
        ("tracker_store: {type: dynamo}", "type dynamo"),
        ("tracker_store: {type: rasa_trackers.SqlTrackerStor}", "Did you mean"),
        ("tracker_store: {type: no.such.Store}", "cannot be loaded"),
        ("tracker_store: {type: json.JSONDecoder}", "not a store"),
        ("tracker_store: {type: nonsense}", "not a store"),
        (
            "tracker_store: {type: rasa_trackers.RedisTrackerStore, pasword: secret-word}",
            "did you mean 'password'?",
        ),
        ("tracker_store: {type: redis, port: secret-word}", "must be a whole number"),
        ("tracker_store: {type: SQL, dialect: sqlit}", "no dialect 'sqlit'"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tmp_path: Path, run: Callable[..., Result], text: str, says: str
) -> None:
    result = run("check", str(_write(tmp_path, text)))
    assert result.status == 1
    assert says in result.err
    assert len(result.err.splitlines()) == 1
    if "pasword" in text or "password" in text:
        assert "secret-word" not in result.err


def test_bytes_that_are_no_text(tmp_path: Path, run: Callable[..., Result]) -> None:
    path = tmp_path / "endpoints.yml"
    path.write_bytes(b"\xff\xfe\x00")
    result = run("check", str(path))
    assert result.status == 1
    assert len(result.err.splitlines()) == 1
    assert run("check", str(tmp_path)).status == 1


def test_rasas_own_stores_drop_unknown_options(tmp_path: Path) -> None:
    path = _write(tmp_path, "tracker_store: {type: Redis, url: x, pasword: y}")
    place = place_of(path)
    assert place.type_name == "redis"
    assert place.values["url"] == "x"


def test_a_store_of_another_package(tmp_path: Path) -> None:
    path = _write(tmp_path, "tracker_store: {type: rasa_trackers.sql.SQLTrackerStore}")
    assert place_of(path).store == "SQLTrackerStore"
