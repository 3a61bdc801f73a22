"""What `nox -s package` tries of a wheel or sdist that is alone in an environment.

Rasa is not there, and at first no driver is either.
"""

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

import rasa_trackers
from rasa_trackers.backend import backend_of
from rasa_trackers.event_log import START, Entry
from rasa_trackers.store_options import checked


def run(*arguments: str) -> str:
    """Run a command of the command line, as it is installed."""
    program = Path(sys.executable).with_name("rasa-trackers")
    done = subprocess.run(
        [str(program), *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def without_drivers() -> None:
    """What needs nothing beside the package."""
    installed = Path(rasa_trackers.__file__).resolve()
    assert Path(sys.prefix).resolve() in installed.parents, installed
    assert installed.with_name("py.typed").exists()
    version = importlib.metadata.version("rasa-trackers")
    assert version == rasa_trackers.__version__
    readme = importlib.metadata.metadata("rasa-trackers").get_payload()
    links = [part.partition(")")[0] for part in str(readme).split("](")[1:]]
    assert len(links) > 20
    # An index page knows no relative links.
    assert [link for link in links if not link.startswith("https://")] == []
    assert [link for link in links if "/#" in link and ".io/" not in link] == []
    memory = backend_of("InMemoryTrackerStore")
    log = memory.make_log(checked(memory.store, memory.options, {}), False).log
    log.open()
    assert log.append("ada", [Entry("{}", "slot", 1.0, None, None)], START)
    assert [event.data for event in log.read_back("ada").events] == ["{}"]
    log.close()


def with_drivers(folder: Path) -> None:
    """The command line, on a database of its own."""
    assert run("--version").split()[-1] == rasa_trackers.__version__
    options = {"type": "rasa_trackers.SQLTrackerStore", "db": str(folder / "rasa.db")}
    endpoints = folder / "endpoints.yml"
    endpoints.write_text(json.dumps({"tracker_store": options}))
    event = {"event": "user", "timestamp": 1700000000.0, "text": "hello"}
    line = {"sender_id": "ada", "user_id": None, "expires_at": None, "events": [event]}
    conversations = folder / "conversations.jsonl"
    conversations.write_text(json.dumps(line) + "\n")
    where = ("-e", str(endpoints))
    assert "1 of them" in run("import", str(conversations), *where)
    assert "hello" in run("show", "ada", *where)
    assert "SQLite" in run("check", str(endpoints))
    assert "CREATE TABLE events" in run("schema", "--dialect", "postgresql")
    run("show", "ada", "--html", str(folder / "ada.html"), *where)
    # The files that are not Python's are there too.
    assert "hello" in (folder / "ada.html").read_text()


def main(arguments: List[str]) -> None:
    """Try what the argument says."""
    if arguments == ["without drivers"]:
        without_drivers()
    else:
        with tempfile.TemporaryDirectory() as folder:
            with_drivers(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
