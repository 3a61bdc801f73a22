"""What a MongoDB server says about itself, for an operator."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any, Dict, Iterable, Iterator, List, Sequence

from pymongo.errors import OperationFailure

from rasa_trackers.health import ERROR, OK, WARNING, Fact
from rasa_trackers.mongo import indexes, legacy
from rasa_trackers.mongo.buckets import open_id

#: Documents, or conversations, of one answer.
_BATCH = 500

#: What the user needs to be allowed, on the collection.
_ACTIONS = ("find", "insert", "update", "remove")


def ping(log: Any) -> None:
    """One round trip to the server."""
    log._client.admin.command("ping")  # noqa: SLF001 - of the same package


def facts(log: Any) -> Iterator[Fact]:
    """What is known about the server of a log."""
    client, collection = log._client, log.collection  # noqa: SLF001
    # A ping would succeed without any rights.
    collection.find_one({"_id": open_id(""), "sender_id": ""}, {"_id": 1})
    hello = _hello(client)
    yield _version(client)
    yield _tls(client)
    yield _role(hello)
    yield from _rights(client, collection)
    yield from _indexes(collection)
    yield _write_concern(collection, hello)


def _hello(client: Any) -> Dict[str, Any]:
    try:
        hello: Dict[str, Any] = client.admin.command("hello")
    except OperationFailure:  # MongoDB 4.4 and before
        hello = client.admin.command("isMaster")
    return hello


def _version(client: Any) -> Fact:
    return Fact("server", f"MongoDB {client.server_info().get('version', '?')}")


def _tls(client: Any) -> Fact:
    options = getattr(client, "_MongoClient__options", None) or getattr(
        client, "options", None
    )
    pool = getattr(options, "pool_options", None)
    if getattr(pool, "_ssl_context", None) is not None:
        return Fact("TLS", "yes")
    hosts = {host for host, _ in client.nodes}
    if hosts <= {"localhost", "127.0.0.1", "::1"}:
        return Fact("TLS", "no; the connection does not leave this machine")
    return Fact("TLS", "no", WARNING, "Add tls=true to 'url' in endpoints.yml.")


def _role(hello: Dict[str, Any]) -> Fact:
    is_primary = hello.get("isWritablePrimary", hello.get("ismaster", False))
    name = hello.get("setName")
    place = f" of the replica set {name}" if name else ""
    if hello.get("msg") == "isdbgrid":
        return Fact("role", "a router of a sharded cluster")
    if not is_primary:
        return Fact(
            "role",
            f"a secondary{place}, which is read-only",
            ERROR,
            "Let 'url' name all members and 'replicaSet'.",
        )
    return Fact("role", f"primary{place}" if name else "a server alone")


def _rights(client: Any, collection: Any) -> Iterator[Fact]:
    try:
        status = client.admin.command("connectionStatus", showPrivileges=True)
        found = status["authInfo"]
    except (OperationFailure, KeyError):
        return
    if not found.get("authenticatedUsers"):
        yield Fact("rights", "no user: the server asks for none, or gives no rights")
        return
    allowed = set()
    for privilege in found.get("authenticatedUserPrivileges", []):
        resource = privilege.get("resource", {})
        is_ours = resource.get("db") in ("", collection.database.name) and resource.get(
            "collection"
        ) in ("", collection.name)
        if is_ours or resource.get("anyResource"):
            allowed.update(privilege.get("actions", []))
    lacking = [action for action in _ACTIONS if action not in allowed]
    yield Fact(
        "rights",
        f"lacking: {', '.join(lacking)}" if lacking else "may read and write",
        ERROR if lacking else OK,
        f"Grant the role readWrite on the database {collection.database.name}."
        if lacking
        else "",
    )


def _indexes(collection: Any) -> Iterator[Fact]:
    try:
        there = set(collection.index_information())
    except OperationFailure:
        return
    if not there:
        yield Fact("collection", "missing; the store creates it at its start")
        return
    missing: List[str] = [
        index.name
        for index in (indexes.SENDER_ID, indexes.USER, indexes.UNCLEAN)
        if index.name not in there
    ]
    yield Fact(
        "indexes",
        f"missing: {', '.join(missing)}" if missing else "there",
        WARNING if missing else OK,
        "Start the store once: it creates them." if missing else "",
    )


def _write_concern(collection: Any, hello: Dict[str, Any]) -> Fact:
    concern = collection.write_concern.document
    w, journal = concern.get("w", "the server's default"), concern.get("j")
    is_weak = w == 0 or (w == 1 and bool(hello.get("setName")))
    return Fact(
        "write concern",
        f"w: {w}" + (f", j: {journal}" if journal is not None else ""),
        WARNING if is_weak else OK,
        "A failover may lose the last messages. Remove w=1 from 'url', or set "
        "w=majority."
        if is_weak
        else "",
    )


def count_events(log: Any) -> Iterator[int]:
    """How many events are stored."""
    collection = log.collection
    which = {"last": {"$exists": True}, "base": {"$exists": True}}
    found = collection.find(which, {"_id": 0, "last": 1, "base": 1})
    for documents in _batches(found):
        yield sum(each["last"] - each["base"] + 1 for each in documents)
    uncontinued = [
        {"$match": legacy.UNCONTINUED},
        {"$project": {"sender_id": 1, "number": {"$size": "$events"}}},
    ]
    for documents in _batches(collection.aggregate(uncontinued)):
        ids = [open_id(str(each["sender_id"])) for each in documents]
        continued = {
            each["_id"] for each in collection.find({"_id": {"$in": ids}}, {"_id": 1})
        }
        yield sum(
            each["number"]
            for each, own_id in zip(documents, ids)
            if own_id not in continued
        )


def _batches(documents: Iterable[Dict[str, Any]]) -> Iterator[List[Dict[str, Any]]]:
    iterator = iter(documents)
    while True:
        batch = list(islice(iterator, _BATCH))
        if not batch:
            return
        yield batch


def traces(log: Any, sender_ids: Sequence[str]) -> Iterator[Dict[str, Dict[str, int]]]:
    """How many documents with an event or a user there are of conversations."""
    collection = log.collection
    for begin in range(0, len(sender_ids), _BATCH):
        names = [
            name
            for sender_id in sender_ids[begin : begin + _BATCH]
            for name in legacy.names(sender_id)
        ]
        which = {"sender_id": {"$in": names}}
        # An erased conversation leaves an empty open bucket: it keeps the last position.
        fields = {"sender_id": 1, "log": 1, "events": 1, "user_id": 1}
        found = Counter(
            str(each["sender_id"])
            for each in collection.find(which, fields)
            if each.get("log") or each.get("events") or each.get("user_id")
        )
        yield {sender_id: {"documents": number} for sender_id, number in found.items()}
