"""A real `rasa run` to talk to, with the assistant of docker/ that suits this Rasa."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import requests
import yaml

try:
    from importlib.metadata import PackageNotFoundError, version
except ImportError:  # Python 3.7
    from importlib_metadata import PackageNotFoundError, version

from servers.process import HOST, Server


def _rasa_version() -> Tuple[int, ...]:
    # Importing Rasa takes seconds.
    for distribution in ("rasa-pro", "rasa"):
        try:
            return tuple(int(part) for part in version(distribution).split(".")[:2])
        except PackageNotFoundError:
            continue
    raise RuntimeError("Rasa is not installed")


RASA = _rasa_version()
#: Rasa 1 and 2 read other formats.
ASSISTANT = (
    Path(__file__).parents[1]
    / "docker"
    / (
        "assistant-1.10"
        if RASA < (2,)
        else "assistant-2.8"
        if RASA < (3,)
        else "assistant"
    )
)
# Far more than a slow machine needs: they end what hangs.
TRAINING_SECONDS = 1800
ANSWER_SECONDS = 300


def rasa(*arguments: object) -> List[str]:
    """The command line that starts Rasa, without reports home and others' warnings."""
    return [
        "env",
        "RASA_TELEMETRY_ENABLED=false",
        "PYTHONWARNINGS=ignore",
        "SQLALCHEMY_SILENCE_UBER_WARNING=1",
        "TF_CPP_MIN_LOG_LEVEL=3",
        *(sys.executable, "-m", "rasa"),
        *map(str, arguments),
    ]


def train(folder: Path) -> Path:
    """Train the assistant, which takes seconds, and return its model in `folder`.

    Raises:
        RuntimeError: If the training fails, with its output.
    """
    model = folder / "assistant.tar.gz"
    done = subprocess.run(
        rasa(
            "train",
            *(("--skip-validation",) if RASA >= (3, 6) else ()),
            *("--config", ASSISTANT / "config.yml"),
            *("--domain", ASSISTANT / "domain.yml"),
            *("--data", ASSISTANT / "data"),
            *("--out", folder, "--fixed-model-name", "assistant"),
        ),
        cwd=str(folder),  # where Rasa keeps its cache
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=TRAINING_SECONDS,
    )
    if done.returncode or not model.exists():
        raise RuntimeError(f"Rasa did not train the assistant:\n{done.stdout[-2000:]}")
    return model


class RasaServer(Server):
    """`rasa run` with a model and the tracker store that endpoints.yml names.

    Args:
        model: A trained model.
        endpoints: What endpoints.yml holds.
    """

    # Imports alone take 15 seconds on a busy machine.
    start_seconds = 600.0

    def __init__(self, model: Path, endpoints: Mapping[str, Any]) -> None:
        super().__init__()
        self._model = model
        self._endpoints = self.folder / "endpoints.yml"
        self._endpoints.write_text(
            yaml.safe_dump(dict(endpoints), sort_keys=False), encoding="utf-8"
        )

    def _command(self) -> List[str]:
        return rasa(
            *("run", "--enable-api", "--port", self.port),
            # Rasa 1 and 2 listen on all addresses.
            *(("--interface", HOST) if RASA >= (3,) else ()),
            *("--model", self._model),
            *("--endpoints", self._endpoints),
            *("--credentials", ASSISTANT / "credentials.yml"),
        )

    def _is_ready(self) -> bool:
        # Rasa says 409 until the model is loaded.
        return requests.get(self._url("status"), timeout=ANSWER_SECONDS).ok

    def say(self, sender_id: str, text: str) -> List[str]:
        """Send a message over the REST channel, and return the answers."""
        response = requests.post(
            self._url("webhooks/rest/webhook"),
            json={"sender": sender_id, "message": text},
            timeout=ANSWER_SECONDS,
        )
        response.raise_for_status()
        return [answer["text"] for answer in response.json()]

    def events(self, sender_id: str) -> List[Dict[str, Any]]:
        """All events of a conversation, as Rasa's HTTP API gives them."""
        response = requests.get(
            self._url(f"conversations/{sender_id}/tracker"),
            params={"include_events": "ALL"},
            timeout=ANSWER_SECONDS,
        )
        response.raise_for_status()
        events: List[Dict[str, Any]] = response.json()["events"]
        return events

    def _url(self, path: str) -> str:
        return f"http://{HOST}:{self.port}/{path}"
