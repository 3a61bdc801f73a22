"""The stores that every suite runs on: one dictionary, shared by all of them."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Iterator, Optional, Tuple
from urllib.parse import urlsplit

import pytest

from servers.meters import Meter, bytes_on_the_way, steps_of_sqlite
from servers.process import HOST

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
    #: Host and port of the one server that an endpoint names, and an endpoint by which
    #: that server is reached through another port of this machine. ``None`` where there
    #: is no such server.
    address: Optional[Callable[[Endpoint], Tuple[str, int]]] = None
    through: Optional[Callable[[Endpoint, int], Endpoint]] = None
    #: Counts what calls ask of the database at an endpoint; ``None`` where nothing can.
    meter: Optional[Callable[[Endpoint], ContextManager[Meter]]] = None


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
    from servers import h2, h2_driver

    server = request.getfixturevalue("oracle_server")
    database = server.create_database()
    if not isinstance(server, h2.H2Server):
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
    from servers.redis import RedisAccess, RedisCluster

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


def _url_and_port(endpoint: Endpoint) -> Tuple[str, int]:
    return endpoint["url"], endpoint["port"]


def _other_port(endpoint: Endpoint, port: int) -> Endpoint:
    return {**endpoint, "url": HOST, "port": port}


def _mongo_address(endpoint: Endpoint) -> Tuple[str, int]:
    url = urlsplit(endpoint["url"])
    assert url.hostname
    assert url.port
    return url.hostname, url.port


def _mongo_through(endpoint: Endpoint, port: int) -> Endpoint:
    # Directly: a replica set would name the server's own port.
    return {**endpoint, "url": f"mongodb://{HOST}:{port}/?directConnection=true"}


def _networked(
    name: str,
    database: DatabaseContext,
    address: Callable[[Endpoint], Tuple[str, int]] = _url_and_port,
    through: Callable[[Endpoint, int], Endpoint] = _other_port,
) -> Backend:
    """A backend whose server is reached over one port."""

    def meter(endpoint: Endpoint) -> ContextManager[Meter]:
        return bytes_on_the_way(address(endpoint), functools.partial(through, endpoint))

    return Backend(name, database, address=address, through=through, meter=meter)


BACKENDS: Dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("memory", _memory, durable=False),
        Backend("sqlite", _sqlite, meter=steps_of_sqlite),
        _networked("postgresql", _postgresql),
        Backend("oracle", _oracle),
        _networked("redis", _redis("redis_server")),
        _networked("redis-prefix", _redis("redis_server", key_prefix="a{b}[c]:*%")),
        _networked("valkey", _redis("valkey_server")),
        Backend("redis-cluster", _redis("redis_cluster")),
        Backend("redis-sentinel", _redis("redis_sentinel")),
        _networked("mongo", _mongo, _mongo_address, _mongo_through),
    )
}
DURABLE = [name for name, backend in BACKENDS.items() if backend.durable]
