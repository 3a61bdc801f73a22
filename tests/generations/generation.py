"""Other generations of Rasa, each a worker in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional

#: Names the environments: a JSON object from generations to their Pythons.
VARIABLE = "RASA_GENERATIONS"

WORKER = Path(__file__).with_name("worker.py")
SOURCES = Path(__file__).parents[2]
ANSWER = "answer: "
ANSWER_SECONDS = 120.0


def pythons() -> Dict[str, str]:
    """The interpreters by their generations, the oldest first."""
    return dict(json.loads(os.environ.get(VARIABLE, "{}")))


class Generation:
    """One Rasa of a certain generation.

    Args:
        name: What people call it, such as "1.10".
        python: The interpreter of its environment.
        variables: Environment variables beside those of this process.
    """

    def __init__(
        self, name: str, python: str, variables: Optional[Dict[str, str]] = None
    ) -> None:
        self.name = name
        path = [os.environ.get("PYTHONPATH", ""), str(SOURCES)]
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "SQLALCHEMY_SILENCE_UBER_WARNING": "1",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                **(variables or {}),
            },
        )

    def call(self, name: str, *args: Any) -> Any:
        """Call a method of ``worker.Worker``.

        Raises:
            RuntimeError: If it fails, or does not answer.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, args]) + "\n")
        self._process.stdin.flush()
        said: List[Dict[str, Any]] = []
        reader = threading.Thread(target=self._listen, args=(said,), daemon=True)
        reader.start()
        reader.join(ANSWER_SECONDS)
        if not said or "error" in said[0]:
            error = said[0]["error"] if said else "no answer"
            raise RuntimeError(f"Rasa {self.name}, {name}: {error}")
        return said[0]["result"]

    def _listen(self, said: List[Dict[str, Any]]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                said.append(json.loads(line[len(ANSWER) :]))
                return

    def end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
