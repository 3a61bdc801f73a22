"""Connections in autocommit mode: transactions, tests, and the end of a silent call."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import weakref
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional

import sqlalchemy as sa
from sqlalchemy.engine import Connection

logger = logging.getLogger(__name__)

#: Seconds after its last use for which a connection is not tested.
UNTESTED = 5.0


@contextmanager
def transaction(engine: sa.engine.Engine) -> Iterator[Connection]:
    """A transaction on an engine in autocommit mode.

    In plain SQL: SQLAlchemy 1.4 does not put a connection back into autocommit mode
    that had another mode for a while, and writes on it are never committed afterwards.
    """
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        try:
            yield connection
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            # The server rolls back when the connection is closed, whatever its state.
            connection.invalidate()
            raise


class OpenConnections:
    """The connections of engines, to cut those that wait for a silent server."""

    def __init__(
        self,
        *engines: sa.engine.Engine,
        file_descriptor: Callable[[Any], Optional[int]],
    ) -> None:
        """Watch the connections that the engines make.

        Args:
            engines: The engines.
            file_descriptor: Gives that of a driver's connection; ``None`` for a
                connection that is closed.
        """
        self._file_descriptor = file_descriptor
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        # A set that grows while another thread goes through it is an error.
        self._lock = threading.Lock()
        for engine in engines:
            self.watch(engine)

    def watch(self, engine: sa.engine.Engine) -> None:
        """Watch the connections of one more engine."""
        # Before SQLAlchemy's own first statements, which may wait for ever as well.
        sa.event.listen(engine, "connect", self._add, insert=True)

    def _add(self, connection: Any, _record: Any) -> None:
        with self._lock:
            self._connections.add(connection)

    def cut(self, name: str) -> None:
        """Close the socket under each connection.

        A driver may wait for an answer without a limit. Only this ends the wait, even if
        the server's operating system still answers.

        Args:
            name: How messages name the database.
        """
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            try:
                descriptor = self._file_descriptor(connection)
                if descriptor is None:
                    continue
                with socket.socket(fileno=os.dup(descriptor)) as duplicate:
                    duplicate.shutdown(socket.SHUT_RDWR)
            except Exception:
                # It was closed meanwhile, or the driver has no file descriptor.
                logger.debug("%s: a connection was not cut.", name, exc_info=True)


def ping_idle_connections_only(engine: sa.engine.Engine) -> None:
    """Let the pool test only connections that were idle for a while.

    The test costs a round trip, as much as the call itself. If a connection has died
    just now, the call finds out, and is made again.
    """
    test: Callable[[Any], bool] = engine.dialect.do_ping
    last_use: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()

    @sa.event.listens_for(engine, "checkin")
    def _note(connection: Any, _record: Any) -> None:
        if connection is not None:  # None stands for a broken one
            last_use[connection] = time.monotonic()

    def is_alive(connection: Any) -> bool:
        idle = time.monotonic() - last_use.get(connection, -math.inf)
        return idle < UNTESTED or test(connection)

    engine.dialect.do_ping = is_alive
