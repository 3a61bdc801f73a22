"""Runs beside the tests, and ends their servers once they are gone.

`servers.process.Reaper` starts and feeds it.
"""

import contextlib
import os
import select
import shutil
from typing import Dict, Iterator, Set

import psutil

from servers.process import kill_tree


def lines() -> Iterator[str]:
    """What the test process writes, line by line, until it ends."""
    parent, rest = os.getppid(), b""
    # The parent is looked at too, every second: a child that it forked and that
    # outlives it holds the pipe open.
    while os.getppid() == parent:
        if select.select([0], [], [], 1.0)[0]:
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode()


def main() -> None:
    """Read lines such as `+process 123` and `-folder /path`, then clean up."""
    processes: Dict[str, psutil.Process] = {}
    folders: Set[str] = set()
    for line in lines():
        what, _, value = line.partition(" ")
        if what == "+process":
            with contextlib.suppress(psutil.NoSuchProcess):
                processes[value] = psutil.Process(int(value))
        elif what == "-process":
            processes.pop(value, None)
        elif what == "+folder":
            folders.add(value)
        elif what == "-folder":
            folders.discard(value)
    for process in processes.values():
        # The others and the folders have to go even if this one cannot be ended.
        with contextlib.suppress(psutil.Error, TimeoutError):
            kill_tree(process)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
