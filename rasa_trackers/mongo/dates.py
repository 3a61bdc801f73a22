"""Expiry dates of conversations in MongoDB, to take them along to another store."""

from __future__ import annotations

import datetime as dt
from typing import Any, Dict, Sequence

from rasa_trackers.mongo.buckets import open_id
from rasa_trackers.mongo.legacy import names


def expires_at(log: Any, sender_ids: Sequence[str]) -> Dict[str, float]:
    """When conversations expire, those that do; in seconds since the epoch."""
    collection = log.collection
    which = {
        "_id": {"$in": [open_id(sender_id) for sender_id in sender_ids]},
        "expires_at": {"$type": "date"},
    }
    return {
        document["sender_id"]: document["expires_at"]
        .replace(tzinfo=dt.timezone.utc)
        .timestamp()
        for document in collection.find(which, {"sender_id": 1, "expires_at": 1})
    }


def set_expires_at(log: Any, sender_id: str, end: int, expires_at: float) -> None:
    """Let a conversation expire then, if it still ends at ``end``."""
    date = dt.datetime.fromtimestamp(expires_at, dt.timezone.utc)
    which = {"_id": open_id(sender_id), "sender_id": sender_id, "last": end}
    collection = log.collection
    bucket = collection.find_one(which, {"log": 0})
    if bucket is None:
        return
    if not {"previous", "rasa", "unclean"}.isdisjoint(bucket):
        # The server erases the open bucket; these are looked at from then on.
        older = {
            "sender_id": {"$in": names(sender_id)},
            "_id": {"$ne": bucket["_id"]},
        }
        collection.update_many(older, {"$set": {"check_at": date}})
    collection.update_one(which, {"$set": {"expires_at": date}})
