"""Writing closed buckets: first unseen, then part of a conversation, or discarded."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Any, List, Optional

import bson
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from rasa_trackers.mongo.buckets import Document
from rasa_trackers.mongo.failures import is_transient


class ClosedBuckets:
    """The closed buckets of all conversations."""

    def __init__(self, collection: Collection[Document]) -> None:
        self._collection = collection

    def insert(
        self,
        sender_id: str,
        buckets: List[List[Document]],
        position: int,
        previous: Optional[Any],
        check_at: Optional[dt.datetime],
    ) -> List[Any]:
        """Insert closed buckets that no reader counts yet.

        Args:
            sender_id: The conversation.
            buckets: The events of each, oldest first.
            position: The position of the first event.
            previous: ``_id`` of the closed bucket before them.
            check_at: When to look whether they can be erased; ``None`` for never.

        Returns:
            Their ids, oldest first. The open bucket is to name the last one.
        """
        documents: List[Document] = []
        for events in buckets:
            fields = {"previous": previous, "check_at": check_at}
            document = {
                "_id": bson.ObjectId(),
                "sender_id": sender_id,
                "bucket": position,
                "log": events,
                **{name: value for name, value in fields.items() if value is not None},
            }
            documents.append(document)
            previous = document["_id"]
            position += len(events)
        ids = [document["_id"] for document in documents]
        if documents:
            try:
                self._collection.insert_many(documents)
            except Exception as error:
                if not is_transient(error):
                    self.discard(sender_id, ids)
                raise
        return ids

    def settle(self, sender_id: str, ids: List[Any], base: int) -> None:
        """Mark closed buckets that are part of a conversation now.

        Without the mark they count as well, as the open bucket leads to them, but a read
        of older events looks at every bucket in between.
        """
        if ids:
            which = {"sender_id": sender_id, "_id": {"$in": ids}}
            # The append has happened, and must not be reported as a failure.
            with contextlib.suppress(PyMongoError):
                self._collection.update_many(which, {"$set": {"base": base}})

    def discard(self, sender_id: str, ids: List[Any]) -> None:
        """Erase closed buckets that did not become part of a conversation."""
        if ids:
            self._collection.delete_many({"sender_id": sender_id, "_id": {"$in": ids}})
