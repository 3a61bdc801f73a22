"""Runs beside the tests; ends their servers and deletes their folders once they are gone.

`servers.process.Reaper` starts and feeds it.
"""
import os
import select
import shutil
from typing import Dict, Set

import psutil

from servers.process import kill_tree


def main() -> None:
    """Read lines such as `+process 123` and `-folder /path` until the test process ends, then clean up."""
    processes: Dict[int, psutil.Process] = {}
    folders: Set[str] = set()
    parent, rest = os.getppid(), b""
    # The parent is looked at too: the pipe stays open while a forked child of the test process lives.
    while os.getppid() == parent:
        if not select.select([0], [], [], 1.0)[0]:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            what, _, value = line.decode().partition(" ")
            if what == "+process":
                try:
                    processes[int(value)] = psutil.Process(int(value))
                except psutil.NoSuchProcess:
                    pass
            elif what == "-process":
                processes.pop(int(value), None)
            elif what == "+folder":
                folders.add(value)
            elif what == "-folder":
                folders.discard(value)
    for process in processes.values():
        try:
            kill_tree(process)
        except (psutil.Error, TimeoutError):
            pass  # the others and the folders still have to go
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
