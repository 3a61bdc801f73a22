"""From the options of a store to a redis-py client."""

from __future__ import annotations

import difflib
import inspect
import logging
import socket
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple, Union

import redis
from redis.sentinel import Sentinel

from rasa_trackers.errors import store_error
from rasa_trackers.redis.driver import (
    HAS_CLUSTERS,
    ClusterDownError,
    ClusterNode,
    PartialCluster,
    RedisCluster,
    cluster,
    never_again,
    version,
)
from rasa_trackers.redis.urls import parse_url, refuse_tls_without_tls

logger = logging.getLogger(__name__)

STANDARD, CLUSTER, SENTINEL = "standard", "cluster", "sentinel"

_DEFAULT_HOST = "localhost"
_DEFAULT_PORT = 6379

#: Firewalls and load balancers drop connections that are silent for some minutes, and a
#: driver notices that only when the next message is lost.
_KEEPALIVE_SECONDS = 60

#: What ``client_options`` must not set: other options of the store say it, or the store
#: would not work otherwise (whole replies in bytes, no retries, no replicas), or YAML
#: cannot express it.
_SET_BY_STORE = set(
    """
    self kwargs host port db username password url unix_socket_path startup_nodes
    connection_pool connection_pool_class connection_class queue_class timeout
    socket_timeout socket_connect_timeout ssl ssl_keyfile ssl_certfile ssl_ca_certs
    decode_responses encoding encoding_errors charset errors protocol legacy_responses
    retry retry_on_timeout retry_on_error cluster_error_retry_attempts
    require_full_coverage read_from_replicas load_balancing_strategy
    single_connection_client nodes_flag address_remap redis_connect_func
    credential_provider cache cache_config event_dispatcher policy_resolver driver_info
    ssl_ocsp_context ssl_include_verify_flags ssl_exclude_verify_flags
    maint_notifications_config oss_cluster_maint_notifications_handler
    """.split()  # noqa: SIM905 - a list of fifty names is longer
)

Client = Union["redis.Redis[bytes]", "RedisCluster[bytes]"]
Address = Tuple[str, int]
#: Options of redis-py.
DriverOptions = Dict[str, Any]


class Deployment(NamedTuple):
    """Where the data is, and how to get in."""

    mode: str
    #: Addresses of the server, of nodes of the cluster, or of the sentinels.
    addresses: List[Address]
    #: The path of the unix socket instead of an address.
    socket_path: Optional[str]
    #: The name under which the sentinels know the master.
    service: str
    db: int
    #: User name, password and TLS for the data servers.
    access: DriverOptions
    #: The same for the sentinels.
    sentinel_access: DriverOptions
    #: Further options of the connections to data servers.
    client_options: DriverOptions

    def described(self) -> str:
        """How messages name the server."""
        places = ", ".join(f"{host}:{port}" for host, port in self.addresses)
        if self.mode == CLUSTER:
            return f"Redis cluster at {places}"
        if self.mode == SENTINEL:
            return f"Redis '{self.service}' (by Sentinel at {places}), db {self.db}"
        return f"Redis at {self.socket_path or places}, db {self.db}"

    def secrets(self) -> List[Optional[str]]:
        """Passwords that an error of the driver could show."""
        return [
            access.get(name)
            for access in (self.access, self.sentinel_access)
            for name in ("password", "ssl_password")
        ]

    def connect(self, timeout: float) -> Client:
        """A client. A cluster's has looked up the nodes, others do nothing yet.

        It never sends a command twice by itself: the second attempt of an append that was
        carried out would come back as a conflict, as if others had written. The caller
        has to count the attempts.

        Args:
            timeout: Seconds that a server may stay silent.

        Raises:
            StoreError: for a value in ``client_options`` that redis-py does not take.
        """
        try:
            return self._client(timeout)
        except (TypeError, ValueError) as error:
            if isinstance(error, UnicodeError):
                raise
            raise store_error(
                f"redis-py refuses the options of the tracker store: {error}. Correct "
                f"'client_options' in endpoints.yml."
            ) from None

    def _client(self, timeout: float) -> Client:
        # All addresses can be tried before the deadline of the call has passed.
        timeout_each = timeout / (len(self.addresses) + 1)
        never = never_again()
        reaching: DriverOptions = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout_each,
            "socket_keepalive": True,
            "socket_keepalive_options": _keepalive_options(),
        }
        if version() >= (5,):
            # redis-py 4.6 speaks protocol 2 alone; the replies of protocol 3 differ.
            reaching["protocol"] = 2
        to_data = {**reaching, **self.access, **self.client_options}
        if self.mode == CLUSTER:
            _let_clusters_verify(self.access)
            if version() < (6,):
                to_data["cluster_error_retry_attempts"] = 0
            try:
                return PartialCluster(
                    startup_nodes=[ClusterNode(*address) for address in self.addresses],
                    **never,
                    # Conversations on nodes that are up go on.
                    require_full_coverage=False,
                    **to_data,
                )
            except IndexError:  # redis-py 4.6's, while nodes have not met yet
                raise ClusterDownError("no node serves any slot yet") from None
        if self.mode == SENTINEL:
            to_sentinels = {**reaching, **self.sentinel_access}
            to_sentinels.update(socket_timeout=timeout_each, **never)
            master: redis.Redis[bytes] = Sentinel(
                self.addresses, sentinel_kwargs=to_sentinels
            ).master_for(self.service, db=self.db, **never, **to_data)
            return master
        host, port = self.addresses[0]
        return redis.Redis(
            host=host,
            port=port,
            unix_socket_path=self.socket_path,
            db=self.db,
            **never,
            **to_data,
        )


def disconnect(client: Client, *, in_use: bool = True) -> None:
    """Close a client's connections; it opens new ones when it is used again.

    Args:
        client: The client.
        in_use: Whether to close connections of calls that are under way, too.
    """
    if isinstance(client, RedisCluster):
        client.disconnect_connection_pools()
    else:
        pool = client.connection_pool
        pool.disconnect(inuse_connections=in_use)
        manager = getattr(pool, "sentinel_manager", None)
        for sentinel in manager.sentinels if manager else ():
            sentinel.connection_pool.disconnect(inuse_connections=in_use)


def deployment(values: Mapping[str, Any]) -> Deployment:
    """The deployment that the checked options describe.

    Raises:
        StoreError: for options that make no sense together.
    """
    mode: str = values["deployment_mode"]
    if mode == CLUSTER and not HAS_CLUSTERS:
        raise store_error(
            f"'deployment_mode: cluster' needs redis-py 4.4 or later, and this is "
            f"{redis.__version__}. Install it in the Python environment that runs Rasa, "
            f"although pip warns that Rasa asks for another: pip install "
            f'"redis>=4.5,<5". Under Rasa 3.1 and older, whose aiohttp does not load '
            f'otherwise, run this afterwards: pip install "async-timeout<4"'
        )
    url = parse_url(values["url"])
    client_options = _checked_client_options(mode, values["client_options"])
    db = url.db if url.db is not None else values["db"] or 0
    if mode == CLUSTER and db:
        if url.db:
            raise store_error(
                f"The option 'url' of the tracker store names database {db}, but a Redis "
                f"cluster has one database, which is 0. Correct it in endpoints.yml."
            )
        logger.warning("A Redis cluster has one database: 'db: %s' is ignored.", db)
        db = 0
    is_tls = values["use_ssl"] or url.is_tls
    sentinel_tls = is_tls if values["sentinel_ssl"] is None else values["sentinel_ssl"]
    sentinel_tls = mode == SENTINEL and sentinel_tls
    ssl_options = {n: v for n, v in client_options.items() if n.startswith("ssl_")}
    if not (is_tls or sentinel_tls):
        refuse_tls_without_tls(url)
        _refuse_without_tls(ssl_options)
    if url.socket_path and (mode != STANDARD or is_tls):
        raise store_error(
            "A unix socket is for one server without TLS: remove 'deployment_mode' "
            "and 'use_ssl' from endpoints.yml, or let 'url' name a host."
        )
    files = {
        name: url.tls.get(name) or values[name]
        for name in ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs")
    }
    tls = _tls({**ssl_options, **url.tls, **files})
    _warn(values, mode, tls, is_tls=is_tls, sentinel_tls=sentinel_tls)
    return Deployment(
        mode=mode,
        addresses=_addresses(mode, values["endpoints"], url.host, url.port, values),
        socket_path=url.socket_path,
        service=values["sentinel_service"],
        db=db,
        access={
            "username": url.username or values["username"],
            "password": url.password or values["password"],
            **(tls if is_tls else {}),
        },
        sentinel_access={
            "username": values["sentinel_username"],
            "password": values["sentinel_password"],
            **(tls if sentinel_tls else {}),
        },
        client_options={
            name: value
            for name, value in client_options.items()
            if name not in ssl_options
        },
    )


def _tls(given: DriverOptions) -> DriverOptions:
    """redis-py's options for TLS."""
    verification = given.get("ssl_cert_reqs", "required")
    # redis-py 4.6 does not check the host name unless told to.
    check_hostname = given.get("ssl_check_hostname", verification == "required")
    if check_hostname and verification == "none":
        raise store_error(
            "'ssl_check_hostname' of the tracker store needs 'ssl_cert_reqs: required'. "
            "Correct them in endpoints.yml."
        )
    return {
        **given,
        "ssl": True,
        "ssl_cert_reqs": verification,
        "ssl_check_hostname": check_hostname,
    }


def _warn(
    values: Mapping[str, Any],
    mode: str,
    tls: DriverOptions,
    *,
    is_tls: bool,
    sentinel_tls: bool,
) -> None:
    """Warn of options without effect, and of TLS that does not protect."""
    if mode == STANDARD and values["endpoints"]:
        logger.warning(
            "'endpoints' is ignored, because 'deployment_mode' is standard: 'url' and "
            "'port' name the server."
        )
    for name in ("sentinel_username", "sentinel_password", "sentinel_ssl"):
        if mode != SENTINEL and values[name] is not None:
            logger.warning("'%s' is ignored without 'deployment_mode: sentinel'.", name)
    if not (is_tls or sentinel_tls):
        files = ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs")
        if any(values[name] for name in files):
            logger.warning(
                "The connection to Redis is not encrypted: the certificates in "
                "endpoints.yml are used with 'use_ssl: true' only."
            )
        return
    if not tls["ssl_check_hostname"] or tls["ssl_cert_reqs"] != "required":
        logger.warning(
            "The connection to Redis is encrypted, but whoever is between Rasa and the "
            "server can read it and learn the password: the server's certificate or name "
            "is not verified. Remove 'ssl_cert_reqs' and 'ssl_check_hostname'."
        )
    if mode == SENTINEL and is_tls and not sentinel_tls:
        logger.warning(
            "The connection to the sentinels is not encrypted: whoever is between can "
            "name another server, which gets the password if a trusted authority has "
            "signed its certificate. Remove 'sentinel_ssl: false' when the sentinels "
            "speak TLS."
        )


def _addresses(
    mode: str,
    endpoints: List[Address],
    host: Optional[str],
    port: Optional[int],
    values: Mapping[str, Any],
) -> List[Address]:
    if endpoints and mode != STANDARD:
        return endpoints
    if mode == SENTINEL:
        raise store_error(
            "With 'deployment_mode: sentinel' the tracker store needs 'endpoints': a "
            "list of the sentinels, each as host:port."
        )
    return [(host or _DEFAULT_HOST, port or values["port"] or _DEFAULT_PORT)]


def _checked_client_options(mode: str, given: DriverOptions) -> DriverOptions:
    """``client_options``, if redis-py knows them and the store does not set them.

    Raises:
        StoreError: for any other option.
    """
    known = sorted(_driver_options(mode) - _SET_BY_STORE)
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        why = (
            "the store sets it itself"
            if name in _SET_BY_STORE
            else f"redis-py {redis.__version__} does not know it"
        )
        raise store_error(
            f"'client_options' of the tracker store must not have '{name}': {why}.{hint} "
            f"Correct it in endpoints.yml. It may have: {', '.join(known)}."
        )
    return given


def _driver_options(mode: str) -> Set[str]:
    """The names of all options that redis-py's client has for a deployment."""
    of_server = set(inspect.signature(redis.Redis.__init__).parameters)
    if mode != CLUSTER:
        return of_server
    return {
        *inspect.signature(RedisCluster.__init__).parameters,
        *cluster.REDIS_ALLOWED_KEYS,
        *(name for name in of_server if name.startswith("ssl_")),
    }


def _let_clusters_verify(access: DriverOptions) -> None:
    """Let redis-py 4.6 pass all options of TLS to the nodes of a cluster.

    It drops those that are not in its list, ``ssl_check_hostname`` among them, without a
    word. Then a node with any trusted certificate would get the password.
    """
    known = cluster.REDIS_ALLOWED_KEYS
    cluster.REDIS_ALLOWED_KEYS = (*known, *sorted({*access} - {*known}))


def _refuse_without_tls(ssl_options: DriverOptions) -> None:
    for name in ssl_options:
        raise store_error(
            f"'{name}' in 'client_options' of the tracker store needs 'use_ssl: true'. "
            f"Correct it in endpoints.yml."
        )


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
