"""The documents of a conversation: their fields, their sizes, their checks.

Every document has ``sender_id``, so that it can be the shard key.

**The open bucket** holds the newest events. A conversation has one; its ``_id`` follows
from the sender id. Every change of a conversation is one insert or update of the open
bucket, which takes effect as a whole on any server, without transactions::

    {_id: "open:ada", sender_id: "ada",
     log: [{type_name, timestamp, intent_name, action_name, data}, ...],
     first: 129, last: 200,   # positions of the first and the last event in log
     base: 1,                 # position of the conversation's first event
     bytes: 71000,            # about the size of log
     previous: ObjectId(...), # the newest closed bucket, if there is one
     rasa: {_id, sender_id, events: 57},  # the document of Rasa's own store, if any
     user_id: "u",            # the user whose conversation it is, if known
     conversation_started_timestamp: 1700000000.5,
     expires_at: ...,         # with record_exp; the server erases this document then
     unclean: true}           # older documents are still to be erased

``last < base`` marks a conversation without events: it is being erased, or it begins.
``user_id`` and ``conversation_started_timestamp`` are the names that Rasa Pro gives them.

**Closed buckets** hold the older events, and their events never change::

    {_id: ObjectId(...), sender_id: "ada", bucket: 1, log: [...], previous: ...,
     base: 1,                 # written once the bucket is part of the conversation
     check_at: ...}           # with record_exp, see ``expiry``

``bucket`` is the position of the first event. A closed bucket counts if its ``base`` is
that of the open bucket. A writer inserts it without ``base``, and adds ``base`` after the
open bucket names it; until then it counts if the next newer bucket names it as
``previous``. Any other closed bucket was left by a writer that died.

**Version 0.1.0** wrote closed buckets without ``base`` and gave them ``expires_at``, and
gave open buckets a ``lease``, the earliest such date. The next write of such a
conversation removes both; see :meth:`rasa_trackers.mongo.expiry.Expiry.watch_older`.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import operator
from typing import Any, Dict, Hashable, List, NamedTuple, Optional, Sequence

import bson.errors

from rasa_trackers.event_log import Entry, Stored, User

Document = Dict[str, Any]

USER_ID = "user_id"
STARTED = "conversation_started_timestamp"

#: Events and bytes that the open bucket grows to. Measured with events of 150 bytes: an
#: append takes 3.7 ms with 100 events in the document, 9.7 ms with 800.
BUCKET_EVENTS = 240
BUCKET_BYTES = 512 * 1024
#: Events and bytes that stay in the open bucket when it is full: the number that the
#: first read of a session asks for, and some more.
KEPT_EVENTS = 120
KEPT_BYTES = BUCKET_BYTES // 2

#: Bytes that an event takes in a document beside its text: names, types, lengths.
_OVERHEAD = 128
#: Characters of a name. The name serves queries; the text of the event has all of it.
_NAME_LENGTH = 255

#: The numbers that every open bucket has.
POSITIONS = ("first", "last", "base")

_DATA = operator.itemgetter("data")


def open_id(sender_id: str) -> str:
    """``_id`` of the open bucket of a conversation."""
    return f"open:{sender_id}"


def logged(entry: Entry) -> Document:
    """An event as it is stored in ``log``, without the fields that it lacks."""
    fields = {
        "type_name": _name(entry.type_name),
        "timestamp": entry.timestamp if isinstance(entry.timestamp, float) else None,
        "intent_name": _name(entry.intent_name),
        "action_name": _name(entry.action_name),
        "data": entry.data,
    }
    return _known(fields)


def size(events: Sequence[Document]) -> int:
    """About how many bytes events take in a document."""
    return sum(len(_text(event)) + _OVERHEAD for event in events)


def fits(events: Sequence[Document]) -> bool:
    """Whether one bucket may hold all these events."""
    return len(events) <= BUCKET_EVENTS and size(events) <= BUCKET_BYTES


def _known(fields: Document) -> Document:
    return {name: value for name, value in fields.items() if value is not None}


def _name(text: Optional[str]) -> Optional[str]:
    # BSON is UTF-8, which has no lone surrogates.
    return text and text[:_NAME_LENGTH].encode("utf-8", "replace").decode("utf-8")


class Split(NamedTuple):
    """The events of a log, divided into buckets."""

    #: The events of each closed bucket, oldest first.
    closed: List[List[Document]]
    #: The newest events, for the open bucket.
    kept: List[Document]


def split(events: Sequence[Document]) -> Split:
    """Divide events into closed buckets and the open one.

    An event that is larger than a bucket gets a bucket of its own.
    """
    if fits(events):
        return Split([], list(events))
    begin, room = len(events), KEPT_BYTES
    while begin > 0 and len(events) - begin < KEPT_EVENTS:
        room -= size(events[begin - 1 : begin])
        if room < 0:
            break
        begin -= 1
    closed: List[List[Document]] = []
    room = 0
    for event in events[:begin]:
        room -= size([event])
        if room < 0 or len(closed[-1]) == BUCKET_EVENTS:
            closed.append([])
            room = BUCKET_BYTES - size([event])
        closed[-1].append(event)
    return Split(closed, list(events[begin:]))


def open_state(base: int, count: int, kept: List[Document]) -> Document:
    """The fields of an open bucket that say which events a conversation has.

    Args:
        base: Position of the conversation's first event.
        count: How many events the conversation has.
        kept: Those that the open bucket holds, the newest ones.
    """
    last = base + count - 1
    return {
        "log": kept,
        "first": last - len(kept) + 1,
        "last": last,
        "base": base,
        "bytes": size(kept),
    }


def as_seen(bucket: Document) -> Document:
    """The filter that finds an open bucket unless a writer has changed it meanwhile."""
    names = ("_id", "sender_id", *POSITIONS, "previous", "expires_at", "lease")
    return {name: bucket.get(name) for name in names}


def stored(log: Sequence[Document], first: int) -> List[Stored]:
    """The events of a bucket whose first event has the position ``first``."""
    try:
        texts = list(map(_DATA, log))
    except (KeyError, TypeError):
        texts = []
    if len(texts) < len(log) or set(map(type, texts)) - {str}:
        texts = list(map(_text, log))
    return list(map(Stored, range(first, first + len(log)), texts))


def _text(event: Any) -> str:
    """The text of an event in ``log``. Events that other programs put there have one."""
    data = event.get("data") if isinstance(event, dict) else event
    # Where events are decoded, this one is reported and left out.
    return data if isinstance(data, str) else as_json(data)


def user_fields(user: Optional[User]) -> Document:
    """The fields of an open bucket that name a user, without what is not known."""
    return _known(
        {
            USER_ID: user and user.user_id,
            STARTED: user and user.conversation_started,
        }
    )


def started(document: Document, events: Sequence[Any] = ()) -> Optional[float]:
    """When a conversation began, in seconds since the epoch.

    Args:
        document: Its open bucket, or the document of Rasa's own store.
        events: The events of the latter; the first one is enough. Its timestamp stands
            in for a beginning that is not stored, as in Rasa Pro (3.21).
    """
    value = document.get(STARTED)
    if value is None and events and isinstance(events[0], dict):
        value = events[0].get("timestamp")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def as_json(value: Any) -> str:
    """JSON of a BSON value, also of one that JSON lacks, such as a custom action's."""
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, (dt.datetime, dt.date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)


# Checks


def is_whole(value: Any) -> bool:
    """Whether a value is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def checked(bucket: Document) -> Document:
    """An open bucket, if its fields make sense as far as they were read.

    Raises:
        InvalidBSON: when another program has changed it. Then nothing is read from it
            and nothing is added, so that it can be repaired.
    """
    wrong = flaws(bucket, *POSITIONS)
    if wrong:
        raise damaged(bucket, *wrong)
    return bucket


def checked_log(bucket: Document, asked: Optional[int] = None) -> List[Document]:
    """The events in an open bucket, if ``first`` and ``last`` agree with their number.

    Args:
        bucket: An open bucket that was read with its ``log``.
        asked: How many of the newest events were asked for; ``None`` for all.

    Raises:
        InvalidBSON: when another program has changed the bucket.
    """
    log = bucket.get("log")
    if not isinstance(log, list):
        raise damaged(bucket, "log")
    expected = bucket["last"] - bucket["first"] + 1
    if len(log) != (expected if asked is None else min(expected, asked)):
        raise damaged(bucket, "first")
    return log


def damaged(bucket: Document, *fields: str) -> bson.errors.InvalidBSON:
    """The error for an open bucket with fields that make no sense."""
    return bson.errors.InvalidBSON(
        f"the document {bucket['_id']!r} has no sensible {', '.join(fields)}"
    )


def flaws(bucket: Document, *numbers: str) -> List[str]:
    """The fields of an open bucket that make no sense.

    Args:
        bucket: As it was read. A field that is missing is no flaw.
        numbers: Fields that must be there and hold whole numbers.
    """
    wrong = [name for name in numbers if not is_whole(bucket.get(name))]
    for name in ("expires_at", "lease"):
        if name in bucket and not isinstance(bucket[name], dt.datetime):
            wrong.append(name)
    rasa = bucket.get("rasa", {"_id": 0, "sender_id": "", "events": 0})
    if not (
        isinstance(rasa, dict)
        and {"_id", "sender_id"} <= set(rasa)
        and is_whole(rasa.get("events"))
    ):
        wrong.append("rasa")
    if not isinstance(bucket.get("previous"), Hashable):
        wrong.append("previous")
    return wrong
