"""What the keys of a conversation are called, and back.

A store with ``key_prefix: bot`` keeps conversation ``ada`` in one key::

    bot:rasa_trackers:{bot:tracker:ada}ada

``bot:tracker:ada`` is the key of Rasa's own store. A Redis cluster places a key by what
stands in its first braces, so both are in one slot, and one script may touch both. In
the same way the conversations of user ``u`` are indexed at::

    bot:rasa_trackers:users:{bot:user_trackers:u}u

beside ``bot:user_trackers:u``, the index of Rasa Pro's own store.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from itertools import count
from typing import List, NamedTuple, Optional

# Hash slots of every Redis cluster (redis.io/docs/latest/operate/oss_and_stack/
# reference/cluster-spec).
_SLOTS = 16384


class Keys(NamedTuple):
    """The keys of one conversation."""

    sender_id: str
    #: Of the log.
    log: bytes
    #: Of Rasa's own store since Rasa 2, a JSON string.
    rasas: bytes
    #: Of Rasa 1's store, a JSON string: the sender id alone. Empty: not looked at.
    rasa_1s: bytes


class UserKeys(NamedTuple):
    """The keys of the conversations of one user."""

    #: Of our index, a sorted set.
    own: bytes
    #: Of that of Rasa Pro's own store, a sorted set too.
    rasas: bytes


class Namespace:
    """The keys of all conversations of one store."""

    def __init__(self, key_prefix: Optional[str], *, with_rasa_1: bool) -> None:
        """Name keys.

        Args:
            key_prefix: Keeps stores in one database apart; any text.
            with_rasa_1: Whether sender ids that are keys may be Rasa 1's. It knew
                neither prefixes nor clusters, and in a cluster such a key is in
                another slot.
        """
        self._with_rasa_1 = with_rasa_1 and not key_prefix
        self._rasas = f"{key_prefix}:tracker:".encode() if key_prefix else b"tracker:"
        # Free of braces, so that the first one opens the hash tag and ends the name of
        # the store: no other prefix gives the same text up to there.
        safe = (key_prefix or "").replace("%", "%25").replace("{", "%7B")
        self._own = f"{safe}:rasa_trackers:{{" if safe else "rasa_trackers:{"
        self._users = self._own[:-1].encode() + b"users:{"
        # As Rasa Pro does it (3.21): a prefix that ends in "tracker" gets no colon.
        self._rasas_users = self._rasas.partition(b"tracker:")[0] + b"user_trackers:"

    def of(self, sender_id: str) -> Keys:
        """The keys of a conversation.

        Raises:
            UnicodeEncodeError: for a sender id with a lone surrogate.
        """
        name = sender_id.encode()
        rasas = self._rasas + name
        log = b"%b%b}%b" % (self._own.encode(), hash_tag(rasas), name)
        return Keys(sender_id, log, rasas, name if self._with_rasa_1 else b"")

    def of_user(self, user_id: str) -> UserKeys:
        """The keys of the conversations of a user.

        Raises:
            UnicodeEncodeError: for a user id with a lone surrogate.
        """
        name = user_id.encode()
        rasas = self._rasas_users + name
        return UserKeys(b"%b%b}%b" % (self._users, hash_tag(rasas), name), rasas)

    def patterns(self) -> List[Optional[bytes]]:
        """What to SCAN for, to come by all keys; ``None`` for every key there is."""
        if self._with_rasa_1:
            return [None]
        return [_escaped(self._own.encode()) + b"*", _escaped(self._rasas) + b"*"]

    def sender_of_log(self, key: bytes) -> Optional[str]:
        """The sender id of a log's key; ``None`` for any other key."""
        own = self._own.encode()
        if not key.startswith(own):
            return None
        _, brace, name = key[len(own) :].partition(b"}")
        return text_of(name) if brace else None

    def sender_of_rasas(self, key: bytes) -> Optional[str]:
        """The sender id of a key of Rasa's own store; ``None`` for any other."""
        return text_of(key[len(self._rasas) :]) if key.startswith(self._rasas) else None

    def sender_of_rasa_1s(self, key: bytes) -> Optional[str]:
        """The sender id of a key that may be Rasa 1's; ``None`` where none can be."""
        if not self._with_rasa_1 or key.startswith(self._users):
            return None
        return text_of(key)


def is_ambiguous(rasas: bytes) -> bool:
    """Whether a key like those of Rasa's own store may be that of another prefix.

    ``tracker:tracker:ada`` is conversation ``tracker:ada`` without a prefix, and
    ``ada`` with the prefix ``tracker``; the value tells. So it may be that of an index.
    """
    others = (b"rasa_trackers:{", b"rasa_trackers:users:{", b"user_trackers:")
    return rasas.count(b"tracker:") > 1 or any(other in rasas for other in others)


def hash_tag(key: bytes) -> bytes:
    """What in a key's first braces puts it into the slot of another ``key``."""
    opening = key.find(b"{")
    closing = key.find(b"}", opening + 1)
    if opening >= 0 and closing > opening + 1:
        return key[opening + 1 : closing]
    if b"}" not in key:
        return key
    # A tag ends at the first brace, so this key cannot be one; a number in the same
    # slot can. All workers find the same.
    slot = _slot(key)
    numbers = (b"%d" % number for number in count())
    return next(number for number in numbers if _slot(number) == slot)


def _slot(hashed: bytes) -> int:
    return crc_hqx(hashed, 0) % _SLOTS


def _escaped(text: bytes) -> bytes:
    return re.sub(rb"([\\*?\[\]])", rb"\\\1", text)


def is_storable(text: str) -> bool:
    """Whether a text can be part of a key: one with a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(name: bytes) -> Optional[str]:
    """A sender id as text; ``None`` for what can be none."""
    try:
        return name.decode()
    except UnicodeDecodeError:  # another application's
        return None
