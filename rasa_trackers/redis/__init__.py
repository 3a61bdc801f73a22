"""Conversations in Redis and Valkey: one server, Sentinel, or a cluster.

``store`` reads the options, ``connection`` makes a client of them, ``keys`` names what
is kept, ``log`` keeps event logs there by the scripts beside it.
"""

try:
    from rasa_trackers.redis.store import RedisTrackerStore
except ImportError as error:
    # Rasa's loader takes an ImportError for "keep everything in memory".
    from rasa_trackers.rasa_versions import RasaException

    raise RasaException(
        f"rasa_trackers.RedisTrackerStore needs redis-py 4.2 or newer ({error}). "
        f"Install it in the environment that runs Rasa: pip install redis"
    ) from error

__all__ = ["RedisTrackerStore"]
