"""Processes of ``contract.worker``."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

from contract.places import Place


class Worker:
    """A process with a log of its own that is open."""

    def __init__(self, place: Place) -> None:
        path = [os.environ.get("PYTHONPATH", ""), *sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "contract.worker", json.dumps(place.described())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        )

    def hear(self) -> Any:
        """What the process says next."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with exit code {self._process.wait()}")
        return json.loads(line)

    def tell(self, *command: Any) -> None:
        """Give it something to do."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it by SIGKILL, whatever it does; once more does no harm."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
