"""The servers that stores are measured on: those of the tests' registry of backends.

Needs no Rasa: what measures with one is told a place.
"""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

from backends import BACKENDS, names_for
from measuring import Place

#: The backends that are measured.
STORES = names_for("benchmarks")


class Opened(NamedTuple):
    """A server that runs.

    Attributes:
        place: For those who connect.
        version: Of the server, with its name; empty if it is the driver's.
        new_database: Makes an empty database and returns its name.
        settle: To be called once with the names of all databases that were filled.
    """

    place: Place
    version: Dict[str, str]
    new_database: Callable[[], str]
    settle: Callable[[List[str]], None]


@contextlib.contextmanager
def opened(name: str) -> Iterator[Opened]:
    """A server of a backend, with its durability on."""
    backend = BACKENDS[name]
    with backend.make_server() as server:
        made: List[str] = []

        def new_database() -> str:
            made.append(backend.create(server, len(made)))
            return made[-1]

        # Every database of a server has the same endpoint but for its name.
        endpoint: Dict[str, Any] = backend.endpoint(server, new_database())
        yield Opened(
            Place(name, endpoint),
            backend.server_versions(server),
            new_database,
            lambda names: backend.settle(server, names),
        )
