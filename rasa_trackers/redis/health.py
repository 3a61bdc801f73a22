"""What a Redis server says about itself, for an operator."""

from __future__ import annotations

from collections import Counter
from typing import AbstractSet, Any, Dict, Iterator, List, Optional, Sequence

import redis

from rasa_trackers.health import ERROR, OK, WARNING, Fact
from rasa_trackers.redis.batches import in_batches
from rasa_trackers.redis.scripts import Script

#: The commands of the scripts in ``lua/`` that write, on logs and on indexes of users.
_ON_LOGS = (b"DEL", b"LSET", b"PERSIST", b"PEXPIRE", b"RPUSH")
_ON_INDEXES = (b"PERSIST", b"PEXPIRE", b"ZADD", b"ZREM")
_UNKNOWN = b"?"
#: Which commands the user may not run on KEYS[1]; "?" before Redis 7, which cannot tell.
_REFUSED = Script.of_text(
    b"""
if not redis.acl_check_cmd then return {'?'} end
local refused = {}
for _, command in ipairs(ARGV) do
    if not redis.acl_check_cmd(command, KEYS[1], '1', '1') then
        table.insert(refused, command)
    end
end
return refused
"""
)

#: Redis releases that the scripts need.
_OLDEST = (6, 2)


def ping(log: Any) -> None:
    """One round trip to the server."""
    log.transport.execute("EXISTS", log.namespace.of("").log)


def facts(log: Any) -> Iterator[Fact]:
    """What is known about the server of a log."""
    transport = log.transport
    # Any conversation shows whether the user may run scripts on such keys.
    ping(log)
    info = transport.info()
    yield _version(info)
    yield _tls(transport)
    yield _role(info)
    yield _rights(log)
    yield from _durability(transport, info)
    yield from _memory(info)


def _version(info: Dict[str, Any]) -> Fact:
    if not info:
        return Fact("server", "not told: the user may not run INFO")
    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version") or "?")
    numbers = [int(part) for part in str(info.get("redis_version", "0")).split(".")[:2]]
    is_old = tuple(numbers) < _OLDEST
    mode = info.get("redis_mode", "standalone")
    return Fact(
        "server",
        f"{name} {version}, {mode}",
        ERROR if is_old else OK,
        "The store needs Redis 6.2 or newer." if is_old else "",
    )


def _tls(transport: Any) -> Fact:
    with transport.connected() as client:
        pool = getattr(client, "connection_pool", None)
        options = getattr(pool, "connection_kwargs", {}) if pool else {}
        kind = getattr(pool, "connection_class", None)
        is_cluster_tls = bool(
            getattr(
                getattr(client, "nodes_manager", None), "connection_kwargs", {}
            ).get("ssl")
        )
    is_tls = "SSL" in getattr(kind, "__name__", "") or is_cluster_tls
    if is_tls:
        return Fact("TLS", "yes")
    host = str(options.get("host", "localhost" if options.get("path") else ""))
    if host in ("localhost", "127.0.0.1", "::1"):
        return Fact("TLS", "no; the connection does not leave this machine")
    return Fact("TLS", "no", WARNING, "Let 'url' begin with rediss://.")


def _role(info: Dict[str, Any]) -> Fact:
    if info.get("role") == "slave":
        return Fact(
            "role", "a replica, which is read-only", ERROR, "Let 'url' name the master."
        )
    replicas = int(info.get("connected_slaves", 0) or 0)
    return Fact("role", f"master with {replicas} replicas")


def _rights(log: Any) -> Fact:
    namespace = log.namespace
    lacking = [
        *_refused(log, namespace.of("").log, _ON_LOGS),
        *(
            _refused(log, namespace.of_user("").conversations, _ON_INDEXES)
            if log.keeps_users
            else ()
        ),
    ]
    if lacking == [_UNKNOWN] * len(lacking) and lacking:
        return Fact("rights", "may run scripts; more is told from Redis 7 on")
    if lacking:
        commands = " ".join(f"+{name.decode().lower()}" for name in lacking)
        return Fact(
            "rights",
            f"may not run {commands.replace('+', '')} on the store's keys",
            ERROR,
            f"Let an administrator add {commands} to the rules of the ACL user.",
        )
    return Fact("rights", "may read and write")


def _refused(log: Any, key: bytes, commands: Sequence[bytes]) -> List[bytes]:
    """Those commands that the user may not run on a key."""
    reply = log.transport.evaluate(_REFUSED, [key], *commands)
    return list(reply)


def _durability(transport: Any, info: Dict[str, Any]) -> Iterator[Fact]:
    settings: Dict[str, Optional[str]] = {}
    for name in ("appendonly", "appendfsync", "save", "maxmemory-policy"):
        settings[name] = _setting(transport, name)
    appends = settings["appendonly"]
    if appends is None:
        enabled = info.get("aof_enabled")
        appends = {1: "yes", 0: "no"}.get(enabled) if enabled is not None else None
    if appends == "no":
        saves = settings["save"]
        how = f"save: {saves}" if saves else "and no snapshots"
        yield Fact(
            "appendonly",
            f"no; {how}",
            WARNING,
            "A restart of the server loses the newest conversations. Set appendonly to "
            "yes.",
        )
    else:
        yield Fact("appendonly", appends or "not told: the user may not ask")
    fsync = settings["appendfsync"]
    if appends == "yes" and fsync is not None:
        remedy = {
            "everysec": "A crash of the machine loses the last second. For none, set "
            "appendfsync to always.",
            "no": "A crash of the machine loses up to half a minute. Set appendfsync to "
            "everysec or always.",
        }.get(fsync, "")
        yield Fact("appendfsync", fsync, WARNING if fsync == "no" else OK, remedy)


def _setting(transport: Any, name: str) -> Optional[str]:
    try:
        with transport.connected() as client:
            found = client.config_get(name)
    except redis.ResponseError:
        return None  # managed services and strict users allow no CONFIG
    value = next(iter(found.values()), None) if isinstance(found, dict) else None
    if isinstance(value, dict):  # of a cluster: one for each node
        value = next(iter(value.values()), None)
    return None if value is None else str(value)


def _memory(info: Dict[str, Any]) -> Iterator[Fact]:
    policy, limit = (
        str(info.get("maxmemory_policy", "")),
        int(info.get("maxmemory") or 0),
    )
    used = int(info.get("used_memory") or 0)
    if not info:
        return
    is_bad = policy not in ("noeviction", "")
    level = OK
    if is_bad:
        level = ERROR if limit else WARNING
    yield Fact(
        "maxmemory-policy",
        policy or "not told",
        level,
        "The server deletes conversations when its memory is full. Set it to noeviction."
        if is_bad
        else "",
    )
    is_full = bool(limit) and used > 0.9 * limit
    yield Fact(
        "memory",
        f"{used:,} bytes" + (f" of {limit:,}" if limit else ""),
        WARNING if is_full else OK,
        "Raise maxmemory or erase conversations." if is_full else "",
    )


def count_events(log: Any) -> Iterator[int]:
    """How many events are stored in logs; those of Rasa's own values are not counted."""
    transport, namespace = log.transport, log.namespace
    for sender_ids in log.sender_ids():
        yield 0
        for batch in in_batches(list(sender_ids)):
            lengths = transport.execute_all(
                [("LLEN", namespace.of(sender_id).log) for sender_id in batch]
            )
            yield sum(length - 1 for length in lengths if length)


def traces(log: Any, sender_ids: Sequence[str]) -> Iterator[Dict[str, Dict[str, int]]]:
    """What is stored of conversations, by the kind of key."""
    transport, namespace = log.transport, log.namespace
    for batch in in_batches(sender_ids):
        keys = [namespace.of(sender_id) for sender_id in batch]
        commands = [("EXISTS", each.log) for each in keys]
        commands += [("EXISTS", each.legacy) for each in keys]
        replies = transport.execute_all(commands)
        yield {
            each.sender_id: {
                "list": is_log or 0,
                "key of Rasa's own store": is_rasas or 0,
            }
            for each, is_log, is_rasas in zip(keys, replies, replies[len(keys) :])
        }
        maybe_rasa_1 = [each.sender_id for each in keys if each.rasa_1]
        found = log._scanner._rasa_1s(maybe_rasa_1)  # noqa: SLF001
        yield {sender_id: {"key of Rasa 1": 1} for sender_id in found}
    yield from _index_entries(log, set(sender_ids))


def _index_entries(
    log: Any, sender_ids: AbstractSet[str]
) -> Iterator[Dict[str, Dict[str, int]]]:
    """In how many indexes of users conversations stand, those of Rasa Pro included."""
    transport, namespace = log.transport, log.namespace
    names = {sender_id.encode(): sender_id for sender_id in sender_ids}
    for pattern in namespace.patterns_of_indexes():
        for keys in transport.scan(pattern):
            members = transport.execute_all([("ZRANGE", key, 0, -1) for key in keys])
            found = Counter(
                names[name] for each in members for name in each or () if name in names
            )
            yield {
                sender_id: {"indexes of users": number}
                for sender_id, number in found.items()
            }
