"""Shows a conversation that goes on after the Rasa server was killed and restarted.

Run it with `nox -s demo`. It works in a temporary folder and leaves nothing behind.
"""

import contextlib
import json
import signal
import sqlite3
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import yaml

from rasa_server import RasaServer, train

SENDER_ID = "anna"
POSTGRESQL = {
    "type": "rasa_trackers.SQLTrackerStore",
    "dialect": "postgresql",
    "url": "localhost",
    "port": 5432,
    "db": "rasa",
    "username": "rasa",
    "password": "${DB_PASSWORD}",
}


def main() -> None:
    print("Training the assistant of docker/assistant ...")
    with tempfile.TemporaryDirectory() as folder:
        model = train(Path(folder))
        database = Path(folder) / "conversations.db"
        sqlite = {
            "type": "rasa_trackers.SQLTrackerStore",
            "dialect": "sqlite",
            "db": str(database),
        }
        print("Starting Rasa with this endpoints.yml:\n")
        print_endpoints(sqlite)
        with RasaServer(model, {"tracker_store": sqlite}) as server, log_of(server):
            talk(server, "I'd like a pizza.", "Small, medium or large?")
            before = stored_events(database, server)

            print("\nKilling Rasa amid the order, and starting it again ...\n")
            server.kill()
            server.start()
            talk(server, "large", "A large pizza. With which topping?")
            talk(server, "olives", "One large pizza with olives is on its way.")
            talk(server, "What did I order?", "You ordered a large pizza with olives.")
            after = stored_events(database, server)
            check(after[: len(before)] == before, "the events from before are gone")
    print(f"\nThe table `events` of {database.name} holds:\n")
    print_events(before, after)
    print("\nFor the same on PostgreSQL, put into endpoints.yml:\n")
    print_endpoints(POSTGRESQL)


def print_endpoints(tracker_store: Dict[str, Any]) -> None:
    text = yaml.safe_dump({"tracker_store": tracker_store}, sort_keys=False)
    print(textwrap.indent(text, "    "))


def talk(server: RasaServer, message: str, answer: str) -> None:
    print("  you  ", message)
    answers = server.say(SENDER_ID, message)
    print("  Rasa ", *answers)
    check(answers == [answer], f"the answer should be: {answer}")


def stored_events(database: Path, server: RasaServer) -> List[Tuple[Any, ...]]:
    """The table `events`, which has to hold what Rasa itself knows of the conversation.

    A Rasa that can't load a tracker store goes on with one in memory, and says so
    nowhere but in its log.
    """
    check(database.exists(), "Rasa didn't store the conversation in the database")
    with contextlib.closing(sqlite3.connect(str(database))) as connection:
        rows = connection.execute(
            "SELECT id, type_name, intent_name, action_name, data"
            " FROM events WHERE sender_id = ? ORDER BY id",
            (SENDER_ID,),
        ).fetchall()
    known = [event["event"] for event in server.events(SENDER_ID)]
    check([row[1] for row in rows] == known, f"Rasa has other events: {known}")
    return rows


def print_events(before: List[Tuple[Any, ...]], after: List[Tuple[Any, ...]]) -> None:
    line = "  {:>2}  {:<18}  {:<11}  {:<20}  {}"
    print(line.format("id", "type_name", "intent_name", "action_name", "data (part)"))
    for number, (key, type_name, intent_name, action_name, data) in enumerate(after):
        if number == len(before):
            print("  --  Rasa killed and started again")
        event = json.loads(data)
        part = event.get("text") or event.get("value") or ""
        print(line.format(key, type_name, intent_name or "", action_name or "", part))


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RuntimeError(otherwise)


@contextlib.contextmanager
def log_of(server: RasaServer) -> Iterator[None]:
    """Show the end of the server's log if what is done with it fails."""
    try:
        yield
    except (Exception, SystemExit):
        print(f"\nThe end of Rasa's log:\n\n{server.log[-3000:]}", file=sys.stderr)
        raise


def stop(number: int, _: object) -> None:
    # SystemExit, since code that retries might catch a subclass of Exception.
    sys.exit(f"\nThe demo was ended by {signal.Signals(number).name}.")


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, stop)
    try:
        main()
    except (RuntimeError, OSError, sqlite3.Error) as error:
        sys.exit(f"\nThe demo failed: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
