"""Rasa's own Redis store: one key a conversation, whose value is JSON text.

The text is ``Dialogue.as_dict()`` (3.6.21), with the user in Rasa Pro (3.21), which also
keeps a sorted set of the conversations of each user.
"""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set

from rasa_trackers.cli.dialogues import Dialogue, DialogueLog
from rasa_trackers.errors import store_error
from rasa_trackers.event_log import Failure, User
from rasa_trackers.redis.batches import in_batches
from rasa_trackers.redis.legacy import dialogue_of, legacy_user
from rasa_trackers.redis.scripts import Script, sha1_of

#: Sets a value if it is still as it was read.
#:
#: ARGV[1]: SHA-1 of the value; '' for none. ARGV[2]: the new value; '' erases it.
#: ARGV[3]: milliseconds to live; '' for ever, 'keep' as before.
_SET = b"""
local seen = redis.call('GET', KEYS[1])
if (seen and redis.sha1hex(seen) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
elseif ARGV[3] == 'keep' then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
elseif ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
#: Sets the date at which a value expires, if it is still as it was written.
_EXPIRE = b"""
local seen = redis.call('GET', KEYS[1])
if not seen or redis.sha1hex(seen) ~= ARGV[1] then return 0 end
return redis.call('PEXPIREAT', KEYS[1], ARGV[2])
"""


def rasas_prefix(key_prefix: Optional[str]) -> str:
    """What each key begins with. Rasa ignores a prefix that is not alphanumeric."""
    is_used = bool(key_prefix) and str(key_prefix).isalnum()
    return f"{key_prefix}:tracker:" if is_used else "tracker:"


class RasasRedisLog(DialogueLog):
    """Conversations in the keys of Rasa's own Redis store."""

    def __init__(self, log: Any, prefix: str, record_exp: Optional[float]) -> None:
        """Use the connections of a log of this package.

        Args:
            log: The log, which is not opened: it would continue conversations its way.
            prefix: What each key begins with.
            record_exp: Seconds after its last append that a conversation expires.
        """
        self.name = f"{log.name} (Rasa's own format)"
        #: The log of this package at the same server.
        self.backends_log = log
        self._transport = log.transport
        self._prefix = prefix
        self._users_prefix = f"{prefix.partition('tracker:')[0]}user_trackers:"
        self._life = None if record_exp is None else max(1, int(record_exp * 1000))
        self._set = Script.of_text(_SET)
        self._expire = Script.of_text(_EXPIRE)

    def open(self) -> None:
        self._transport.execute("GET", self._key(""))

    def _key(self, sender_id: str) -> bytes:
        try:
            return f"{self._prefix}{sender_id}".encode()
        except UnicodeEncodeError:
            raise store_error(
                f"{self.name} cannot have the sender id {sender_id!r}: it has half a "
                f"surrogate pair."
            ) from None

    def read(self, sender_id: str) -> Dialogue:
        text = self._transport.execute("GET", self._key(sender_id))
        if text is None:
            return Dialogue([], None, None)
        dialogue = dialogue_of(text)
        if dialogue is None:
            raise store_error(
                f"{self.name} has a damaged conversation {sender_id!r}. Restore its key "
                f"from a backup, or delete it."
            )
        events = [json.dumps(event) for event in dialogue["events"]]
        return Dialogue(events, legacy_user(text), sha1_of(text))

    def write(
        self,
        sender_id: str,
        seen: Dialogue,
        events: List[Dict[str, Any]],
        user: Optional[User],
        *,
        keep_expiry: bool,
    ) -> bool:
        value: Dict[str, Any] = {"events": events, "name": sender_id}
        if user is not None:
            value.update(
                user_id=user.user_id,
                conversation_started_timestamp=user.conversation_started,
                current_session_id=None,
                sender_id=sender_id,
            )
        life = "keep" if keep_expiry else self._life or ""
        is_done = self._transport.evaluate(
            self._set,
            [self._key(sender_id)],
            seen.version or "",
            json.dumps(value) if events else "",
            life,
        )
        if not is_done:
            return False
        if not events and seen.user is not None:
            self._transport.execute("ZREM", self._users(seen.user), sender_id)
        elif events and user is not None and not keep_expiry:
            until = math.inf if self._life is None else time.time() + self._life / 1000
            self._transport.execute("ZADD", self._users(user), until, sender_id)
        return True

    def _users(self, user: User) -> bytes:
        return f"{self._users_prefix}{user.user_id}".encode()

    def sender_ids(self) -> Iterator[Sequence[str]]:
        pattern = _escaped(self._prefix) + b"*"
        begin = len(self._prefix.encode())
        seen: Set[str] = set()
        for keys in self._transport.scan(pattern):
            found = dict.fromkeys(
                key[begin:].decode("utf-8", "replace") for key in keys
            )
            yield [each for each in found if each not in seen]
            seen.update(found)

    def delete(self, sender_id: str) -> bool:
        text = self._transport.execute("GETDEL", self._key(sender_id))
        user = legacy_user(text) if text else None
        if user is not None:
            self._transport.execute("ZREM", self._users(user), sender_id)
        return text is not None

    def expires_at(self, sender_ids: Sequence[str]) -> Dict[str, float]:
        """When conversations expire, those that do."""
        lives = self._transport.execute_all(
            [("PTTL", self._key(sender_id)) for sender_id in sender_ids]
        )
        now = self._transport.server_time()
        return {
            sender_id: (now + life) / 1000
            for sender_id, life in zip(sender_ids, lives)
            if life is not None and life >= 0
        }

    def set_expires_at(self, sender_id: str, end: int, expires_at: float) -> None:
        """Let a conversation expire then, if it still ends at ``end``."""
        seen = self.read(sender_id)
        if len(seen.events) == end:
            self._transport.evaluate(
                self._expire,
                [self._key(sender_id)],
                seen.version,
                int(expires_at * 1000),
            )

    def traces(self, sender_ids: Sequence[str]) -> Iterator[Dict[str, Dict[str, int]]]:
        """What is stored of conversations, by the kind of key."""
        for batch in in_batches(sender_ids):
            replies = self._transport.execute_all(
                [("EXISTS", self._key(sender_id)) for sender_id in batch]
            )
            yield {
                sender_id: {f"key {self._prefix}...": reply or 0}
                for sender_id, reply in zip(batch, replies)
            }
        names = {sender_id.encode(): sender_id for sender_id in sender_ids}
        for keys in self._transport.scan(_escaped(self._users_prefix) + b"*"):
            members = self._transport.execute_all(
                [("ZRANGE", key, 0, -1) for key in keys]
            )
            found = {
                names[name] for each in members for name in each or () if name in names
            }
            yield {sender_id: {"users": 1} for sender_id in found}

    def classify(self, error: Exception) -> Optional[Failure]:
        failure: Optional[Failure] = self.backends_log.classify(error)
        return failure

    def close(self) -> None:
        self.backends_log.close()


def _escaped(prefix: str) -> bytes:
    return re.sub(r"([\\*?\[\]])", r"\\\1", prefix).encode()
