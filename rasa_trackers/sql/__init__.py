"""Conversations in SQL databases, in the tables of Rasa's own ``SQLTrackerStore``."""

from typing import Any


def __getattr__(name: str) -> Any:
    import rasa_trackers

    return rasa_trackers.store_in(__name__, name)
