"""Redis and Valkey: alone, with a prefix of keys, as a cluster, under Sentinel."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional

from backends.backend import ALL_SUITES, Backend, Endpoint, Fault

#: Begins the name of each key that holds a log.
_LOG = b"rasa_trackers:{tracker:"


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


class Redis(Backend):
    """A database has a number; the tests use the first one."""

    name = "redis"
    label = "Redis"
    suites = ALL_SUITES
    fixture = "redis_server"
    profile = "redis"
    append = begin = b"$6\r\nappend\r\n"

    def make_server(self) -> Any:
        from servers.redis import RedisServer

        return RedisServer("redis", durable=True)

    def create(self, server: Any, others: int = 0) -> str:
        if not others:
            with server.client() as client:
                client.flushall()
        return str(others)

    def drop(self, server: Any, name: str) -> None:
        pass

    def endpoint(self, server: Any, name: str, port: Optional[int] = None) -> Endpoint:
        more = {} if name == "0" else {"db": int(name)}
        return redis_endpoint(server, port=port or server.port, **more)

    def texts(self, server: Any, name: str) -> Dict[str, List[str]]:
        with server.client(db=int(name)) as client:
            keys = [key for key in client.keys("*") if key.startswith(_LOG)]
            assert len(keys) == client.dbsize()
            return {
                # The header stands before the events.
                key.partition(b"}")[2].decode(): [
                    text.decode() for text in client.lrange(key, 1, -1)
                ]
                for key in keys
            }

    def server_versions(self, server: Any) -> Dict[str, str]:
        with server.client() as client:
            return {self.label: client.info()["redis_version"]}

    def driver_versions(self) -> Dict[str, str]:
        import redis

        return {"redis-py": redis.__version__}

    def own_faults(self, target: Any) -> Dict[str, Fault]:
        return {"connections exhausted": lambda seconds: exhaust(target, seconds)}


def exhaust(target: Any, seconds: float) -> None:
    """Let the server take no more connections."""
    with target.server.client() as client:
        before = client.config_get("maxclients")["maxclients"]
        client.config_set("maxclients", 1)
        target.proxy.cut()
        time.sleep(seconds)
        client.config_set("maxclients", before)


class RedisWithPrefix(Redis):
    """A prefix of keys that would be another one as a pattern."""

    name = "redis-prefix"
    suites = frozenset(("contract", "stores"))

    def endpoint(self, server: Any, name: str, port: Optional[int] = None) -> Endpoint:
        endpoint = super().endpoint(server, name, port)
        return {**endpoint, "key_prefix": "a{b}[c]:*%"}


class Valkey(Redis):
    """Another brand of the same server."""

    name = "valkey"
    label = "Valkey"
    suites = frozenset(("contract", "stores", "faults"))
    fixture = "valkey_server"
    profile = None

    def make_server(self) -> Any:
        from servers.redis import RedisServer

        return RedisServer("valkey", durable=True)


class RedisOfCluster(Redis):
    """Several servers, each with a part of the keys."""

    name = "redis-cluster"
    suites = frozenset(("contract", "stores", "writers"))
    fixture = "redis_cluster"
    profile = None
    has_port = False

    def make_server(self) -> Any:
        from servers.redis import RedisCluster

        return RedisCluster()

    def endpoint(self, server: Any, name: str, port: Optional[int] = None) -> Endpoint:
        return redis_endpoint(server)


class RedisOfSentinel(RedisOfCluster):
    """A master that others may follow."""

    name = "redis-sentinel"
    fixture = "redis_sentinel"

    def make_server(self) -> Any:
        from servers.redis import RedisSentinel

        return RedisSentinel()
