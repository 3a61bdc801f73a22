"""The stores that are measured: ours, Rasa's own, and the floor below both.

The floor is the driver alone, on ours' server with ours' durability: read the events
of the session, decode their JSON, append the turn's events. It knows beforehand how
long the session is and in which form the events are stored, makes no trackers, and
does not see to other writers; a store can come near it and not below.
"""

import contextlib
import importlib
import json
import sqlite3
from abc import ABC, abstractmethod
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Tuple,
)

import psycopg2.extras
import pymongo
import rasa.core.tracker_store
from pymongo.write_concern import WriteConcern
from rasa.core.tracker_store import TrackerStore
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import Event
from rasa.shared.exceptions import RasaException

import conversations
from servers import wheels
from servers.mongo import DISTRIBUTION, MongoServer
from servers.postgres import PostgresServer
from servers.process import make_folder, remove_folder
from servers.redis import REDIS, RedisServer

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

    def __init__(self, name: str, store: TrackerStore, undo: Undo) -> None:
        self.name = name
        self._store = store
        self._undo = undo

    async def fill(self, sender_id: str, events: List[Event], session: int) -> None:
        await self._store.save(
            conversations.tracker(sender_id, events, self._store.domain)
        )
        self._undo.remember(sender_id)

    async def take_turn(self, sender_id: str, session: int, turn: Turn) -> int:
        tracker = await self._store.retrieve(sender_id)
        assert tracker is not None
        read = len(tracker.events)
        tracker.update_with_events(
            turn.events, self._store.domain, override_timestamp=False
        )
        await self._store.save(tracker)
        return read

    def undo_turn(self, sender_id: str) -> None:
        self._undo(sender_id)


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


# The table


class Opened(NamedTuple):
    """A store that runs."""

    contenders: List[Contender]
    #: Of the server and of the driver, by name.
    versions: Dict[str, str]
    #: To be called once all conversations are filled in.
    settle: Callable[[], None]


class Store(NamedTuple):
    """A database, and who is measured on it."""

    #: What reports call it.
    name: str
    #: Name of the class, here and in Rasa.
    class_name: str
    open: Callable[[Callable[..., TrackerStore]], ContextManager[Opened]]


@contextlib.contextmanager
def _sqlite(ours: Callable[..., TrackerStore]) -> Iterator[Opened]:
    folder = make_folder("benchmark")

    def connect(name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            str(folder / name), isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    try:
        domain = Domain.from_yaml(DOMAIN)
        options = {"dialect": "sqlite"}
        our_store = ours(domain, db=str(folder / OURS), **options)
        rasas_store = rasa.core.tracker_store.SQLTrackerStore(
            domain, db=str(folder / RASAS), **options
        )
        yield Opened(
            [
                TrackerStoreContender(OURS, our_store, SQLUndo(connect(OURS), "?")),
                TrackerStoreContender(RASAS, rasas_store, SQLUndo(connect(RASAS), "?")),
                SQLiteFloor(connect(OURS)),
            ],
            {"SQLite": sqlite3.sqlite_version},
            lambda: None,
        )
        our_store.close()
        rasas_store.engine.dispose()
    finally:
        remove_folder(folder)


@contextlib.contextmanager
def _postgresql(ours: Callable[..., TrackerStore]) -> Iterator[Opened]:
    with PostgresServer() as server:
        databases = {name: server.create_database() for name in (OURS, RASAS)}

        def connect(name: str) -> Any:
            return server.connect(databases[name])

        def floors_connection() -> Any:
            connection = connect(OURS)
            for setting in ("enable_sort", "enable_incremental_sort"):
                connection.cursor().execute(f"SET {setting} TO off")
            return connection

        def settle() -> None:
            # As autovacuum does within a minute. Rasa's store is 60 times slower while
            # the planner knows nothing of the table, and that is no steady state.
            for name in databases:
                connect(name).cursor().execute("VACUUM ANALYZE events")

        domain = Domain.from_yaml(DOMAIN)
        options: Dict[str, Any] = {
            "dialect": "postgresql",
            "host": server.host,
            "port": server.port,
            "username": server.username,
            "password": server.password,
        }
        our_store = ours(domain, db=databases[OURS], **options)
        rasas_store = rasa.core.tracker_store.SQLTrackerStore(
            domain, db=databases[RASAS], **options
        )
        with server.administrator().cursor() as cursor:
            cursor.execute("SHOW server_version")
            (version,) = cursor.fetchone()
        yield Opened(
            [
                TrackerStoreContender(OURS, our_store, SQLUndo(connect(OURS), "%s")),
                TrackerStoreContender(
                    RASAS, rasas_store, SQLUndo(connect(RASAS), "%s")
                ),
                PostgreSQLFloor(floors_connection()),
            ],
            {"PostgreSQL": version, "psycopg2": psycopg2.__version__.split()[0]},
            settle,
        )
        our_store.close()
        rasas_store.engine.dispose()


@contextlib.contextmanager
def _redis(ours: Callable[..., TrackerStore]) -> Iterator[Opened]:
    with RedisServer(REDIS, durable=True) as server:
        domain = Domain.from_yaml(DOMAIN)
        options: Dict[str, Any] = {"host": server.host, "port": server.port}
        our_store = ours(domain, db=1, **options)
        rasas_store = rasa.core.tracker_store.RedisTrackerStore(domain, db=2, **options)
        yield Opened(
            [
                TrackerStoreContender(OURS, our_store, RedisUndo(server.client(db=1))),
                TrackerStoreContender(
                    RASAS, rasas_store, RedisUndo(server.client(db=2))
                ),
                RedisFloor(server.client(db=3)),
            ],
            {
                "Redis": server.client().info()["redis_version"],
                "redis-py": importlib.import_module("redis").__version__,
            },
            lambda: None,
        )
        our_store.close()


@contextlib.contextmanager
def _mongo(ours: Callable[..., TrackerStore]) -> Iterator[Opened]:
    with MongoServer() as server:
        domain = Domain.from_yaml(DOMAIN)
        client = server.client()
        durable = WriteConcern(w="majority", j=True)
        our_store = ours(domain, host=server.url(), db=OURS)
        rasas_store = rasa.core.tracker_store.MongoTrackerStore(
            domain, host=server.url(), db=RASAS
        )
        collection = "conversations"
        yield Opened(
            [
                TrackerStoreContender(
                    OURS, our_store, MongoUndo(client[OURS][collection])
                ),
                TrackerStoreContender(
                    RASAS, rasas_store, MongoUndo(client[RASAS][collection])
                ),
                MongoFloor(
                    client[FLOOR].get_collection(collection, write_concern=durable)
                ),
            ],
            {
                "SecantusDB": wheels.requirement(DISTRIBUTION).partition("==")[2],
                "pymongo": pymongo.version,
            },
            lambda: None,
        )
        our_store.close()


STORES: Dict[str, Store] = {
    "sqlite": Store("SQLite", "SQLTrackerStore", _sqlite),
    "postgresql": Store("PostgreSQL", "SQLTrackerStore", _postgresql),
    "redis": Store("Redis", "RedisTrackerStore", _redis),
    "mongo": Store("MongoDB protocol", "MongoTrackerStore", _mongo),
}


def our_class(store: Store) -> Callable[..., TrackerStore]:
    """Our class of a store.

    Raises:
        LookupError: when this version of the package does not have it.
    """
    package = importlib.import_module("rasa_trackers")
    try:
        found: Callable[..., TrackerStore] = getattr(package, store.class_name)
    except RasaException as error:
        raise LookupError(str(error)) from error
    return found


def as_turn(events: List[Event]) -> Turn:
    """Events with their texts."""
    return Turn(events, [json.dumps(event.as_dict()) for event in events])
