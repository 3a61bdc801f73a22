"""Reading the buckets of one conversation, newest first.

A page asks the server for the open bucket and for the closed buckets that hold the events
of the page, by their positions. So its cost does not depend on the length of the log or
on how far back the page lies.
"""

from __future__ import annotations

from typing import Any, Iterable, Iterator, List, Optional, Tuple

from pymongo.collection import Collection

from rasa_trackers.event_log import Page, Stored
from rasa_trackers.mongo import legacy
from rasa_trackers.mongo.buckets import (
    BUCKET_EVENTS,
    USER_ID,
    Document,
    checked,
    checked_log,
    is_whole,
    open_id,
    stored,
)

#: From so many events on, a page reads the open bucket as a whole. Otherwise a page of
#: half the open bucket would need a second round trip for the rest of its events.
_WHOLE_BUCKET = 50


def find_open_bucket(
    collection: Collection[Document],
    sender_id: str,
    limit: Optional[int],
    before: Optional[int],
) -> Optional[Document]:
    """The open bucket of a conversation.

    Its ``log`` holds the events that a page needs of it, and is missing where the page
    needs none.
    """
    which = {"_id": open_id(sender_id), "sender_id": sender_id}
    part = None
    if before is not None:
        bucket = collection.find_one(which, {"log": 0})
        if bucket is None or before <= checked(bucket)["first"]:
            return bucket
    elif limit is not None and limit < _WHOLE_BUCKET:
        part = limit
    bucket = collection.find_one(which, part and {"log": {"$slice": -part}})
    if bucket is not None:
        checked_log(checked(bucket), part)
    return bucket


def read_page(
    collection: Collection[Document],
    bucket: Document,
    limit: Optional[int],
    before: Optional[int],
) -> Tuple[Page, bool]:
    """Read a page from the open bucket backwards.

    Returns:
        The page, and whether all its events were there. Some are not if the conversation
        was replaced after the open bucket was read.
    """
    end = bucket["last"] + 1
    if before is not None:
        end = min(end, before)
    oldest = bucket["base"] if limit is None else max(bucket["base"], end - limit)
    runs: List[List[Stored]] = []
    for run in _iter_runs(collection, bucket, end, oldest):
        runs.append(run)
        end = run[0].position
        if end <= oldest:
            break
    events = [event for run in reversed(runs) for event in run]
    user_id = bucket.get(USER_ID) if events else None
    page = Page(events, end <= bucket["base"], user_id)
    return page, end <= oldest


def _iter_runs(
    collection: Collection[Document], bucket: Document, end: int, oldest: int
) -> Iterator[List[Stored]]:
    """The events from before ``end`` back to ``oldest`` or further, newest run first."""
    log = bucket.get("log")
    if log:
        run = stored(log, bucket["last"] - len(log) + 1)
        run = [event for event in run if event.position < end]
        if run:
            yield run
            end = run[0].position
    if end > oldest and "previous" in bucket:
        for run in _iter_buckets_newest_first(collection, bucket, end, oldest):
            yield run
            end = run[0].position
    rasa = bucket.get("rasa")
    if end > oldest and rasa and end - 1 <= rasa["events"]:
        which = {"_id": rasa["_id"], "sender_id": rasa["sender_id"]}
        read = legacy.read_events(collection, which, end - oldest, end - 1)
        if read is not None and read.events:
            yield read.events


def _iter_buckets_newest_first(
    collection: Collection[Document], bucket: Document, end: int, oldest: int
) -> Iterator[List[Stored]]:
    is_newest = end >= bucket["first"]
    previous = bucket["previous"] if is_newest else None
    found = False
    for run in closed_runs(
        bucket, _closed(collection, bucket, oldest, end), end, previous
    ):
        found = True
        yield run
    if not found and not is_newest:
        previous = _previous_before(collection, bucket, end)
        buckets = _closed(collection, bucket, oldest, end)
        yield from closed_runs(bucket, buckets, end, previous)


def closed_runs(
    bucket: Document, documents: Iterable[Document], end: int, previous: Any
) -> Iterator[List[Stored]]:
    """The events of those closed buckets that count, each run up to the one before it.

    Args:
        bucket: The open bucket.
        documents: Closed buckets of its conversation, by falling positions. Some may have
            been left by writers that died, or hold numbers that make no sense.
        end: The position after the newest event.
        previous: ``_id`` of the closed bucket that holds the event before ``end``;
            ``None`` if that is not known.
    """
    is_exact = end == bucket["first"]
    for document in documents:
        if document["_id"] != previous and document.get("base") != bucket["base"]:
            continue
        first: Any = document.get("bucket")
        log = document.get("log")
        if not is_whole(first) or not isinstance(log, list):
            continue
        after = first + len(log)
        if not first < end <= after or (is_exact and end < after):
            continue  # not the one before the run that came last
        yield stored(log[: end - first], first)
        end, previous, is_exact = first, document.get("previous"), True


def _closed(
    collection: Collection[Document], bucket: Document, oldest: int, end: int
) -> Iterable[Document]:
    """The closed buckets that may hold events from ``oldest`` to before ``end``."""
    # No bucket holds more than BUCKET_EVENTS, so none that begins earlier reaches oldest.
    begin = max(bucket["base"], oldest - BUCKET_EVENTS + 1)
    return collection.find(
        {"sender_id": bucket["sender_id"], "bucket": {"$gte": begin, "$lt": end}},
        sort=[("bucket", -1), ("_id", -1)],
    )


def _previous_before(
    collection: Collection[Document], bucket: Document, end: int
) -> Optional[Any]:
    """``_id`` of the closed bucket that holds the event before ``end``.

    Found by following ``previous`` from the open bucket. Only buckets of version 0.1.0,
    and of a writer that died right after its append, need that.
    """
    previous = bucket["previous"]
    for document in collection.find(
        {
            "sender_id": bucket["sender_id"],
            "bucket": {"$gte": end, "$lt": bucket["first"]},
        },
        {"bucket": 1, "base": 1, "previous": 1},
        sort=[("bucket", -1), ("_id", -1)],
    ):
        if document["_id"] == previous or document.get("base") == bucket["base"]:
            previous = document.get("previous")
    return previous
