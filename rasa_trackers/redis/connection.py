"""From the options of ``endpoints.yml`` to a redis-py client."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import SSLConnection, parse_url
from redis.exceptions import ClusterDownError
from redis.retry import Retry
from redis.sentinel import Sentinel

from rasa_trackers import options
from rasa_trackers.rasa_versions import RasaException

logger = logging.getLogger(__name__)

STANDARD, CLUSTER, SENTINEL = "standard", "cluster", "sentinel"

_DEFAULT_HOST = "localhost"
_DEFAULT_PORT = 6379
#: Of Rasa Pro (``rasa.core.redis_connection_factory``, 3.21).
_DEFAULT_SENTINEL_SERVICE = "mymaster"

#: What the query of a URL may say; redis-py hands anything on to the connection.
_URL_QUERY = (
    "db",
    "username",
    "password",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
)

#: Firewalls and load balancers drop connections that are silent for some minutes,
#: and a driver notices when the next message is lost in one.
_KEEPALIVE_SECONDS = 60

Client = Union["redis.Redis[bytes]", "RedisCluster[bytes]"]
Address = Tuple[str, int]


class Deployment(NamedTuple):
    """Where the data is, and how to get in."""

    mode: str
    #: Of the server, of nodes of the cluster, or of the sentinels.
    addresses: List[Address]
    #: Of the unix socket instead of an address.
    socket_path: Optional[str]
    #: The name under which the sentinels know the master.
    service: str
    db: int
    username: Optional[str]
    password: Optional[str]
    #: redis-py's options for TLS; empty without it.
    tls: Dict[str, Any]

    def described(self) -> str:
        """How messages name the server."""
        places = ", ".join(f"{host}:{port}" for host, port in self.addresses)
        if self.mode == CLUSTER:
            return f"Redis cluster at {places}"
        if self.mode == SENTINEL:
            return f"Redis '{self.service}' (by Sentinel at {places}), db {self.db}"
        return f"Redis at {self.socket_path or places}, db {self.db}"

    def connect(self, timeout: float) -> Client:
        """A client. That of a cluster has looked up the nodes, others do nothing yet.

        It never sends a command twice by itself. A second attempt of an append that
        was carried out comes back as a conflict, which says that others have written;
        the attempts have to be counted above.

        Args:
            timeout: Seconds that a server may stay silent.
        """
        # All addresses can be tried before the deadline of the call has passed.
        timeout_each = timeout / (len(self.addresses) + 1)
        never = Retry(NoBackoff(), 0)
        reaching: Dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout_each,
            "socket_keepalive": True,
            "socket_keepalive_options": _keepalive_options(),
        }
        login = {"username": self.username, "password": self.password}
        if _redis_version() >= 5:
            # What 4.6 speaks; replies differ in the other one.
            reaching["protocol"] = 2
        if self.mode == CLUSTER:
            if _redis_version() < 6:
                reaching["cluster_error_retry_attempts"] = 0
            try:
                return RedisCluster(
                    startup_nodes=[ClusterNode(*address) for address in self.addresses],
                    retry=never,
                    # Conversations on nodes that are well go on.
                    require_full_coverage=False,
                    **reaching,
                    **login,
                    **self.tls,
                )
            except IndexError:  # redis-py 4.6's, while nodes have not met yet
                raise ClusterDownError("no node serves any slot yet") from None
        if self.mode == SENTINEL:
            # As in Rasa Pro, the password and TLS are for the data servers alone.
            asking = {**reaching, "socket_timeout": timeout_each, "retry": never}
            master: redis.Redis[bytes] = Sentinel(
                self.addresses, sentinel_kwargs=asking
            ).master_for(
                self.service, db=self.db, retry=never, **reaching, **login, **self.tls
            )
            return master
        host, port = self.addresses[0]
        return redis.Redis(
            host=host,
            port=port,
            unix_socket_path=self.socket_path,
            db=self.db,
            retry=never,
            **reaching,
            **login,
            **self.tls,
        )


def disconnect(client: Client, *, in_use: bool = True) -> None:
    """Close a client's connections; it opens new ones when it is used again.

    Args:
        client: The client.
        in_use: Whether to close those too over which a call is under way.
    """
    if isinstance(client, RedisCluster):
        client.disconnect_connection_pools()
    else:
        client.connection_pool.disconnect(inuse_connections=in_use)


def deployment(
    *,
    url: Optional[str],
    port: Any,
    db: Any,
    username: Any,
    password: Any,
    use_ssl: Any,
    ssl_keyfile: Any,
    ssl_certfile: Any,
    ssl_ca_certs: Any,
    deployment_mode: Any,
    endpoints: Any,
    sentinel_service: Any,
) -> Deployment:
    """The deployment that the options of the same names describe.

    Raises:
        RasaException: for a value that has no sensible meaning.
    """
    mode = (options.text("deployment_mode", deployment_mode) or STANDARD).lower()
    if mode not in (STANDARD, CLUSTER, SENTINEL):
        raise RasaException(
            f"The option 'deployment_mode' of the tracker store must be standard, "
            f"cluster or sentinel, not {deployment_mode!r}. Correct it in "
            f"endpoints.yml."
        )
    in_url = _parsed(url or _DEFAULT_HOST)
    given_port = options.port_number(port)
    address = (
        in_url.get("host") or _DEFAULT_HOST,
        in_url.get("port") or given_port or _DEFAULT_PORT,
    )
    number = in_url.get("db", options.whole_number("db", db, 0)) or 0
    if mode == CLUSTER and number:
        logger.warning("A Redis cluster has one database: 'db: %s' is ignored.", number)
        number = 0
    files = {
        name: in_url.get(name) or _file(name, value)
        for name, value in (
            ("ssl_keyfile", ssl_keyfile),
            ("ssl_certfile", ssl_certfile),
            ("ssl_ca_certs", ssl_ca_certs),
        )
    }
    tls: Dict[str, Any] = {}
    if (
        options.flag("use_ssl", use_ssl)
        or in_url.get("connection_class") is SSLConnection
    ):
        tls = {
            "ssl": True,
            "ssl_cert_reqs": in_url.get("ssl_cert_reqs", "required"),
            **files,
        }
        # redis-py 4.6 leaves it out unless told.
        verified = tls["ssl_cert_reqs"] == "required"
        tls["ssl_check_hostname"] = in_url.get("ssl_check_hostname", verified)
    elif any(files.values()):
        logger.warning(
            "The connection to Redis is not encrypted: the certificates in "
            "endpoints.yml are used with 'use_ssl: true' only."
        )
    socket_path = in_url.get("path")
    if socket_path and (mode != STANDARD or tls):
        raise RasaException(
            "A unix socket is for one server without TLS: remove 'deployment_mode' "
            "and 'use_ssl' from endpoints.yml, or let 'url' name a host."
        )
    return Deployment(
        mode=mode,
        addresses=_addresses(mode, endpoints, address),
        socket_path=socket_path,
        service=options.text("sentinel_service", sentinel_service)
        or _DEFAULT_SENTINEL_SERVICE,
        db=number,
        username=in_url.get("username") or options.text("username", username),
        password=in_url.get("password") or options.text("password", password),
        tls=tls,
    )


def _parsed(url: str) -> Dict[str, Any]:
    """redis-py's options for a URL, a host, or ``host:port``."""
    try:
        parsed: Dict[str, Any] = parse_url(url if "://" in url else f"redis://{url}")
    except ValueError:
        # Neither the URL nor the cause is shown: a password may stand in both.
        raise RasaException(
            "The option 'url' of the tracker store is neither a host, nor host:port, "
            "nor a URL. Write it as redis://user:password@host:port/db, rediss://... "
            "for TLS or unix:///path?db=0, with special characters percent-encoded."
        ) from None
    unknown = set(parsed) - {"host", "port", "path", "connection_class", *_URL_QUERY}
    if unknown:
        raise RasaException(
            f"The option 'url' of the tracker store says {', '.join(sorted(unknown))} "
            f"after its question mark. It may say: {', '.join(_URL_QUERY)}."
        )
    return parsed


def _addresses(mode: str, endpoints: Any, address: Address) -> List[Address]:
    if endpoints is not None and not isinstance(endpoints, (list, tuple)):
        raise RasaException(
            f"The option 'endpoints' of the tracker store must be a list of "
            f"host:port, not a {type(endpoints).__name__}. Correct it in endpoints.yml."
        )
    if mode == STANDARD:
        if endpoints:
            logger.warning(
                "'endpoints' is ignored, because 'deployment_mode' is standard: 'url' "
                "and 'port' name the server."
            )
        return [address]
    if endpoints:
        return [_endpoint(endpoint) for endpoint in endpoints]
    if mode == SENTINEL:
        raise RasaException(
            "With 'deployment_mode: sentinel' the tracker store needs 'endpoints': a "
            "list of the sentinels, each as host:port."
        )
    return [address]


def _endpoint(endpoint: Any) -> Address:
    host, _, port = str(endpoint).rpartition(":")
    if "@" in host or "/" in host:
        # What stands before the @ is not shown.
        raise RasaException(
            "An entry of the option 'endpoints' of the tracker store has more than "
            "host:port. Correct it in endpoints.yml, and set 'username' and 'password' "
            "beside it."
        )
    if not isinstance(endpoint, str) or not host or not port.isdecimal():
        raise RasaException(
            f"{str(endpoint).rpartition('@')[2]!r} in the option 'endpoints' of the "
            f"tracker store is not a host:port. Correct it in endpoints.yml."
        )
    number = options.port_number(port)
    assert number is not None  # noqa: S101 - for mypy: it is not empty
    return host.strip("[]"), number


def _file(name: str, value: Any) -> Optional[str]:
    path = options.text(name, value)
    # redis-py would call it an unreachable server.
    if path and not Path(path).is_file():
        raise RasaException(
            f"The option '{name}' of the tracker store names a file that is not there: "
            f"{path}. Correct it in endpoints.yml."
        )
    return path or None


def _keepalive_options() -> Dict[int, int]:
    seconds = {
        "TCP_KEEPIDLE": _KEEPALIVE_SECONDS,
        "TCP_KEEPINTVL": _KEEPALIVE_SECONDS // 6,
    }
    return {
        getattr(socket, name): value
        for name, value in seconds.items()
        if hasattr(socket, name)  # not on every platform
    }


def _redis_version() -> int:
    return int(redis.__version__.split(".")[0])
