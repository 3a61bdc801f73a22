"""The documents of a conversation.

All of them have ``sender_id``, so that it can be the shard key.

**The open bucket** holds the newest events. There is one a conversation, its ``_id``
follows from the sender id, and every change of the conversation is one update or
insert of it; so each takes effect as a whole, on any server, without transactions::

    {_id: "open:ada", sender_id: "ada",
     log: [{type_name, timestamp, intent_name, action_name, data}, ...],
     first: 129, last: 200,   # positions of the first and the last event in log
     base: 1,                 # position of the conversation's first event
     bytes: 71000,            # about the size of log
     previous: ObjectId(...), # the newest closed bucket, if there is one
     rasa: {_id, sender_id, events: 57},  # Rasa's own document, if it began there
     user_id: "u",            # whose conversation it is, if that is known
     conversation_started_timestamp: 1700000000.5,  # and when it began
     expires_at: ..., lease: ...,         # with record_exp, see below
     unclean: true}           # what is older than base is still to be erased

An open bucket with ``last < base`` is a conversation that was erased.

The names of the two last but one are Rasa Pro's own. Only open buckets have a user, and
Rasa's own documents, whose user is carried over when the open bucket is inserted.

**Closed buckets** hold older events and never change. Each names the one before it;
one that is in no chain is left over from a writer that died, and counts for nothing::

    {_id: ObjectId(...), sender_id: "ada", bucket: 1, log: [...], previous: ...,
     expires_at: ...}

``bucket`` is the position of its first event.

**Rasa's own document** stays as it is. Its events have the positions 1, 2, 3 ...
It counts as long as there is no open bucket, and what it says of a user no longer.

**Expiry.** ``expires_at`` of the open bucket decides. The other documents have one
too, so that the server erases them by itself, but never before the open bucket: theirs
is not before ``lease``, and an append that would outlive the lease renews it first.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import operator
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from rasa_trackers.event_log import Entry, Stored, User, timestamp_of

Document = Dict[str, Any]

USER_ID = "user_id"
STARTED = "conversation_started_timestamp"

#: Events and bytes that the open bucket grows to. Measured with 150-byte events: an
#: append costs 3.7 ms at 100 events in the document, 9.7 ms at 800.
BUCKET_EVENTS = 240
BUCKET_BYTES = 512 * 1024
#: What stays in it then: what the first read of a session asks for, and some more.
KEPT_EVENTS = 120
KEPT_BYTES = BUCKET_BYTES // 2

#: Beside its text, what an event takes in a document: names, types, lengths.
_OVERHEAD = 128
#: Characters of a name; it is there for queries, the event's text has it in full.
_NAME_LENGTH = 255

_DATA = operator.itemgetter("data")


def open_id(sender_id: str) -> str:
    """``_id`` of a conversation's open bucket."""
    return f"open:{sender_id}"


def logged(entry: Entry) -> Document:
    """An event as it stands in ``log``; what it lacks is left out."""
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


def _known(fields: Document) -> Document:
    return {name: value for name, value in fields.items() if value is not None}


def _name(text: Optional[str]) -> Optional[str]:
    # BSON is UTF-8, which has no lone surrogates.
    return text and text[:_NAME_LENGTH].encode("utf-8", "replace").decode("utf-8")


class Split(NamedTuple):
    """Events, parted into documents."""

    #: The events of each closed bucket, oldest first.
    closed: List[List[Document]]
    #: What follows them in the open bucket.
    kept: List[Document]


def split(events: Sequence[Document]) -> Split:
    """Part events that are too many for one bucket; all may be, if they are few.

    An event that is larger than a bucket gets one of its own.
    """
    if len(events) <= BUCKET_EVENTS and size(events) <= BUCKET_BYTES:
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


def stored(log: Sequence[Document], first: int) -> List[Stored]:
    """The events of a bucket whose first one has the position ``first``."""
    try:
        texts = list(map(_DATA, log))
    except (KeyError, TypeError):
        texts = []
    if len(texts) < len(log) or set(map(type, texts)) - {str}:
        texts = list(map(_text, log))
    return list(map(Stored, range(first, first + len(log)), texts))


def _text(event: Any) -> str:
    """The text of an event in ``log``; what others have put there has one as well."""
    data = event.get("data") if isinstance(event, dict) else event
    # It is skipped, and reported, where events are decoded.
    return data if isinstance(data, str) else json.dumps(data, default=_as_json)


def stored_by_rasa(events: Sequence[Any], first: int) -> List[Stored]:
    """Events of Rasa's own document, which holds them as documents."""
    return [
        Stored(first + index, json.dumps(event, default=_as_json))
        for index, event in enumerate(events)
    ]


def user_fields(user: Optional[User]) -> Document:
    """What an open bucket says of a user; what is not known is left out."""
    return _known(
        {
            USER_ID: user and user.user_id,
            STARTED: user and user.conversation_started,
        }
    )


def user_of_rasa(rasa: Document, events: Sequence[Any]) -> Document:
    """The same, of what a document of Rasa's own store says.

    Args:
        rasa: The document.
        events: Its events, of which the first one is enough.
    """
    user_id = rasa.get(USER_ID)
    return _known(
        {USER_ID: user_id, STARTED: started(rasa, () if user_id is None else events)}
    )


def started(document: Document, events: Sequence[Any] = ()) -> Optional[float]:
    """When a conversation began, in seconds since the epoch.

    Args:
        document: Its open bucket, or the document of Rasa's own store.
        events: The latter's events, of which the first one is enough. As in Rasa Pro
            (3.21), it stands in where there is a user and no time.
    """
    value = document.get(STARTED)
    if value is None and events and isinstance(events[0], dict):
        value = events[0].get("timestamp")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def newest_timestamp(document: Document) -> float:
    """When the newest event happened, as :func:`rasa_trackers.event_log.timestamp_of`.

    Args:
        document: A bucket has this as ``newest``, or the text of the event instead;
            the document of Rasa's own store has whatever stands there.
    """
    newest: Any = document.get("newest")
    if isinstance(newest, float):
        return newest
    if "last" in document or "bucket" in document:
        return timestamp_of(newest)
    return timestamp_of(json.dumps({"timestamp": newest}, default=_as_json))


def _as_json(value: Any) -> Any:
    """A value that BSON has and JSON has not, as a custom action may leave one."""
    if isinstance(value, (dt.datetime, dt.date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)
