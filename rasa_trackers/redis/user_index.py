"""The index of each user: which conversations may be that user's.

Whose conversation it is stands in the conversation's list. An entry of an index means
nothing by itself: a reader checks it against the list. An entry is made before a
conversation gets its user, and once more afterwards; if the conversation was erased in
between, its entry was erased too. So no conversation is ever missing.

An entry ends with its conversation. For a conversation that expires, it has a date: the
conversation's own, and a reserve, which is as long as the conversation's life but at most
an hour. While the reserve lasts, appends need not touch the index. Entries whose date has
passed go with the next entry of the user, with ``purge_expired``, or with the index
itself, which expires with its last entry.
"""

from __future__ import annotations

import json
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from rasa_trackers.redis.batches import in_batches
from rasa_trackers.redis.keys import Namespace, UserKeys
from rasa_trackers.redis.scripts import INDEX_ADD, INDEX_LOOK_UP, INDEX_REMOVE
from rasa_trackers.redis.transport import Transport

#: Milliseconds by which an entry may outlive its conversation, at most.
_RESERVE = 3_600_000
#: Seconds after which an entry without a date that leads nowhere counts as left over by
#: a writer that died before its append.
_GRACE = 3600
#: The lowest score that is a date, as in ``lua/index_common.lua``.
_FIRST_DATE = "1e11"

#: Milliseconds that a conversation lives; empty for ever.
Life = Union[int, bytes, str]


class Looked(NamedTuple):
    """An index entry as it was when it was looked up."""

    user_id: str
    #: ``None`` if there was no entry.
    score: Optional[bytes]


def kept(life: Life) -> Life:
    """How long an entry is kept whose conversation lives that long."""
    return int(life) + min(int(life), _RESERVE) if life else ""


class UserIndex:
    """The indexes of all users."""

    def __init__(self, transport: Transport, namespace: Namespace) -> None:
        """Work on the indexes of one store.

        Args:
            transport: How to reach the server.
            namespace: The names of the keys.
        """
        self._transport = transport
        self._namespace = namespace

    def add(self, user_id: str, sender_id: str, life: Life) -> bytes:
        """Note that a conversation may be a user's.

        Args:
            user_id: The user.
            sender_id: The conversation.
            life: How long the conversation will live.

        Returns:
            Until when the entry is kept: milliseconds since the epoch, or ``null``.
        """
        keys = self._namespace.of_user(user_id)
        found: bytes = self._transport.evaluate(INDEX_ADD, keys, sender_id, kept(life))
        return found

    def look_up(self, user_id: str, sender_id: str) -> Looked:
        """The entry of a conversation, to know later whether it has changed."""
        keys = self._namespace.of_user(user_id)
        return Looked(user_id, self._transport.evaluate(INDEX_LOOK_UP, keys, sender_id))

    def remove(self, entry: Looked, sender_id: str) -> None:
        """Remove an entry, unless it has changed."""
        self.end(entry, sender_id, "")

    def end(self, entry: Looked, sender_id: str, date: Union[bytes, str]) -> None:
        """Let an entry end at a date, unless it has changed.

        Args:
            entry: The entry as it was looked up.
            sender_id: The conversation.
            date: Milliseconds since the epoch; "" for now.
        """
        if entry.score is not None:
            index = self._namespace.of_user(entry.user_id).conversations
            arguments = ("", date, sender_id, entry.score)
            self._transport.evaluate(INDEX_REMOVE, [index], *arguments)

    def entries(self, user_id: str) -> List[Tuple[bytes, Dict[bytes, bytes]]]:
        """The user's index and that of Rasa Pro's own store, each with its key.

        An index is its scores by sender ids.
        """
        keys: UserKeys = self._namespace.of_user(user_id)
        replies = self._transport.execute_all(
            [("ZRANGE", key, 0, -1, "WITHSCORES") for key in keys]
        )
        return [
            (key, dict(zip(reply[::2], reply[1::2])) if reply else {})
            for key, reply in zip(keys, replies)
        ]

    def remove_due(self, index: bytes, entries: Dict[bytes, bytes]) -> int:
        """Remove entries that lead nowhere, as far as nobody can need them any more.

        Args:
            index: The key of the index.
            entries: Scores by sender ids.

        Returns:
            How many were removed.
        """
        removed = 0
        for batch in in_batches(entries.items()):
            pairs = [value for pair in batch for value in pair]
            removed += self._transport.evaluate(
                INDEX_REMOVE, [index], _GRACE, "", *pairs
            )
        return removed

    def purge(self) -> Iterator[int]:
        """Remove the entries of all indexes whose date has passed.

        Yields:
            How many were removed, after each reply of the server.
        """
        for keys in self._transport.scan(self._namespace.pattern_of_indexes()):
            now = self._transport.server_time() if keys else 0
            commands = [
                ("ZRANGE", key, _FIRST_DATE, now, "BYSCORE", "WITHSCORES")
                for key in keys
            ]
            removed = 0
            for key, reply in zip(keys, self._transport.execute_all(commands)):
                due = dict(zip(reply[::2], reply[1::2])) if reply else {}
                removed += self.remove_due(key, due)
            yield removed


def user_id_in(text: Union[bytes, str]) -> Optional[str]:
    """The user id in JSON text of a list; ``None`` if another program has written it."""
    try:
        user_id = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return user_id if isinstance(user_id, str) else None
