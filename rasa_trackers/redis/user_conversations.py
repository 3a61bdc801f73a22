"""The conversations of one user."""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import redis

from rasa_trackers.event_log import Conversation, User, conversation_order
from rasa_trackers.redis.batches import in_batches
from rasa_trackers.redis.failures import is_wrong_type
from rasa_trackers.redis.keys import Namespace, text_of
from rasa_trackers.redis.legacy import LegacyMigration
from rasa_trackers.redis.lists import text_of_event, user_in
from rasa_trackers.redis.scripts import READ_BACK
from rasa_trackers.redis.transport import Transport
from rasa_trackers.redis.user_index import UserIndex

#: Events that one reply holds, unless it is one conversation.
MOST_EVENTS = 10_000


class _Head(NamedTuple):
    """What a log says of itself."""

    user: Optional[User]
    #: How many elements the list has.
    length: int
    #: Whether there is something at the key of Rasa's own store.
    has_legacy: bool


class UserConversations:
    """Reads the conversations of users: what the index names, as the lists are."""

    def __init__(
        self,
        transport: Transport,
        namespace: Namespace,
        index: UserIndex,
        migration: LegacyMigration,
    ) -> None:
        """Read from one store.

        Args:
            transport: How to reach the server.
            namespace: The names of the keys.
            index: The indexes of users.
            migration: Moves legacy values into logs first.
        """
        self._transport = transport
        self._namespace = namespace
        self._index = index
        self._migration = migration

    def of(self, user_id: str, limit: Optional[int], skip: int) -> List[Conversation]:
        """As :meth:`EventLog.conversations_of`."""
        found = self._found(user_id)
        found.sort(key=lambda pair: conversation_order(pair[0]))
        conversations = [conversation for conversation, _ in found[skip:]]
        lengths = [length for _, length in found[skip:]]
        chosen: List[Conversation] = []
        for batch in in_batches(conversations, lengths, MOST_EVENTS):
            wanted = len(batch) if limit is None else limit - len(chosen)
            if wanted <= 0:
                break
            chosen += self._with_events(user_id, batch[:wanted])
        return chosen

    def _found(self, user_id: str) -> List[Tuple[Conversation, int]]:
        """A user's conversations, still without events, with the lengths of lists."""
        indexes = self._index.entries(user_id)
        names = {name: text_of(name) for _, index in indexes for name in index}
        heads = self._heads([each for each in names.values() if each is not None])
        found = []
        for name, sender_id in names.items():
            if sender_id is None:
                continue
            user, length, _ = heads[sender_id]
            if user is not None and user.user_id == user_id:
                for _, index in indexes:
                    index.pop(name, None)
                empty = Conversation(sender_id, user.conversation_started, [])
                found.append((empty, length))
        for key, leading_nowhere in indexes:
            self._index.remove_due(key, leading_nowhere)
        return found

    def _heads(self, sender_ids: List[str]) -> Dict[str, _Head]:
        """What logs say of themselves, after the migration of legacy values."""
        heads: Dict[str, _Head] = {}
        for batch in in_batches(sender_ids):
            heads.update(self._heads_without_migration(batch))
        legacy = [sender_id for sender_id, head in heads.items() if head.has_legacy]
        for sender_id in legacy:
            keys = self._namespace.of(sender_id)
            try:
                self._migration.evaluate(READ_BACK, keys, 1, "", "")
            except redis.ResponseError as error:
                if not is_wrong_type(error):
                    raise
                # Only this conversation cannot be read.
        for batch in in_batches(legacy):
            heads.update(self._heads_without_migration(batch))
        return heads

    def _heads_without_migration(self, sender_ids: List[str]) -> Dict[str, _Head]:
        commands: List[Tuple[object, ...]] = []
        for keys in map(self._namespace.of, sender_ids):
            commands += [
                ("LINDEX", keys.log, 0),
                ("LLEN", keys.log),
                ("EXISTS", keys.legacy),
            ]
        replies = self._transport.execute_all(commands)
        return {
            sender_id: _Head(user_in(header), length or 0, bool(exists))
            for sender_id, header, length, exists in zip(
                sender_ids, replies[::3], replies[1::3], replies[2::3]
            )
        }

    def _with_events(
        self, user_id: str, conversations: List[Conversation]
    ) -> Iterator[Conversation]:
        """Conversations with their events, if they are still that user's."""
        logs = [self._namespace.of(one.sender_id).log for one in conversations]
        replies = self._transport.execute_all([("LRANGE", log, 0, -1) for log in logs])
        for (sender_id, _, _), reply in zip(conversations, replies):
            user = user_in(reply[0]) if reply else None
            if user is not None and user.user_id == user_id:
                events = [text_of_event(event) for event in reply[1:]]
                yield Conversation(sender_id, user.conversation_started, events)
