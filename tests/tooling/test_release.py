"""What a release consists of beside the code agrees with it."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml

import pythons
import rasa_trackers

CHECKOUT = Path(__file__).parents[2]
GITHUB = CHECKOUT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))


def parsed(path: Path) -> Any:
    # Not by ruamel.yaml, which Rasa teaches to take ${{ for an environment variable.
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> List[Dict[str, Any]]:
    jobs = parsed(path)["jobs"].values()
    return [step for job in jobs for step in job.get("steps", [])]


def test_the_version_has_a_date_in_the_changelog() -> None:
    text = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d.*)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert versions[0] == rasa_trackers.__version__


def test_the_version_stands_in_one_place() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    assert "\nversion =" not in text
    assert 'path = "rasa_trackers/__init__.py"' in text


def test_pythons_are_those_that_the_manual_says_are_tested() -> None:
    page = (CHECKOUT / "docs" / "rasa-versions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\| ([\d., ]+) \| (?:plain|coroutines)", page, re.MULTILINE)
    tested = {version for row in rows for version in row.split(", ")}
    found = importlib.metadata.metadata("rasa-trackers").get_all("Classifier") or []
    prefix = "Programming Language :: Python :: 3."
    classified = {name.rpartition(" ")[2] for name in found if name.startswith(prefix)}
    assert classified == tested


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commits(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_do_little_and_have_no_passwords(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert parsed(path)["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    # What comes from outside is no part of a shell's program.
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step


def test_the_workflow_runs_each_rasa_and_python() -> None:
    tests = parsed(GITHUB / "workflows" / "ci.yml")["jobs"]["tests"]
    wanted = [
        f"{session}({each.rasa.replace('==', '-')}-python{python})"
        for session, generations in (
            ("generations", pythons.OLDER),
            ("matrix", pythons.GENERATIONS),
        )
        for each in generations
        for python in each.pythons
    ]
    assert tests["strategy"]["matrix"]["session"] == wanted


def test_workflows_run_sessions_that_are_there() -> None:
    noxfile = (CHECKOUT / "noxfile.py").read_text(encoding="utf-8")
    runs = [step.get("run", "") for path in WORKFLOWS for step in steps(path)]
    found = [
        name
        for run in runs
        for names in re.findall(r"nox -s ([a-z ]+)$", run)
        for name in names.split()
    ]
    assert {"lint", "types", "docs", "package"} <= set(found)
    for name in found:
        assert f"\ndef {name}(session" in noxfile, name


def test_what_runs_before_a_change_lands_has_the_manual_and_the_package() -> None:
    run = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")
    assert '"${demo% demo} lint types docs package"' in run


@pytest.mark.parametrize("name", ["bug", "wish"])
def test_issue_forms_are_complete(name: str) -> None:
    form = parsed(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert form["name"]
    assert form["description"]
    for part in form["body"]:
        assert part["type"] in ("markdown", "textarea", "input")
        assert part["attributes"].get("label") or part["attributes"]["value"]
