"""Conversations in the memory of one process."""

from typing import Any


def __getattr__(name: str) -> Any:
    import rasa_trackers

    return rasa_trackers.store_in(__name__, name)
