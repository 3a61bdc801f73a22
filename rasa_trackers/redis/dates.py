"""Expiry dates of conversations in Redis, to take them along to another store."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from rasa_trackers.redis.lists import user_in
from rasa_trackers.redis.scripts import Script

#: Sets the date of a log that still ends where it did.
#:
#: ARGV[1]: the position of its last event. ARGV[2]: milliseconds since the epoch.
_EXPIRE = Script.of_text(
    b"""
local header = redis.call('LINDEX', KEYS[1], 0)
local number = header and string.match(header, '^%d+')
if not number then return 0 end
local last = tonumber(number) + redis.call('LLEN', KEYS[1]) - 1
if last ~= tonumber(ARGV[1]) then return 0 end
return redis.call('PEXPIREAT', KEYS[1], ARGV[2])
"""
)


def expires_at(log: Any, sender_ids: Sequence[str]) -> Dict[str, float]:
    """When conversations expire, those that do; in seconds since the epoch."""
    transport, namespace = log.transport, log.namespace
    lives = transport.execute_all(
        [("PTTL", namespace.of(sender_id).log) for sender_id in sender_ids]
    )
    dated = {
        sender_id: life
        for sender_id, life in zip(sender_ids, lives)
        if life is not None and life >= 0
    }
    now = transport.server_time() if dated else 0
    return {sender_id: (now + life) / 1000 for sender_id, life in dated.items()}


def set_expires_at(log: Any, sender_id: str, end: int, expires_at: float) -> None:
    """Let a conversation expire then, if it still ends at ``end``."""
    _keep_index_entry(log, sender_id, expires_at)
    log.transport.evaluate(
        _EXPIRE,
        [log.namespace.of(sender_id).log],
        end,
        int(expires_at * 1000),
    )


def _keep_index_entry(log: Any, sender_id: str, expires_at: float) -> None:
    """Let the user's index name a conversation for as long as it will live."""
    transport, namespace = log.transport, log.namespace
    header = transport.execute("LINDEX", namespace.of(sender_id).log, 0)
    user = user_in(header) if log.keeps_users else None
    if user is not None:
        life = max(1, int(expires_at * 1000) - transport.server_time())
        log._index.add(user.user_id, sender_id, life)  # noqa: SLF001
