"""The program itself: usage, errors, start, and where Rasa is not installed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Set

import pytest

from cli.conftest import MakeStore, Result, command
from rasa_trackers.cli.main import COMMANDS, cli

#: Lets no module of Rasa or TensorFlow be imported, as where they are not installed.
WITHOUT_RASA = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rasa", "tensorflow", "rasa_sdk"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
sys.argv[0] = "rasa-trackers"
from rasa_trackers.cli.main import main
main()
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help_with_an_example(
    run: Callable[..., Result], name: str
) -> None:
    result = run(name, "--help")
    assert result.status == 0
    assert f"rasa-trackers {name}" in result.out.partition("Examples:")[2]
    assert all(len(line) <= 88 for line in result.out.splitlines())


def test_the_list_of_commands_says_what_each_module_says(
    run: Callable[..., Result],
) -> None:
    shown = run("--help").out
    for name, (module, meaning) in COMMANDS.items():
        assert f"  {name}" in shown
        assert meaning in " ".join(shown.split())
        found = importlib.import_module(f"rasa_trackers.cli.commands.{module}").command
        assert cli.get_command(None, name) is found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["shw"], "Did you mean show?"),
        (["show"], "Missing argument 'SENDER'"),
        (["show", "ada", "--lst", "5"], "No such option"),
        (["show", "ada", "--last", "many"], "'many' is not a valid integer"),
        (["expire"], "Missing option '--older-than'"),
        (["expire", "--older-than", "old"], "Write it as 90d"),
        (["list", "--since", "yesterday"], "Write it as 2026-11-26"),
        (["copy", "--from", "a.yml"], "Missing option '--to'"),
        (["schema", "--dialect", "access"], "'access' is not one of"),
        (["schema", "--dialect", "oracle", "--schema", "x"], "not for oracle"),
    ],
)
def test_a_usage_error_is_one_line_and_status_2(
    run: Callable[..., Result], arguments: Any, says: str
) -> None:
    result = run(*arguments)
    assert result.status == 2
    assert says in result.err
    assert len(result.err.splitlines()) == 1
    assert result.out == ""


def test_a_failure_is_one_line_and_status_1(program: Callable[..., Result]) -> None:
    result = program("check", "missing.yml")
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        "rasa-trackers: There is no file missing.yml. Name the endpoints.yml of your "
        "assistant.\n"
    )


def test_a_mistake_of_ours_shows_no_traceback(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rasa_trackers.cli import places

    def broken(path: Path) -> None:
        raise ValueError("password secret-word")

    monkeypatch.setattr(places, "place_of", broken)
    monkeypatch.delenv("RASA_TRACKERS_TRACEBACK")
    result = run("check", "x.yml")
    assert result.status == 1
    assert len(result.err.splitlines()) == 1
    assert "secret-word" not in result.err


def test_nothing_without_arguments_but_help(run: Callable[..., Result]) -> None:
    result = run()
    assert result.status == 2
    assert "Commands:" in result.err + result.out


@pytest.mark.parametrize(
    "name", ["sqlite", "postgresql", "redis", "mongo", "rasa-redis"]
)
def test_runs_where_rasa_is_not_installed(
    make: MakeStore, tmp_path: Path, name: str
) -> None:
    store = make(name).fill()

    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_RASA, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    for arguments in (
        ["check", store.path],
        ["list", "-e", store.path],
        ["show", "ada", "-e", store.path],
        ["export", str(tmp_path / "x.jsonl.zst"), "-e", store.path],
        ["delete", "ada", "--yes", "-e", store.path],
    ):
        result = program(*arguments)
        assert result.returncode == 0, result.stderr


def _loaded(*arguments: str) -> Set[str]:
    """The packages that a command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "rasa_trackers", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        line.rpartition("|")[2].strip().split(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }


def test_imports_nothing_that_it_does_not_need(make: MakeStore) -> None:
    """So it starts in a tenth of a second, and 0.4 s with SQLAlchemy."""
    never = {"rasa", "tensorflow", "numpy", "jinja2", "zstandard"}
    drivers = {"sqlalchemy", "redis", "pymongo"}
    assert not _loaded("--help") & {*never, *drivers, "rich", "ruamel"}
    store = make("redis").fill()
    assert not _loaded("show", "ada", "-e", store.path) & (never | drivers - {"redis"})


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    words = {
        "COMP_WORDS": "rasa-trackers exp",
        "COMP_CWORD": "1" if shell != "fish" else "exp",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from rasa_trackers.cli.main import main; main()"],
        env={**os.environ, "_RASA_TRACKERS_COMPLETE": f"{shell}_complete", **words},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert "expire" in done.stdout
    assert "export" in done.stdout
    assert "check" not in done.stdout


def test_plain_text_where_there_is_no_terminal(
    make: MakeStore, program: Callable[..., Result]
) -> None:
    store = make("sqlite").fill()
    result = program("show", "ada", "-e", store.path, FORCE_COLOR="", COLUMNS="many")
    assert "hello" in result.out
    assert "\x1b" not in result.out + result.err


def test_colours_on_a_terminal_unless_no_color(make: MakeStore) -> None:
    store = make("sqlite").fill()
    assert "\x1b[" in _on_a_terminal("show", "ada", "-e", store.path)
    plain = _on_a_terminal("show", "ada", "-e", store.path, NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert "hello" in plain


def _on_a_terminal(*arguments: str, **environment: str) -> str:
    import pty

    parent, child = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        stdout=child,
        stderr=child,
        stdin=child,
        env={**os.environ, "TERM": "xterm-256color", **environment},
    )
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:  # the end, on Linux
            break
        if not part:
            break
        shown += part
    assert process.wait(30) == 0
    os.close(parent)
    return shown.decode()
