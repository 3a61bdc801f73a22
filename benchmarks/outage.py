"""Lets the database go away while people order pizzas, beside Rasa's own store.

A real `rasa run`, three people, a message every two seconds. Writes `outage.json` beside
this file; run it with `nox -s outage`, which takes seconds and a store after `--`.
"""

import argparse
import datetime as dt
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

from backends import BACKENDS
from outage_experiment import live_through, people
from rasa_server import RasaServer, train
from run import machine
from stores import versions

RESULTS = Path(__file__).with_name("outage.json")
SECONDS, PAUSE = 60.0, 2.0
RASAS_OWN = {"postgresql": "SQL", "redis": "redis"}
KINDS = ("killed", "suspended")
#: Seconds after the outage within which all is stored.
SETTLING = 60.0


def measured(name: str, kind: str, model: Path, seconds: float, *, own: bool) -> Any:
    """What people notice, and what is lost.

    Args:
        name: The backend.
        kind: One of ``KINDS``.
        model: A trained model.
        seconds: How long the database is away.
        own: Whether with Rasa's own store.
    """
    backend = BACKENDS[name]
    with backend.make_server() as server:
        endpoint = backend.endpoint(server, backend.create(server))
        if own:
            endpoint["type"] = RASAS_OWN[name]
        go_away, come_back = (
            (server.kill, server.start)
            if kind == "killed"
            else (server.suspend, server.resume)
        )
        with RasaServer(model, {"tracker_store": endpoint}) as rasa:
            those = people(rasa)
            outage = live_through(
                those, go_away, come_back, seconds=seconds, pause=PAUSE
            )
            wait_until_settled(rasa, those)
            # What only Rasa's memory has is no more.
            rasa.kill()
            rasa.start()
            stored = {person.name: person.texts_of(rasa) for person in those}
    said = {
        person.name: [
            answer.text for answer in person.answers if answer in outage.answers
        ]
        for person in those
    }
    lost = sum(
        text not in stored[person] for person, texts in said.items() for text in texts
    )
    answers = outage.answers
    seconds_each = [answer.seconds for answer in answers]
    in_time = [
        answer
        for answer in answers
        if answer.sent_at + answer.seconds < answers[0].sent_at + outage.seconds
    ]
    return {
        "answers_a_minute": 60 * len(in_time) / outage.seconds,
        "wanted_a_minute": 60 * len(those) / PAUSE,
        "median_seconds": statistics.median(seconds_each),
        "worst_seconds": max(seconds_each),
        "messages": len(answers),
        "right": sum(answer.is_right for answer in answers),
        "lost": lost,
        "twice": sum(len(texts) - len(set(texts)) for texts in stored.values()),
        "versions": backend_versions(name),
    }


def backend_versions(name: str) -> Dict[str, str]:
    """The versions of the server."""
    backend = BACKENDS[name]
    with backend.make_server() as server:
        return backend.server_versions(server)


def wait_until_settled(rasa: RasaServer, those: List[Any]) -> None:
    """Wait until all is stored, as far as it ever will be."""
    until = time.monotonic() + SETTLING
    while time.monotonic() < until:
        if all(
            person.texts_of(rasa) == [answer.text for answer in person.answers]
            for person in those
        ):
            return
        time.sleep(1)


def main() -> int:
    """Measure both stores in both kinds of outages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("seconds", nargs="?", type=float, default=SECONDS)
    parser.add_argument("store", nargs="?", choices=RASAS_OWN, default="redis")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the data file")
    options = parser.parse_args()
    found: List[Dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        model = train(Path(folder))
        for kind in KINDS:
            for own in (False, True):
                figures = measured(options.store, kind, model, options.seconds, own=own)
                found.append({"kind": kind, "own": own, **figures})
                print(found[-1], flush=True)
    now = dt.datetime.now(dt.timezone.utc)
    results = {
        "date": now.isoformat(timespec="seconds"),
        "seconds": options.seconds,
        "store": BACKENDS[options.store].label,
        "machine": machine(),
        "versions": {**versions(), **found[0]["versions"]},
        "outages": found,
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"Written: {options.output}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
