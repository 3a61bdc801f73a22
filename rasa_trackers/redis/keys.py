"""The names of keys, and what a name says.

A store with ``key_prefix: bot`` keeps conversation ``ada`` in one key::

    bot:rasa_trackers:{bot:tracker:ada}ada

``bot:tracker:ada`` is the key of Rasa's own store. A Redis cluster chooses the slot of a
key by the text in its first braces. So both keys are in one slot, and one script may use
both. In the same way, the conversations of user ``u`` are indexed at::

    bot:rasa_trackers:users:{bot:user_trackers:u}u

next to ``bot:user_trackers:u``, the index of Rasa Pro's own store.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from itertools import count
from typing import List, NamedTuple, Optional, Tuple

#: Hash slots of every Redis cluster (redis.io/docs/latest/operate/oss_and_stack/
#: reference/cluster-spec).
_SLOTS = 16384

#: Stands before the sender id in each key of Rasa's own stores since Rasa 2.
_MARK = b"tracker:"


class Keys(NamedTuple):
    """The keys of one conversation."""

    sender_id: str
    #: The log, a list.
    log: bytes
    #: The key of Rasa's own store since Rasa 2; its value is JSON text.
    legacy: bytes
    #: The key of Rasa 1's store, which is the sender id alone; its value is JSON text.
    #: Empty if it is not looked at.
    rasa_1: bytes


class UserKeys(NamedTuple):
    """The keys of the conversations of one user."""

    #: The user's index, a sorted set.
    conversations: bytes
    #: The index of Rasa Pro's own store, a sorted set too.
    legacy: bytes


class Namespace:
    """The keys of all conversations of one store."""

    def __init__(self, key_prefix: Optional[str], *, with_rasa_1: bool) -> None:
        """Name keys.

        Args:
            key_prefix: Keeps stores in one database apart; any text.
            with_rasa_1: Whether to look for keys of Rasa 1. They have no prefix, and in
                a cluster they are in another slot.
        """
        self._with_rasa_1 = with_rasa_1 and not key_prefix
        self._legacy = f"{key_prefix}:tracker:".encode() if key_prefix else b"tracker:"
        # Without braces, so that the first brace opens the hash tag and ends the name of
        # the store: no other prefix gives the same text up to there.
        safe = (key_prefix or "").replace("%", "%25").replace("{", "%7B")
        self._own = f"{safe}:rasa_trackers:{{".encode() if safe else b"rasa_trackers:{"
        self._users = self._own[:-1] + b"users:{"
        # As in Rasa Pro 3.21: a prefix that ends in "tracker" gets no colon.
        self._legacy_users = self._legacy.partition(b"tracker:")[0] + b"user_trackers:"

    def of(self, sender_id: str) -> Keys:
        """The keys of a conversation.

        Raises:
            UnicodeEncodeError: for a sender id with a lone surrogate.
        """
        name = sender_id.encode()
        legacy = self._legacy + name
        log = b"%b%b}%b" % (self._own, hash_tag(legacy), name)
        return Keys(sender_id, log, legacy, name if self._may_be_rasa_1(name) else b"")

    def of_user(self, user_id: str) -> UserKeys:
        """The keys of the conversations of a user.

        Raises:
            UnicodeEncodeError: for a user id with a lone surrogate.
        """
        name = user_id.encode()
        legacy = self._legacy_users + name
        return UserKeys(b"%b%b}%b" % (self._users, hash_tag(legacy), name), legacy)

    def patterns(self) -> List[Optional[bytes]]:
        """What SCAN must match to find all conversations; ``None`` for any key."""
        if self._with_rasa_1:
            return [None]
        return [_escaped(self._own) + b"*", _escaped(self._legacy) + b"*"]

    def pattern_of_indexes(self) -> bytes:
        """What SCAN must match to find the indexes of all users."""
        return _escaped(self._users) + b"*"

    def patterns_of_indexes(self) -> List[bytes]:
        """As :meth:`pattern_of_indexes`, and for those of Rasa Pro's own store."""
        return [self.pattern_of_indexes(), _escaped(self._legacy_users) + b"*"]

    def sender_of_log(self, key: bytes) -> Optional[str]:
        """The sender id of a log's key; ``None`` for any other key."""
        if not key.startswith(self._own):
            return None
        _, brace, name = key[len(self._own) :].partition(b"}")
        return text_of(name) if brace else None

    def sender_of_legacy(self, key: bytes) -> Optional[str]:
        """The sender id of a key of Rasa's own store; ``None`` for any other key."""
        if not key.startswith(self._legacy):
            return None
        return text_of(key[len(self._legacy) :])

    def sender_of_rasa_1(self, key: bytes) -> Optional[str]:
        """The sender id of a key that may be Rasa 1's; ``None`` for any other key."""
        is_index = key.startswith(self._users)
        return text_of(key) if self._may_be_rasa_1(key) and not is_index else None

    def _may_be_rasa_1(self, key: bytes) -> bool:
        # Rasa 2 and later write "tracker:" into each key, with and without a prefix.
        return self._with_rasa_1 and _MARK not in key


def may_be_another_prefixs(keys: Keys) -> bool:
    """Whether the legacy key may belong to a store with another prefix.

    ``tracker:tracker:ada`` is conversation ``tracker:ada`` without a prefix, and ``ada``
    with the prefix ``tracker``. A key of this package may also read like that. The name
    in the value tells them apart.
    """
    own = (b"rasa_trackers:{", b"rasa_trackers:users:{", b"user_trackers:")
    return keys.legacy.count(_MARK) > 1 or any(other in keys.legacy for other in own)


def names_in_legacy_value(keys: Keys) -> Tuple[str, ...]:
    """The names under which a value at the legacy key is this conversation's.

    Rasa Pro takes the sender id and the key for the same conversation, and writes the
    name by which it was asked. With two ``tracker:`` in the key, the name that is the
    whole key belongs to the longest possible prefix.
    """
    if _MARK in keys.sender_id.encode():
        return (keys.sender_id,)
    return (keys.sender_id, keys.legacy.decode())


def hash_tag(key: bytes) -> bytes:
    """A text that, in the first braces of a key, puts it into the slot of ``key``."""
    opening = key.find(b"{")
    closing = key.find(b"}", opening + 1)
    if opening >= 0 and closing > opening + 1:
        return key[opening + 1 : closing]
    if b"}" not in key:
        return key
    # A tag ends at the first closing brace, so this key cannot be one. A number whose
    # slot is the same can. All workers find the same number.
    slot = _slot(key)
    numbers = (b"%d" % number for number in count())
    return next(number for number in numbers if _slot(number) == slot)


def _slot(hashed: bytes) -> int:
    return crc_hqx(hashed, 0) % _SLOTS


def _escaped(text: bytes) -> bytes:
    return re.sub(rb"([\\*?\[\]])", rb"\\\1", text)


def is_storable(text: str) -> bool:
    """Whether a text can be part of a key: text with a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(name: bytes) -> Optional[str]:
    """A sender id as text; ``None`` for a key of another application."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None
