"""Servers that fail on the way or at the other end, for tests that are the same on all.

A wire is what lies between a store and its server: which bytes an append is there, and
how a server and a database of the test's own are had.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional

from backends import Endpoint, redis_endpoint
from servers.mongo import MongoServer
from servers.postgres import PostgresServer
from servers.redis import REDIS, VALKEY, RedisServer

#: Makes what a store is configured with: of a server, a database in it, and another
#: port than the server's own.
MakeEndpoint = Callable[[Any, Any, Optional[int]], Endpoint]


class Wire(NamedTuple):
    """How a backend is reached.

    Attributes:
        make_server: A server of the test's own, to be wrecked; what it has acknowledged
            outlives its process.
        shared: The fixture with one that others use too.
        create: Makes a database in a server.
        drop: Removes it.
        endpoint: What a store is configured with.
        begin: Bytes that only the append sends which begins a conversation.
        go_on: Bytes that only further appends send.
    """

    make_server: Callable[[], Any]
    shared: str
    create: Callable[[Any], Any]
    drop: Callable[[Any, Any], None]
    endpoint: MakeEndpoint
    begin: bytes
    go_on: bytes


def _postgresql_endpoint(server: Any, database: str, port: Optional[int]) -> Endpoint:
    return {
        "type": "rasa_trackers.SQLTrackerStore",
        "dialect": "postgresql",
        "url": server.host,
        "port": port or server.port,
        "db": database,
        "username": server.username,
        "password": server.password,
    }


def _redis_endpoint(server: Any, _database: None, port: Optional[int]) -> Endpoint:
    return redis_endpoint(server, port=port or server.port)


def _mongo_endpoint(server: Any, database: str, port: Optional[int]) -> Endpoint:
    return {
        "type": "rasa_trackers.MongoTrackerStore",
        # As the proxy's: the replica set itself would name the server's own port.
        "url": f"{server.url(port)}/?directConnection=true",
        "db": database,
    }


def _redis_wire(flavour: str) -> Wire:
    return Wire(
        make_server=lambda: RedisServer(flavour, durable=True),
        shared=f"{flavour}_server",
        create=lambda server: server.flush(),
        drop=lambda _server, _none: None,
        endpoint=_redis_endpoint,
        begin=b"$6\r\nappend\r\n",
        go_on=b"$6\r\nappend\r\n",
    )


def _mongo_wire(shared: str, *, replica_set: bool) -> Wire:
    return Wire(
        make_server=lambda: MongoServer(replica_set=replica_set),
        shared=shared,
        create=lambda server: server.database_name(),
        drop=lambda server, name: server.drop_database(name),
        endpoint=_mongo_endpoint,
        begin=b"insert\0",
        go_on=b"$push",
    )


WIRES: Dict[str, Wire] = {
    "postgresql": Wire(
        make_server=PostgresServer,
        shared="postgres_server",
        create=lambda server: server.create_database(),
        drop=lambda server, name: server.drop_database(name),
        endpoint=_postgresql_endpoint,
        begin=b"INSERT INTO",
        go_on=b"INSERT INTO",
    ),
    "redis": _redis_wire(REDIS),
    "valkey": _redis_wire(VALKEY),
    # By default, the driver would repeat a write on the former.
    "mongo-replica-set": _mongo_wire("mongo_replica_set", replica_set=True),
    "mongo": _mongo_wire("mongo_server", replica_set=False),
}
