"""The options of the Redis store, and the log that they make."""

from __future__ import annotations

import functools
from typing import Any, List, Mapping, Optional, Tuple

from rasa_trackers.backend import Backend, MadeLog
from rasa_trackers.errors import store_error
from rasa_trackers.redis.connection import CLUSTER, SENTINEL, STANDARD, deployment
from rasa_trackers.redis.keys import Namespace
from rasa_trackers.redis.log import RedisEventLog
from rasa_trackers.redis.urls import file_path
from rasa_trackers.store_options import (
    Option,
    flag,
    mapping,
    port_number,
    text,
    whole_number,
)

#: Calls to the server at one time; each takes about a millisecond.
_WORKERS = 8


def _mode(name: str, value: Any) -> str:
    mode = (text(name, value) or STANDARD).lower()
    if mode not in (STANDARD, CLUSTER, SENTINEL):
        raise store_error(
            f"The option '{name}' of the tracker store must be standard, cluster or "
            f"sentinel, not {value!r}. Correct it in endpoints.yml."
        )
    return mode


def _database(name: str, value: Any) -> Optional[int]:
    return whole_number(name, value, 0)


def _optional_flag(name: str, value: Any) -> Optional[bool]:
    return None if value is None or value == "" else flag(name, value)


def _service(name: str, value: Any) -> str:
    # Rasa Pro's default (rasa.core.redis_connection_factory, 3.21).
    return text(name, value) or "mymaster"


def _endpoints(name: str, value: Any) -> List[Tuple[str, int]]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise store_error(
            f"The option '{name}' of the tracker store must be a list of host:port, not "
            f"a {type(value).__name__}. Correct it in endpoints.yml."
        )
    return [_endpoint(name, endpoint) for endpoint in value]


def _endpoint(name: str, endpoint: Any) -> Tuple[str, int]:
    host, _, port = str(endpoint).rpartition(":")
    if "@" in host or "/" in host:
        # A password may stand before the @, so the entry is not shown.
        raise store_error(
            f"An entry of the option '{name}' of the tracker store has more than "
            f"host:port. Correct it in endpoints.yml, and set 'username' and 'password' "
            f"(or 'sentinel_password') as options of their own."
        )
    if not isinstance(endpoint, str) or not host or not port.isdecimal():
        raise store_error(
            f"{str(endpoint).rpartition('@')[2]!r} in the option '{name}' of the "
            f"tracker store is not a host:port. Correct it in endpoints.yml."
        )
    number = port_number(name, port)
    assert number is not None  # noqa: S101 - for mypy: the port is not empty
    return host.strip("[]"), number


def _in_url(name: str, value: Any) -> None:
    if value is not None:
        raise store_error(
            f"RedisTrackerStore takes '{name}' as a part of 'url' alone, as in "
            f"url: rediss://host:6379/0?{name}={_IN_URL[name]}. Correct the "
            f"tracker_store section of endpoints.yml."
        )


#: Options that only a URL has, with an example of a value.
_IN_URL = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}


def _make_log(values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    where = deployment(values)
    log = RedisEventLog(
        functools.partial(where.connect, values["timeout"]),
        Namespace(values["key_prefix"], with_rasa_1=where.mode != CLUSTER),
        name=where.described(),
        record_exp=values["record_exp"],
        keeps_users=keep_users,
    )
    prefix = values["key_prefix"]
    return MadeLog(
        log,
        workers=_WORKERS,
        secrets=where.secrets(),
        place=f"{log.name}, key_prefix '{prefix}'" if prefix else log.name,
    )


REDIS = Backend(
    "RedisTrackerStore",
    (
        Option(
            "url",
            text,
            None,
            "Host, `host:port`, the path of a unix socket, or a URL: "
            "`redis://user:password@host:port/db`, `rediss://...` for TLS, "
            "`unix:///path?db=0`. What a URL says goes before the other options. Its "
            "query may set `db`, `username`, `password`, `ssl_ca_certs`, "
            "`ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` (`required`, `optional`, "
            "`none`) and `ssl_check_hostname` (`true`, `false`). `localhost` unless "
            "given.",
        ),
        Option("port", port_number, None, "Port of the server; 6379 unless given."),
        Option("db", _database, 0, "Number of the database; a cluster has only 0."),
        Option("username", text, None, "ACL user; the default user unless given."),
        Option("password", text, None, "Password of the user."),
        Option(
            "key_prefix", text, None, "Keeps stores in one database apart; any text."
        ),
        Option("use_ssl", flag, False, "Whether to speak TLS."),
        Option(
            "ssl_ca_certs",
            file_path,
            None,
            "File with the authorities to trust; the system's unless given.",
        ),
        Option("ssl_certfile", file_path, None, "File with the client certificate."),
        Option(
            "ssl_keyfile", file_path, None, "File with the client certificate's key."
        ),
        Option(
            "deployment_mode", _mode, STANDARD, "`standard`, `cluster` or `sentinel`."
        ),
        Option(
            "endpoints",
            _endpoints,
            None,
            "The sentinels, or nodes of the cluster (otherwise `url` and `port` name "
            "one), each as `host:port`.",
        ),
        Option(
            "sentinel_service",
            _service,
            None,
            "Name that the sentinels have for the master; `mymaster` unless given.",
        ),
        Option("sentinel_username", text, None, "ACL user of the sentinels."),
        Option(
            "sentinel_password",
            text,
            None,
            "Password of the sentinels, which may differ from the data servers'.",
        ),
        Option(
            "sentinel_ssl",
            _optional_flag,
            None,
            "Whether to speak TLS with the sentinels, with the same certificates; as "
            "`use_ssl` unless given.",
        ),
        Option(
            "client_options",
            mapping,
            None,
            "Further options of redis-py's client, such as `client_name`, "
            "`health_check_interval`, `max_connections` or `ssl_ca_path`.",
        ),
        *(
            Option(name, _in_url, None, "Not an option: a part of `url`.")
            for name in _IN_URL
        ),
    ),
    _make_log,
    environment=("SSL_CERT_",),
)
