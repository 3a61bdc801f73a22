"""Questions about all conversations of the collection."""

from __future__ import annotations

import itertools
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Set,
    TypeVar,
)

from pymongo.collection import Collection

from rasa_trackers.event_log import timestamp_of
from rasa_trackers.mongo import legacy
from rasa_trackers.mongo.buckets import Document, flaws, open_id

T = TypeVar("T")

#: Conversations that are looked at together.
_BATCH = 100

#: Finds open buckets, and documents of Rasa's own store that may have none.
CURRENT: Document = {
    "sender_id": {"$type": ["string", "int", "long"]},
    "bucket": None,
    "$or": [
        {"last": {"$exists": True}},
        {"check_at": None, "expires_at": None, "events.0": {"$exists": True}},
    ],
}
_STATE = dict.fromkeys(("sender_id", "last", "base", "expires_at"), 1)


def batches(items: Iterable[T]) -> Iterator[List[T]]:
    """Divide items into lists of up to 100."""
    rest = iter(items)
    return iter(lambda: list(itertools.islice(rest, _BATCH)), [])


def iter_sender_ids(
    collection: Collection[Document], is_live: Callable[[Document], bool]
) -> Iterator[List[str]]:
    """The sender ids of all conversations, as ``EventLog.sender_ids``."""

    def find(which: Document) -> Iterable[Document]:
        return collection.find(which, _STATE)

    for states in _iter_states(find):
        yield [
            sender_id
            for sender_id, document in states.items()
            if "last" not in document or is_live(document)
        ]


def iter_counts(
    collection: Collection[Document],
    is_live: Callable[[Document], bool],
    after_timestamp: float,
) -> Iterator[int]:
    """How many conversations are recent, as ``EventLog.count_conversations``."""

    def find(which: Document) -> Iterable[Document]:
        return _with_newest(collection, which)

    for states in _iter_states(find):
        newest: List[float] = []
        elsewhere: Dict[Any, str] = {}
        for sender_id, document in states.items():
            if "last" in document and not is_live(document):
                continue
            timestamp = _newest_timestamp(document)
            if timestamp is not None or flaws(document):
                newest.append(timestamp or 0.0)
            else:
                # The event is large and has a closed bucket of its own, or Rasa's own
                # document holds the newest event.
                before = document.get("previous") or document.get("rasa", {}).get("_id")
                elsewhere[before] = sender_id
        if elsewhere:
            names = legacy.all_names(elsewhere.values())
            which = {"_id": {"$in": list(elsewhere)}, "sender_id": {"$in": names}}
            newest += [_newest_timestamp(found) or 0.0 for found in find(which)]
        yield sum(timestamp >= after_timestamp for timestamp in newest)


def _iter_states(
    find: Callable[[Document], Iterable[Document]],
) -> Iterator[Dict[str, Document]]:
    """For each batch, the documents that have the state of conversations; each once.

    The state of a conversation is in its open bucket; of one without an open bucket, in
    the document of Rasa's own store.
    """
    seen: Set[str] = set()
    for batch in batches(find(CURRENT)):
        opened = _opened(batch)
        of_rasa = legacy.by_sender_id(row for row in batch if "last" not in row)
        doubtful = [open_id(name) for name in of_rasa if name not in opened]
        if doubtful:
            opened.update(_opened(find({"_id": {"$in": doubtful}})))
        states = {**of_rasa, **opened}
        yield {name: each for name, each in states.items() if name not in seen}
        seen.update(states)


def _opened(documents: Iterable[Document]) -> Dict[str, Document]:
    return {str(each["sender_id"]): each for each in documents if "last" in each}


def _with_newest(
    collection: Collection[Document], which: Document
) -> Iterable[Document]:
    """Documents with ``newest``, the timestamp of their last event, instead of events.

    ``newest`` is the text of an event without a timestamp of its own.
    """
    fields = dict.fromkeys((*_STATE, "bucket", "previous", "rasa"), 1)
    events = legacy.array({"$ifNull": ["$log", "$events"]})
    newest = {"$ifNull": ["$newest.timestamp", "$newest.data"]}
    return collection.aggregate(
        [
            {"$match": which},
            {"$project": {**fields, "newest": {"$arrayElemAt": [events, -1]}}},
            {"$project": {**fields, "newest": newest}},
        ]
    )


def _newest_timestamp(document: Document) -> Optional[float]:
    """When the newest event in a document happened; ``None`` if it has no event."""
    newest: Any = document.get("newest")
    if newest is None or isinstance(newest, float):
        return newest
    if "last" in document or "bucket" in document:
        return timestamp_of(newest)
    return legacy.newest_timestamp(newest)
