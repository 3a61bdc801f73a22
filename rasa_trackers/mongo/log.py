"""Event logs in MongoDB. The documents are described in ``documents``."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from typing import (
    Any,
    Callable,
    Dict,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import bson
import pymongo
from pymongo.collection import Collection
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    NetworkTimeout,
    OperationFailure,
)
from pymongo.read_preferences import ReadPreference

from rasa_trackers.event_log import (
    START,
    Answered,
    Conversation,
    Entry,
    EventLog,
    Failure,
    Page,
    Stored,
    User,
    began,
    unheard,
)
from rasa_trackers.mongo import failures
from rasa_trackers.mongo.documents import (
    BUCKET_BYTES,
    BUCKET_EVENTS,
    STARTED,
    USER_ID,
    Document,
    logged,
    newest_timestamp,
    open_id,
    size,
    split,
    started,
    stored,
    stored_by_rasa,
    user_fields,
    user_of_rasa,
)

logger = logging.getLogger(__name__)

#: Days that closed buckets may outlive an expired conversation; renewing them more
#: rarely is what they are for.
_LONGEST_MARGIN = dt.timedelta(days=1)
#: The lease of a conversation without older documents.
_FOREVER = dt.datetime(9999, 12, 31)  # noqa: DTZ001 - UTC, as pymongo gives dates
#: Seconds after which the server's clock is read anew.
_CLOCK_AGE = 60.0
#: Conversations that one call of ``purge_expired`` erases, and one start clears up.
_PURGE_BATCH = 100
#: Seconds to wait for new indexes, which takes no time in a collection that is new.
_INDEX_PATIENCE = 2.0
#: From so many events on, the open bucket is read as a whole: that of a long
#: conversation then costs no more round trips than that of a short one.
_WHOLE_BUCKET = 50
#: How often a read begins again because the conversation was replaced under it.
_READ_ATTEMPTS = 5
#: Conversations that are read together.
_READ_BATCH = 100
#: How often a write begins again because another writer was faster.
_MOST_ROUNDS = 100
#: How old closed buckets without an open one must be to be left over. Their names have
#: the time by the clock of the machine that wrote them.
_LONGEST_BEGINNING = dt.timedelta(hours=1)


class _Index(NamedTuple):
    name: str
    keys: List[Tuple[str, int]]
    options: Document
    #: What is worse without it.
    use: str


# Rasa's own index on ``sender_id`` stands in for it where it exists, at the price of
# looking at all documents of the conversation.
_SENDER_ID = _Index(
    "sender_id_1_bucket_1",
    [("sender_id", 1), ("bucket", 1)],
    {},
    "conversations of more than one bucket are searched for in the whole collection",
)
_EXPIRY = _Index(
    "expires_at_1",
    [("expires_at", 1)],
    {"expireAfterSeconds": 0},
    "expired conversations are erased by Rasa and not by the server",
)
_UNCLEAN = _Index(
    "unclean_1",
    [("unclean", 1)],
    {"sparse": True},
    "what a process that died while erasing has left is found when the conversation "
    "is erased again, and not at the next start",
)
# Rasa Pro's own, under the name that it gives it.
_USER_ID = _Index(
    f"{USER_ID}_1",
    [(USER_ID, 1)],
    {"sparse": True},
    "the conversations of a user are searched for in the whole collection",
)

#: What each open bucket has.
_POSITIONS = ("first", "last", "base")
#: Finds open buckets, and documents of Rasa's own store unless they were taken over
#: and the conversation has expired since.
_CURRENT: Document = {
    "sender_id": {"$exists": True},
    "bucket": None,
    "$or": [
        {"last": {"$exists": True}},
        {"events.0": {"$exists": True}, "expires_at": None},
    ],
}
#: What is read of those to find the conversations of a user.
_STATE: Document = {
    **dict.fromkeys(("sender_id", "last", "base", "expires_at", USER_ID, STARTED), 1),
    # Of Rasa's own document, the first one.
    "events": {"$slice": 1},
}


class _Build(threading.Thread):
    """Creates indexes, for as long as it takes."""

    error: Optional[Exception] = None

    def __init__(
        self, create: Callable[[List[_Index]], None], indexes: List[_Index]
    ) -> None:
        super().__init__(name="rasa_trackers-indexes", daemon=True)
        self._create = create
        self._indexes = indexes

    def run(self) -> None:
        try:
            self._create(self._indexes)
        except Exception as error:  # noqa: BLE001 - for open() to raise
            self.error = error


class MongoEventLog(EventLog):
    """Event logs in a collection, which may be that of Rasa's own store.

    A log's state is its open bucket. Writers read it, prepare closed buckets that
    nobody sees yet, and then change it by one update that names the state they have
    seen, by ``first`` and ``last``.
    """

    def __init__(
        self,
        client: pymongo.MongoClient[Document],
        collection: Collection[Document],
        *,
        name: str,
        record_exp: Optional[float] = None,
        knows_users: bool = False,
    ) -> None:
        """Keep logs in a collection, which need not be there yet.

        Args:
            client: The client; closed together with this log.
            collection: The collection, with the write concern to use.
            name: How messages name the collection.
            record_exp: Seconds after its last append that a conversation expires.
            knows_users: Whether to make the index by which those of a user are found.
        """
        self.name = name
        self._knows_users = knows_users
        self._client = client
        # A secondary may lag behind what this process itself has written.
        self._documents = collection.with_options(
            read_preference=ReadPreference.PRIMARY
        )
        self._life = None
        if record_exp is not None:
            # What a date can hold; a conversation that lives 1000 years is no worse.
            self._life = dt.timedelta(seconds=min(record_exp, 1000 * 365 * 86400))
        self._clock: Optional[Tuple[dt.datetime, float]] = None

    # Setting up

    def open(self) -> None:
        # Not a ping, which a server answers to everybody.
        self._documents.find_one({"_id": open_id(""), "sender_id": ""}, {"_id": 1})
        there = self._indexes()
        missing = [index for index in self._wanted() if index.name not in there]
        if missing:
            # A server that has much to index takes longer than any answer may, and
            # goes on when nobody waits.
            build = _Build(self._create_indexes, missing)
            build.start()
            build.join(_INDEX_PATIENCE)
            if build.is_alive():
                logger.warning(
                    "%s: the server is creating the indexes %s. Until it has, reads "
                    "are slower.",
                    self.name,
                    ", ".join(index.name for index in missing),
                )
                # Without another look, for which it may let this one wait as well.
            elif build.error is not None:
                raise build.error
            else:
                there = self._indexes()
        if _UNCLEAN.name in there:
            self._clear_up()

    def _wanted(self) -> List[_Index]:
        return [
            _SENDER_ID,
            *([_EXPIRY] if self._life is not None else []),
            *([_USER_ID] if self._knows_users else []),
            _UNCLEAN,
        ]

    def _indexes(self) -> Dict[str, Any]:
        try:
            return dict(self._documents.index_information())
        except OperationFailure as error:
            if self._is_transient(error):
                raise
            return {}

    def _create_indexes(self, missing: List[_Index]) -> None:
        for index in missing:
            try:
                self._documents.create_index(
                    index.keys, name=index.name, **index.options
                )
            except NetworkTimeout:
                return  # the server goes on; should it have died, the next call says so
            except OperationFailure as error:
                if self._is_transient(error):
                    raise
                logger.warning(
                    "%s: the index %s on %s could not be created: %s. All works, but "
                    "%s. Let an administrator create it%s.",
                    self.name,
                    index.name,
                    ", ".join(field for field, _ in index.keys),
                    " ".join(str(error).split()),
                    index.use,
                    f", with the options {index.options}" if index.options else "",
                )

    @staticmethod
    def _is_transient(error: Exception) -> bool:
        failure = failures.classify(error)
        return failure is not None and failure.transient

    def _clear_up(self) -> None:
        """Finish what processes that died while erasing have begun."""
        unclean = self._documents.find(
            {"unclean": True}, {"sender_id": 1, "base": 1}, limit=_PURGE_BATCH
        )
        for bucket in list(unclean):
            if not _is_whole(bucket.get("base")):
                continue  # damaged, which is said where it is read
            try:
                self._erase_before(bucket["sender_id"], bucket["base"])
            except OperationFailure as error:
                logger.warning(
                    "%s: what is left of an erased conversation cannot be removed: %s",
                    self.name,
                    error,
                )
                return

    # Writing

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        events = [logged(entry) for entry in entries]
        if (
            after != START
            and _fits(events)
            and self._push(sender_id, events, after, user)
        ):
            return after + len(events)
        for _ in range(_MOST_ROUNDS):
            bucket = self._open_bucket(sender_id, take_over=True)
            if self._end(bucket) != after:
                return None
            if after == START and not events:
                return START
            if bucket is None:
                position = self._begin(sender_id, events, after, user)
            elif not self._is_live(bucket):
                position = self._rewrite(sender_id, bucket, events, user)
            else:
                position = self._push_more(sender_id, bucket, events, user)
            if position is not None:
                return position
            # Another writer was faster; see what it has done.
        raise _never_came_first(sender_id)

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        events = [logged(entry) for entry in entries]
        for _ in range(_MOST_ROUNDS):
            bucket = self._open_bucket(sender_id, take_over=True)
            if self._end(bucket) != after:
                return None
            if bucket is not None:
                # One that has expired is another conversation.
                keeps_user = user is None and after != START and bool(events)
                position = self._rewrite(sender_id, bucket, events, user, keeps_user)
            elif events:
                position = self._begin(sender_id, events, after, user)
            else:
                return START
            if position is not None:
                return position if events else START
        raise _never_came_first(sender_id)

    def delete(self, sender_id: str) -> bool:
        for _ in range(_MOST_ROUNDS):
            bucket = self._open_bucket(sender_id, take_over=True)
            if bucket is None:
                return self._erase_never_begun(sender_id)
            existed = self._is_live(bucket)
            if self._rewrite(sender_id, bucket, []) is not None:
                return existed
        raise _never_came_first(sender_id)

    def confirm(self, sender_id: str) -> None:
        # Changes nothing, and is acknowledged when all that came before it would be
        # (mongodb.com/docs/manual/reference/write-concern).
        self._documents.update_one(
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
        """Append to the open bucket as it is: one round trip, and the usual case."""
        state, condition = self._renewal()
        if user is not None:
            state[USER_ID] = user.user_id
            if user.conversation_started is not None:
                condition[STARTED] = {"$ne": None}
        added = size(events)
        result = self._documents.update_one(
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

    def _renewal(self) -> Tuple[Document, Document]:
        """What to set for expiry, and under which condition that is all to do."""
        if self._life is None:
            return {}, {"expires_at": None}
        now = self._now()
        expires_at = now + self._life
        return (
            {"expires_at": expires_at},
            {"expires_at": {"$gt": now}, "lease": {"$gte": expires_at}},
        )

    def _begin(
        self,
        sender_id: str,
        events: List[Document],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        """Begin a log where there is none; ``None`` if there is one meanwhile."""
        base = _new_base(after)
        closed, state = self._prepared(sender_id, events, base)
        state.update(user_fields(user))
        try:
            self._documents.insert_one(
                {"_id": open_id(sender_id), "sender_id": sender_id, **state}
            )
        except DuplicateKeyError as error:
            self._discard(sender_id, closed)
            self._check_rival(sender_id, error)
            return None
        return base + len(events) - 1

    def _rewrite(
        self,
        sender_id: str,
        bucket: Document,
        events: List[Document],
        user: Optional[User] = None,
        keeps_user: bool = False,
    ) -> Optional[int]:
        """Put ``events`` in the place of all there is; ``None`` if that has changed.

        The conversation is replaced, for all readers, when the open bucket is. What
        it consisted of before is erased then; should this process die, by the next
        start or the next erasure.
        """
        base = _new_base(bucket["last"])
        closed, state = self._prepared(sender_id, events, base)
        gone = {"previous", "rasa", "expires_at", "lease"}
        if not keeps_user:
            state.update(user_fields(user if events else None))
            gone |= {USER_ID, STARTED}
        gone -= set(state)
        if not self._change(
            self._as_seen(bucket),
            {
                "$set": {**state, "unclean": True},
                "$unset": dict.fromkeys(gone, ""),
            },
        ):
            self._discard(sender_id, closed)
            return None
        self._erase_before(sender_id, base)
        return base + len(events) - 1

    def _prepared(
        self, sender_id: str, events: List[Document], base: int
    ) -> Tuple[List[Any], Document]:
        """Insert what does not fit in the open bucket, and return that one's state."""
        parts = split(events)
        expiry: Document = {}
        if self._life is not None and events:
            expires_at = self._now() + self._life
            lease = expires_at + self._margin() if parts.closed else _FOREVER
            expiry = {"expires_at": expires_at, "lease": lease}
        closed = self._insert_closed(
            sender_id, parts.closed, base, None, expiry.get("lease")
        )
        state = {
            "log": parts.kept,
            "first": base + len(events) - len(parts.kept),
            "last": base + len(events) - 1,
            "base": base,
            "bytes": size(parts.kept),
            **({"previous": closed[-1]} if closed else {}),
            **expiry,
        }
        return closed, state

    def _push_more(
        self,
        sender_id: str,
        bucket: Document,
        events: List[Document],
        user: Optional[User],
    ) -> Optional[int]:
        """Append where buckets must be closed or expiry dates be renewed first.

        Or where it is not known yet when a user's conversation began.

        ``None`` if the conversation has changed meanwhile.
        """
        state, seen = self._with_user(bucket, user)
        # Moved by an append that only gives a user, it shows in nothing else.
        seen["lease"] = bucket.get("lease")
        renewed = self._renewed(bucket)
        state.update(renewed)
        log = self._documents.find_one(self._as_seen(bucket), {"log": 1})
        if log is None:
            return None
        if not isinstance(log.get("log"), list):
            raise bson.errors.InvalidBSON(f"the document {log['_id']!r} has no log")
        parts = split(log["log"] + events)
        if parts.closed and state.get("lease") == _FOREVER:
            state["lease"] = state["expires_at"] + self._margin()
        closed = self._insert_closed(
            sender_id,
            parts.closed,
            bucket["first"],
            bucket.get("previous"),
            state.get("lease"),
        )
        if closed:
            state["previous"] = closed[-1]
        last: int = bucket["last"] + len(events)
        state.update(
            first=last - len(parts.kept) + 1, last=last, bytes=size(parts.kept)
        )
        new = parts.kept[max(0, len(parts.kept) - len(events)) :]
        change: Document = {
            "$push": {"log": {"$each": new, "$slice": -len(parts.kept)}},
            "$set": state,
        }
        if not renewed:
            change["$unset"] = {"expires_at": "", "lease": ""}
        if not self._change(seen, change):
            self._discard(sender_id, closed)
            return None
        return last

    def _renewed(self, bucket: Document) -> Document:
        """How long a conversation lives now, after its older documents were told so.

        Returns:
            What to set in the open bucket; nothing where it lives for ever.
        """
        lease = bucket.get("lease")
        if self._life is None:
            if lease is not None or "expires_at" in bucket:
                # Written under a record_exp that is not set any more.
                self._renew_older(bucket, {"$unset": {"expires_at": ""}})
            return {}
        expires_at = self._now() + self._life
        if lease is None or lease < expires_at:
            lease = _FOREVER
            if "previous" in bucket or "rasa" in bucket:
                lease = expires_at + self._margin()
                # Never back: another writer may be at it as well.
                self._renew_older(bucket, {"$max": {"expires_at": lease}})
        return {"expires_at": expires_at, "lease": lease}

    def _insert_closed(
        self,
        sender_id: str,
        buckets: List[List[Document]],
        position: int,
        previous: Optional[Any],
        expires_at: Optional[dt.datetime],
    ) -> List[Any]:
        """Insert closed buckets that follow ``previous``, and return their ids."""
        documents: List[Document] = []
        for events in buckets:
            document = {
                "_id": bson.ObjectId(),
                "sender_id": sender_id,
                "bucket": position,
                "log": events,
            }
            if previous is not None:
                document["previous"] = previous
            if expires_at is not None:
                document["expires_at"] = expires_at
            documents.append(document)
            previous = document["_id"]
            position += len(events)
        ids = [document["_id"] for document in documents]
        if documents:
            try:
                self._documents.insert_many(documents)
            except Exception as error:
                if not self._is_transient(error):
                    self._discard(sender_id, ids)
                raise
        return ids

    def _discard(self, sender_id: str, closed: List[Any]) -> None:
        """Remove closed buckets that did not become part of the conversation."""
        if closed:
            self._documents.delete_many(
                {"sender_id": sender_id, "_id": {"$in": closed}}
            )

    @staticmethod
    def _as_seen(bucket: Document) -> Document:
        return {key: bucket[key] for key in ("_id", "sender_id", "first", "last")}

    def _with_user(
        self, bucket: Document, user: Optional[User]
    ) -> Tuple[Document, Document]:
        """What to set for a user, and how the bucket must still be then."""
        state, seen = user_fields(user), self._as_seen(bucket)
        if bucket.get(STARTED) is not None:
            state.pop(STARTED, None)
        elif STARTED in state:
            # Appends of no events, by other writers, show in nothing else.
            seen[STARTED] = None
        return state, seen

    def _change(self, seen: Document, change: Document) -> bool:
        """Change an open bucket if it still is as it was seen."""
        result = self._documents.update_one(seen, change)
        return bool(result.matched_count)

    def _renew_older(self, bucket: Document, change: Document) -> None:
        """Change the expiry of all that is older than the open bucket."""
        sender_id = bucket["sender_id"]
        self._documents.update_many(
            {
                "sender_id": {"$in": _names(sender_id)},
                "_id": {"$ne": bucket["_id"]},
            },
            change,
        )

    # The open bucket

    def _open_bucket(
        self, sender_id: str, take_over: bool = False
    ) -> Optional[Document]:
        """The open bucket without its events.

        Args:
            sender_id: The conversation.
            take_over: Whether to make one for a conversation that only Rasa's own
                store has written to; it holds no events of its own yet.
        """
        which = {"_id": open_id(sender_id), "sender_id": sender_id}
        for _ in range(_MOST_ROUNDS):
            bucket = _checked(self._documents.find_one(which, {"log": 0}))
            if bucket is not None or not take_over:
                return bucket
            rasa, _ = self._rasa_events(self._only_rasas(sender_id), 1, None)
            if rasa is None:
                return None
            bucket = {**which, **_begun_by_rasa(rasa)}
            try:
                self._documents.insert_one(bucket)
            except DuplicateKeyError as error:
                # Another worker was faster; a bucket is only removed when it is empty.
                self._check_rival(sender_id, error)
            else:
                return bucket
        raise _never_came_first(sender_id)

    def _check_rival(self, sender_id: str, error: DuplicateKeyError) -> None:
        """Raise ``error``, unless it says that another writer was faster."""
        found = self._documents.find_one({"_id": open_id(sender_id)}, {"sender_id": 1})
        # Servers before MongoDB 4.2 do not say which index it was.
        index = (error.details or {}).get("keyPattern", {"_id": 1})
        if "_id" not in index or (found and found.get("sender_id") != sender_id):
            raise error

    def _is_live(self, bucket: Document) -> bool:
        """Whether the conversation has events, and has not expired.

        One that is damaged is there: it must be found, to be mended.
        """
        if _flaws(bucket, "last", "base"):
            return True
        return bool(bucket["last"] >= bucket["base"]) and not self._has_expired(bucket)

    def _end(self, bucket: Optional[Document]) -> int:
        """The position of the log's last event."""
        if bucket is None or not self._is_live(bucket):
            return START
        return int(bucket["last"])

    def _has_expired(self, bucket: Document) -> bool:
        if self._life is None or "expires_at" not in bucket:
            return False
        return bool(bucket["expires_at"] <= self._now())

    def _erase_never_begun(self, sender_id: str) -> bool:
        """Erase closed buckets of a writer that died before it had begun a log.

        Not those of one that may be about to do so.

        Returns:
            Whether there were any.
        """
        when = self._now() - _LONGEST_BEGINNING
        which = {
            "sender_id": sender_id,
            "bucket": {"$exists": True},
            "_id": {"$lt": bson.ObjectId.from_datetime(when)},
        }
        return bool(self._documents.delete_many(which).deleted_count)

    def _erase_before(self, sender_id: str, base: int) -> None:
        """Erase what a conversation consisted of before it was replaced."""
        which = {"_id": open_id(sender_id), "sender_id": sender_id, "base": base}
        self._documents.delete_many(
            {
                "sender_id": {"$in": _names(sender_id)},
                "_id": {"$ne": which["_id"]},
                # Matches Rasa's own document too, which has no such field.
                "bucket": {"$not": {"$gte": base}},
            }
        )
        # Last, because it hides all that was erased now.
        if not self._documents.delete_one({**which, "last": base - 1}).deleted_count:
            self._documents.update_one(which, {"$unset": {"unclean": ""}})

    # Reading

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        which = {"_id": open_id(sender_id), "sender_id": sender_id}
        wanted: Optional[Document] = None
        if before is not None:
            wanted = {"log": 0}  # usually it was read before
        elif limit is not None and limit < _WHOLE_BUCKET:
            wanted = {"log": {"$slice": -limit}}
        for attempt in range(1, _READ_ATTEMPTS + 1):
            without_log = wanted == {"log": 0}
            bucket = _checked(
                self._documents.find_one(which, wanted), with_log=not without_log
            )
            if bucket is not None and without_log:
                if before is not None and before > bucket["first"]:
                    wanted = None
                    found = self._documents.find_one(which)
                    bucket = _checked(found, with_log=True)
                else:
                    bucket["log"] = []
            if bucket is None:
                return self._read_rasa(sender_id, limit, before)
            if not self._is_live(bucket):
                break
            page, is_whole = self._read_bucket(bucket, limit, before)
            if is_whole:
                return page
            # The conversation was replaced between two round trips.
            if attempt == _READ_ATTEMPTS:
                logger.error(
                    "%s: a part of conversation %r is missing, and all before it with "
                    "it. Restore the collection from a backup.",
                    self.name,
                    sender_id,
                )
                return Page(page.events, True, page.user_id)
        return Page([], complete=True)

    def _read_bucket(
        self, bucket: Document, limit: Optional[int], before: Optional[int]
    ) -> Tuple[Page, bool]:
        """Read from the open bucket on; and whether all was there."""
        end = bucket["last"] + 1 if before is None else before
        runs: List[List[Stored]] = []
        missing = limit
        is_whole = True
        for run in self._runs(bucket, end, limit):
            if run is None:
                is_whole = False
                break
            runs.append(_before(run, end) if run and run[-1].position >= end else run)
            if missing is not None:
                missing -= len(runs[-1])
                if missing <= 0:
                    break
        events = [event for run in reversed(runs) for event in run]
        complete = not events or events[0].position == bucket["base"]
        return Page(events, complete, bucket.get(USER_ID)), is_whole

    def _runs(
        self, bucket: Document, end: int, limit: Optional[int]
    ) -> Iterator[Optional[List[Stored]]]:
        """The buckets of a conversation that hold events before ``end``.

        Newest first; ``None`` is one that is missing.
        """
        sender_id, log, first = bucket["sender_id"], bucket["log"], bucket["first"]
        if log:
            yield stored(log, bucket["last"] - len(log) + 1)
        previous = bucket.get("previous")
        if previous is not None:
            oldest = bucket["base"]
            if limit is not None:
                oldest = max(oldest, end - limit)
            for closed in self._closed_buckets(sender_id, first, end, oldest):
                # Else one that a writer which died has left.
                if closed["_id"] == previous:
                    previous = closed.get("previous")
                    if "log" in closed:
                        yield stored(closed["log"], closed["bucket"])
                    if previous is None:
                        break
            else:
                yield None
        if "rasa" in bucket:
            rasa = bucket["rasa"]
            upto = min(end - 1, rasa["events"])
            found, events = self._rasa_events(
                {"_id": rasa["_id"], "sender_id": rasa["sender_id"]}, limit, upto
            )
            yield events if found else None

    def _closed_buckets(
        self, sender_id: str, first: int, end: int, oldest: int
    ) -> Generator[Document, None, None]:
        """Closed buckets from position ``first`` back to that which holds ``oldest``.

        Those from ``end`` on come without their events: only what chains them is
        needed, to know which of the others are the conversation's.
        """
        which = {"sender_id": sender_id}
        newest_first = [("bucket", -1), ("_id", -1)]
        if end < first:
            yield from self._documents.find(
                {**which, "bucket": {"$gte": end, "$lt": first}},
                {"bucket": 1, "previous": 1},
                sort=newest_first,
            )
        # By their positions and not by their number, so that the answer is not one
        # bucket longer than it need be; and as they are, which some servers find in
        # half the time.
        yield from self._documents.find(
            {
                **which,
                "bucket": {"$gt": oldest - BUCKET_EVENTS, "$lt": min(first, end)},
            },
            sort=newest_first,
        )

    # Rasa's own document

    def _read_rasa(
        self, sender_id: str, limit: Optional[int], before: Optional[int]
    ) -> Page:
        """Read a conversation that only Rasa's own store has written to."""
        upto = None if before is None else before - 1
        rasa, events = self._rasa_events(self._only_rasas(sender_id), limit, upto)
        complete = not events or events[0].position == 1
        return Page(events, complete, (rasa or {}).get(USER_ID))

    @staticmethod
    def _only_rasas(sender_id: str) -> Document:
        """Finds Rasa's own document of a conversation without an open bucket."""
        return {
            "sender_id": {"$in": _names(sender_id)},
            "bucket": None,
            "last": None,
            # Else it was taken over, and the conversation has expired since.
            "expires_at": None,
            "events.0": {"$exists": True},
        }

    def _rasa_events(
        self, which: Document, limit: Optional[int], upto: Optional[int]
    ) -> Tuple[Optional[Document], List[Stored]]:
        """Read from a document of Rasa's own store.

        Args:
            which: The filter that finds it.
            limit: How many events to read; ``None`` for all.
            upto: The position of the last event to read; ``None`` for the newest.

        Returns:
            ``_id`` and sender id of the document, the number of its events, and the
            user, if it has one; ``None`` when there is none. And the events.
        """
        all_of_them = _array("$events")
        some: Any = all_of_them
        if upto is not None:
            begin = max(0, upto - limit) if limit is not None else 0
            some = {"$slice": [all_of_them, begin, max(upto - begin, 1)]}
        elif limit is not None:
            some = {"$slice": [all_of_them, -limit]}
        fields = {
            "sender_id": 1,
            "count": {"$size": all_of_them},
            "events": some,
            USER_ID: 1,
            STARTED: 1,
            "began": {"$slice": [all_of_them, 1]},
        }
        found = list(
            self._documents.aggregate([{"$match": which}, {"$project": fields}])
        )
        if not found:
            return None, []
        document = _that_rasa_uses(found)
        count = document["count"]
        rasa = {
            "_id": document["_id"],
            "sender_id": document["sender_id"],
            "events": count,
            **user_of_rasa(document, document["began"]),
        }
        if upto is None:
            begin = count - len(document["events"])
        events = stored_by_rasa(document["events"], begin + 1)
        return rasa, [
            event for event in events if upto is None or event.position <= upto
        ]

    def sender_ids(self, answered: Answered = unheard) -> List[str]:
        begun: Dict[str, bool] = {}
        of_rasa: List[str] = []
        for document in self._documents.find(
            _CURRENT,
            {"_id": 0, "sender_id": 1, "last": 1, "base": 1, "expires_at": 1},
        ):
            answered()
            if "last" in document:
                begun[document["sender_id"]] = self._is_live(document)
            else:
                of_rasa.append(str(document["sender_id"]))
        # What an open bucket says counts, also of a conversation that Rasa began.
        return [
            *(sender_id for sender_id, is_live in begun.items() if is_live),
            *(
                sender_id
                for sender_id in dict.fromkeys(of_rasa)
                if sender_id not in begun
            ),
        ]

    # Conversations of users

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        begun = sorted(self._begun_by(user_id), key=began)
        sender_ids = [conversation.sender_id for conversation in begun]
        found = [
            conversation
            for batch in _batches(sender_ids[skip:][:limit])
            for conversation in self._read_those_of(user_id, batch)
        ]
        return sorted(found, key=began)

    def _begun_by(self, user_id: str) -> List[Conversation]:
        """The conversations of a user, without their events."""
        found = self._documents.find({**_CURRENT, USER_ID: user_id}, _STATE)
        opened, of_rasa = _parted(found)
        doubtful = [sender_id for sender_id in of_rasa if sender_id not in opened]
        of_rasa = {}
        for batch in _batches(doubtful):
            # They may go on in open buckets, which may be nobody's any more; and of
            # two documents of Rasa's own only one counts.
            which = {**_CURRENT, "sender_id": {"$in": _all_names(batch)}}
            newer, older = _parted(self._documents.find(which, _STATE))
            opened.update(newer)
            of_rasa.update(older)
        return [
            Conversation(sender_id, started(document, document.get("events", ())), [])
            for sender_id, document in {**of_rasa, **opened}.items()
            if document.get(USER_ID) == user_id
            and ("last" not in document or self._is_live(document))
        ]

    def _read_those_of(self, user_id: str, sender_ids: List[str]) -> List[Conversation]:
        """Read conversations as a whole, if they still are the user's.

        In a few round trips for all of them.
        """
        found: List[Conversation] = []
        ids = [open_id(sender_id) for sender_id in sender_ids]
        opened = {
            bucket["sender_id"]: bucket
            for bucket in self._documents.find(
                {"_id": {"$in": ids}, "sender_id": {"$in": sender_ids}}
            )
        }
        closed = self._closed_of(
            [sender_id for sender_id in opened if "previous" in opened[sender_id]]
        )
        of_rasa = self._rasas_of(
            [
                sender_id
                for sender_id in sender_ids
                if sender_id not in opened or "rasa" in opened[sender_id]
            ]
        )
        for sender_id in sender_ids:
            bucket = opened.get(sender_id)
            rasas = of_rasa.get(sender_id, [])
            texts: Optional[List[str]] = None
            if bucket is not None:
                _checked(bucket, with_log=True)
                is_live = self._is_live(bucket)
                texts = _whole(bucket, closed, rasas) if is_live else []
            elif any(rasa.get("expires_at") is None for rasa in rasas):
                bucket = _that_rasa_uses(rasas)
                texts = _texts(stored_by_rasa(bucket["events"], 1))
            if texts is None:
                # It was replaced between two round trips, or a part is missing.
                bucket, page = self._open_bucket(sender_id), self.read_back(sender_id)
                texts = _texts(page.events) if page.user_id == user_id else []
            if texts and bucket is not None and bucket.get(USER_ID) == user_id:
                when = started(bucket, bucket.get("events", ()))
                found.append(Conversation(sender_id, when, texts))
        return found

    def _closed_of(self, sender_ids: List[str]) -> Dict[Any, Document]:
        """All closed buckets of conversations, by ``_id``."""
        if not sender_ids:
            return {}
        found = self._documents.find(
            {"sender_id": {"$in": sender_ids}, "bucket": {"$exists": True}},
            {"previous": 1, "log": 1},
        )
        return {bucket["_id"]: bucket for bucket in found}

    def _rasas_of(self, sender_ids: List[str]) -> Dict[str, List[Document]]:
        """The documents of Rasa's own store, by sender id."""
        found: Dict[str, List[Document]] = {}
        if sender_ids:
            which = {
                "sender_id": {"$in": _all_names(sender_ids)},
                "bucket": None,
                "last": None,
                "events.0": {"$exists": True},
            }
            fields = ("sender_id", "events", "expires_at", USER_ID, STARTED)
            for rasa in self._documents.find(which, fields):
                found.setdefault(str(rasa["sender_id"]), []).append(rasa)
        return found

    def count_conversations(
        self, after_timestamp: float, answered: Answered = unheard
    ) -> int:
        opened, of_rasa = _parted(_heard(self._with_newest_event(_CURRENT), answered))
        newest = [
            newest_timestamp(rasa)
            for sender_id, rasa in of_rasa.items()
            if sender_id not in opened
        ]
        elsewhere: Dict[Any, str] = {}
        for sender_id, bucket in opened.items():
            if not self._is_live(bucket):
                continue
            if bucket.get("newest") is not None or _flaws(bucket):
                newest.append(newest_timestamp(bucket))
            else:
                # It is a large one, or nothing follows what Rasa's own store has.
                before = bucket.get("previous") or bucket.get("rasa", {}).get("_id")
                elsewhere[before] = sender_id
        for batch in _batches(list(elsewhere)):
            names = _all_names(elsewhere[document_id] for document_id in batch)
            which = {"_id": {"$in": batch}, "sender_id": {"$in": names}}
            newest += map(newest_timestamp, self._with_newest_event(which))
            answered()
        return sum(timestamp >= after_timestamp for timestamp in newest)

    def _with_newest_event(self, which: Document) -> Iterable[Document]:
        """Documents; for events there is ``newest``, the timestamp of the last one.

        Or its text, where it has no timestamp of its own.
        """
        fields = dict.fromkeys(
            ("sender_id", "bucket", "last", "base", "expires_at", "previous", "rasa"), 1
        )
        events = _array({"$ifNull": ["$log", "$events"]})
        newest = {"$ifNull": ["$newest.timestamp", "$newest.data"]}
        return self._documents.aggregate(
            [
                {"$match": which},
                {"$project": {**fields, "newest": {"$arrayElemAt": [events, -1]}}},
                {"$project": {**fields, "newest": newest}},
            ]
        )

    # Expiry

    def purge_expired(self) -> int:
        if self._life is None:
            return 0
        overdue = {"expires_at": {"$lte": self._now()}}
        expired = list(
            self._documents.find(
                {**overdue, "last": {"$exists": True}}, {"log": 0}, limit=_PURGE_BATCH
            )
        )
        sound = [bucket for bucket in expired if not _flaws(bucket, *_POSITIONS)]
        for bucket in sound:
            self._rewrite(bucket["sender_id"], bucket, [])
        # What was left by others; those of a living conversation are never overdue.
        self._documents.delete_many({**overdue, "last": None})
        return len(sound)

    def _margin(self) -> dt.timedelta:
        return min(self._life or _LONGEST_MARGIN, _LONGEST_MARGIN)

    def _now(self) -> dt.datetime:
        """The time by the server's clock, in UTC without saying so, as BSON dates are.

        Read once a minute and counted on from there, which needs no round trip.
        """
        clock = self._clock
        if clock is None or time.monotonic() - clock[1] > _CLOCK_AGE:
            asked_at = time.monotonic()
            try:
                hello: Document = self._client.admin.command("hello")
            except OperationFailure:  # MongoDB 4.4 and before
                hello = self._client.admin.command("isMaster")
            clock = self._clock = (hello["localTime"], asked_at)
        return clock[0] + dt.timedelta(seconds=time.monotonic() - clock[1])

    # Errors and end

    def classify(self, error: Exception) -> Optional[Failure]:
        return failures.classify(error)

    def close(self) -> None:
        self._client.close()


def _new_base(last: int) -> int:
    """Where the positions of a new beginning begin.

    At the time, in microseconds: so those of a conversation that was erased are not
    used again, and neither are those that a writer had in hand when it died.
    """
    return max(last, time.time_ns() // 1000) + 1


def _checked(
    bucket: Optional[Document], *, with_log: bool = False
) -> Optional[Document]:
    """An open bucket, if it has what one must have.

    Args:
        bucket: As it was read.
        with_log: Whether its events were to be read too.

    Raises:
        bson.errors.InvalidBSON: when something else has changed it. Nothing is read
            from it then, and nothing added: what it holds stays for its repair.
    """
    wrong = [] if bucket is None else _flaws(bucket, *_POSITIONS)
    if bucket is not None and with_log and "log" not in bucket:
        wrong.append("log")
    if bucket is not None and wrong:
        raise bson.errors.InvalidBSON(
            f"the document {bucket['_id']!r} has no sensible {', '.join(wrong)}"
        )
    return bucket


def _flaws(bucket: Document, *numbers: str) -> List[str]:
    """What of an open bucket makes no sense.

    Args:
        bucket: As it was read; what is left out there is no flaw.
        numbers: The positions that it must have.
    """
    wrong = [key for key in numbers if not _is_whole(bucket.get(key))]
    if not isinstance(bucket.get("log", []), list):
        wrong.append("log")
    wrong += [
        key
        for key in ("expires_at", "lease")
        if not isinstance(bucket.get(key, _FOREVER), dt.datetime)
    ]
    rasa = bucket.get("rasa", {"_id": 0, "sender_id": "", "events": 0})
    if not (
        isinstance(rasa, dict)
        and {"_id", "sender_id"} <= set(rasa)
        and _is_whole(rasa.get("events"))
    ):
        wrong.append("rasa")
    if not isinstance(bucket.get("previous"), Hashable):
        wrong.append("previous")
    return wrong


def _array(expression: Any) -> Document:
    """An expression of the server's that is empty where there is no array."""
    return {"$cond": [{"$isArray": [expression]}, expression, []]}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _before(run: List[Stored], end: int) -> List[Stored]:
    return [event for event in run if event.position < end]


def _fits(events: List[Document]) -> bool:
    return len(events) <= BUCKET_EVENTS and size(events) <= BUCKET_BYTES


def _names(sender_id: str) -> List[Any]:
    """What ``sender_id`` may be in documents of Rasa's own store.

    Old versions of it stored a number as such.
    """
    # As long as those of 64 bits: Python reads none of more than 4,300 digits.
    if len(sender_id) < 20 and sender_id.isascii() and sender_id.isdigit():
        number = int(sender_id)
        if number < 2**63 and str(number) == sender_id:
            return [sender_id, number]
    return [sender_id]


def _begun_by_rasa(rasa: Document) -> Document:
    """The state of a log that holds no events of its own yet.

    Args:
        rasa: Of the document of Rasa's own store, how many events it has, and whose.
    """
    count = rasa["events"]
    return {
        "log": [],
        "first": count + 1,
        "last": count,
        "base": 1,
        "bytes": 0,
        "rasa": {name: rasa[name] for name in ("_id", "sender_id", "events")},
        **{name: rasa[name] for name in (USER_ID, STARTED) if name in rasa},
    }


def _never_came_first(sender_id: str) -> AutoReconnect:
    return AutoReconnect(
        f"others have changed conversation {sender_id!r} {_MOST_ROUNDS} times while it "
        f"was to be written"
    )


def _batches(names: List[Any]) -> Iterator[List[Any]]:
    for begin in range(0, len(names), _READ_BATCH):
        yield names[begin : begin + _READ_BATCH]


def _heard(documents: Iterable[Document], answered: Answered) -> Iterator[Document]:
    for document in documents:
        answered()
        yield document


def _all_names(sender_ids: Iterable[str]) -> List[Any]:
    return [name for sender_id in sender_ids for name in _names(sender_id)]


def _parted(
    documents: Iterable[Document],
) -> Tuple[Dict[str, Document], Dict[str, Document]]:
    """Open buckets, and documents of Rasa's own store; by sender id."""
    opened: Dict[str, Document] = {}
    of_rasa: Dict[str, List[Document]] = {}
    for document in documents:
        if "last" in document:
            opened[document["sender_id"]] = document
        else:
            of_rasa.setdefault(str(document["sender_id"]), []).append(document)
    return opened, {
        sender_id: _that_rasa_uses(several) for sender_id, several in of_rasa.items()
    }


def _that_rasa_uses(documents: List[Document]) -> Document:
    """The one that counts of a conversation's documents in Rasa's own store.

    Two workers of Rasa's may have made two at once. Its own store uses the first one
    it finds, and one with a number only if there is no other.
    """
    named = [
        document for document in documents if isinstance(document["sender_id"], str)
    ]
    return (named or documents)[0]


def _whole(
    bucket: Document, closed: Dict[Any, Document], rasas: List[Document]
) -> Optional[List[str]]:
    """The events of a conversation; ``None`` if some are not among the documents."""
    runs = [_texts(stored(bucket["log"], 1))]
    previous = bucket.get("previous")
    while previous is not None:
        if not isinstance(previous, Hashable) or previous not in closed:
            return None
        older = closed[previous]
        runs.append(_texts(stored(older["log"], 1)))
        previous = older.get("previous")
    if "rasa" in bucket:
        begun = [rasa for rasa in rasas if rasa["_id"] == bucket["rasa"]["_id"]]
        if not begun:
            return None
        events = begun[0]["events"][: bucket["rasa"]["events"]]
        runs.append(_texts(stored_by_rasa(events, 1)))
    return [text for run in reversed(runs) for text in run]


def _texts(events: List[Stored]) -> List[str]:
    return [event.data for event in events]
