"""A child of a fork that saves after its parent has closed the SQLite file.

Run as ``python forked_sqlite.py PATH``. Another process opens and closes the file between
two appends of the child. It is the last one to close the file unless the child has locks
of its own, and then it removes the write-ahead log that the child writes to.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

from rasa_trackers import shared_logs, store_options
from rasa_trackers.event_log import START, Entry
from rasa_trackers.sql.options import SQL

OPEN_AND_CLOSE = (
    "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]); "
    "print(connection.execute('SELECT count(*) FROM events').fetchall()); "
    "connection.close()"
)


class Store:
    """What uses a log."""


def main() -> None:
    path = sys.argv[1]
    values = store_options.checked("SQLTrackerStore", SQL.options, {"db": path})
    store = Store()
    shared, release = shared_logs.acquire(store, SQL, values, False)
    shared.open(60)

    def append(text: str, after: int) -> int:
        entry = Entry(f'"{text}"', "user", None, None, None)
        position = shared.threads.run_blocking(
            lambda log: log.append("ada", [entry], after)
        )
        assert position is not None
        return position

    first = append("parent", START)
    can_go_on, go_on = os.pipe()
    child = os.fork()
    if child == 0:
        second = append("child", first)
        os.read(can_go_on, 1)
        subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, path], check=True)
        append("child again", second)
        os._exit(0)
    release().join()
    os.write(go_on, b"x")
    assert os.waitpid(child, 0)[1] == 0
    stored = sqlite3.connect(path).execute("SELECT data FROM events ORDER BY id")
    assert [text for (text,) in stored] == ['"parent"', '"child"', '"child again"']


if __name__ == "__main__":
    main()
