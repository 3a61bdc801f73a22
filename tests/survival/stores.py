"""The stores that are tortured: how they fail, and what they hold.

What they hold is read by the driver alone, as it is stored.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from backends import BACKENDS, Database, names_for
from backends.backend import Fault as Inflict
from servers.process import Startable, make_folder, remove_folder
from servers.proxy import Fault, TcpProxy

Stored = Dict[str, List[Optional[str]]]

#: The stores, by the names of their backends.
STORES = names_for("survival")

#: Requests that one fault hits, at the most.
_MANY = 20


class Target(Startable):
    """A store under torture: a database of its own, behind a proxy if it has a server.

    Attributes:
        name: What it is called on the command line.
        label: What it is called in reports.
        folder: For the journals of its writers.
        modules: Folders with modules that only this store needs.
        inflicted: How often each kind of fault came about.
        writers: Process ids of the writers.
        database: What is stored; once started.
        server: The server; once started.
        proxy: Stands before the server; `None` without one.
    """

    server: Any
    database: Database

    def __init__(self, name: str) -> None:
        """Prepare.

        Args:
            name: One of `STORES`.
        """
        self._backend = BACKENDS[name]
        self.name = name
        self.label = self._backend.label
        self.modules = self._backend.modules
        self.folder = make_folder(f"torture-{name}")
        self.inflicted: Dict[str, int] = Counter()
        self.writers: List[int] = []
        self.proxy: Any = None
        self._started = contextlib.ExitStack()

    def start(self) -> None:
        backend = self._backend
        self.server = self._started.enter_context(backend.make_server())
        if backend.has_port:
            self.proxy = self._started.enter_context(
                TcpProxy(self.server.host, self.server.port)
            )
        name = backend.create(self.server)
        self.database = Database(backend, self.server, name)

    def remove(self) -> None:
        self._started.close()
        remove_folder(self.folder)

    def reached(self, small_pool: bool) -> Tuple[Dict[str, Any], Dict[str, str]]:
        """The tracker_store section of an endpoints.yml, and environment variables."""
        endpoint = self.database.endpoint(self.proxy.port if self.proxy else None)
        return self._backend.small_pool(endpoint) if small_pool else (endpoint, {})

    @property
    def disk_full(self) -> Path:
        """See `writer.Task`."""
        return self.folder / "disk-full"

    @property
    def spool(self) -> Path:
        """The file in which writers keep what they save in an outage."""
        return self.folder / "spool"

    @property
    def faults(self) -> Dict[str, Inflict]:
        """Each kind of fault, and what brings it about; gets how long it lasts.

        It returns how often the fault has come about; `None` is once.
        """
        faults: Dict[str, Inflict] = {}
        if self.proxy:
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
            if self._backend.outlives_crash:
                faults["server killed"] = self._kill
        return {**faults, **self._backend.own_faults(self)}

    def inflict(self, kind: str, seconds: float) -> None:
        """Let something go wrong, and be good again."""
        times = self.faults[kind](seconds)
        self.inflicted[kind] += 1 if times is None else times

    def calm(self) -> None:
        """End all faults; all works again."""
        self._backend.calm(self)
        if self.proxy:
            self.proxy.clear()
            if self.server.running:
                self.server.resume()
            self.server.start()

    def stored(self) -> Stored:
        """Names of the stored events of each conversation, in order."""
        return {
            sender_id: list(map(_name, texts))
            for sender_id, texts in self.database.texts().items()
        }

    def versions(self) -> Dict[str, str]:
        """The versions of the server and the driver."""
        backend = self._backend
        return {**backend.server_versions(self.server), **backend.driver_versions()}

    # Faults of servers and networks

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
        return self._for(
            seconds, self.proxy.cut_before(self._backend.append, times=_MANY)
        )

    def _lose_answers(self, seconds: float) -> int:
        return self._for(
            seconds, self.proxy.drop_reply_after(self._backend.append, times=_MANY)
        )

    @staticmethod
    def _for(seconds: float, fault: Fault) -> int:
        time.sleep(seconds)
        fault.disarm()
        return fault.count

    def _delay_request(self, seconds: float) -> int:
        """Let an append arrive when its writer has long begun to try again."""
        held = self.proxy.hold(self._backend.append)
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


def _name(text: str) -> Optional[str]:
    """The name in a stored event; `None` for what none of the writers has written."""
    try:
        name = json.loads(text)["metadata"]["name"]
    except (ValueError, TypeError, KeyError):
        return None
    return name if isinstance(name, str) else None


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
