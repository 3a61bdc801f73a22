"""A log with everything in front of it that an outage needs.

For the contract's tests::

python -m pytest tests/contract --event-log outage.in_front:make
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from rasa_trackers import store_options
from rasa_trackers.backend import backend_of
from rasa_trackers.event_log import EventLog
from rasa_trackers.outage.log import OutageLog
from rasa_trackers.outage.probe import Probe
from rasa_trackers.outage.spool import Spool


def make(
    folder: Path, record_exp: Optional[float], *, keep_users: bool = True
) -> EventLog:
    """A log in a SQLite file, and a spool in another one."""
    backend = backend_of("SQLTrackerStore")
    given = {"db": str(folder / "events.db"), "record_exp": record_exp}
    values = store_options.checked("SQLTrackerStore", backend.options, given)
    return OutageLog(
        backend.make_log(values, keep_users).log,
        probe=Probe(backend, values, keep_users),
        spool=Spool(folder / "spool", values["spool_bytes"]),
        recent_bytes=values["recent_bytes"],
        reads_newer=True,
        record_exp=record_exp,
        timeout=values["timeout"],
    )
