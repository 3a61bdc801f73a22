"""The stores that every suite runs on: one dictionary, shared by all of them."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Iterator

import pytest

from servers import h2, h2_driver
from servers.oracle import OracleAccess
from servers.redis import RedisAccess, RedisCluster

#: What a backend yields: the tracker_store section of an endpoints.yml that names a
#: database of the test's own.
Endpoint = Dict[str, Any]


#: Gives a new, empty database for as long as the context lasts.
DatabaseContext = Callable[[pytest.FixtureRequest], ContextManager[Endpoint]]


@dataclass(frozen=True)
class Backend:
    """A store, and where the tests get a database for it."""

    name: str
    database: DatabaseContext
    #: Whether a second store with the same endpoint sees the same conversations.
    durable: bool = True


@contextlib.contextmanager
def _memory(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    yield {"type": "rasa_trackers.InMemoryTrackerStore"}


@contextlib.contextmanager
def _sqlite(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    folder = request.getfixturevalue("tmp_path_factory").mktemp("sqlite")
    yield {
        "type": "rasa_trackers.SQLTrackerStore",
        "dialect": "sqlite",
        "db": str(folder / "rasa.db"),
    }


@contextlib.contextmanager
def _postgresql(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    server = request.getfixturevalue("postgres_server")
    database = server.create_database()
    yield {
        "type": "rasa_trackers.SQLTrackerStore",
        "dialect": "postgresql",
        "url": server.host,
        "port": server.port,
        "db": database,
        "username": server.username,
        "password": server.password,
    }
    server.drop_database(database)


@contextlib.contextmanager
def _oracle(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    """An Oracle server where there is one, else H2 in Oracle mode.

    H2 by a driver that passes for cx_Oracle, also in processes that the test starts.
    """
    server = request.getfixturevalue("oracle_server")
    database = server.create_database()
    if isinstance(server, OracleAccess):
        yield dict(server.endpoint)
        server.drop_database(database)
        return
    # The test's own, so that what it sets besides is undone in the right order.
    patch = request.getfixturevalue("monkeypatch")
    servers = Path(h2.__file__).parent
    patch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(servers / "h2_modules"), str(servers.parent)]),
    )
    patch.setitem(sys.modules, "cx_Oracle", h2_driver)
    yield server.endpoint(database)
    server.drop_database(database)


def _redis(fixture: str, **options: Any) -> DatabaseContext:
    @contextlib.contextmanager
    def database(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
        server = request.getfixturevalue(fixture)
        with server.client() as client:
            client.flushall()
        yield redis_endpoint(server, **options)

    return database


def redis_endpoint(server: Any, **options: Any) -> Endpoint:
    """How a Redis server, cluster or Sentinel of ``servers.redis`` is configured."""
    endpoint: Endpoint = {"type": "rasa_trackers.RedisTrackerStore"}
    if isinstance(server, RedisAccess):
        endpoint.update(url=server.host, port=server.port, username=server.username)
    elif isinstance(server, RedisCluster):
        endpoint.update(deployment_mode="cluster", endpoints=server.endpoints)
    else:
        endpoint.update(
            deployment_mode="sentinel",
            endpoints=server.endpoints,
            sentinel_service=server.service,
        )
    endpoint = {**endpoint, "password": server.password, **options}
    # Rasa Pro refuses a `username` without a value.
    return {name: value for name, value in endpoint.items() if value is not None}


@contextlib.contextmanager
def _mongo(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    server = request.getfixturevalue("mongo_server")
    database = server.database_name()
    yield {
        "type": "rasa_trackers.MongoTrackerStore",
        "url": server.url(),
        "db": database,
    }
    server.drop_database(database)


BACKENDS: Dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("memory", _memory, durable=False),
        Backend("sqlite", _sqlite),
        Backend("postgresql", _postgresql),
        Backend("oracle", _oracle),
        Backend("redis", _redis("redis_server")),
        Backend("redis-prefix", _redis("redis_server", key_prefix="a{b}[c]:*%")),
        Backend("valkey", _redis("valkey_server")),
        Backend("redis-cluster", _redis("redis_cluster")),
        Backend("redis-sentinel", _redis("redis_sentinel")),
        Backend("mongo", _mongo),
    )
}
DURABLE = [name for name, backend in BACKENDS.items() if backend.durable]
