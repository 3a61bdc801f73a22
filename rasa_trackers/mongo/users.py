"""The conversations of a user."""

from __future__ import annotations

import logging
from typing import Callable, Dict, Iterable, List, Optional, Sequence

import bson.errors
from pymongo.collection import Collection

from rasa_trackers.event_log import Conversation, Page, Stored, conversation_order
from rasa_trackers.mongo import legacy
from rasa_trackers.mongo.buckets import (
    STARTED,
    USER_ID,
    Document,
    checked,
    checked_log,
    is_whole,
    open_id,
    started,
    stored,
)
from rasa_trackers.mongo.reading import closed_runs
from rasa_trackers.mongo.scanning import CURRENT, batches

logger = logging.getLogger(__name__)

#: What is read of conversations to sort them.
_STATE: Document = {
    **dict.fromkeys(("sender_id", "last", "base", "expires_at", USER_ID, STARTED), 1),
    # The first event of Rasa's own document.
    "events": {"$slice": 1},
}


class UserConversations:
    """Finds and reads whole conversations, in a few round trips for many of them."""

    def __init__(
        self,
        collection: Collection[Document],
        is_live: Callable[[Document], bool],
        read_back: Callable[[str], Page],
        place: str,
    ) -> None:
        """Look in a collection.

        Args:
            collection: The collection.
            is_live: Whether an open bucket is that of a conversation with events.
            read_back: Reads one conversation.
            place: How messages name the collection.
        """
        self._collection = collection
        self._is_live = is_live
        self._read_back = read_back
        self._place = place

    def of(self, user_id: str, limit: Optional[int], skip: int) -> List[Conversation]:
        """As ``EventLog.conversations_of``."""
        begun = sorted(self._begun_by(user_id), key=conversation_order)
        sender_ids = [conversation.sender_id for conversation in begun]
        page = sender_ids[skip:] if limit is None else sender_ids[skip : skip + limit]
        found = [
            conversation
            for batch in batches(page)
            for conversation in self._read(user_id, batch)
        ]
        return sorted(found, key=conversation_order)

    def _begun_by(self, user_id: str) -> List[Conversation]:
        """The conversations of a user, without their events."""
        states: Dict[str, Document] = {}
        doubtful: List[str] = []
        for document in self._collection.find({**CURRENT, USER_ID: user_id}, _STATE):
            sender_id = str(document["sender_id"])
            if "last" in document:
                states[sender_id] = document
            else:
                doubtful.append(sender_id)
        for batch in batches(dict.fromkeys(doubtful)):
            # An open bucket may continue a document of Rasa's own store, and may name
            # another user. Of two documents of Rasa's own store only one counts.
            which = {**CURRENT, "sender_id": {"$in": legacy.all_names(batch)}}
            rows = list(self._collection.find(which, _STATE))
            states.update(legacy.by_sender_id(row for row in rows if "last" not in row))
            states.update((row["sender_id"], row) for row in rows if "last" in row)
        return [
            Conversation(sender_id, started(document, document.get("events", ())), [])
            for sender_id, document in states.items()
            if document.get(USER_ID) == user_id
            and ("last" not in document or self._is_live(document))
        ]

    def _read(self, user_id: str, sender_ids: Sequence[str]) -> List[Conversation]:
        """Read conversations as a whole, if they still are the user's."""
        found: List[Conversation] = []
        opened = self._open_buckets(sender_ids)
        closed = self._closed_buckets(opened.values())
        of_rasa = self._of_rasa(
            name for name in sender_ids if name not in opened or "rasa" in opened[name]
        )
        for sender_id in sender_ids:
            document = opened.get(sender_id)
            rasas = of_rasa.get(sender_id, [])
            events: Optional[List[Stored]] = None
            try:
                if document is not None:
                    is_live = self._is_live(checked(document))
                    older = closed.get(sender_id, [])
                    events = _all_events(document, older, rasas) if is_live else []
                else:
                    ours = [rasa for rasa in rasas if _is_uncontinued(rasa)]
                    document = legacy.by_sender_id(ours).get(sender_id)
                    if document is not None:
                        events = legacy.stored_events(document["events"])
                if events is None:
                    # The conversation was replaced between two round trips, or a part
                    # of it is missing.
                    page = self._read_back(sender_id)
                    events = page.events if page.user_id == user_id else []
                    document = self._open_buckets([sender_id]).get(sender_id)
            except bson.errors.InvalidBSON as error:
                logger.error(  # noqa: TRY400 - the text says all
                    "%s: %s. Conversation %r is left out.",
                    self._place,
                    error,
                    sender_id,
                )
                continue
            if events and document and document.get(USER_ID) == user_id:
                when = started(document, document.get("events", ()))
                texts = [event.data for event in events]
                found.append(Conversation(sender_id, when, texts))
        return found

    def _open_buckets(self, sender_ids: Sequence[str]) -> Dict[str, Document]:
        ids = [open_id(sender_id) for sender_id in sender_ids]
        found = self._collection.find(
            {"_id": {"$in": ids}, "sender_id": {"$in": list(sender_ids)}}
        )
        return {bucket["sender_id"]: bucket for bucket in found}

    def _closed_buckets(self, opened: Iterable[Document]) -> Dict[str, List[Document]]:
        """The closed buckets of conversations that have some, by falling positions."""
        closed: Dict[str, List[Document]] = {}
        sender_ids = [each["sender_id"] for each in opened if "previous" in each]
        if sender_ids:
            which = {"sender_id": {"$in": sender_ids}, "bucket": {"$exists": True}}
            fields = dict.fromkeys(
                ("sender_id", "bucket", "base", "previous", "log"), 1
            )
            for document in self._collection.find(which, fields):
                if is_whole(document["bucket"]):
                    closed.setdefault(document["sender_id"], []).append(document)
        for documents in closed.values():
            documents.sort(key=lambda document: -document["bucket"])
        return closed

    def _of_rasa(self, sender_ids: Iterable[str]) -> Dict[str, List[Document]]:
        """The documents of Rasa's own store, by sender id."""
        found: Dict[str, List[Document]] = {}
        names = legacy.all_names(sender_ids)
        if names:
            which = {
                "sender_id": {"$in": names},
                "bucket": None,
                "last": None,
                "events.0": {"$exists": True},
            }
            fields = ("sender_id", "events", "expires_at", "check_at", USER_ID, STARTED)
            for document in self._collection.find(which, fields):
                found.setdefault(str(document["sender_id"]), []).append(document)
        return found


def _is_uncontinued(rasa: Document) -> bool:
    return rasa.get("check_at") is None and rasa.get("expires_at") is None


def _all_events(
    bucket: Document, closed: List[Document], rasas: List[Document]
) -> Optional[List[Stored]]:
    """The events of a conversation; ``None`` if some are not among the documents."""
    runs = [stored(checked_log(bucket), bucket["first"])]
    end = bucket["first"]
    for run in closed_runs(bucket, closed, end, bucket.get("previous")):
        runs.append(run)
        end = run[0].position
    rasa = bucket.get("rasa")
    if rasa and end - 1 == rasa["events"]:
        for document in rasas:
            if document["_id"] == rasa["_id"]:
                runs.append(legacy.stored_events(document["events"][: end - 1]))
                end = 1
    if end != bucket["base"]:
        return None
    return [event for run in reversed(runs) for event in run]
