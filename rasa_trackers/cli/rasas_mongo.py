"""Rasa's own MongoDB store: one document a conversation, with all its events."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Optional, Sequence

from rasa_trackers.cli.dialogues import Dialogue, DialogueLog
from rasa_trackers.event_log import Failure, User, timestamp_of
from rasa_trackers.mongo import legacy
from rasa_trackers.mongo.buckets import STARTED, USER_ID, as_json, started
from rasa_trackers.mongo.failures import primary_messages

#: Finds the documents of Rasa's own store and none of this package's.
_RASAS: Dict[str, Any] = {
    "bucket": {"$exists": False},
    "last": {"$exists": False},
    "events.0": {"$exists": True},
}
#: Sender ids in one batch.
_BATCH = 1_000


class RasasMongoLog(DialogueLog):
    """Conversations in the documents of Rasa's own MongoDB store."""

    def __init__(self, log: Any) -> None:
        """Use the connections of a log of this package.

        Args:
            log: The log, which is not opened: it would create indexes of its own.
        """
        self.name = f"{log.name} (Rasa's own format)"
        #: The log of this package at the same server.
        self.backends_log = log
        self._collection = log.collection

    @primary_messages()
    def open(self) -> None:
        # As Rasa's own store.
        self._collection.create_index("sender_id")

    @primary_messages()
    def read(self, sender_id: str) -> Dialogue:
        which = {**_RASAS, "sender_id": {"$in": legacy.names(sender_id)}}
        document = legacy.by_sender_id(self._collection.find(which)).get(sender_id)
        if document is None:
            return Dialogue([], None, None)
        events = document["events"]
        user_id = document.get(USER_ID)
        user = User(user_id, started(document, events)) if user_id else None
        version = {"_id": document["_id"], "events": {"$size": len(events)}}
        return Dialogue([as_json(event) for event in events], user, version)

    @primary_messages()
    def write(
        self,
        sender_id: str,
        seen: Dialogue,
        events: List[Dict[str, Any]],
        user: Optional[User],
        *,
        keep_expiry: bool,
    ) -> bool:
        if not events:
            return bool(self._collection.delete_one(seen.version).deleted_count)
        state: Dict[str, Any] = {"sender_id": sender_id}
        latest = timestamp_of(json.dumps(events[-1]))
        if latest >= 0:
            state["latest_event_time"] = latest
        if user is not None:
            state[USER_ID] = user.user_id
            if user.conversation_started is not None:
                state[STARTED] = user.conversation_started
        if seen.version is None:
            result = self._collection.update_one(
                {**_RASAS, "sender_id": sender_id},
                {"$setOnInsert": {**state, "events": events}},
                upsert=True,
            )
            return result.upserted_id is not None
        is_longer = events[: len(seen.events)] == [
            json.loads(event) for event in seen.events
        ]
        change: Dict[str, Any] = {"$set": {**state, "events": events}}
        if is_longer:
            # As Rasa does: what is there stays as it is.
            added = events[len(seen.events) :]
            change = {"$set": state, "$push": {"events": {"$each": added}}}
        return bool(self._collection.update_one(seen.version, change).matched_count)

    def sender_ids(self) -> Iterator[Sequence[str]]:
        with primary_messages():
            yield from self._sender_ids()

    def _sender_ids(self) -> Iterator[List[str]]:
        batch: List[str] = []
        which = {**_RASAS, "sender_id": {"$type": ["string", "int", "long"]}}
        seen = set()
        for document in self._collection.find(which, {"sender_id": 1}):
            sender_id = str(document["sender_id"])
            if sender_id not in seen:
                seen.add(sender_id)
                batch.append(sender_id)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        yield batch

    @primary_messages()
    def delete(self, sender_id: str) -> bool:
        which = {
            "sender_id": {"$in": legacy.names(sender_id)},
            "bucket": None,
            "last": None,
        }
        return bool(self._collection.delete_many(which).deleted_count)

    def traces(self, sender_ids: Sequence[str]) -> Iterator[Dict[str, Dict[str, int]]]:
        """How many documents there are of each conversation."""
        for sender_id in sender_ids:
            which = {"sender_id": {"$in": legacy.names(sender_id)}}
            with primary_messages():
                number = int(self._collection.count_documents(which))
            yield {sender_id: {"documents": number}}

    def expires_at(self, sender_ids: Sequence[str]) -> Dict[str, float]:
        """When conversations expire; Rasa's own store knows no expiry."""
        return {}

    def set_expires_at(self, sender_id: str, end: int, expires_at: float) -> None:
        """Nothing: Rasa's own store knows no expiry."""

    def classify(self, error: Exception) -> Optional[Failure]:
        failure: Optional[Failure] = self.backends_log.classify(error)
        return failure

    def close(self) -> None:
        self.backends_log.close()
