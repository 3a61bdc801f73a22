"""The suites run on the server that ``TEST_ORACLE_URL`` or ``--docker`` names."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from servers.h2 import H2Server


def test_suites_run_on_an_oracle_server(oracle_server):
    if isinstance(oracle_server, H2Server):
        pytest.skip(
            "no Oracle server: H2 stands in for it, without TEST_ORACLE_URL or --docker"
        )
    assert "Oracle" in oracle_server.version()


def run_suite(folder, *arguments, **environment):
    """A test run that takes H2's driver for the real ones."""
    checkout = Path(__file__).parents[2]
    servers = checkout / "tests" / "servers"
    path = [str(servers / "h2_modules"), str(servers.parent)]
    path += filter(None, [os.environ.get("PYTHONPATH")])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"),
            *("-c", str(checkout / "pyproject.toml"), *arguments),
        ],
        check=False,
        # Another folder than the checkout, so that the wheel is tested.
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    return done.returncode, done.stdout


@pytest.fixture
def passes_for_oracle(h2_server):
    """A database as the containers have it, behind what passes for their drivers."""
    name = h2_server.create_database("FREEPDB1", "rasa", "rasa")
    yield f"rasa:rasa@{h2_server.host}:{h2_server.port}/?service_name={name}"
    h2_server.drop_database(name, "rasa", "rasa")


#: A small part of it.
SUITE = (str(Path(__file__).parents[1] / "contract" / "test_append.py"), "-k", "oracle")


def test_suite_runs_on_the_server_of_the_url(passes_for_oracle, h2_server, tmp_path):
    url = f"oracle+cx_oracle://{passes_for_oracle}"
    code, printed = run_suite(tmp_path, *SUITE, TEST_ORACLE_URL=url)
    assert code == 0, printed
    assert " passed" in printed
    assert " skipped" not in printed

    # All in one schema, which each test has left as it was.
    with contextlib.closing(h2_server._connect("FREEPDB1", "rasa", "rasa")) as raw:
        cursor = raw.cursor()
        cursor.execute("SELECT object_name FROM user_objects")
        assert cursor.fetchall() == []
        cursor.execute("CREATE TABLE mine (x INTEGER)")
        raw.commit()
    code, printed = run_suite(tmp_path, *SUITE, TEST_ORACLE_URL=url)
    assert code == 1, "a schema that somebody uses"
    assert "need an empty schema, and rasa's has MINE" in printed
    assert " passed" not in printed


def test_suite_runs_on_the_container_of_a_docker_engine(
    passes_for_oracle, h2_server, tmp_path
):
    """pytest-docker's commands go to a program that knows one port."""
    engine = tmp_path / "docker"
    engine.write_text(
        '#!/bin/sh\necho "$@" >> "$0.log"\n'
        f'case "$*" in *"port oracle 1521") echo 127.0.0.1:{h2_server.port};; esac\n'
    )
    engine.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    code, printed = run_suite(
        tmp_path, *SUITE, "--docker", PATH=path, TEST_ORACLE_URL=""
    )
    assert code == 0, printed
    assert " passed" in printed
    assert " skipped" not in printed
    asked = engine.with_name("docker.log").read_text()
    assert re.search(r"^compose .*/docker-compose.yml .* up --wait .*oracle", asked)
    assert asked.splitlines()[-1].endswith("down -v")
