"""What sessions, the README's commands and images install has a version and a hash."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import pythons

CHECKOUT = Path(__file__).parents[2]
REQUIREMENTS = sorted((CHECKOUT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_each_requirement_has_a_version_and_hashes(path):
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    pinned = [line for line in text.splitlines() if line[:1] not in ("", " ", "#")]
    assert pinned
    for line in pinned:
        assert re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line


def test_each_npm_package_has_a_hash():
    lock = json.loads((CHECKOUT / "docker/tests/npm/package-lock.json").read_text())
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    assert packages
    for path, package in packages.items():
        assert package["integrity"].startswith("sha512-"), path
        assert "resolved" not in package, path


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "docker/Dockerfile",
        "docker/mysql/Dockerfile",
        "docker/oracle/Dockerfile",
        "docker/tests/rasa.Dockerfile",
        "docker/tests/stores.Dockerfile",
    ],
)
def test_what_is_fetched_as_root_is_pinned(path):
    text = (CHECKOUT / path).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = text.splitlines()
    commands = [
        command
        for line in lines
        if line.startswith(("RUN ", "python3 "))
        for command in line.split("&&")
        if re.search(r"\bpip (install|wheel)\b", command)
    ]
    assert commands
    for command in commands:
        assert "--require-hashes" in command or "--no-index" in command, command


@pytest.mark.parametrize(
    "generation", [*pythons.OLDER, *pythons.GENERATIONS], ids=lambda each: each.lock
)
def test_each_rasa_has_its_lock(generation):
    path = CHECKOUT / "requirements" / f"{generation.lock}.txt"
    assert f"\n{generation.rasa} \\\n" in path.read_text("utf-8")


NOXFILE = (CHECKOUT / "noxfile.py").read_text(encoding="utf-8")


def test_sessions_install_by_one_function():
    """Beside it stand the one for this package, which has no hash, and uv's callers."""
    installing, running_pip = set(), set()
    for function in ast.walk(ast.parse(NOXFILE)):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and node.attr == "install":
                    installing.add(function.name)
                if isinstance(node, ast.Constant) and node.value == "pip":
                    running_pip.add(function.name)
    assert installing == {"install", "install_package"}
    assert running_pip == {"install", "_compile"}


def test_that_function_takes_locks_and_checks_their_hashes():
    (call,) = re.findall(r"to\.install\((.*\*files.*)\)", NOXFILE)
    assert '"--require-hashes", *BUILD, "--no-deps"' in call
    assert '"--require-build-hashes"' in NOXFILE
    locks = re.findall(r'[ (]install\(.*"(\w+)"\)', NOXFILE)
    assert {"lint", "types", "bench", "docker"} <= set(locks)
    for lock in locks:
        assert (CHECKOUT / "requirements" / f"{lock}.txt").exists(), lock
