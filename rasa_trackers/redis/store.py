"""``RedisTrackerStore``: its options."""

from __future__ import annotations

import functools
from typing import Any, List, Optional

from rasa_trackers import options
from rasa_trackers.rasa_versions import Domain
from rasa_trackers.redis.connection import CLUSTER, deployment
from rasa_trackers.redis.keys import Namespace
from rasa_trackers.redis.log import RedisEventLog
from rasa_trackers.tracker_store import EventLogTrackerStore, never_falls_back

#: Calls to the server at one time; they take a millisecond each.
_WORKERS = 8


class RedisTrackerStore(EventLogTrackerStore):
    """Keeps conversations in Redis or Valkey.

    The options have the meaning of those of Rasa's and Rasa Pro's own
    ``RedisTrackerStore``, whose conversations are continued.
    """

    @never_falls_back
    def __init__(
        self,
        domain: Optional[Domain] = None,
        url: Optional[str] = None,
        event_broker: Optional[Any] = None,
        *,
        host: Optional[str] = None,
        port: Optional[int] = None,
        db: int = 0,
        username: Optional[str] = None,
        password: Optional[str] = None,
        record_exp: Optional[float] = None,
        key_prefix: Optional[str] = None,
        use_ssl: bool = False,
        ssl_keyfile: Optional[str] = None,
        ssl_certfile: Optional[str] = None,
        ssl_ca_certs: Optional[str] = None,
        deployment_mode: str = "standard",
        endpoints: Optional[List[str]] = None,
        sentinel_service: Optional[str] = None,
        timeout: float = options.DEFAULT_TIMEOUT,
        startup_timeout: Optional[float] = None,
        retrieve_events_from_previous_conversation_sessions: bool = False,
        **unknown: Any,
    ) -> None:
        """Connect to the server.

        Args:
            domain: The assistant's domain; Rasa sets it later.
            url: Host of the server, ``host:port``, or a URL: ``redis://``, ``rediss://``
                for TLS, ``unix://``. What a URL says goes before the other options.
                ``localhost`` unless given.
            event_broker: Where new events are published, or ``None``.
            host: Another name of ``url``; Rasa 3 passes that one.
            port: Port of the server; 6379 unless given.
            db: Number of the database.
            username: ACL user; the default user unless given.
            password: Password of the user.
            record_exp: Seconds after its last message that a conversation is erased.
            key_prefix: Keeps stores in one database apart.
            use_ssl: Whether to speak TLS.
            ssl_keyfile: File with the key of the client certificate.
            ssl_certfile: File with the client certificate.
            ssl_ca_certs: File with the authorities to trust; the system's unless given.
            deployment_mode: ``standard`` for one server, ``cluster``, or ``sentinel``.
            endpoints: Nodes of the cluster, or the sentinels, each as ``host:port``.
            sentinel_service: Name that the sentinels have for the master; ``mymaster``
                unless given.
            timeout: Seconds that the server may stay silent in any call.
            startup_timeout: Seconds to wait now for a server that is not up yet;
                ``timeout`` unless given.
            retrieve_events_from_previous_conversation_sessions: Whether ``retrieve``
                gives all sessions instead of the last one.
            unknown: Refused.

        Raises:
            ConnectionException: when the server could not be reached in time.
            RasaException: for an option that is unknown or has no sensible value, and
                all that the server refuses.
        """
        options.reject_unknown(type(self), unknown)
        timeout = options.timeout(timeout)
        expiry = options.seconds("record_exp", record_exp, None)
        where = deployment(
            url=options.url_or_host(url, host),
            port=port,
            db=db,
            username=username,
            password=password,
            use_ssl=use_ssl,
            ssl_keyfile=ssl_keyfile,
            ssl_certfile=ssl_certfile,
            ssl_ca_certs=ssl_ca_certs,
            deployment_mode=deployment_mode,
            endpoints=endpoints,
            sentinel_service=sentinel_service,
        )
        log = RedisEventLog(
            functools.partial(where.connect, timeout),
            Namespace(
                options.text("key_prefix", key_prefix),
                with_rasa_1=where.mode != CLUSTER,
            ),
            name=where.described(),
            record_exp=expiry,
        )
        super().__init__(
            domain,
            event_broker,
            log,
            timeout=timeout,
            startup_timeout=options.timeout(
                startup_timeout, "startup_timeout", timeout
            ),
            workers=_WORKERS,
            record_exp=expiry,
            retrieve_events_from_previous_conversation_sessions=options.flag(
                "retrieve_events_from_previous_conversation_sessions",
                retrieve_events_from_previous_conversation_sessions,
            ),
            secrets=[where.password],
        )
