"""What hangs is ended; what takes long, on any machine, is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import hanging

TESTS = Path(__file__).parents[1]


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a test file with a limit of two seconds."""
    (folder / "test_it.py").write_text(code, "utf-8")
    (folder / "conftest.py").write_text('pytest_plugins = ["hanging"]', "utf-8")
    (folder / "pytest.ini").write_text(
        f"[pytest]\ntimeout = 2\npythonpath = {TESTS}\n", "utf-8"
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_it.py"],
        check=False,
        cwd=str(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def test_a_test_that_does_nothing_fails_and_the_next_one_runs(tmp_path):
    done = run(
        tmp_path,
        "import threading\n"
        "def test_hangs(): threading.Event().wait()\n"
        "def test_next(): pass\n",
    )
    assert "1 failed, 1 passed" in done.stdout
    assert "threading.Event().wait()" in done.stdout


def test_what_takes_no_notice_is_ended_with_its_process(tmp_path):
    """As a driver that goes on waiting after a signal."""
    done = run(
        tmp_path,
        "import threading\n"
        "def test_hangs():\n"
        "    try: threading.Event().wait()\n"
        "    finally: threading.Event().wait()\n",
    )
    assert done.returncode == 1
    assert "Timeout" in done.stdout


@pytest.mark.parametrize("where", ["here", "in a child's child"])
def test_a_test_that_works_may_take_longer_than_the_limit(tmp_path, where):
    spin = "import time\nend = time.monotonic() + 6\nwhile time.monotonic() < end: 1"
    command = {
        "here": "exec(SPIN)",
        "in a child's child": "subprocess.run(['sh', '-c', '\"$@\"; true', 'sh',"
        " sys.executable, '-c', SPIN])",
    }[where]
    done = run(
        tmp_path,
        f"import subprocess, sys\nSPIN = {spin!r}\ndef test_works(): {command}\n",
    )
    assert "1 passed" in done.stdout, done.stdout


def test_descendants_count_after_their_end():
    spin = "import time\nwhile time.process_time() < 0.5: pass"
    command = ["sh", "-c", '"$0" -c "$1"; echo; read _', sys.executable, spin]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as shell:
        shell.stdout.readline()
        # The kernel counts in hundredths of a second.
        assert hanging.processor_seconds(psutil.Process(shell.pid)) > 0.4
        shell.stdin.close()
