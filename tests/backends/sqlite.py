"""SQLite: a file, which has no server, but a disk and other processes."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, ContextManager, Dict, List, Optional

import psutil

from backends.backend import ALL_SUITES, Backend, Database, Endpoint, Fault
from backends.sql_rows import SELECT, grouped
from servers.meters import Meter, steps_of_sqlite
from servers.process import Startable, make_folder, remove_folder

if TYPE_CHECKING:
    import pytest


class Folder(Startable):
    """What SQLite has instead of a server."""

    def __init__(self) -> None:
        self.folder = make_folder("sqlite")

    def start(self) -> None:
        pass

    def remove(self) -> None:
        remove_folder(self.folder)


class SQLite(Backend):
    """A database is a file; its name is the path."""

    name = "sqlite"
    label = "SQLite"
    suites = ALL_SUITES - {"faults"}
    has_port = False
    is_metered = True

    def make_server(self) -> Folder:
        return Folder()

    @contextlib.contextmanager
    def database(self, request: pytest.FixtureRequest):
        with Folder() as folder:
            yield Database(self, folder, self.create(folder))

    def create(self, server: Folder, others: int = 0) -> str:
        return str(server.folder / f"rasa-{uuid.uuid4().hex}.db")

    def drop(self, server: Folder, name: str) -> None:
        for file in server.folder.glob(f"{Path(name).name}*"):
            file.unlink()

    def endpoint(
        self, server: Folder, name: str, port: Optional[int] = None
    ) -> Endpoint:
        return {
            "type": "rasa_trackers.SQLTrackerStore",
            "dialect": "sqlite",
            "db": name,
        }

    def meter(self, database: Database) -> ContextManager[Meter]:
        return steps_of_sqlite(database.endpoint())

    def texts(self, server: Folder, name: str) -> Dict[str, List[str]]:
        with contextlib.closing(sqlite3.connect(name)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return grouped(connection.execute(SELECT))

    def driver_versions(self) -> Dict[str, str]:
        return {"SQLite": sqlite3.sqlite_version}

    def own_faults(self, target: Any) -> Dict[str, Fault]:
        file = Path(target.database.name)

        def lock(seconds: float) -> int:
            if not file.exists():
                return 0
            with contextlib.closing(sqlite3.connect(file, timeout=10)) as other:
                other.execute("BEGIN EXCLUSIVE")
                time.sleep(seconds)
            return 1

        def fill_disk(seconds: float) -> None:
            target.disk_full.touch()
            time.sleep(seconds)
            target.disk_full.unlink()

        def limit_files(seconds: float) -> int:
            """Let no file of the writers grow, while the database's are beyond the limit.

            A write across it writes what fits, as on a disk that is full just then.
            """
            # The writers' journals, which are smaller, must not reach the limit.
            journals = target.folder.glob("*.journal")
            limit = max((each.stat().st_size for each in journals), default=0) + 2**18
            files = file.parent.glob(f"{file.name}*")
            if not any(each.stat().st_size > limit for each in files):
                return 0
            set_file_limit(target.writers, limit)
            time.sleep(seconds)
            set_file_limit(target.writers, psutil.RLIM_INFINITY)
            return 1

        return {
            "file locked": lock,
            "disk full": fill_disk,
            "write cut short": limit_files,
        }

    def calm(self, target: Any) -> None:
        with contextlib.suppress(FileNotFoundError):
            target.disk_full.unlink()
        set_file_limit(target.writers, psutil.RLIM_INFINITY)


def set_file_limit(pids: List[int], size: int) -> None:
    """Let no file of some processes grow beyond a size."""
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            # The other one is what an unprivileged process may raise it to again.
            process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))
