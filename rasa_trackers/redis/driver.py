"""What the versions of redis-py do not share.

redis-py 3.5, which Rasa 1.10 and 3.1 install, knows no clusters and no rules for retries:
it never sends a command twice unless ``retry_on_timeout`` is set. The cluster client of
4.1 to 4.3 sends a command that has no answer up to five times, and cannot be told not to.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Dict, Tuple

import redis


def version() -> Tuple[int, ...]:
    """The first two numbers of redis-py's version."""
    return tuple(int(part) for part in redis.__version__.split(".")[:2])


if TYPE_CHECKING:
    from redis import cluster
    from redis.cluster import ClusterNode, RedisCluster
    from redis.exceptions import (
        ClusterDownError,
        ClusterError,
        RedisClusterException,
    )

    HAS_CLUSTERS: bool
else:
    HAS_CLUSTERS = version() >= (4, 4)
    if HAS_CLUSTERS:
        from redis import cluster
        from redis.cluster import ClusterNode, RedisCluster
        from redis.exceptions import (
            ClusterDownError,
            ClusterError,
            RedisClusterException,
        )
    else:
        cluster = ClusterNode = None

        class RedisCluster:
            """No client is one of these."""

        class RedisClusterException(Exception):
            """No error is one of these."""

        class ClusterError(redis.RedisError):
            """No error is one of these."""

        class ClusterDownError(ClusterError):
            """No error is one of these."""


class PartialCluster(RedisCluster):  # type: ignore[misc]
    """A cluster's client that connects while a node is away."""

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py, which asks one certain node at the start for all commands."""
        if args != ("COMMAND",):
            return super().execute_command(*args, **kwargs)
        *others, last = self.get_primaries()
        for node in others:
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                return self.get_redis_connection(node).execute_command(*args)
        return self.get_redis_connection(last).execute_command(*args)


__all__ = [
    "HAS_CLUSTERS",
    "ClusterDownError",
    "ClusterError",
    "ClusterNode",
    "PartialCluster",
    "RedisCluster",
    "RedisClusterException",
    "cluster",
    "never_again",
    "version",
]


def never_again() -> Dict[str, Any]:
    """The option of a client that lets it send no command twice."""
    try:
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        return {}
    return {"retry": Retry(NoBackoff(), 0)}
