"""Conversations of Rasa's own stores, which kept each one as a JSON text.

The first call that comes across such a legacy value moves its events into the log. That
happens here and not in a script: Lua's own JSON knows no integers, and would change the
events. The script that writes them checks that nothing has changed meanwhile.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Dict, List, Optional, Tuple

from rasa_trackers.event_log import START, User
from rasa_trackers.reconciliation import new_events
from rasa_trackers.redis.failures import MOST_ROUNDS, contention_error
from rasa_trackers.redis.keys import Keys, is_storable, names_in_legacy_value
from rasa_trackers.redis.lists import a_time, page_of
from rasa_trackers.redis.scripts import MIGRATE_LEGACY, READ_BACK, Script, sha1_of
from rasa_trackers.redis.transport import Transport
from rasa_trackers.redis.user_index import Life, UserIndex

logger = logging.getLogger(__name__)


class LegacyMigration:
    """Runs scripts on logs that have their legacy values in them."""

    def __init__(self, transport: Transport, index: UserIndex, *, name: str) -> None:
        """Migrate conversations of one store.

        Args:
            transport: How to reach the server.
            index: The indexes of users.
            name: How messages name the server.
        """
        self._transport = transport
        self._index = index
        self._name = name

    def evaluate(self, script: Script, keys: Keys, *arguments: object) -> Any:
        """Run a script on a log, and migrate the legacy values that it comes across."""
        known = ""
        for _ in range(MOST_ROUNDS):
            reply = self._transport.evaluate(
                script, (keys.log, keys.legacy), keys.rasa_1, known, *arguments
            )
            legacy = legacy_value(reply)
            if legacy is None:
                return reply
            key, text = legacy
            events = legacy_events(text, keys)
            if events is not None:
                self._migrate(keys, known, key, text, events)
                continue
            # Skipped by this call alone: a conversation may take its place at any time.
            known += sha1_of(text)
            if key == keys.legacy and dialogue_of(text) is None:
                logger.warning(
                    "%s: what Rasa's own store kept of conversation %.200r is damaged "
                    "and was skipped. It stays stored: restore the key %.200r from a "
                    "backup, or delete it.",
                    self._name,
                    keys.sender_id,
                    key.decode(errors="replace"),
                )
        raise contention_error()

    def _migrate(
        self, keys: Keys, known: str, key: bytes, text: bytes, events: List[str]
    ) -> None:
        """Move events into the log, unless another worker does it first.

        Args:
            keys: The conversation.
            known: SHA-1 of legacy values that are to be left alone.
            key: Where the events were found.
            text: The legacy value there.
            events: Its events.
        """
        sha1 = sha1_of(text)
        skipped = known + sha1
        for _ in range(MOST_ROUNDS):
            reply = self._transport.evaluate(
                READ_BACK,
                (keys.log, keys.legacy),
                *(keys.rasa_1, skipped, "", "", ""),
            )
            legacy = legacy_value(reply)
            if legacy is None:
                break
            if legacy[0] == key:
                return  # The value has changed: the caller looks again.
            skipped += sha1_of(legacy[1])  # The other key's value is migrated next.
        else:
            raise contention_error()
        # A log with events: a worker with Rasa's own store was still running.
        log = page_of(reply)
        after = log.events[-1].position if log.events else START
        stored = [event.data for event in log.events]
        new = [events[place] for place in new_events(stored, events, complete=True)]
        user = legacy_user(text)
        if log.user_id is not None:
            user = User(log.user_id, None)
        described: Tuple[object, ...] = ("", "", "")
        life: Life = ""
        if user is not None:
            life = self._longer_life(keys.log, key)
            kept = self._index.add(user.user_id, keys.sender_id, life)
            described = (*map(json.dumps, user), kept)
        self._transport.evaluate(
            MIGRATE_LEGACY,
            (keys.log, keys.legacy),
            *(keys.rasa_1, "", key, sha1, after, *described, *new),
        )
        if user is not None:
            self._index.add(user.user_id, keys.sender_id, life)

    def _longer_life(self, *keys: bytes) -> Life:
        lives = self._transport.execute_all([("PTTL", key) for key in keys])
        return "" if -1 in lives else max(1, *lives)


def legacy_value(reply: Any) -> Optional[Tuple[bytes, bytes]]:
    """The key and the text of a legacy value, if that is what a script returned."""
    if isinstance(reply, list) and isinstance(reply[0], bytes):
        return reply[0], reply[1]
    return None


def dialogue_of(text: bytes) -> Optional[Dict[str, Any]]:
    """``Dialogue.as_dict()`` in a legacy value; ``None`` if it is none."""
    try:
        dialogue = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_one = (
        isinstance(dialogue, dict)
        and isinstance(dialogue.get("name"), str)
        and isinstance(dialogue.get("events"), list)
    )
    return dialogue if is_one else None


def legacy_events(text: bytes, keys: Keys) -> Optional[List[str]]:
    """The events of a conversation in a legacy value.

    ``None`` for the value of another conversation, as of a store with another prefix,
    and for text that is not Rasa's.
    """
    dialogue = dialogue_of(text)
    if dialogue is None or dialogue["name"] not in names_in_legacy_value(keys):
        return None
    return [json.dumps(event) for event in dialogue["events"]]


def legacy_user(text: bytes) -> Optional[User]:
    """The user in a legacy value of Rasa Pro's own store."""
    dialogue = dialogue_of(text) or {}
    user_id = dialogue.get("user_id")
    if not (user_id and isinstance(user_id, str)) or not is_storable(user_id):
        return None
    return User(user_id, a_time(dialogue.get("conversation_started_timestamp")))
