"""Conversations in MongoDB, beside those of Rasa's own MongoTrackerStore.

``store`` reads the options, ``connection`` makes a client of them, ``documents`` has
the documents, ``log`` keeps event logs in them, ``failures`` says what errors mean.
"""

from rasa_trackers.mongo.store import MongoTrackerStore

__all__ = ["MongoTrackerStore"]
