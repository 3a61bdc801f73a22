"""The stores that are tortured: how they fail, and what they hold.

What they hold is read by the driver alone, as it is stored.
"""

from __future__ import annotations

import abc
import contextlib
import json
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Type

import psutil
import psycopg2
import pymongo.errors
import redis

from servers import h2, h2_driver, wheels
from servers.h2 import H2Server
from servers.mongo import DISTRIBUTION, MongoServer
from servers.postgres import PostgresServer
from servers.process import Startable, make_folder, remove_folder
from servers.proxy import Fault, TcpProxy
from servers.redis import REDIS, RedisServer

Stored = Dict[str, List[Optional[str]]]

#: Requests that one fault hits, at the most.
_MANY = 20


class Target(Startable):
    """A store under torture.

    Attributes:
        name: What it is called on the command line.
        label: What it is called in reports.
        folder: For the journals of its writers.
        modules: Folders with modules that only this store needs.
        inflicted: How often each kind of fault came about.
        writers: Process ids of the writers.
    """

    name: str
    label: str
    modules: Tuple[str, ...] = ()

    def __init__(self) -> None:
        self.folder = make_folder(f"torture-{self.name}")
        self.inflicted: Dict[str, int] = Counter()
        self.writers: List[int] = []

    @property
    @abc.abstractmethod
    def faults(self) -> Dict[str, Callable[[float], Optional[int]]]:
        """Each kind of fault, and what brings it about; gets how long it lasts.

        It returns how often the fault has come about; `None` is once.
        """

    @abc.abstractmethod
    def endpoint(self, small_pool: bool) -> Dict[str, Any]:
        """The tracker_store section of an endpoints.yml."""

    def environment(self, small_pool: bool) -> Dict[str, str]:
        """Variables that the store looks at."""
        return {}

    @property
    def disk_full(self) -> Path:
        """See `writer.Task`."""
        return self.folder / "disk-full"

    def inflict(self, kind: str, seconds: float) -> None:
        """Let something go wrong, and be good again."""
        times = self.faults[kind](seconds)
        self.inflicted[kind] += 1 if times is None else times

    @abc.abstractmethod
    def calm(self) -> None:
        """End all faults; all works again."""

    @abc.abstractmethod
    def stored(self) -> Stored:
        """Names of the stored events of each conversation, in order."""

    @abc.abstractmethod
    def versions(self) -> Dict[str, str]:
        """Of the server and the driver."""


def _name(text: Any) -> Optional[str]:
    """The name in a stored event; `None` for what none of the writers has written."""
    try:
        name = json.loads(text)["metadata"]["name"]
    except (ValueError, TypeError, KeyError):
        return None
    return name if isinstance(name, str) else None


def _grouped(rows: Iterable[Tuple[str, Any]]) -> Stored:
    stored: Stored = {}
    for conversation, text in rows:
        stored.setdefault(conversation, []).append(_name(text))
    return stored


_ROWS = "SELECT sender_id, data FROM events ORDER BY id"


class SQLite(Target):
    """A file: no server, no network, but a disk and other processes."""

    name = "sqlite"
    label = "SQLite"

    def start(self) -> None:
        pass

    def remove(self) -> None:
        remove_folder(self.folder)

    @property
    def _file(self) -> Path:
        return self.folder / "rasa.db"

    def endpoint(self, small_pool: bool) -> Dict[str, Any]:
        return {
            "type": "rasa_trackers.SQLTrackerStore",
            "dialect": "sqlite",
            "db": str(self._file),
        }

    @property
    def faults(self) -> Dict[str, Callable[[float], Optional[int]]]:
        return {
            "file locked": self._lock,
            "disk full": self._fill_disk,
            "write cut short": self._limit_files,
        }

    def _lock(self, seconds: float) -> int:
        if not self._file.exists():
            return 0
        with contextlib.closing(sqlite3.connect(self._file, timeout=10)) as other:
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
        return 1

    def _fill_disk(self, seconds: float) -> None:
        self.disk_full.touch()
        time.sleep(seconds)
        self.disk_full.unlink()

    def _limit_files(self, seconds: float) -> int:
        """Let no file of the writers grow, while the database's are beyond the limit.

        A write across it writes what fits, as on a disk that is full just then.
        """
        # Their journals, which are smaller, must not come to it.
        journals = self.folder.glob("*.journal")
        limit = max((file.stat().st_size for file in journals), default=0) + 2**18
        files = self.folder.glob(f"{self._file.name}*")
        if not any(file.stat().st_size > limit for file in files):
            return 0
        self._set_limit(limit)
        time.sleep(seconds)
        self._set_limit(psutil.RLIM_INFINITY)
        return 1

    def _set_limit(self, size: int) -> None:
        for pid in self.writers:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                # The other one is what an unprivileged process may raise it to again.
                process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))

    def calm(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.disk_full.unlink()
        self._set_limit(psutil.RLIM_INFINITY)

    def stored(self) -> Stored:
        with contextlib.closing(sqlite3.connect(self._file)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return _grouped(connection.execute(_ROWS))

    def versions(self) -> Dict[str, str]:
        return {"SQLite": sqlite3.sqlite_version}


class Remote(Target):
    """A server behind a proxy.

    Attributes:
        append: Bytes that are in each request that appends, and in no other one.
    """

    append: bytes
    #: Whether what it has acknowledged outlives a crash of it.
    durable = True

    def __init__(self) -> None:
        super().__init__()
        self.server: Any = None
        self.proxy: Any = None

    @abc.abstractmethod
    def _make_server(self) -> Any:
        """The server, with durability on."""

    def start(self) -> None:
        self.server = self._make_server()
        self.server.start()
        self.proxy = TcpProxy(self.server.host, self.server.port)

    def remove(self) -> None:
        if self.proxy:
            self.proxy.close()
        if self.server:
            self.server.remove()
        remove_folder(self.folder)

    @property
    def faults(self) -> Dict[str, Callable[[float], Optional[int]]]:
        faults = {
            "connections cut": lambda _: self.proxy.cut(),
            "network slow": self._slow_down,
            "network silent": self._silence,
            "connections refused": self._refuse,
            "request lost": self._lose_requests,
            "answer lost": self._lose_answers,
            "request late": self._delay_request,
            "server hung": self._hang,
        }
        if self.durable:
            faults["server killed"] = self._kill
        return faults

    def _slow_down(self, seconds: float) -> None:
        self.proxy.delay(0.05)
        time.sleep(seconds)
        self.proxy.delay(0)

    def _silence(self, seconds: float) -> None:
        self.proxy.stall()
        time.sleep(seconds)
        self.proxy.resume()

    def _refuse(self, seconds: float) -> None:
        self.proxy.refuse()
        self.proxy.cut()
        time.sleep(seconds)
        self.proxy.accept()

    def _lose_requests(self, seconds: float) -> int:
        return self._for(seconds, self.proxy.cut_before(self.append, times=_MANY))

    def _lose_answers(self, seconds: float) -> int:
        return self._for(seconds, self.proxy.drop_reply_after(self.append, times=_MANY))

    @staticmethod
    def _for(seconds: float, fault: Fault) -> int:
        time.sleep(seconds)
        fault.disarm()
        return fault.count

    def _delay_request(self, seconds: float) -> int:
        """Let an append arrive when its writer has long begun to try again."""
        held = self.proxy.hold(self.append)
        if not self._for(seconds, held):
            return 0
        # It may be refused, or not be answered.
        with contextlib.suppress(TimeoutError, OSError):
            held.release(1)
        return held.count

    def _hang(self, seconds: float) -> None:
        self.server.suspend()
        time.sleep(seconds)
        self.server.resume()

    def _kill(self, seconds: float) -> None:
        self.server.kill()
        time.sleep(seconds)
        self.server.start()

    def calm(self) -> None:
        self.proxy.clear()
        if self.server.running:
            self.server.resume()
        self.server.start()


class PostgreSQL(Remote):
    """PostgreSQL with few connections to give."""

    name = "postgresql"
    label = "PostgreSQL"
    append = b"INSERT INTO"
    server: PostgresServer

    def _make_server(self) -> PostgresServer:
        return PostgresServer({"max_connections": 40})

    def start(self) -> None:
        super().start()
        self._database = self.server.create_database()

    def endpoint(self, small_pool: bool) -> Dict[str, Any]:
        return {
            "type": "rasa_trackers.SQLTrackerStore",
            "dialect": "postgresql",
            "url": self.proxy.host,
            "port": self.proxy.port,
            "db": self._database,
            "username": self.server.username,
            "password": self.server.password,
        }

    def environment(self, small_pool: bool) -> Dict[str, str]:
        if not small_pool:
            return {}
        return {"POSTGRESQL_POOL_SIZE": "1", "POSTGRESQL_MAX_OVERFLOW": "1"}

    @property
    def faults(self) -> Dict[str, Callable[[float], Optional[int]]]:
        return {**super().faults, "connections exhausted": self._exhaust}

    def _exhaust(self, seconds: float) -> None:
        taken: List[Any] = []
        try:
            for _ in range(2):
                with contextlib.suppress(psycopg2.OperationalError):
                    while True:
                        taken.append(self.server.connect(self._database))
                self.proxy.cut()  # and take what the writers had
            time.sleep(seconds)
        finally:
            for connection in taken:
                connection.close()

    def stored(self) -> Stored:
        connection = self.server.connect(self._database)
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(_ROWS)
            return _grouped(cursor)

    def versions(self) -> Dict[str, str]:
        with contextlib.closing(self.server.connect(self._database)) as connection:
            number = connection.server_version
        return {
            "PostgreSQL": f"{number // 10_000}.{number % 10_000}",
            "psycopg2": psycopg2.__version__.split()[0],
        }


class Redis(Remote):
    """Redis that writes each command to the disk before it answers."""

    name = "redis"
    label = "Redis"
    append = b"$6\r\nappend\r\n"
    server: RedisServer
    _log = b"rasa_trackers:{tracker:"

    def _make_server(self) -> RedisServer:
        return RedisServer(REDIS, durable=True)

    def endpoint(self, small_pool: bool) -> Dict[str, Any]:
        return {
            "type": "rasa_trackers.RedisTrackerStore",
            "url": self.proxy.host,
            "port": self.proxy.port,
        }

    @property
    def faults(self) -> Dict[str, Callable[[float], Optional[int]]]:
        return {**super().faults, "connections exhausted": self._exhaust}

    def _exhaust(self, seconds: float) -> None:
        with self.server.client() as client:
            before = client.config_get("maxclients")["maxclients"]
            client.config_set("maxclients", 1)
            self.proxy.cut()
            time.sleep(seconds)
            client.config_set("maxclients", before)

    def stored(self) -> Stored:
        with self.server.client() as client:
            keys = [key for key in client.keys("*") if key.startswith(self._log)]
            assert len(keys) == client.dbsize()
            return {
                # A number stands before the events.
                key.partition(b"}")[2].decode(): [
                    _name(text) for text in client.lrange(key, 1, -1)
                ]
                for key in keys
            }

    def versions(self) -> Dict[str, str]:
        with self.server.client() as client:
            return {
                "Redis": client.info()["redis_version"],
                "redis-py": redis.__version__,
            }


class Mongo(Remote):
    """MongoDB's protocol; each write is on the disk before it is answered."""

    name = "mongo"
    label = "MongoDB protocol"
    append = b"$push"
    server: MongoServer

    def _make_server(self) -> MongoServer:
        return MongoServer()

    def endpoint(self, small_pool: bool) -> Dict[str, Any]:
        return {
            "type": "rasa_trackers.MongoTrackerStore",
            "url": self.server.url(self.proxy.port),
            "client_options": {"maxPoolSize": 1} if small_pool else {},
        }

    def stored(self) -> Stored:
        stored: Stored = {}
        with self.server.client() as client:
            documents = {one["_id"]: one for one in client.rasa.conversations.find()}
        for document in documents.values():
            if "bucket" in document:
                continue
            log = document["log"]
            while "previous" in document:
                document = documents[document["previous"]]  # noqa: PLW2901 - the chain
                log = document["log"] + log
            stored[document["sender_id"]] = [_name(event["data"]) for event in log]
        return stored

    def versions(self) -> Dict[str, str]:
        distribution, version = wheels.requirement(DISTRIBUTION).split("==")
        assert distribution == DISTRIBUTION
        return {"SecantusDB": version, "pymongo": pymongo.version}


class Oracle(Remote):
    """H2 in Oracle mode. It lives in memory, so its own death is left out."""

    name = "oracle"
    label = "Oracle (H2)"
    append = b"INSERT INTO"
    durable = False
    server: H2Server
    modules = (str(Path(h2.__file__).parent / "h2_modules"),)

    def _make_server(self) -> H2Server:
        return H2Server()

    def start(self) -> None:
        super().start()
        self._database = self.server.create_database()

    def endpoint(self, small_pool: bool) -> Dict[str, Any]:
        return {
            "type": "rasa_trackers.OracleTrackerStore",
            "dialect": "oracle+cx_oracle",
            "url": self.proxy.host,
            "port": self.proxy.port,
            "db": self._database,
            "username": h2.USER,
            "password": h2.PASSWORD,
        }

    def stored(self) -> Stored:
        connection = h2_driver.connect(
            user=h2.USER,
            password=h2.PASSWORD,
            dsn=f"(HOST={self.server.host})(PORT={self.server.port})"
            f"(SERVICE_NAME={self._database})",
        )
        with contextlib.closing(connection):
            cursor = connection.cursor()
            cursor.execute(_ROWS)
            return _grouped(
                (conversation, text.read() if hasattr(text, "read") else text)
                for conversation, text in cursor.fetchall()
            )

    def versions(self) -> Dict[str, str]:
        return {"H2": "in Oracle mode"}


STORES: Dict[str, Type[Target]] = {
    store.name: store for store in (SQLite, PostgreSQL, Redis, Mongo, Oracle)
}


@contextlib.contextmanager
def driver_of(target: Target) -> Iterator[None]:
    """Lets this process find the modules that only this store needs, for a while."""
    files = (file for folder in target.modules for file in Path(folder).glob("*.py"))
    names = [file.stem for file in files]
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path[:0] = target.modules
    try:
        yield
    finally:
        del sys.path[: len(target.modules)]
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)
