"""Calls of the log on their way to the server, over redis-py's connections."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import redis
from redis.exceptions import NoScriptError

from rasa_trackers.errors import release_frames
from rasa_trackers.redis.connection import Client, disconnect
from rasa_trackers.redis.driver import ClusterError, RedisCluster
from rasa_trackers.redis.failures import (
    DRIVER_ERRORS,
    failure_of,
    hide_data,
    is_wrong_type,
)
from rasa_trackers.redis.scripts import Script

#: Keys that one SCAN looks at: some 0.1 ms of the server's time.
SCAN_COUNT = 1000


class Transport:
    """Runs scripts and commands. After a passing failure it connects anew."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        """Connect at the first call.

        Args:
            connect: Makes a client.
        """
        self._connect = connect
        self._client: Optional[Client] = None
        self._connecting = threading.Lock()
        #: The last client that knew the nodes of a cluster.
        self._cluster: Optional[RedisCluster[bytes]] = None
        #: The nodes that slots were on, last.
        self._nodes: Dict[int, str] = {}

    def evaluate(
        self, script: Script, keys: Sequence[bytes], *arguments: object
    ) -> Any:
        """Run a script, in one round trip unless the server does not know it yet."""
        with self.connected(keeps_cluster=True) as client:
            try:
                try:
                    return client.execute_command(
                        "EVALSHA", script.sha1, len(keys), *keys, *arguments
                    )
                except NoScriptError as error:
                    release_frames(error)
                    # A restart, a failover or SCRIPT FLUSH. The script was not run.
                    return client.execute_command(
                        "EVAL", script.text, len(keys), *keys, *arguments
                    )
            except ClusterError as error:
                release_frames(error)
                # The slot moves to another node. Until that is done, the server refuses
                # two keys of which one is missing, as the legacy key mostly is.
                is_moving = type(error) is ClusterError and len(keys) == 2
                if not (is_moving and script.second_key_optional):
                    raise
        return self.evaluate(script, keys[:1], *arguments)

    def execute(self, *command: Any) -> Any:
        """Execute one command."""
        with self.connected(keeps_cluster=True) as client:
            return client.execute_command(*command)

    def execute_all(self, commands: Sequence[Tuple[object, ...]]) -> List[Any]:
        """Execute commands of one slot each, with one message to each node.

        They may be carried out in any order. The reply is ``None`` for a key that holds
        something else than the command is for, and for a script that the node does not
        know.
        """
        replies: List[Any] = [None] * len(commands)
        with self.connected() as client:
            for node, places in _by_node(client, commands):
                pipeline = node.pipeline(transaction=False)
                for place in places:
                    pipeline.execute_command(*commands[place])
                answers = pipeline.execute(raise_on_error=False)
                for place, answer in zip(places, answers):
                    replies[place] = answer
            for place, reply in enumerate(replies):
                if not isinstance(reply, Exception):
                    continue
                replies[place] = None
                if is_wrong_type(reply) or isinstance(reply, NoScriptError):
                    continue
                if not isinstance(client, RedisCluster):
                    raise reply
                # The slot has moved, or moves: the cluster's client finds it.
                try:
                    replies[place] = client.execute_command(*commands[place])
                except redis.ResponseError as error:
                    release_frames(error)
                    if not is_wrong_type(error):
                        raise
        return replies

    def scan(self, pattern: Optional[bytes]) -> Iterator[List[bytes]]:
        """The keys of all masters, in batches that each follow a reply.

        A key may come more than once.

        Args:
            pattern: What the keys match; ``None`` for all of them.
        """
        with self.connected() as client:
            for node in _masters(client):
                cursor: Optional[int] = None
                while cursor != 0:
                    cursor, keys = node.scan(cursor or 0, pattern, SCAN_COUNT)
                    yield keys

    def info(self) -> Dict[str, Any]:
        """What a master says of itself; empty if the user may not ask."""
        with self.connected() as client:
            node = next(iter(_masters(client)))
            try:
                info: Dict[str, Any] = node.info()
            except redis.ResponseError as error:
                release_frames(error)
                return {}
            return info

    def server_time(self) -> int:
        """The server's clock in milliseconds since the epoch."""
        with self.connected() as client:
            second, microsecond = next(iter(_masters(client))).time()
            return int(second) * 1000 + int(microsecond) // 1000

    @property
    def has_nodes(self) -> bool:
        """Whether the nodes of a cluster are known."""
        return self._cluster is not None

    def node_of(self, key: bytes) -> str:
        """The node of a cluster that holds a key, as far as is known; otherwise ""."""
        if self._cluster is None:
            return ""
        slot = self._cluster.keyslot(key)
        # Nobody has the slots of a node that is away, until another node takes them.
        nodes = self._cluster.nodes_manager.slots_cache.get(slot)
        if nodes:
            self._nodes[slot] = str(nodes[0].name)
        return self._nodes.get(slot, "")

    def find_nodes(self) -> None:
        """Ask a cluster which node serves which slots; nothing without a cluster.

        redis-py asks only after a command has failed. No command is sent to a node that
        is away, so a slot that another node has taken would stay unknown.
        """
        if self._cluster is not None:
            self._cluster.nodes_manager.initialize()

    def close(self) -> None:
        """Close all connections."""
        with self._connecting:
            if self._client is not None:
                disconnect(self._client)

    @contextlib.contextmanager
    def connected(self, *, keeps_cluster: bool = False) -> Iterator[Client]:
        """The client, for one call.

        Args:
            keeps_cluster: Whether a cluster's client looks the nodes up by itself after
                one of them has not answered.
        """
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
                if isinstance(self._client, RedisCluster):
                    self._cluster = self._client
            client = self._client
        try:
            yield client
        except DRIVER_ERRORS as error:
            is_kept = (
                keeps_cluster
                and isinstance(client, RedisCluster)
                and isinstance(error, (redis.ConnectionError, redis.TimeoutError))
                # redis-py 4.6 removes each node that fails, even the last one.
                and client.nodes_manager.startup_nodes
            )
            # A new client may ask the very node that is away, and the calls to the
            # others would wait for that.
            if not is_kept:
                self._connect_anew_after(error, client)
            hide_data(error)
            raise

    def _connect_anew_after(self, error: Exception, client: Client) -> None:
        """After a passing failure, ask again where the server is."""
        failure = failure_of(error)
        if failure is None or not failure.transient:
            return
        if isinstance(client, RedisCluster):
            with self._connecting:
                if self._client is client:
                    self._client = None
        else:
            # A server that is no longer the master keeps its connections open.
            disconnect(client, in_use=False)


def _masters(client: Client) -> List[redis.Redis[bytes]]:
    if not isinstance(client, RedisCluster):
        return [client]
    return [client.get_redis_connection(node) for node in client.get_primaries()]


def _by_node(
    client: Client, commands: Sequence[Tuple[object, ...]]
) -> List[Tuple[redis.Redis[bytes], List[int]]]:
    """Clients of the nodes, each with the numbers of the commands that go there.

    The pipelines of redis-py's cluster client are not used: they send a command that a
    node did not answer once more, alone, each with a time limit of its own.
    """
    if not isinstance(client, RedisCluster):
        return [(client, list(range(len(commands))))]
    nodes: Dict[str, Tuple[redis.Redis[bytes], List[int]]] = {}
    for place, command in enumerate(commands):
        key = command[3] if command[0] == "EVALSHA" else command[1]
        node = client.get_node_from_key(key)
        if node.name not in nodes:
            nodes[node.name] = (client.get_redis_connection(node), [])
        nodes[node.name][1].append(place)
    return list(nodes.values())
