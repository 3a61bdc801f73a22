"""Documents of Rasa's own MongoTrackerStore in the same collection.

Such a document stays as it is, so that Rasa's own store can still read it, and becomes
the oldest part of its conversation: its events have the positions 1, 2, 3 ... The first
write of a conversation inserts an open bucket that names the document in ``rasa``. From
then on the open bucket alone says which events count, and whose conversation it is; what
Rasa's own store adds to its document afterwards does not count.

With ``record_exp`` such a document also gets ``check_at`` (see ``expiry``), which hides it
once the open bucket has expired. Version 0.1.0 wrote ``expires_at`` for the same purpose.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence

from pymongo.collection import Collection

from rasa_trackers.event_log import Page, Stored, timestamp_of
from rasa_trackers.mongo.buckets import (
    STARTED,
    USER_ID,
    Document,
    as_json,
    open_id,
    open_state,
    started,
)

#: Finds documents that no open bucket has named and then left behind by expiring.
UNCONTINUED: Document = {
    "sender_id": {"$exists": True},
    "bucket": None,
    "last": None,
    "check_at": None,
    "expires_at": None,
    "events.0": {"$exists": True},
}


def names(sender_id: str) -> List[Any]:
    """The values that ``sender_id`` may have in documents of Rasa's own store.

    Its old versions stored a number as a number.
    """
    # BSON's integers have at most 64 bits. Python parses no more than 4,300 digits.
    if len(sender_id) < 20 and sender_id.isascii() and sender_id.isdigit():
        number = int(sender_id)
        if number < 2**63 and str(number) == sender_id:
            return [sender_id, number]
    return [sender_id]


def all_names(sender_ids: Iterable[str]) -> List[Any]:
    """:func:`names` of several sender ids."""
    return [name for sender_id in sender_ids for name in names(sender_id)]


def uncontinued(sender_ids: Iterable[str]) -> Document:
    """The filter for documents of conversations that have no open bucket."""
    return {**UNCONTINUED, "sender_id": {"$in": all_names(sender_ids)}}


def by_sender_id(documents: Iterable[Document]) -> Dict[str, Document]:
    """The document of each conversation that counts.

    Two workers of Rasa may have inserted a document each. Rasa's own store reads the
    first one that it finds, and reads one with a number only if there is no other.
    """
    found: Dict[str, Document] = {}
    for document in documents:
        sender_id = document["sender_id"]
        known = found.setdefault(str(sender_id), document)
        if isinstance(sender_id, str) and not isinstance(known["sender_id"], str):
            found[sender_id] = document
    return found


class Read(NamedTuple):
    """A part of a document of Rasa's own store."""

    #: ``_id``, ``sender_id``, the number of its ``events``, and the fields of its user.
    document: Document
    events: List[Stored]


def open_bucket(read: Read) -> Document:
    """An open bucket that continues a document, and holds no events yet."""
    document = read.document
    count = document["events"]
    return {
        "_id": open_id(str(document["sender_id"])),
        "sender_id": str(document["sender_id"]),
        **open_state(1, count, []),
        "rasa": {name: document[name] for name in ("_id", "sender_id", "events")},
        **{name: document[name] for name in (USER_ID, STARTED) if name in document},
    }


def read_page(
    collection: Collection[Document],
    sender_id: str,
    limit: Optional[int],
    before: Optional[int],
) -> Page:
    """Read a conversation that has no open bucket, as ``EventLog.read_back``."""
    newest = None if before is None else before - 1
    read = read_events(collection, uncontinued([sender_id]), limit, newest)
    if read is None:
        return Page([], True)
    complete = not read.events or read.events[0].position == 1
    return Page(read.events, complete, read.document.get(USER_ID))


def read_events(
    collection: Collection[Document],
    which: Document,
    limit: Optional[int] = None,
    newest: Optional[int] = None,
) -> Optional[Read]:
    """Read events of a document, and no more of them than asked for.

    Args:
        collection: The collection.
        which: The filter that finds the document.
        limit: How many events to read; ``None`` for all.
        newest: The position of the newest event to read; ``None`` for the last one.

    Returns:
        What was read; ``None`` if there is no such document.
    """
    events = array("$events")
    part: Any = events
    if newest is not None:
        begin = 0 if limit is None else max(0, newest - limit)
        part = {"$slice": [events, begin, max(newest - begin, 1)]}
    elif limit is not None:
        part = {"$slice": [events, -limit]}
    fields = {
        "sender_id": 1,
        "count": {"$size": events},
        "part": part,
        "oldest": {"$slice": [events, 1]},
        USER_ID: 1,
        STARTED: 1,
    }
    rows = collection.aggregate([{"$match": which}, {"$project": fields}])
    for document in by_sender_id(rows).values():
        count = document["count"]
        if newest is None:
            begin = count - len(document["part"])
        found = stored_events(document["part"], begin + 1)
        if newest is not None:
            found = [event for event in found if event.position <= newest]
        user = {
            USER_ID: document.get(USER_ID),
            STARTED: started(
                document, document["oldest"] if document.get(USER_ID) else ()
            ),
        }
        return Read(
            {
                "_id": document["_id"],
                "sender_id": document["sender_id"],
                "events": count,
                **{name: value for name, value in user.items() if value is not None},
            },
            found,
        )
    return None


def stored_events(events: Sequence[Any], first: int = 1) -> List[Stored]:
    """Events of Rasa's own document, which are documents, as texts."""
    return [Stored(first + index, as_json(event)) for index, event in enumerate(events)]


def newest_timestamp(value: Any) -> float:
    """The time of a newest event, from whatever is stored as its timestamp."""
    return timestamp_of(as_json({"timestamp": value}))


def array(expression: Any) -> Document:
    """An expression of the server that is empty where a value is no array."""
    return {"$cond": [{"$isArray": [expression]}, expression, []]}
