"""The stores that are measured: ours, Rasa's own, and the floor below both.

The floor is the driver alone, on ours' server with ours' durability: read the events
of the session, decode their JSON, append the turn's events. It knows beforehand how
long the session is and in which form the events are stored, makes no trackers, and
does not see to other writers; a store can come near it and not below.

All that is here runs in a process with a Rasa of its own; what the servers are, and
where, is said in `measured_servers`.
"""

import asyncio
import contextlib
import importlib
import json
import platform
import sqlite3
import subprocess
from abc import ABC, abstractmethod
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import bson
import psycopg2
import psycopg2.extras
import pymongo
import pymysql
import redis
from pymongo.write_concern import WriteConcern
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import Event
from rasa.shared.exceptions import RasaException

import conversations
from measuring import Place

try:
    from rasa.core.tracker_stores.mongo_tracker_store import MongoTrackerStore
    from rasa.core.tracker_stores.redis_tracker_store import RedisTrackerStore
    from rasa.core.tracker_stores.sql_tracker_store import SQLTrackerStore
except ImportError:  # Rasa Open Source
    from rasa.core.tracker_store import (
        MongoTrackerStore,
        RedisTrackerStore,
        SQLTrackerStore,
    )

_RASAS = {
    "SQLTrackerStore": SQLTrackerStore,
    "RedisTrackerStore": RedisTrackerStore,
    "MongoTrackerStore": MongoTrackerStore,
}

OURS, RASAS, FLOOR = "ours", "rasa", "floor"

#: Holds the slots of the conversations: Rasa logs an error for each other one.
DOMAIN = """
intents: [greet]
slots:
  name: {type: text, mappings: [{type: custom}]}
  count: {type: float, initial_value: 1, mappings: [{type: custom}]}
  anything: {type: any, mappings: [{type: custom}]}
actions: [utter_greet, action_custom]
responses: {utter_greet: [{text: hi}]}
"""

_COLUMNS = "sender_id, type_name, timestamp, intent_name, action_name, data"
#: Events in a document of the floor under MongoDB, at the most.
_BUCKET = 100


class Turn(NamedTuple):
    """What one turn adds."""

    events: List[Event]
    #: The same as JSON text.
    texts: List[str]


class Contender(ABC):
    """One way of keeping conversations.

    Attributes:
        name: `OURS`, `RASAS` or `FLOOR`.
    """

    name: str

    @abstractmethod
    async def fill(self, sender_id: str, events: List[Event], session: int) -> None:
        """Store a new conversation.

        Args:
            sender_id: The conversation.
            events: All its events.
            session: Number of events in each of its sessions.
        """

    @abstractmethod
    async def take_turn(self, sender_id: str, session: int, turn: Turn) -> int:
        """What is measured: read the last session, append a turn.

        Args:
            sender_id: The conversation.
            session: Number of events in its last session.
            turn: What to append.

        Returns:
            Number of events that were read.
        """

    @abstractmethod
    def undo_turn(self, sender_id: str) -> None:
        """Put a conversation back to what `fill` stored, so that turns are alike."""

    async def recall(self, sender_id: str) -> None:  # noqa: B027 - most keep nothing
        """Know what is stored of a conversation, as the turn before had left it.

        Ours keep copies of what they read and write. An undo behind their back makes
        them wrong, which no turn of a user's does.
        """


class Undo(ABC):
    """Puts conversations back, by the driver's means."""

    @abstractmethod
    def remember(self, sender_id: str) -> None:
        """Take what is stored now as what to go back to."""

    @abstractmethod
    def __call__(self, sender_id: str) -> None:
        """Go back to it."""


class TrackerStoreContender(Contender):
    """A tracker store, used as Rasa's `MessageProcessor` does."""

    def __init__(self, name: str, store: Any, undo: Undo) -> None:
        self.name = name
        #: The tracker store.
        self.store = store
        self._undo = undo

    async def fill(self, sender_id: str, events: List[Event], session: int) -> None:
        await self.store.save(
            conversations.tracker(sender_id, events, self.store.domain)
        )
        self._undo.remember(sender_id)

    async def take_turn(self, sender_id: str, session: int, turn: Turn) -> int:
        tracker = await self.store.retrieve(sender_id)
        assert tracker is not None
        read = len(tracker.events)
        tracker.update_with_events(
            turn.events, self.store.domain, override_timestamp=False
        )
        await self.store.save(tracker)
        return read

    def undo_turn(self, sender_id: str) -> None:
        self._undo(sender_id)

    async def recall(self, sender_id: str) -> None:
        if self.name == OURS:  # Rasa's own keep nothing from turn to turn
            self.store._shared.outage._recent.forget(sender_id)  # noqa: SLF001
            await self.store.retrieve(sender_id)


class Floor(Contender):
    """The driver alone."""

    name = FLOOR

    async def take_turn(self, sender_id: str, session: int, turn: Turn) -> int:
        read = [json.loads(text) for text in self._read(sender_id, session)]
        self._append(sender_id, turn)
        return len(read)

    @abstractmethod
    def _read(self, sender_id: str, session: int) -> List[Any]:
        """The last events, each as JSON text."""

    @abstractmethod
    def _append(self, sender_id: str, turn: Turn) -> None:
        """Append a turn, in one durable step."""


# SQL


class SQLFloor(Floor):
    """The driver of an SQL database, on the table of the other contenders.

    Attributes:
        mark: The driver's placeholder in statements.
        select: Gives the newest events for the parameters `sender` and `session`.
    """

    mark: str
    select: str

    def __init__(self, connection: Any) -> None:
        """Args: connection: of the driver, in autocommit mode."""
        self._connection = connection
        self._undo = SQLUndo(connection, self.mark)

    async def fill(self, sender_id: str, events: List[Event], session: int) -> None:
        self._append(sender_id, as_turn(events))
        self._undo.remember(sender_id)

    def _read(self, sender_id: str, session: int) -> List[str]:
        cursor = self._connection.cursor()
        cursor.execute(self.select, {"sender": sender_id, "session": session})
        return [text for (text,) in reversed(cursor.fetchall())]

    def undo_turn(self, sender_id: str) -> None:
        self._undo(sender_id)


class SQLiteFloor(SQLFloor):
    """sqlite3."""

    mark = "?"
    select = (
        "SELECT data FROM events WHERE sender_id = :sender "
        "ORDER BY id DESC LIMIT :session"
    )

    def _append(self, sender_id: str, turn: Turn) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
            _rows(sender_id, turn),
        )
        self._connection.execute("COMMIT")


class PostgreSQLFloor(SQLFloor):
    """psycopg2."""

    mark = "%s"
    # As ours, so that the planner takes the index: see rasa_trackers.sql.postgresql.
    select = (
        "SELECT data FROM events WHERE sender_id BETWEEN %(sender)s AND %(sender)s "
        "ORDER BY sender_id DESC, id DESC LIMIT %(session)s"
    )

    def _append(self, sender_id: str, turn: Turn) -> None:
        psycopg2.extras.execute_values(
            self._connection.cursor(),
            f"INSERT INTO events ({_COLUMNS}) VALUES %s",  # noqa: S608
            _rows(sender_id, turn),
            page_size=len(turn.texts),
        )


class MariaDBFloor(SQLFloor):
    """PyMySQL."""

    mark = "%s"
    # As ours: see rasa_trackers.sql.mysql.statements.
    select = (
        "SELECT data FROM events FORCE INDEX (ix_events_sender_id) "
        "WHERE sender_id = %(sender)s ORDER BY id DESC LIMIT %(session)s"
    )

    def _append(self, sender_id: str, turn: Turn) -> None:
        self._connection.cursor().executemany(
            f"INSERT INTO events ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)",  # noqa: S608
            _rows(sender_id, turn),
        )


class SQLUndo(Undo):
    """Deletes the rows that were added."""

    def __init__(self, connection: Any, mark: str) -> None:
        """Prepare the statements.

        Args:
            connection: Of the driver, in autocommit mode.
            mark: Its placeholder.
        """
        self._connection = connection
        mine = f"FROM events WHERE sender_id = {mark}"
        self._last_id = f"SELECT max(id) {mine}"
        self._delete = f"DELETE {mine} AND id > {mark}"
        self._last: Dict[str, int] = {}

    def remember(self, sender_id: str) -> None:
        cursor = self._connection.cursor()
        cursor.execute(self._last_id, (sender_id,))
        (self._last[sender_id],) = cursor.fetchone()

    def __call__(self, sender_id: str) -> None:
        self._connection.cursor().execute(
            self._delete, (sender_id, self._last[sender_id])
        )


def _rows(sender_id: str, turn: Turn) -> List[Tuple[Any, ...]]:
    return [
        (sender_id, event.type_name, event.timestamp, None, None, text)
        for event, text in zip(turn.events, turn.texts)
    ]


# Redis


class RedisFloor(Floor):
    """redis-py, on a list a conversation."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._undo = RedisUndo(client)

    async def fill(self, sender_id: str, events: List[Event], session: int) -> None:
        self._append(sender_id, as_turn(events))
        self._undo.remember(sender_id)

    def _read(self, sender_id: str, session: int) -> List[bytes]:
        texts: List[bytes] = self._client.lrange(sender_id, -session, -1)
        return texts

    def _append(self, sender_id: str, turn: Turn) -> None:
        self._client.rpush(sender_id, *turn.texts)

    def undo_turn(self, sender_id: str) -> None:
        self._undo(sender_id)


class RedisUndo(Undo):
    """Restores the keys that have the sender id in their names."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._dumps: Dict[str, Dict[bytes, bytes]] = {}

    def remember(self, sender_id: str) -> None:
        keys = self._client.keys(f"*{sender_id}*")
        self._dumps[sender_id] = {key: self._client.dump(key) for key in keys}

    def __call__(self, sender_id: str) -> None:
        for key, dump in self._dumps[sender_id].items():
            self._client.restore(key, 0, dump, replace=True)


# MongoDB


class MongoFloor(Floor):
    """pymongo, on documents of many events; a turn adds one of its own."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection
        collection.create_index("sender_id")
        self._undo = MongoUndo(collection)
        self._last: Dict[str, int] = {}

    async def fill(self, sender_id: str, events: List[Event], session: int) -> None:
        texts = as_turn(events).texts
        size = _bucket_size(session)
        self._last[sender_id] = -1
        for begin in range(0, len(texts), size):
            self._insert(sender_id, texts[begin : begin + size])
        self._undo.remember(sender_id)

    def _read(self, sender_id: str, session: int) -> List[str]:
        last, size = self._last[sender_id], _bucket_size(session)
        # By their names: the server is slow to find the newest ones by an index.
        names = [
            _bucket_name(sender_id, last - before) for before in range(session // size)
        ]
        found = self._collection.find({"_id": {"$in": names}}, {"log": 1})
        return [text for bucket in found for text in bucket["log"]]

    def _append(self, sender_id: str, turn: Turn) -> None:
        self._insert(sender_id, turn.texts)

    def _insert(self, sender_id: str, texts: List[str]) -> None:
        self._last[sender_id] += 1
        self._collection.insert_one(
            {
                "_id": _bucket_name(sender_id, self._last[sender_id]),
                "sender_id": sender_id,
                "log": texts,
            }
        )

    def undo_turn(self, sender_id: str) -> None:
        self._last[sender_id] -= 1
        self._undo(sender_id)


def _bucket_name(sender_id: str, number: int) -> str:
    return f"{sender_id}{number}"


def _bucket_size(session: int) -> int:
    return next(
        size for size in range(min(session, _BUCKET), 0, -1) if session % size == 0
    )


class MongoUndo(Undo):
    """Restores the documents with the sender id."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection
        self._documents: Dict[str, Dict[Any, Any]] = {}

    def remember(self, sender_id: str) -> None:
        self._documents[sender_id] = self._found(sender_id)

    def __call__(self, sender_id: str) -> None:
        wanted, found = self._documents[sender_id], self._found(sender_id)
        for identity in set(found) - set(wanted):
            self._collection.delete_one({"_id": identity})
        for identity, document in wanted.items():
            if found.get(identity) != document:
                self._collection.replace_one({"_id": identity}, document, upsert=True)

    def _found(self, sender_id: str) -> Dict[Any, Any]:
        return {
            document["_id"]: document
            for document in self._collection.find({"sender_id": sender_id})
        }


# Where they are


class Kind(NamedTuple):
    """A database, and how it is spoken to by its driver.

    Attributes:
        class_name: Name of the class, here and in Rasa.
        undo: Puts conversations back in that database.
        floor: The driver alone there, on the tables of ours.
        stored: Bytes that all conversations take there.
    """

    class_name: str
    undo: Callable[[Place, str], Undo]
    floor: Callable[[Place, str, str], Floor]
    stored: Callable[[Place, str], int]


def _sqlite(place: Place, name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        name,
        isolation_level=None,
        check_same_thread=False,
        timeout=60,
    )
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _sqlite_bytes(place: Place, name: str) -> int:
    with contextlib.closing(_sqlite(place, name)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(name).stat().st_size


def _postgresql(place: Place, name: str) -> Any:
    where = place.endpoint
    connection = psycopg2.connect(
        dbname=name,
        host=where["url"],
        port=where["port"],
        user=where["username"],
        password=where["password"],
    )
    connection.autocommit = True
    for setting in ("enable_sort", "enable_incremental_sort"):
        connection.cursor().execute(f"SET {setting} TO off")  # as ours does
    return connection


def _postgresql_bytes(place: Place, name: str) -> int:
    with contextlib.closing(_postgresql(place, name)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT pg_total_relation_size('events')")
        return int(cursor.fetchone()[0])


def _mariadb(place: Place, name: str) -> Any:
    where = place.endpoint
    return pymysql.connect(
        database=name,
        host=where["url"],
        port=where["port"],
        user=where["username"],
        password=where["password"],
        charset="utf8mb4",
        autocommit=True,
    )


def _mariadb_bytes(place: Place, name: str) -> int:
    with contextlib.closing(_mariadb(place, name)) as connection:
        cursor = connection.cursor()
        cursor.execute("ANALYZE TABLE events")
        cursor.execute(
            "SELECT data_length + index_length FROM information_schema.tables "
            "WHERE table_schema = database() AND table_name = 'events'"
        )
        return int(cursor.fetchone()[0])


def _redis(place: Place, name: str) -> "redis.Redis[bytes]":
    return redis.Redis(**place.options(name))


def _redis_bytes(place: Place, name: str) -> int:
    client = _redis(place, name)
    return sum(
        int(client.memory_usage(key, samples=0) or 0) for key in client.scan_iter()
    )


def _mongo(place: Place, name: str) -> Any:
    client: Any = pymongo.MongoClient(place.endpoint["url"])
    durable = WriteConcern(w="majority", j=True)
    return client[name].get_collection("conversations", write_concern=durable)


def _mongo_bytes(place: Place, name: str) -> int:
    return sum(len(bson.encode(found)) for found in _mongo(place, name).find())


KINDS: Dict[str, Kind] = {
    "sqlite": Kind(
        "SQLTrackerStore",
        lambda place, name: SQLUndo(_sqlite(place, name), "?"),
        lambda place, ours, _floors: SQLiteFloor(_sqlite(place, ours)),
        _sqlite_bytes,
    ),
    "postgresql": Kind(
        "SQLTrackerStore",
        lambda place, name: SQLUndo(_postgresql(place, name), "%s"),
        lambda place, ours, _floors: PostgreSQLFloor(_postgresql(place, ours)),
        _postgresql_bytes,
    ),
    "mariadb": Kind(
        "SQLTrackerStore",
        lambda place, name: SQLUndo(_mariadb(place, name), "%s"),
        lambda place, ours, _floors: MariaDBFloor(_mariadb(place, ours)),
        _mariadb_bytes,
    ),
    "redis": Kind(
        "RedisTrackerStore",
        lambda place, name: RedisUndo(_redis(place, name)),
        lambda place, _ours, floors: RedisFloor(_redis(place, floors)),
        _redis_bytes,
    ),
    "mongo": Kind(
        "MongoTrackerStore",
        lambda place, name: MongoUndo(_mongo(place, name)),
        lambda place, _ours, floors: MongoFloor(_mongo(place, floors)),
        _mongo_bytes,
    ),
}


def open_store(place: Place, which: str, name: str) -> Any:
    """A tracker store on a database.

    Args:
        place: The server.
        which: `OURS` or `RASAS`.
        name: The database.

    Raises:
        LookupError: when the package does not have it for the installed Rasa.
    """
    kind = KINDS[place.kind]
    make: Callable[..., Any] = _RASAS[kind.class_name]
    if which == OURS:
        try:
            make = getattr(importlib.import_module("rasa_trackers"), kind.class_name)
        except (RasaException, ImportError) as error:
            raise LookupError(str(error)) from error
    options = place.options(name)
    if place.kind == "mariadb" and which == OURS:
        # Where Rasa's own store has made the table.
        options["alter_tables"] = True
    return make(Domain.from_yaml(DOMAIN), **options)


def open_contender(place: Place, which: str, names: Dict[str, str]) -> Contender:
    """One of the contenders on a server.

    Args:
        place: The server.
        which: `OURS`, `RASAS` or `FLOOR`.
        names: The database of each.

    Raises:
        LookupError: when the package does not have it for the installed Rasa.
    """
    kind = KINDS[place.kind]
    if which == FLOOR:
        return kind.floor(place, names[OURS], names[FLOOR])
    store = open_store(place, which, names[which])
    return TrackerStoreContender(which, store, kind.undo(place, names[which]))


def close_store(store: Any) -> None:
    """Give up a store's connections; Rasa's own have no common way to."""
    if hasattr(store, "close") and not asyncio.iscoroutinefunction(store.close):
        store.close()
    elif hasattr(store, "engine"):
        store.engine.dispose()


def versions() -> Dict[str, str]:
    """The versions of what this process has."""
    rasa = importlib.import_module("rasa.version").__version__
    return {
        "Rasa": rasa,
        "rasa_trackers": _own_version(),
        "Python": platform.python_version(),
        "SQLAlchemy": importlib.import_module("sqlalchemy").__version__,
        "psycopg2": psycopg2.__version__.split()[0],
        "redis-py": redis.__version__,
        "pymongo": pymongo.version,
        "PyMySQL": pymysql.VERSION_STRING,
        "SQLite": sqlite3.sqlite_version,
    }


def _own_version() -> str:
    """The version with the commit that it was built from, where git can tell."""
    version = metadata.version("rasa_trackers")
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607
            cwd=str(Path(__file__).parent),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            encoding="utf-8",
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return version
    return f"{version} ({commit})"


def as_turn(events: List[Event]) -> Turn:
    """Events with their texts."""
    return Turn(events, [json.dumps(event.as_dict()) for event in events])
