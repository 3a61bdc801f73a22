"""Conversations in SQL databases, in the tables of Rasa's own SQLTrackerStore.

``store`` reads the options, ``connection`` makes an engine of them, ``schema`` has
the tables, ``log`` keeps event logs in them, ``postgresql``, ``sqlite`` and ``oracle``
do so by the means of their database; ``oracle_connection`` deals with its drivers.
"""

from rasa_trackers.sql.store import OracleTrackerStore, SQLTrackerStore

__all__ = ["OracleTrackerStore", "SQLTrackerStore"]
