"""What stands in front of a log keeps the log's contract itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: What the log in front has a part in; the rest is the log's behind it.
CLAUSES = [
    "test_append",
    "test_read_back",
    "test_delete_replace",
    "test_positions",
    "test_users",
    "test_lists",
    "test_expiry",
]


def test_log_in_front_passes_the_contract_while_all_is_well() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "no:xdist", "--event-log", "outage.in_front:make"),
            *(str(TESTS / "contract" / f"{name}.py") for name in CLAUSES),
        ],
        # From here, so that the installed package is tested where one is installed.
        cwd=str(TESTS),
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=1200,
        check=False,
    )
    if done.returncode:
        pytest.fail(done.stdout[-5000:])
    assert " passed" in done.stdout
