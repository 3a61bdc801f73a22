"""What runs where Rasa is not installed: backends, their options, the contract's suite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

CHECKOUT = Path(__file__).parents[2]

#: Begins a program in which importing Rasa is an error.
WITHOUT_RASA = """
import sys
sys.path.remove("")  # the sources, where the wheel is tested
class NoRasa:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "rasa":
            raise ImportError("there is no Rasa here")
sys.meta_path.insert(0, NoRasa())
"""


def run(program: str) -> str:
    path = [*sys.path, str(CHECKOUT / "docs" / "examples")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RASA + program],
        check=False,
        cwd=str(CHECKOUT),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(
    "store",
    [
        "InMemoryTrackerStore",
        "MongoTrackerStore",
        "OracleTrackerStore",
        "RedisTrackerStore",
        "SQLTrackerStore",
    ],
)
def test_a_backend_is_there_without_rasa(store):
    run(f"from rasa_trackers.backend import backend_of; backend_of({store!r})")


def test_the_example_keeps_the_contract():
    """The command that the contract names runs in a process without Rasa."""
    printed = run(
        "import pytest\n"
        "sys.exit(pytest.main(['tests/contract', '-q', '-p', 'no:cacheprovider',"
        " '--event-log', 'json_lines.options:factory']))"
    )
    assert " passed" in printed
    assert "skipped" not in printed


async def test_the_example_is_a_tracker_store(load, tmp_path, monkeypatch):
    from conversations import as_dicts, conversation, dicts, tracker

    monkeypatch.syspath_prepend(str(CHECKOUT / "docs" / "examples"))
    endpoint = {
        "type": "json_lines.store.JsonLinesTrackerStore",
        "url": str(tmp_path / "conversations"),
        "record_exp": 2592000,
    }
    events = conversation(2, 3)
    store = load(endpoint)
    await store.save(tracker("ada", events))
    assert as_dicts(await load(endpoint).retrieve_full_tracker("ada")) == dicts(events)


def test_the_endpoints_of_the_example_name_its_class():
    endpoints = CHECKOUT / "docs" / "examples" / "endpoints.yml"
    assert YAML(typ="safe").load(endpoints) == {
        "tracker_store": {
            "type": "json_lines.store.JsonLinesTrackerStore",
            "url": "/var/lib/rasa/conversations",
            "record_exp": 2592000,
        }
    }
