"""Conversations in MongoDB, beside those of Rasa's own MongoTrackerStore.

``options`` has the options of ``endpoints.yml``, ``connection`` makes a client of them,
``log`` writes, ``reading`` reads one conversation, ``scanning`` asks about all of them,
``users`` about those of a user. ``buckets`` describes the documents, ``legacy`` those of
Rasa's own store, ``expiry`` what becomes of expired ones.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    import rasa_trackers

    return rasa_trackers.store_in(__name__, name)
