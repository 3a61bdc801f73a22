"""Erasing what a conversation consisted of before its open bucket was rewritten."""

from __future__ import annotations

import logging

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from rasa_trackers.mongo.buckets import Document, is_whole, open_id
from rasa_trackers.mongo.failures import primary_message
from rasa_trackers.mongo.legacy import names

logger = logging.getLogger(__name__)

#: Conversations whose erasure one start finishes.
_BATCH = 100


class Erasure:
    """Erases documents that no open bucket counts any more."""

    def __init__(self, collection: Collection[Document], place: str) -> None:
        """Erase in a collection; ``place`` is how messages name it."""
        self._collection = collection
        self._place = place

    def is_needed(self, sender_id: str) -> bool:
        """Whether there is any document of a sender id."""
        which = {"sender_id": {"$in": names(sender_id)}}
        return self._collection.find_one(which, {"_id": 1}) is not None

    def erase_before(self, sender_id: str, base: int) -> None:
        """Erase the documents of events before ``base``, which an open bucket names."""
        opened = {"_id": open_id(sender_id), "sender_id": sender_id, "base": base}
        self._collection.delete_many(
            {
                "sender_id": {"$in": names(sender_id)},
                "_id": {"$ne": opened["_id"]},
                # This matches documents of Rasa's own store too, which lack the field.
                "bucket": {"$not": {"$gte": base}},
            }
        )
        # Comes last, because the open bucket hides all that is erased.
        empty = {**opened, "last": base - 1}
        if not self._collection.delete_one(empty).deleted_count:
            self._collection.update_one(opened, {"$unset": {"unclean": ""}})

    def finish(self) -> None:
        """Finish some erasures of processes that died midway."""
        found = self._collection.find(
            {"unclean": True}, {"sender_id": 1, "base": 1}, limit=_BATCH
        )
        for bucket in list(found):
            if not is_whole(bucket.get("base")):
                continue  # damaged; the next read says so
            try:
                self.erase_before(bucket["sender_id"], bucket["base"])
            except OperationFailure as error:
                logger.warning(
                    "%s: the rest of an erased conversation cannot be removed: %s",
                    self._place,
                    primary_message(error),
                )
                return
