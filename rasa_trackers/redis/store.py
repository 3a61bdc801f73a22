"""``RedisTrackerStore``: the class that ``endpoints.yml`` names."""

from rasa_trackers.redis.options import REDIS
from rasa_trackers.tracker_store import EventLogTrackerStore


class RedisTrackerStore(EventLogTrackerStore):
    """Keeps conversations in Redis or Valkey.

    The options have the meaning of those of Rasa's and Rasa Pro's own
    ``RedisTrackerStore``, whose conversations are continued.
    """

    backend = REDIS
