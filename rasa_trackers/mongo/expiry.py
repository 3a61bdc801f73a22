"""Conversations that expire, and the erasure of what expiry leaves behind.

``expires_at`` of the open bucket is when the conversation expires. The server erases the
open bucket then by its TTL index, also when no Rasa runs; so the conversation is gone for
every reader. The documents of its older events have no such date, so that the server
never erases a part of a living conversation. They have ``check_at`` instead: from that
time on :meth:`Expiry.sweep` looks whether their open bucket is still there, erases them
if it is not, and moves ``check_at`` on if it is. So the older documents of a conversation
of more than ``BUCKET_EVENTS`` events stay until a Rasa with ``record_exp`` runs.

An open bucket gets its first ``expires_at`` only after all its older documents have
``check_at``.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any, Dict, List, Optional, Tuple

import pymongo
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from rasa_trackers.mongo.buckets import (
    POSITIONS,
    Document,
    flaws,
    is_whole,
    open_id,
)
from rasa_trackers.mongo.legacy import names

#: Conversations or documents that one call of ``purge_expired`` looks at.
_BATCH = 100
#: Seconds after which the server's clock is read again.
_CLOCK_AGE = 60.0
#: How much later a document is looked at again, at least.
_LEAST_DELAY = dt.timedelta(minutes=1)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, as pymongo gives dates


class ServerClock:
    """The server's clock, read once a minute and counted on from there."""

    def __init__(self, client: pymongo.MongoClient[Document]) -> None:
        self._client = client
        self._read: Optional[Tuple[dt.datetime, float]] = None

    def now(self) -> dt.datetime:
        """The time in UTC, without a time zone, as pymongo gives dates."""
        read = self._read
        if read is None or time.monotonic() - read[1] > _CLOCK_AGE:
            asked_at = time.monotonic()
            try:
                hello: Document = self._client.admin.command("hello")
            except OperationFailure:  # MongoDB 4.4 and before
                hello = self._client.admin.command("isMaster")
            read = self._read = (hello["localTime"], asked_at)
        return read[0] + dt.timedelta(seconds=time.monotonic() - read[1])

    def microseconds(self) -> int:
        """The time in microseconds since the epoch."""
        return (self.now() - _EPOCH) // dt.timedelta(microseconds=1)


class Expiry:
    """How long conversations live, and what is erased afterwards."""

    def __init__(
        self,
        collection: Collection[Document],
        clock: ServerClock,
        record_exp: Optional[float],
    ) -> None:
        """Let conversations expire ``record_exp`` seconds after their last append."""
        self._collection = collection
        self._clock = clock
        self._life = None
        if record_exp is not None:
            # A date of BSON holds 1000 years, which is as good as any longer time.
            self._life = dt.timedelta(seconds=min(record_exp, 1000 * 365 * 86400))

    @property
    def is_on(self) -> bool:
        """Whether conversations expire at all."""
        return self._life is not None

    def date(self) -> Optional[dt.datetime]:
        """When a conversation expires that is written to now; ``None`` for never."""
        return None if self._life is None else self._clock.now() + self._life

    def renewal(self) -> Tuple[Document, Document]:
        """What to set to renew a conversation, and when that is all there is to do."""
        if self._life is None:
            return {}, {"expires_at": None, "lease": None}
        now = self._clock.now()
        return {"expires_at": now + self._life}, {
            "expires_at": {"$gt": now},
            "lease": None,
        }

    def has_expired(self, bucket: Document) -> bool:
        """Whether a conversation has expired, as far as this log may see that."""
        if self._life is None or "expires_at" not in bucket:
            return False
        return bool(bucket["expires_at"] <= self._clock.now())

    def watch_older(self, bucket: Document) -> None:
        """Prepare the older documents of a conversation for a change of its expiry date.

        Does nothing if they are prepared: then the open bucket has ``expires_at`` and no
        ``lease`` of version 0.1.0.
        """
        first_date = self.is_on and "expires_at" not in bucket
        has_older = not {"previous", "rasa", "unclean"}.isdisjoint(bucket)
        if has_older and (first_date or "lease" in bucket):
            self._collection.update_many(
                {
                    "sender_id": {"$in": names(bucket["sender_id"])},
                    "_id": {"$ne": bucket["_id"]},
                },
                {
                    "$set": {"check_at": self.date() or self._clock.now()},
                    "$unset": {"expires_at": ""},
                },
            )

    def expired(self) -> List[Document]:
        """Some open buckets of conversations that have expired, without their events."""
        found = self._collection.find(
            {"expires_at": {"$lte": self._clock.now()}, "last": {"$exists": True}},
            {"log": 0},
            limit=_BATCH,
        )
        return [bucket for bucket in found if not flaws(bucket, *POSITIONS)]

    def sweep(self) -> int:
        """Erase older documents whose conversation is gone, a bounded number a call.

        Returns:
            How many conversations they belonged to.
        """
        now = self._clock.now()
        due: Dict[str, List[Document]] = {}
        for document in self._collection.find(
            {
                "$or": [
                    {"check_at": {"$lte": now}},
                    {"expires_at": {"$lte": now}},  # of version 0.1.0
                ],
                "sender_id": {"$exists": True},
                "last": None,
            },
            {"sender_id": 1, "bucket": 1},
            limit=_BATCH,
        ):
            due.setdefault(str(document["sender_id"]), []).append(document)
        found = self._collection.find(
            {"_id": {"$in": [open_id(sender_id) for sender_id in due]}},
            {"base": 1, "rasa": 1, "expires_at": 1},
        )
        opened = {bucket["_id"]: bucket for bucket in found}
        erased = 0
        for sender_id, documents in due.items():
            bucket = opened.get(open_id(sender_id))
            gone = [each["_id"] for each in documents if _is_left_over(each, bucket)]
            if gone:
                self._collection.delete_many(_those(sender_id, gone))
                erased += 1
            if bucket is not None and len(gone) < len(documents):
                self._look_again(sender_id, documents, bucket.get("expires_at"), now)
        return erased

    def _look_again(
        self, sender_id: str, documents: List[Document], date: Any, now: dt.datetime
    ) -> None:
        check_at = now + max(self._life or _LEAST_DELAY, _LEAST_DELAY)
        if isinstance(date, dt.datetime):
            check_at = max(date, now + _LEAST_DELAY)
        ids = [document["_id"] for document in documents]
        self._collection.update_many(
            _those(sender_id, ids),
            {"$set": {"check_at": check_at}, "$unset": {"expires_at": ""}},
        )


def _those(sender_id: str, ids: List[Any]) -> Document:
    return {"sender_id": {"$in": names(sender_id)}, "_id": {"$in": ids}}


def _is_left_over(document: Document, bucket: Optional[Document]) -> bool:
    """Whether an older document belongs to no conversation any more.

    A closed bucket is inserted only where there is an open one. So no closed bucket
    without an open one belongs to a conversation that is about to begin.

    Args:
        document: A closed bucket, or a document of Rasa's own store.
        bucket: The open bucket of that sender id, if there is one.
    """
    if bucket is None:
        return True
    if "bucket" not in document:
        return "rasa" not in bucket
    if not is_whole(bucket.get("base")):
        return False  # damaged; the next read says so
    return not is_whole(document["bucket"]) or document["bucket"] < bucket["base"]
