"""What a SQLite file says about itself, for an operator."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Iterator

from sqlalchemy.engine import Connection

from rasa_trackers.health import ERROR, OK, WARNING, Fact

#: The values of PRAGMA synchronous.
_SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


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
    result = str(pragma("quick_check(1)"))
    yield Fact(
        "integrity",
        result if result != "ok" else "no damage found",
        OK if result == "ok" else ERROR,
        "" if result == "ok" else "Restore the file from a backup.",
    )
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
