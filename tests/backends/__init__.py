"""The one registry of backends, which all suites and the benchmarks share.

An entry, a :class:`Backend`, says how a database is had, what an endpoint is there, how
its server fails, and what is stored in it as its driver sees it. A new backend is a
module here and one line in ``BACKENDS``.
"""

from __future__ import annotations

from typing import Dict, List

from backends.backend import Backend, Database, Endpoint, Meter
from backends.mariadb import MariaDB
from backends.memory import Memory
from backends.mongo import Mongo, MongoReplicaSet
from backends.oracle import Oracle
from backends.postgresql import PostgreSQL
from backends.redis import (
    Redis,
    RedisOfCluster,
    RedisOfSentinel,
    RedisWithPrefix,
    Valkey,
    redis_endpoint,
)
from backends.sqlite import SQLite

__all__ = [
    "BACKENDS",
    "DURABLE",
    "PROFILES",
    "Backend",
    "Database",
    "Endpoint",
    "Meter",
    "names_for",
    "redis_endpoint",
]

BACKENDS: Dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Memory(),
        SQLite(),
        PostgreSQL(),
        MariaDB(),
        Oracle(),
        Redis(),
        RedisWithPrefix(),
        Valkey(),
        RedisOfCluster(),
        RedisOfSentinel(),
        Mongo(),
        MongoReplicaSet(),
    )
}


def names_for(suite: str) -> List[str]:
    """The names of the backends that a suite runs on; see ``Backend.suites``."""
    return [name for name, each in BACKENDS.items() if suite in each.suites]


#: Backends of ``stores`` whose conversations outlive a store.
DURABLE = [name for name in names_for("stores") if BACKENDS[name].durable]

#: The profiles of docker-compose.yml that have a server.
PROFILES = sorted({each.profile for each in BACKENDS.values() if each.profile})
