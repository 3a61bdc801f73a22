"""The servers that stores are measured on.

Needs no Rasa: what measures with one is told a place.
"""

import contextlib
from typing import Callable, ContextManager, Dict, Iterator, List, NamedTuple

from measuring import Place
from servers import wheels
from servers.mongo import DISTRIBUTION, MongoServer
from servers.postgres import PostgresServer
from servers.process import make_folder, remove_folder
from servers.redis import REDIS, RedisServer


class Opened(NamedTuple):
    """A server that runs.

    Attributes:
        place: For those who connect.
        version: Of the server, with its name; empty if it is the driver's.
        new_database: Makes an empty database and returns its name.
        settle: To be called once with the names of all databases that were filled.
    """

    place: Place
    version: Dict[str, str]
    new_database: Callable[[], str]
    settle: Callable[[List[str]], None]


class Store(NamedTuple):
    """A database that is measured."""

    #: What reports call it.
    name: str
    open: Callable[[], ContextManager[Opened]]


def _nothing(_names: List[str]) -> None:
    pass


def _numbered(prefix: str) -> Callable[[], str]:
    names: List[str] = []

    def new_database() -> str:
        names.append(f"{prefix}{len(names) + 1}")
        return names[-1]

    return new_database


@contextlib.contextmanager
def _sqlite() -> Iterator[Opened]:
    folder = make_folder("benchmark")
    try:
        place = Place("sqlite", {"folder": str(folder)})
        yield Opened(place, {}, _numbered("rasa"), _nothing)
    finally:
        remove_folder(folder)


@contextlib.contextmanager
def _postgresql() -> Iterator[Opened]:
    with PostgresServer() as server:

        def settle(names: List[str]) -> None:
            # As autovacuum does within a minute. Rasa's store is 60 times slower while
            # the planner knows nothing of the table, and that is no steady state.
            for name in names:
                with contextlib.closing(server.connect(name)) as connection:
                    connection.cursor().execute("VACUUM ANALYZE events")

        address = {
            "host": server.host,
            "port": server.port,
            "user": server.username,
            "password": server.password,
        }
        connection = server.administrator()
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            (version,) = cursor.fetchone()
        yield Opened(
            Place("postgresql", address),
            {"PostgreSQL": version},
            server.create_database,
            settle,
        )


@contextlib.contextmanager
def _redis() -> Iterator[Opened]:
    with RedisServer(REDIS, durable=True) as server:
        yield Opened(
            Place("redis", {"host": server.host, "port": server.port}),
            {"Redis": server.client().info()["redis_version"]},
            _numbered(""),
            _nothing,
        )


@contextlib.contextmanager
def _mongo() -> Iterator[Opened]:
    with MongoServer() as server:
        yield Opened(
            Place("mongo", {"url": server.url()}),
            {"SecantusDB": wheels.requirement(DISTRIBUTION).partition("==")[2]},
            _numbered("rasa"),
            _nothing,
        )


STORES: Dict[str, Store] = {
    "sqlite": Store("SQLite", _sqlite),
    "postgresql": Store("PostgreSQL", _postgresql),
    "redis": Store("Redis", _redis),
    "mongo": Store("MongoDB protocol", _mongo),
}
