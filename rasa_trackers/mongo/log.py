"""Event logs in MongoDB: appending, replacing, deleting; reading stands in ``reading``.

``buckets`` describes the documents. Every write changes the open bucket in one step that
names the state it has seen (compare-and-set). A write of more than one document inserts
closed buckets first, which no reader counts, and then changes an open bucket that was
there before it began. So a deletion in between makes the write fail, and it begins again.
"""

from __future__ import annotations

import logging
from typing import Iterator, List, Optional, Sequence, Tuple

import pymongo
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
from pymongo.read_preferences import ReadPreference

from rasa_trackers.event_log import (
    START,
    Conversation,
    Entry,
    EventLog,
    Failure,
    Page,
    User,
)
from rasa_trackers.mongo import failures, indexes, legacy, scanning
from rasa_trackers.mongo.buckets import (
    BUCKET_BYTES,
    BUCKET_EVENTS,
    STARTED,
    USER_ID,
    Document,
    as_seen,
    checked,
    checked_log,
    fits,
    flaws,
    logged,
    open_id,
    open_state,
    size,
    split,
    user_fields,
)
from rasa_trackers.mongo.closed_buckets import ClosedBuckets
from rasa_trackers.mongo.erasure import Erasure
from rasa_trackers.mongo.expiry import Expiry, ServerClock
from rasa_trackers.mongo.failures import contention_error, primary_messages
from rasa_trackers.mongo.reading import find_open_bucket, read_page
from rasa_trackers.mongo.users import UserConversations

logger = logging.getLogger(__name__)

#: How often a write begins again because another writer was faster.
_MOST_ROUNDS = 100
#: How often a read begins again because the conversation was replaced meanwhile.
_READ_ATTEMPTS = 5


class MongoEventLog(EventLog):
    """Event logs in a collection, which may be that of Rasa's own store."""

    def __init__(
        self,
        client: pymongo.MongoClient[Document],
        collection: Collection[Document],
        *,
        name: str,
        record_exp: Optional[float] = None,
        keeps_users: bool = True,
    ) -> None:
        """Keep logs in a collection, which need not be there yet.

        Args:
            client: The client; closed together with this log.
            collection: The collection, with the write concern to use.
            name: How messages name the collection.
            record_exp: Seconds after its last append that a conversation expires.
            keeps_users: Whether users are kept.
        """
        self.name = name
        self.keeps_users = keeps_users
        self._client = client
        #: Where the conversations are. A secondary may lag behind what this process itself
        #: has written, so that the primary is read.
        self.collection = collection.with_options(
            read_preference=ReadPreference.PRIMARY
        )
        self._clock = ServerClock(client)
        self._closed = ClosedBuckets(self.collection)
        self._erasure = Erasure(self.collection, name)
        self._expiry = Expiry(self.collection, self._clock, record_exp)
        self._users = UserConversations(
            self.collection, self._is_live, self.read_back, name
        )

    @primary_messages()
    def open(self) -> None:
        # A ping would succeed without any rights.
        self.collection.find_one({"_id": open_id(""), "sender_id": ""}, {"_id": 1})
        there = indexes.create_missing(
            self.collection,
            self.name,
            [
                indexes.SENDER_ID,
                *([indexes.EXPIRY, indexes.CHECK] if self._expiry.is_on else []),
                *([indexes.USER] if self.keeps_users else []),
                indexes.UNCLEAN,
            ],
        )
        if indexes.UNCLEAN.name in there:
            self._erasure.finish()

    # Writing

    @primary_messages()
    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        events = [logged(entry) for entry in entries]
        user = user if self.keeps_users else None
        if (
            after != START
            and fits(events)
            and self._push(sender_id, events, after, user)
        ):
            return after + len(events)
        for _ in range(_MOST_ROUNDS):
            bucket = self._continued(sender_id)
            if self._end(bucket) != after:
                return None
            if after == START and not events:
                return START
            if bucket is None:
                position = self._begin(sender_id, events, user)
            elif after == START:
                position = self._rewrite(bucket, events, user)
            else:
                position = self._close_and_push(bucket, events, user)
            if position is not None:
                return position
            # Another writer was faster. Look at what it has done.
        raise contention_error(sender_id, _MOST_ROUNDS)

    @primary_messages()
    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        events = [logged(entry) for entry in entries]
        user = user if self.keeps_users else None
        for _ in range(_MOST_ROUNDS):
            bucket = self._continued(sender_id)
            if self._end(bucket) != after:
                return None
            if after == START and not events:
                return START
            if bucket is None:
                position = self._begin(sender_id, events, user)
            else:
                goes_on = after != START and bool(events)
                position = self._rewrite(bucket, events, user, goes_on=goes_on)
            if position is not None:
                return position if events else START
        raise contention_error(sender_id, _MOST_ROUNDS)

    @primary_messages()
    def delete(self, sender_id: str) -> bool:
        for _ in range(_MOST_ROUNDS):
            bucket = self._continued(sender_id)
            if bucket is not None:
                existed = self._is_live(bucket)
                if self._rewrite(bucket, []) is not None:
                    return existed
            elif self._erasure.is_needed(sender_id):
                self._insert_empty(sender_id)
            else:
                return False
        raise contention_error(sender_id, _MOST_ROUNDS)

    @primary_messages()
    def confirm(self, sender_id: str) -> None:
        # The update changes nothing. Its acknowledgement covers all writes before it
        # (mongodb.com/docs/manual/reference/write-concern).
        self.collection.update_one(
            {"_id": open_id(sender_id), "sender_id": sender_id},
            {"$unset": {"no such field": ""}},
        )

    def _push(
        self,
        sender_id: str,
        events: List[Document],
        after: int,
        user: Optional[User],
    ) -> bool:
        """Append if the open bucket has room and nothing else is to do: the usual case."""
        state, condition = self._expiry.renewal()
        state.update(user_fields(user))
        if STARTED in state:
            del state[STARTED]
            condition[STARTED] = {"$ne": None}
        added = size(events)
        result = self.collection.update_one(
            {
                "_id": open_id(sender_id),
                "sender_id": sender_id,
                "last": after,
                "first": {"$gt": after + len(events) - BUCKET_EVENTS},
                "bytes": {"$lte": BUCKET_BYTES - added},
                **condition,
            },
            {
                "$push": {"log": {"$each": events}},
                "$set": {"last": after + len(events), **state},
                "$inc": {"bytes": added},
            },
        )
        return bool(result.matched_count)

    def _close_and_push(
        self, bucket: Document, events: List[Document], user: Optional[User]
    ) -> Optional[int]:
        """Append where :meth:`_push` could not.

        The open bucket is full, its older documents are to be prepared for expiry, or
        the beginning of the conversation is to be stored.

        Returns:
            The position of the last event; ``None`` if the conversation has changed.
        """
        sender_id = bucket["sender_id"]
        seen, state = as_seen(bucket), user_fields(user)
        if bucket.get(STARTED) is not None:
            state.pop(STARTED, None)
        elif STARTED in state:
            # Another append of no events may store it, which shows in nothing else.
            seen[STARTED] = None
        self._expiry.watch_older(bucket)
        found = self.collection.find_one(seen, {"log": 1})
        if found is None:
            return None
        parts = split(checked_log({**bucket, "log": found.get("log")}) + events)
        expires_at = self._expiry.date()
        closed = self._closed.insert(
            sender_id, parts.closed, bucket["first"], bucket.get("previous"), expires_at
        )
        count = bucket["last"] - bucket["base"] + 1 + len(events)
        state.update(open_state(bucket["base"], count, parts.kept))
        new = parts.kept[max(0, len(parts.kept) - len(events)) :]
        del state["log"]
        if closed:
            state["previous"] = closed[-1]
        gone = {"lease": ""}
        if expires_at is None:
            gone["expires_at"] = ""
        else:
            state["expires_at"] = expires_at
        if not self._change(
            seen,
            {
                "$push": {"log": {"$each": new, "$slice": -len(parts.kept)}},
                "$set": state,
                "$unset": gone,
            },
        ):
            self._closed.discard(sender_id, closed)
            return None
        self._closed.settle(sender_id, closed, bucket["base"])
        return int(state["last"])

    def _begin(
        self, sender_id: str, events: List[Document], user: Optional[User]
    ) -> Optional[int]:
        """Begin a conversation that has no open bucket.

        Returns:
            The position of the last event; ``None`` if there is an open bucket now.
        """
        if not fits(events):
            self._insert_empty(sender_id)
            return None
        state = open_state(self._clock.microseconds(), len(events), events)
        expires_at = self._expiry.date()
        if expires_at is not None:
            state["expires_at"] = expires_at
        if not self._insert_open(sender_id, {**state, **user_fields(user)}):
            return None
        return int(state["last"])

    def _rewrite(
        self,
        bucket: Document,
        events: List[Document],
        user: Optional[User] = None,
        *,
        goes_on: bool = False,
    ) -> Optional[int]:
        """Put events in the place of all that a conversation has.

        For all readers the change of the open bucket replaces the conversation. The
        documents of before are erased afterwards; if this process dies, by the next
        start or by the next erasure.

        Args:
            bucket: The open bucket.
            events: The new events.
            user: Their user.
            goes_on: Whether it stays the same conversation: with the same expiry date,
                and with the same user unless another is given.

        Returns:
            The position of the last event; ``None`` if the conversation has changed.
        """
        sender_id = bucket["sender_id"]
        # Positions are never used again. Those of an erased conversation are lower than
        # the time, as no server stores an event in less than a microsecond.
        base = max(bucket["last"] + 1, self._clock.microseconds())
        parts = split(events)
        state = open_state(base, len(events), parts.kept)
        gone = {"previous", "rasa", "lease"}
        expires_at = bucket.get("expires_at")
        if not goes_on:
            expires_at = self._expiry.date() if events else None
            state.update({} if expires_at is None else {"expires_at": expires_at})
            gone |= {"expires_at"}
        state.update(user_fields(user))
        if not goes_on or user is not None:
            gone |= {USER_ID, STARTED}
        closed = self._closed.insert(sender_id, parts.closed, base, None, expires_at)
        if closed:
            state["previous"] = closed[-1]
        if not self._change(
            as_seen(bucket),
            {
                "$set": {**state, "unclean": True},
                "$unset": dict.fromkeys(gone - set(state), ""),
            },
        ):
            self._closed.discard(sender_id, closed)
            return None
        self._closed.settle(sender_id, closed, base)
        self._erasure.erase_before(sender_id, base)
        return int(state["last"])

    # Open buckets

    def _continued(self, sender_id: str) -> Optional[Document]:
        """The open bucket without its events.

        A conversation that only Rasa's own store has written gets one.
        """
        which = {"_id": open_id(sender_id), "sender_id": sender_id}
        for _ in range(_MOST_ROUNDS):
            bucket = self.collection.find_one(which, {"log": 0})
            if bucket is not None:
                return checked(bucket)
            filter_ = legacy.uncontinued([sender_id])
            read = legacy.read_events(self.collection, filter_, 1)
            if read is None:
                return None
            bucket = legacy.open_bucket(read)
            if self._insert_open(sender_id, bucket):
                return bucket
        raise contention_error(sender_id, _MOST_ROUNDS)

    def _insert_empty(self, sender_id: str) -> None:
        """Insert an open bucket of a conversation without events.

        Whatever other documents there are then can be erased without harm to a writer
        that begins the conversation at the same time.
        """
        state = open_state(self._clock.microseconds(), 0, [])
        self._insert_open(sender_id, {**state, "unclean": True})

    def _insert_open(self, sender_id: str, bucket: Document) -> bool:
        """Insert an open bucket; whether there was none."""
        which = {"_id": open_id(sender_id), "sender_id": sender_id}
        try:
            self.collection.insert_one({**which, **bucket})
        except DuplicateKeyError as error:
            # Another writer was faster, unless a document is in the way that is no open
            # bucket of this conversation. Servers before MongoDB 4.2 do not name the
            # index.
            index = (error.details or {}).get("keyPattern", {"_id": 1})
            found = self.collection.find_one({"_id": which["_id"]}, {"sender_id": 1})
            if "_id" not in index or (found and found.get("sender_id") != sender_id):
                raise
            return False
        return True

    def _change(self, seen: Document, change: Document) -> bool:
        """Change an open bucket if it still is as it was seen."""
        return bool(self.collection.update_one(seen, change).matched_count)

    def _is_live(self, bucket: Document) -> bool:
        """Whether a conversation has events and has not expired.

        A damaged one has events: it must be found to be repaired.
        """
        if flaws(bucket, "last", "base"):
            return True
        return bool(
            bucket["last"] >= bucket["base"] and not self._expiry.has_expired(bucket)
        )

    def _end(self, bucket: Optional[Document]) -> int:
        """The position of the log's last event."""
        if bucket is None or not self._is_live(bucket):
            return START
        return int(bucket["last"])

    @primary_messages()
    def purge_expired(self) -> int:
        if not self._expiry.is_on:
            return 0
        expired = self._expiry.expired()
        erased = [bucket for bucket in expired if self._rewrite(bucket, []) is not None]
        return len(erased) + self._expiry.sweep()

    # Reading

    @primary_messages()
    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        page, is_whole_page = self._read_page(sender_id, limit, before)
        for _ in range(_READ_ATTEMPTS - 1):
            if is_whole_page:
                break
            # The conversation was replaced between two round trips.
            page, is_whole_page = self._read_page(sender_id, limit, before)
        if not is_whole_page:
            logger.error(
                "%s: a part of conversation %r is missing, and all before it with it. "
                "Restore the collection from a backup.",
                self.name,
                sender_id,
            )
            page = page._replace(complete=True)
        return page if self.keeps_users else page._replace(user_id=None)

    def _read_page(
        self, sender_id: str, limit: Optional[int], before: Optional[int]
    ) -> Tuple[Page, bool]:
        """Read a page, and whether all its events were there."""
        bucket = find_open_bucket(self.collection, sender_id, limit, before)
        if bucket is None:
            return legacy.read_page(self.collection, sender_id, limit, before), True
        if not self._is_live(bucket):
            return Page([], True), True
        return read_page(self.collection, bucket, limit, before)

    def sender_ids(self) -> Iterator[Sequence[str]]:
        with primary_messages():
            yield from scanning.iter_sender_ids(self.collection, self._is_live)

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        with primary_messages():
            yield from scanning.iter_counts(
                self.collection, self._is_live, after_timestamp
            )

    @primary_messages()
    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        if not self.keeps_users:
            return []
        return self._users.of(user_id, limit, skip)

    # Errors and end

    def classify(self, error: Exception) -> Optional[Failure]:
        return failures.classify(error)

    def close(self) -> None:
        self._client.close()
