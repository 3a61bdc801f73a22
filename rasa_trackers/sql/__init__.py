"""Conversations in SQL databases, in the tables of Rasa's own SQLTrackerStore.

``store`` reads the options, ``connection`` makes an engine of them, ``schema`` has
the tables, ``log`` keeps event logs in them, ``postgresql`` and ``sqlite`` do so by
the means of their database.
"""

from rasa_trackers.sql.store import SQLTrackerStore

__all__ = ["SQLTrackerStore"]
