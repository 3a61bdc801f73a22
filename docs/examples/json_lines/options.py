"""The option of the store, and how its log is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Optional

from json_lines.log import JsonLinesEventLog
from rasa_trackers.backend import Backend, MadeLog
from rasa_trackers.event_log import EventLog
from rasa_trackers.store_options import Option, text


def factory(
    folder: Path, record_exp: Optional[float], *, keep_users: bool = True
) -> EventLog:
    """For ``python -m pytest tests/contract --event-log json_lines.options:factory``."""
    return JsonLinesEventLog(folder, record_exp, keeps_users=keep_users)


def _make_log(values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    folder, record_exp = Path(values["url"]), values["record_exp"]
    return MadeLog(factory(folder, record_exp, keep_users=keep_users), workers=4)


JSON_LINES = Backend(
    store="JsonLinesTrackerStore",
    options=(Option("url", text, "conversations", "The folder."),),
    make_log=_make_log,
)
