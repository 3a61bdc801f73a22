"""Connections to PostgreSQL: the pool, and what a connection is set to."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from typing import Any, Dict, Optional

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine.url import URL
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import queue

from rasa_trackers.errors import release_frames
from rasa_trackers.sql.connection import create_engine
from rasa_trackers.sql.connections import ping_idle_connections_only
from rasa_trackers.sql.postgresql.failures import is_read_only

#: Seconds between two looks whether a connection can still come free.
_LOOK = 0.1

#: Makes the planner read a conversation's newest events by the tail index, whatever its
#: statistics say. To find 100 of 10,000 events it takes other ways otherwise: for
#: "sender_id = ... ORDER BY id" the primary key, through all that others have written
#: since (5 ms for 50,000 events); or, without statistics and for events that lie
#: together, all 10,000 and a sort (3 ms). The tail index takes 0.04 ms.
_TAIL_INDEX = (
    "SELECT set_config(name, 'off', false) FROM pg_catalog.pg_settings "
    "WHERE name IN ('enable_sort', 'enable_incremental_sort')"
)


def connect_options(url: URL, *, timeout: float) -> Dict[str, Any]:
    """The options of libpq for connecting, beyond the URL.

    Args:
        url: The database's URL; options in its query come first.
        timeout: Seconds for connecting.
    """
    if url.get_driver_name() not in ("psycopg2", "psycopg"):
        return {}
    wanted = {
        # libpq takes whole seconds, and takes 1 for 2.
        "connect_timeout": max(2, min(round(timeout), 2**31 - 1)),
        "application_name": "rasa_trackers",
    }
    return {name: value for name, value in wanted.items() if name not in url.query}


def postgresql_engine(
    url: URL, *, timeout: float, pool_size: int, max_overflow: int
) -> sa.engine.Engine:
    """An engine for a PostgreSQL database.

    Args:
        url: The database's URL.
        timeout: Seconds for connecting.
        pool_size: Connections that are kept.
        max_overflow: Connections beyond those.
    """
    engine = create_engine(
        url,
        poolclass=WaitingPool,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=timeout,
        connect_args=connect_options(url, timeout=timeout),
        isolation_level="AUTOCOMMIT",
    )
    ping_idle_connections_only(engine)
    sa.event.listen(engine, "handle_error", _leave_standby)
    sa.event.listen(engine, "handle_error", _keep_primary_message)
    return engine


class WaitingPool(QueuePool):  # type: ignore[misc]
    """A pool whose threads wait for any connection, and never for a new one alone."""

    # Pools log errors with user names at DEBUG; SQLAlchemy keeps its own loggers at WARN.
    _sqla_logger_namespace = "sqlalchemy.pool.WaitingPool"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._counting = threading.Lock()
        self._waiting = 0
        self._growing = 0
        self._refusal: Optional[BaseException] = None
        self._is_disposed = False

    def dispose(self) -> None:
        self._is_disposed = True
        super().dispose()

    def _do_get(self) -> Any:
        with contextlib.suppress(queue.Empty):
            return self._pool.get(False)
        if not self.checkedout():
            return super()._do_get()
        # A pooler may let a new connection wait for as long as it likes (PgBouncer in
        # session mode), and connections in use come free meanwhile.
        with self._counting:
            self._waiting += 1
            if self._growing < self._waiting and self._inc_overflow():
                self._growing += 1
                threading.Thread(
                    target=self._grow, name="rasa_trackers-connecting", daemon=True
                ).start()
        try:
            return self._come_free()
        finally:
            with self._counting:
                self._waiting -= 1

    def _come_free(self) -> Any:
        """Wait for a connection that comes free, or is made."""
        deadline = time.monotonic() + self._timeout
        while time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                return self._pool.get(True, _LOOK)
            if not self.checkedout():
                return super()._do_get()  # none is left that could come free
        if self._refusal is not None:
            raise self._refusal
        raise sqlalchemy.exc.TimeoutError(
            f"of {self.checkedout()} connections none came free within "
            f"{self._timeout:g} seconds, and the server gave no other one"
        )

    def _grow(self) -> None:
        """Make a connection for whoever waits."""
        record = None
        try:
            record = self._create_connection()
            self._refusal = None
        except Exception as error:  # noqa: BLE001 - shown if no connection comes free
            release_frames(error)
            self._refusal = error
        with self._counting:
            self._growing -= 1
        if record is None:
            self._dec_overflow()
        else:
            # One that is not needed any more is closed, if the pool is full.
            self._do_return_conn(record)
        if self._is_disposed:
            super().dispose()


def set_up_connection(connection: Any) -> None:
    """Set what a log's statements rely on, on a new connection of the driver."""
    with connection.cursor() as cursor:
        # After a statement has waited for the lock it must see what was committed
        # meanwhile. Some servers have another level as their default.
        cursor.execute("SET default_transaction_isolation TO 'read committed'")
        cursor.execute(_TAIL_INDEX)
    if not getattr(connection, "autocommit", True):
        connection.commit()


LOCK = "SELECT pg_advisory_xact_lock(%s)"


def lock_key(name: str) -> int:
    """A key for PostgreSQL's advisory locks: 64 bits, signed, from a text.

    Two texts with one key would only wait for each other.
    """
    digest = hashlib.blake2b(
        name.encode("utf-8", "surrogatepass"), digest_size=8, person=b"rasa_trackers"
    ).digest()
    return int.from_bytes(digest, "big", signed=True)


def file_descriptor(connection: Any) -> Optional[int]:
    """That of a driver's connection; ``None`` for a closed one."""
    return None if connection.closed else int(connection.fileno())


def _leave_standby(context: Any) -> None:
    # A connection to a server that is not the primary any more stays alive. New ones
    # lead to the new primary as soon as the address does.
    if is_read_only(context.original_exception):
        context.is_disconnect = True


def _keep_primary_message(context: Any) -> None:
    """Remove what PostgreSQL adds to its message: DETAIL shows rows with texts of users."""
    error = context.original_exception
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    if primary is None:
        return
    key = re.search(r"^DETAIL:\s+Key (\(id\)=\(\d+\))", str(error), re.MULTILINE)
    full = str(error)
    error.args = (f"{primary}: {key.group(1)}" if key else primary,)
    wrapped = context.sqlalchemy_exception
    if wrapped is not None:
        wrapped.args = tuple(
            part.replace(full, error.args[0]) if isinstance(part, str) else part
            for part in wrapped.args
        )
