"""A process that writes to logs, for the tests of several processes.

Run as ``python -m contract.worker PLACE``, with the place as JSON. It opens a log and
does one command after the other: each is a JSON list on one line of standard input, and
what it comes to is said in a line of JSON. Ends at the end of its input.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Dict

from contract.logs import end_of, numbered
from contract.places import place_of
from contract.writing import append_each
from rasa_trackers.event_log import EventLog


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


def append_one_by_one(log: EventLog, sender_id: str, prefix: str, count: int) -> None:
    """Append ``count`` events, each after whatever is the end by then."""
    append_each(log, sender_id, [f"{prefix}{number}" for number in range(count)])
    say("done")


def append_at_once(log: EventLog, sender_id: str, count: int) -> None:
    """Say that it begins, and append ``count`` events in one step."""
    end = end_of(log, sender_id)
    added = [entry._replace(data=entry.data + 500 * " ") for entry in numbered(count)]
    say("begins")
    say(log.append(sender_id, added, end))


COMMANDS = {"one by one": append_one_by_one, "at once": append_at_once}


def main(described: Dict[str, Any]) -> None:
    log = place_of(described).make(None, keep_users=True)
    log.open()
    say("ready")
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        COMMANDS[command](log, *arguments)
    log.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
