"""The package as it is installed, mounted and read."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rasa_trackers
from rasa_api import TrackerStore

PACKAGE = Path(rasa_trackers.__file__).parent


def run(script, **options):
    return subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        **options,
    ).stdout


def test_names_are_there_without_importing_a_driver():
    imported = run(
        "import sys, rasa_trackers\n"
        "assert set(rasa_trackers.__all__) <= set(dir(rasa_trackers))\n"
        "print(*sys.modules)"
    ).split()
    assert not {"rasa", "sqlalchemy", "psycopg2", "redis", "pymongo"} & set(imported)


@pytest.mark.parametrize("name", rasa_trackers.__all__)
def test_every_store_is_a_tracker_store_of_rasas(name):
    assert issubclass(getattr(rasa_trackers, name), TrackerStore)


@pytest.mark.parametrize("name", rasa_trackers.__all__)
def test_every_store_takes_what_every_rasa_passes(name):
    """Rasa 1.10 passes ``url``, but only to a constructor without ``host``."""
    parameters = inspect.signature(getattr(rasa_trackers, name)).parameters
    assert list(parameters)[:3] == ["domain", "url", "event_broker"]
    assert "host" not in parameters
    assert inspect.Parameter.VAR_KEYWORD in [each.kind for each in parameters.values()]


def test_another_rasa_is_an_error_that_says_so():
    """It is no reason for Rasa's loader to use a store in memory."""
    assert "This Rasa has no TrackerStore where other versions have it" in run(
        "import sys, rasa_trackers\n"
        "sys.modules['rasa.core.tracker_store'] = None\n"
        "sys.modules['rasa.core.tracker_stores'] = None\n"
        "from rasa.shared.exceptions import RasaException\n"
        "try: rasa_trackers.SQLTrackerStore\n"
        "except RasaException as error: print(error)\n"
    )


def test_rasa_is_no_dependency():
    """It would pull ``rasa`` in beside ``rasa-pro``, or the other way round."""
    requirements = importlib.metadata.requires("rasa-trackers") or []
    assert [name for name in requirements if "extra ==" not in name] == []
    assert not [name for name in requirements if re.match(r"rasa\b", name)]


def test_installation_is_typed_and_has_the_version():
    assert (PACKAGE / "py.typed").exists()
    assert importlib.metadata.version("rasa-trackers") == rasa_trackers.__version__


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name
)
def test_sources_are_python_3_7(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_folder_mounted_into_a_project_is_enough(tmp_path):
    """As ``./rasa_trackers:/app/rasa_trackers`` in a container that runs in /app."""
    shutil.copytree(str(PACKAGE), str(tmp_path / "rasa_trackers"))
    where = run(
        "import sys; sys.path.insert(0, '')\n"
        f"from {TrackerStore.__module__} import TrackerStore\n"
        "from rasa.utils.endpoints import EndpointConfig\n"
        "endpoint = EndpointConfig(type='rasa_trackers.SQLTrackerStore')\n"
        "store = TrackerStore.create(endpoint)\n"
        # Rasa Pro's loader puts it into a wrapper.
        "store = getattr(store, '_tracker_store', store)\n"
        "print(sys.modules[type(store).__module__].__file__)",
        cwd=str(tmp_path),
    )
    # The last line, below what Rasa Pro logs.
    assert where.splitlines()[-1].startswith(str(tmp_path.resolve()))
    assert (tmp_path / "rasa.db").exists()
