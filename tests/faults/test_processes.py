"""What stores hold of a process: when it forks, and when nobody refers to a store.

A fork after a store was used is gunicorn's ``--preload``, for example. A store that nobody
refers to is what each ``PUT /model`` leaves behind: Rasa closes none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

STORES = ["sqlite", "postgresql", "mariadb", "redis", "redis-cluster", "mongo"]


@pytest.mark.parametrize("backend", ["memory", *STORES, "oracle"], indirect=True)
def test_children_and_parent_go_on_after_a_fork(endpoint, tmp_path):
    spool = {}
    if endpoint["type"] != "rasa_trackers.InMemoryTrackerStore":
        spool = {"spool": str(tmp_path / "spool.db")}
    endpoint = {**endpoint, **spool, "timeout": 60}
    run("forking.py", json.dumps(endpoint))


# The drivers of the others know the process that has opened a connection.
@pytest.mark.parametrize("backend", ["oracle"], indirect=True)
def test_child_that_ends_leaves_the_connections_of_its_parent_alone(endpoint):
    run("forked_exit.py", json.dumps(endpoint))


def test_child_has_locks_of_its_own_on_a_sqlite_file(tmp_path):
    run("forked_sqlite.py", str(tmp_path / "rasa.db"))


@pytest.mark.parametrize(
    "backend", [*STORES, "redis-sentinel", "oracle"], indirect=True
)
def test_store_that_nobody_refers_to_gives_all_back_without_a_collection(endpoint):
    run("reloading.py", json.dumps(endpoint))


def run(script: str, argument: str) -> None:
    """Run one of the programs beside this module."""
    # A module that stands in for a driver comes before the driver.
    first = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    path = [*first, str(TESTS), str(TESTS.parent), *sys.path]
    ended = subprocess.run(
        [sys.executable, str(TESTS / "faults" / script), argument],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stdout
