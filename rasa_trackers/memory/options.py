"""The options of the store in memory, and the log that they make."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from rasa_trackers.backend import Backend, MadeLog
from rasa_trackers.memory.log import MemoryEventLog
from rasa_trackers.store_options import Option, text, whole_number


def _conversations(name: str, value: Any) -> Optional[int]:
    return whole_number(name, value, 1)


def _make_log(values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    log = MemoryEventLog(
        values["max_conversations"], values["record_exp"], keeps_users=keep_users
    )
    # No call waits for a server, so that more threads would do no more work.
    return MadeLog(log, workers=1, outlives_process=False)


MEMORY = Backend(
    "InMemoryTrackerStore",
    (
        Option("url", text, None, "Not used; Rasa passes it to every store."),
        Option(
            "max_conversations",
            _conversations,
            None,
            "Conversations to keep. Beyond that number the least recently used one is "
            "dropped; any number unless given.",
        ),
    ),
    _make_log,
)
