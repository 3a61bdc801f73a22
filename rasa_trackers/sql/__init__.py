"""Conversations in SQL databases, in the tables of Rasa's own SQLTrackerStore.

``store`` reads the options, ``connection`` makes an engine of them, ``schema`` has
the tables, ``log`` keeps event logs in them, ``postgresql`` and ``sqlite`` do so by
the means of their database.
"""

from typing import Any

from rasa_trackers.sql.store import SQLTrackerStore

__all__ = ["SQLTrackerStore"]


def __getattr__(name: str) -> Any:
    if name[:1].isupper():  # a misspelt store, which Rasa would pass over
        import rasa_trackers

        return getattr(rasa_trackers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
