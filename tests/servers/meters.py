"""What calls ask of a database, counted instead of timed."""

from __future__ import annotations

import contextlib
import sqlite3
import sqlite3.dbapi2
from typing import Any, Callable, Dict, Iterator, NamedTuple, Tuple
from unittest import mock

from servers.proxy import TcpProxy


class Meter(NamedTuple):
    """A database whose work is counted.

    Attributes:
        endpoint: By which it is reached.
        work: Counts from the beginning: bytes on the way, or steps of the database.
        round_trips: Counts from the beginning; always 0 for a database in the process.
    """

    endpoint: Dict[str, Any]
    work: Callable[[], int]
    round_trips: Callable[[], int]


@contextlib.contextmanager
def bytes_on_the_way(
    address: Tuple[str, int], endpoint: Callable[[int], Dict[str, Any]]
) -> Iterator[Meter]:
    """Count the bytes and the round trips between a store and its server.

    Args:
        address: Host and port of the server.
        endpoint: Gives the endpoint by which it is reached through another port.
    """
    with TcpProxy(*address) as proxy:
        yield Meter(
            endpoint(proxy.port), lambda: proxy.bytes, lambda: proxy.round_trips
        )


@contextlib.contextmanager
def steps_of_sqlite(endpoint: Dict[str, Any]) -> Iterator[Meter]:
    """Count the instructions that SQLite carries out, in connections made from now on.

    Each row that it looks at takes at least one.
    """
    connect, steps = sqlite3.connect, [0]

    def step() -> int:
        steps[0] += 1
        return 0

    def connect_and_count(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_progress_handler(step, 1)
        return connection

    with contextlib.ExitStack() as patches:
        for module in (sqlite3, sqlite3.dbapi2):
            patches.enter_context(
                mock.patch.object(module, "connect", connect_and_count)
            )
        yield Meter(endpoint, lambda: steps[0], lambda: 0)
