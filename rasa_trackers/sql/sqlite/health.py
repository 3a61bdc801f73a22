"""What a SQLite file says about itself, for an operator."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Iterator

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.health import ERROR, OK, WARNING, Fact

#: The values of PRAGMA synchronous.
_SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


#: Seconds that the look for damage may take. A health check must not last for minutes.
_LONGEST_CHECK = 3.0


def facts(log: Any, connection: Connection) -> Iterator[Fact]:
    """What is known about the file of a log."""
    path = str(log.engine.url.database)

    def pragma(name: str) -> Any:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

    yield Fact("server", f"SQLite {sqlite3.sqlite_version}, a library")
    yield Fact("TLS", "not needed: a file of this machine")
    is_writable = os.access(path, os.W_OK) and os.access(
        Path(path).resolve().parent, os.W_OK
    )
    yield Fact(
        "rights",
        "the file can be written" if is_writable else "the file cannot be written",
        OK if is_writable else ERROR,
        ""
        if is_writable
        else "Give the user who runs Rasa write access to the file and its folder.",
    )
    journal = str(pragma("journal_mode"))
    yield Fact(
        "journal_mode",
        journal,
        OK if journal == "wal" else WARNING,
        ""
        if journal == "wal"
        else "The store sets it to wal at its start, unless the file is on a network "
        "file system; use a local disk.",
    )
    yield Fact(
        "synchronous",
        f"{_SYNCHRONOUS.get(pragma('synchronous'))} on the store's connections",
    )
    yield _integrity(connection)
    index = connection.exec_driver_sql(
        "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND tbl_name = 'events'"
    ).scalar()
    has_table = connection.exec_driver_sql(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'events'"
    ).scalar()
    if has_table:
        yield Fact(
            "index",
            "there" if index else "missing",
            OK if index else WARNING,
            "" if index else "Start the store once: it creates the index.",
        )
    yield Fact("size", f"{Path(path).stat().st_size:,} bytes")


def _integrity(connection: Connection) -> Fact:
    end = time.monotonic() + _LONGEST_CHECK
    driver: Any = connection.connection
    driver.set_progress_handler(lambda: time.monotonic() > end, 1_000)
    try:
        result = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    except sa.exc.OperationalError as error:
        if "interrupted" not in str(error.orig):
            raise
        return Fact("integrity", "no damage found in a part of the file, which is big")
    finally:
        driver.set_progress_handler(None, 0)
    if result == "ok":
        return Fact("integrity", "no damage found")
    return Fact("integrity", result, ERROR, "Restore the file from a backup.")
