"""Processes that write at the same time, kept from one test to the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

from servers import h2

TESTS = Path(__file__).parent


class Writers:
    """Processes of ``writer.py``, which need seconds to load Rasa, and so are kept."""

    def __init__(self) -> None:
        self._processes: List[subprocess.Popen[str]] = []

    def run(self, tasks: Sequence[Dict[str, Any]]) -> List[List[str]]:
        """Do tasks at once, each in a process of its own; gives what each has said.

        All stores are open before the first event is saved. The processes' errors go
        where those of the tests go.

        Raises:
            RuntimeError: If a process ends before its task does.
        """
        try:
            while len(self._processes) < len(tasks):
                self._processes.append(self._start())
            busy = self._processes[: len(tasks)]
            for process, task in zip(busy, tasks):
                self._tell(process, json.dumps(task))
            for process in busy:
                assert self._said(process) == "ready"
            for process in busy:
                self._tell(process, "go")
            return [
                list(iter(lambda process=process: self._said(process), "done"))
                for process in busy
            ]
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        self._processes.clear()

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        # A driver of Oracle's is what H2 has instead, as in `backends`.
        path = [str(Path(h2.__file__).with_name("h2_modules")), str(TESTS)]
        return subprocess.Popen(
            [sys.executable, str(TESTS / "writer.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        )

    @staticmethod
    def _tell(process: subprocess.Popen[str], line: str) -> None:
        process.stdin.write(line + "\n")
        process.stdin.flush()

    @staticmethod
    def _said(process: subprocess.Popen[str]) -> str:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"a writer ended with exit code {process.wait()}")
        return line.rstrip("\n")
