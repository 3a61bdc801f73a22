"""Event logs in Redis lists."""

from __future__ import annotations

import json
import logging
import threading
from typing import Callable, Iterator, List, Optional, Sequence, Union

import redis

from rasa_trackers.event_log import (
    START,
    Conversation,
    Entry,
    EventLog,
    Failure,
    Page,
    User,
)
from rasa_trackers.redis.connection import Client
from rasa_trackers.redis.failures import (
    MOST_ROUNDS,
    contention_error,
    failure_of,
    wrong_type,
)
from rasa_trackers.redis.keys import Namespace, is_storable
from rasa_trackers.redis.legacy import (
    LegacyMigration,
    dialogue_of,
    legacy_events,
    legacy_user,
    legacy_value,
)
from rasa_trackers.redis.lists import page_of
from rasa_trackers.redis.scanning import Scanner
from rasa_trackers.redis.scripts import DELETE, READ_BACK, WRITE, sha1_of
from rasa_trackers.redis.transport import Transport
from rasa_trackers.redis.user_conversations import UserConversations
from rasa_trackers.redis.user_index import Life, Looked, UserIndex, user_id_in

logger = logging.getLogger(__name__)

#: Redis counts expiry in milliseconds, in 64 bits.
_LONGEST_LIFE = 10**15

#: A script's reply that says what to do before the next try begins with this number.
_PREPARE = -1

#: Replies of the server to one call of ``purge_expired``.
_PURGE_STEPS = 100


class RedisEventLog(EventLog):
    """Event logs in Redis lists, one key a conversation.

    Each method that reads or writes a log is a script, which is one step in the server:
    no other command comes in between. The user stands in the list itself, so it is
    written with the events and expires with them. See ``lua/common.lua``.

    Redis erases what has expired by itself. ``purge_expired`` removes sender ids that
    expired conversations leave in the indexes of users: see ``user_index``.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        namespace: Namespace,
        *,
        name: str,
        record_exp: Optional[float] = None,
        keeps_users: bool = True,
    ) -> None:
        """Keep logs at a server.

        Args:
            connect: Makes a client.
            namespace: The names of the keys.
            name: How messages name the server.
            record_exp: Seconds after its last append that a conversation expires.
            keeps_users: Whether to keep the users of conversations.
        """
        self.name = name
        self.keeps_users = keeps_users
        #: The names of keys.
        self.namespace = namespace
        self._life: Life = ""
        if record_exp is not None:
            self._life = max(1, int(min(record_exp * 1000, _LONGEST_LIFE)))
        #: Runs commands on the server.
        self.transport = Transport(connect)
        self._index = UserIndex(self.transport, namespace)
        self._migration = LegacyMigration(self.transport, self._index, name=name)
        self._scanner = Scanner(self.transport, namespace)
        self._users = UserConversations(
            self.transport, namespace, self._index, self._migration
        )
        self._purge = self._index.purge()
        self._purging = threading.Lock()

    def open(self) -> None:
        # Any conversation shows whether the user may run scripts on such keys.
        self.read_back("", limit=1)
        info = self.transport.info()
        if info.get("role") == "slave":
            raise redis.ReadOnlyError("the server is a replica")
        policy = str(info.get("maxmemory_policy", ""))
        if info.get("maxmemory") and (
            policy.startswith("allkeys")
            or (policy.startswith("volatile") and self._life)
        ):
            logger.warning(
                "%s deletes conversations when its memory is full, because its "
                "maxmemory-policy is %s. Set it to noeviction.",
                self.name,
                policy,
            )

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        return self._write("append", sender_id, entries, after, user)

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        return self._write("replace", sender_id, entries, after, user)

    def _write(
        self,
        how: str,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        user_json, started_json = ("", "")
        if user is not None and self.keeps_users:
            # An error for half a surrogate pair: JSON would join two halves.
            user.user_id.encode()
            user_json, started_json = map(json.dumps, user)
        added_to, kept, life = "", b"", self._life
        looked_up: Optional[Looked] = None
        looked_up_json = b""
        if user_json and after == START and entries:
            # The script would ask for it.
            added_to = user_json
            kept = self._index.add(_user_id(added_to), sender_id, life)
        for _ in range(MOST_ROUNDS):
            reply = self._migration.evaluate(
                WRITE,
                self.namespace.of(sender_id),
                *(how, after, self._life, user_json, started_json),
                *(added_to, kept, looked_up_json),
                *(entry.data for entry in entries),
            )
            if reply is None or reply[0] != _PREPARE:
                break
            _, to_add, life, to_look_up = reply
            if to_add:
                added_to = to_add
                kept = self._index.add(_user_id(to_add), sender_id, life)
            if to_look_up:
                looked_up_json = to_look_up
                looked_up = self._index.look_up(_user_id(to_look_up), sender_id)
        else:
            raise contention_error()
        if reply is None:
            return None
        position, is_new, date = reply
        if looked_up is not None and date != b"":
            self._index.end(looked_up, sender_id, date or "")
        if is_new:
            self._index.add(_user_id(added_to), sender_id, life)
        return int(position)

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        reply = self._migration.evaluate(
            READ_BACK,
            self.namespace.of(sender_id),
            "" if limit is None else limit,
            "" if before is None else before,
            # A text of a whole log would double what the script holds of it.
            "" if limit is None else "text",
        )
        return page_of(reply, with_user=self.keeps_users)

    def delete(self, sender_id: str) -> bool:
        keys = self.namespace.of(sender_id)
        known = erasable = user_json = ""
        looked_up: List[Looked] = []
        for _ in range(MOST_ROUNDS):
            reply = self.transport.evaluate(
                DELETE,
                (keys.log, keys.legacy),
                *(keys.rasa_1, known, erasable, user_json),
            )
            legacy = legacy_value(reply)
            if legacy is not None:
                key, text = legacy
                known += sha1_of(text)
                # Damaged text at Rasa's key is this conversation's, too.
                is_damaged = key == keys.legacy and dialogue_of(text) is None
                if is_damaged or legacy_events(text, keys) is not None:
                    erasable += sha1_of(text)
                    user = legacy_user(text)
                    if user is not None:
                        looked_up.append(self._index.look_up(user.user_id, sender_id))
            elif isinstance(reply, list):
                user_json = reply[1]
                user_id = user_id_in(user_json)
                if user_id is not None and is_storable(user_id):
                    looked_up.append(self._index.look_up(user_id, sender_id))
            else:
                for entry in looked_up:
                    self._index.remove(entry, sender_id)
                return bool(reply)
        raise contention_error()

    def sender_ids(self) -> Iterator[Sequence[str]]:
        return self._scanner.sender_ids()

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        return self._scanner.count_conversations(after_timestamp)

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        if not self.keeps_users:
            return []
        return self._users.of(user_id, limit, skip)

    def purge_expired(self) -> int:
        if not self.keeps_users:
            return 0
        with self._purging:
            removed = 0
            for _ in range(_PURGE_STEPS):
                step = next(self._purge, None)
                if step is None:
                    self._purge = self._index.purge()
                    break
                removed += step
            return removed

    def classify(self, error: Exception) -> Optional[Failure]:
        return failure_of(error)

    def part_of(self, sender_id: str) -> str:
        if not self.transport.has_nodes or not is_storable(sender_id):
            return ""
        return self.transport.node_of(self.namespace.of(sender_id).log)

    def find_parts(self) -> None:
        self.transport.find_nodes()

    def close(self) -> None:
        self.transport.close()


def _user_id(text: Union[bytes, str]) -> str:
    user_id = user_id_in(text)
    if user_id is None:
        raise wrong_type()
    return user_id
