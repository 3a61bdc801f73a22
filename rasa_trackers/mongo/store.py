"""``MongoTrackerStore``: the class that ``endpoints.yml`` names."""

from rasa_trackers.mongo.options import MONGO
from rasa_trackers.tracker_store import EventLogTrackerStore


class MongoTrackerStore(EventLogTrackerStore):
    """Keeps conversations in MongoDB, of any length, in buckets of some hundred events.

    Conversations that Rasa's own store has written to the collection are read and
    continued.
    """

    backend = MONGO
