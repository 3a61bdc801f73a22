"""PostgreSQL."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import socket
import threading
import time
import weakref
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection
from sqlalchemy.engine.url import URL
from sqlalchemy.pool import NullPool

from rasa_trackers.event_log import START, Entry, Failure, User
from rasa_trackers.rasa_versions import RasaException
from rasa_trackers.sql.connection import create_engine
from rasa_trackers.sql.log import SQLEventLog, fetch_from_driver, row
from rasa_trackers.sql.schema import Tables

logger = logging.getLogger(__name__)

_REACHABLE = "Check that the server runs and that 'url' and 'port' are right."
_CREDENTIALS = (
    "Correct 'username' and 'password' in the tracker_store section of endpoints.yml."
)

#: What errors mean, by SQLSTATE or its first two characters
#: (postgresql.org/docs/current/errcodes-appendix.html).
FAILURES_BY_CODE: Dict[str, Failure] = {
    "08": Failure(True, _REACHABLE),
    "25006": Failure(
        True,
        "The server is read-only: a standby, or one that failed over. Let 'url' name "
        "the primary.",
    ),
    "28": Failure(False, _CREDENTIALS),
    "3D000": Failure(
        False, "Create the database, or set 'login_db' to one that exists already."
    ),
    "40": Failure(True),
    "42501": Failure(
        False,
        "Let an administrator GRANT the user of the tracker store CREATE on the "
        "schema, or create the tables, and GRANT it the use of them.",
    ),
    # Another worker, or Rasa's own store, creates the tables at the same moment.
    "23505": Failure(True),
    "42P07": Failure(True),
    "22P05": Failure(
        False,
        "The database's encoding lacks a character of the sender id. Use a database "
        "with the encoding UTF8.",
    ),
    "42P01": Failure(False, "Restart Rasa: it creates missing tables."),
    "42703": Failure(
        False, "The table 'events' is not Rasa's: set 'db' or POSTGRESQL_SCHEMA."
    ),
    "53100": Failure(False, "Free space on the server's disk."),
    "53300": Failure(
        True,
        "Raise max_connections of the server, or lower POSTGRESQL_POOL_SIZE and "
        "POSTGRESQL_MAX_OVERFLOW.",
    ),
    "53": Failure(True),
    "55P03": Failure(True),
    "57014": Failure(True, "Check the server's statement_timeout."),
    "57P": Failure(True, _REACHABLE),
}

#: What errors mean that come without a code, as all do while connecting.
FAILURES_BY_TEXT: Dict[str, Failure] = {
    r"password authentication failed|no password supplied": Failure(
        False, _CREDENTIALS
    ),
    r'role ".*" does not exist': Failure(False, _CREDENTIALS),
    r'database ".*" does not exist': FAILURES_BY_CODE["3D000"],
    r"no pg_hba.conf entry": Failure(
        False, "Let the server's pg_hba.conf admit this host, user and database."
    ),
    r"invalid dsn|invalid connection option|invalid .* value": Failure(
        False, "Correct 'query' in the tracker_store section of endpoints.yml."
    ),
    r"does not support SSL|certificate": Failure(
        False, "Correct sslmode and the certificates in 'query', or on the server."
    ),
    r"too many clients|connection slots": FAILURES_BY_CODE["53300"],
}


#: Seconds after its last use for which a connection is not tested.
_UNTESTED = 5.0

#: Events that go into one message. psycopg2 writes the parameters into it in one go,
#: during which nothing else runs in the process: 25 ms for 3,000 events.
_LARGEST_MESSAGE = 250


#: Makes the planner read a conversation's newest events by the tail index, whatever
#: its statistics say. Left to itself it takes other ways to find 100 of 10,000 events:
#: for "sender_id = ... ORDER BY id" the primary key, through all that others have
#: written since (5 ms for 50,000 events); or, without statistics and for events that
#: lie together, all 10,000 and a sort (3 ms). This one takes 0.04 ms.
_TAIL_INDEX = (
    "SELECT set_config(name, 'off', false) FROM pg_catalog.pg_settings "
    "WHERE name IN ('enable_sort', 'enable_incremental_sort')"
)


class PostgreSQLEventLog(SQLEventLog):
    """Event logs in a PostgreSQL database.

    Appends to one conversation follow each other under an advisory lock of their
    transaction, so that the ids of its rows have the order of the commits. Without
    it a row could appear before others that a reader has seen already.
    """

    def __init__(
        self,
        engine: sa.engine.Engine,
        tables: Tables,
        *,
        name: str,
        record_exp: Optional[float] = None,
        login_engine: Optional[sa.engine.Engine] = None,
        connect_args: Optional[Dict[str, Any]] = None,
    ) -> None:
        """Prepare the statements.

        Args:
            engine: Engine of the database, in autocommit mode.
            tables: The tables to use.
            name: How messages name the database.
            record_exp: Seconds after its last append that a conversation expires.
            login_engine: Engine of another database on the server, from which to
                create this one if it is missing.
            connect_args: What the driver is given to connect, for a connection beside
                the engine's.
        """
        super().__init__(engine, tables, name=name, record_exp=record_exp)
        self._login_engine = login_engine
        self._schema = tables.events.schema
        self._connect_args = dict(connect_args or {})
        # psycopg2 takes several statements at once and sends them as one message,
        # which the server runs as one transaction: one round trip an append.
        self._one_message = engine.dialect.driver == "psycopg2"
        self._column_encoding = "utf-8"
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        # A set that grows while another thread goes through it is an error.
        self._registering = threading.Lock()
        for each in (engine, login_engine):
            if each is not None:
                # Before SQLAlchemy's own first statements, which can hang as well.
                sa.event.listen(each, "connect", self._register, insert=True)
        sa.event.listen(engine, "connect", self._on_connect)

    def _register(self, connection: Any, _record: Any) -> None:
        with self._registering:
            self._connections.add(connection)

    def _on_connect(self, connection: Any, _record: Any) -> None:
        status = getattr(connection, "get_parameter_status", lambda _name: "UTF8")
        if status("server_encoding") != "UTF8":
            self._column_encoding = "ascii"
        # A statement must see what was committed while it waited for the lock; some
        # servers are set to another level.
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_isolation TO 'read committed'")
            cursor.execute(_TAIL_INDEX)
        if not getattr(connection, "autocommit", True):
            connection.commit()

    def _in_order(self, statement: Any, *, newest_first: bool = False) -> Any:
        # An order that the tail index has and the primary key has not: see _TAIL_INDEX.
        events = self._events
        mine = sa.bindparam("sender_id")
        columns = (events.c.sender_id, events.c.id)
        return statement.where(events.c.sender_id.between(mine, mine)).order_by(
            *(column.desc() if newest_first else column for column in columns)
        )

    # Setting up

    def open(self) -> None:
        if self._login_engine is not None:
            _create_database(self._login_engine, str(self._engine.url.database))
            self._login_engine.dispose()
        if self._schema is not None:
            with self._engine.connect() as connection:
                self._check_schema(connection)
        super().open()
        with self._engine.connect() as connection:
            self._check_sequence(connection)
            has_tail_index = self._has_tail_index(connection)
        if not has_tail_index:
            # Of a table that Rasa's own store has made. Beside this one's work: it
            # takes minutes for many millions of events.
            threading.Thread(
                target=self._create_tail_index, name="rasa_trackers-index", daemon=True
            ).start()

    @contextmanager
    def _setup(self) -> Iterator[Connection]:
        with self._writing("rasa_trackers: create tables") as connection:
            yield connection

    def _create_tables(self, connection: Connection) -> None:
        is_new = not sa.inspect(connection).has_table(
            self._events.name, schema=self._schema
        )
        super()._create_tables(connection)
        if is_new:
            self._tables.tail_index.create(connection)

    def _check_schema(self, connection: Connection) -> None:
        found = connection.execute(
            sa.text("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :schema"),
            {"schema": self._schema},
        ).scalar()
        if not found:
            quoted = self._engine.dialect.identifier_preparer.quote_identifier(
                self._schema
            )
            raise RasaException(
                f"{self.name} has no schema '{self._schema}', which the environment "
                f"variable POSTGRESQL_SCHEMA names. Create it (CREATE SCHEMA {quoted};"
                f") or unset the variable."
            )

    def _has_tail_index(self, connection: Connection) -> bool:
        return self._tail_index_state(connection) is True

    def _check_sequence(self, connection: Connection) -> None:
        preparer = self._engine.dialect.identifier_preparer
        events = preparer.format_table(self._events).replace("%%", "%")
        found = connection.execute(
            sa.text(
                "SELECT seqrelid::regclass::text, seqcache FROM pg_catalog.pg_sequence "
                "WHERE seqrelid = pg_get_serial_sequence(:events, 'id')::regclass"
            ),
            {"events": events},
        ).first()
        if found and found[1] > 1:
            raise RasaException(
                f"{self.name}: the sequence {found[0]} hands its numbers to each "
                f"connection in blocks of {found[1]}, so that they say nothing about "
                f"the order of events. Run: ALTER SEQUENCE {found[0]} CACHE 1;"
            )

    def _tail_index_state(self, connection: Connection) -> Optional[bool]:
        """Whether the index is valid; ``None`` when there is none."""
        preparer = self._engine.dialect.identifier_preparer
        state: Optional[bool] = connection.execute(
            sa.text(
                "SELECT i.indisvalid FROM pg_catalog.pg_index i "
                "JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
                "WHERE i.indrelid = to_regclass(:events) AND c.relname = :name"
            ),
            {
                # As a value it is not read for "%s", which the driver's SQL is.
                "events": preparer.format_table(self._events).replace("%%", "%"),
                "name": self._tables.tail_index.name,
            },
        ).scalar()
        return state

    def _create_tail_index(self) -> None:
        """Create the index without locking out writers.

        One worker at a time, and the others do not wait: a statement that waits is
        one that CREATE INDEX CONCURRENTLY waits for. On a connection of its own, which
        no deadline of other calls ends and no small pool lacks.
        """
        key = lock_key("rasa_trackers: create index")
        index = sa.schema.CreateIndex(self._tables.tail_index)
        create = _concurrently(index, self._engine)
        engine = sa.create_engine(
            self._engine.url,
            future=True,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=self._connect_args,
        )
        try:
            with engine.connect() as connection:
                for limit in ("statement_timeout", "lock_timeout"):
                    connection.exec_driver_sql(f"SET {limit} TO 0")
                if not connection.execute(
                    sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}
                ).scalar():
                    return
                if self._tail_index_state(connection) is False:
                    # Left behind by a build that was broken off.
                    drop = sa.schema.DropIndex(self._tables.tail_index)
                    connection.exec_driver_sql(_concurrently(drop, self._engine))
                if not self._has_tail_index(connection):
                    logger.info("%s: creating an index.", self.name)
                    connection.exec_driver_sql(create)
                    logger.info("%s: the index is ready.", self.name)
                connection.execute(
                    sa.text("SELECT pg_advisory_unlock(:key)"), {"key": key}
                )
        except sqlalchemy.exc.SQLAlchemyError as error:
            logger.warning(
                "%s: the index that makes reading fast could not be created: %s. Let "
                "an administrator run: %s;",
                self.name,
                str(getattr(error, "orig", error)).strip(),
                create,
            )

    # Writing

    @contextmanager
    def _writing(self, sender_id: str) -> Iterator[Connection]:
        with self._transaction() as connection:
            connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(:key)"),
                {"key": lock_key(sender_id)},
            )
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        # In plain words on an autocommit connection: SQLAlchemy 1.4 does not put a
        # connection back into autocommit mode that had another one for a while, and
        # what is written there afterwards is never committed.
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                # Closed, so that the server rolls back whatever state this is in.
                connection.invalidate()
                raise

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        if not self._one_message or not 0 < len(entries) <= _LARGEST_MESSAGE:
            return super().append(sender_id, entries, after, user)
        message, parameters = self._append_message(sender_id, entries, after, user)
        with self._engine.connect() as connection:
            end: Optional[int] = connection.exec_driver_sql(
                message, parameters
            ).scalar_one()
        return end

    def _append_message(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Tuple[str, Tuple[Any, ...]]:
        preparer = self._engine.dialect.identifier_preparer
        # Quoted where need be; what is not a name of ours goes as a parameter.
        events = preparer.format_table(self._events)
        expiry = preparer.format_table(self._expiry)
        users = self._users is not None and preparer.format_table(self._users)
        message = ["SELECT pg_advisory_xact_lock(%s);"]
        parameters: List[Any] = [lock_key(sender_id)]
        if self._record_exp is not None:
            # As in _erase_if_expired: the user first.
            tables = [events] if self._users is None else [users, events]
            for table in tables:
                message += [
                    f"DELETE FROM {table} WHERE sender_id = %s ",  # noqa: S608
                    f"AND EXISTS (SELECT 1 FROM {expiry} ",  # noqa: S608
                    f"WHERE sender_id = %s AND expires_at <= {_NOW} ",
                    f"AND NOT EXISTS (SELECT 1 FROM {events} AS later ",  # noqa: S608
                    f"WHERE later.sender_id = %s AND later.id > {expiry}.last_id));",
                ]
                parameters += [sender_id, sender_id, sender_id]
        # The first row's casts give the columns of VALUES their types.
        values = ["(%s::varchar,%s::varchar,%s::float8,%s::varchar,%s::varchar,%s)"]
        values += ["(%s,%s,%s,%s,%s,%s)"] * (len(entries) - 1)
        message += [
            f"WITH appended AS (INSERT INTO {events} ",
            "(sender_id, type_name, timestamp, intent_name, action_name, data) ",
            f"SELECT * FROM (VALUES {','.join(values)}) AS new_events ",  # noqa: S608
            # As in _in_order.
            f"WHERE coalesce((SELECT id FROM {events} ",  # noqa: S608
            "WHERE sender_id BETWEEN %s AND %s ",
            f"ORDER BY sender_id DESC, id DESC LIMIT 1), {START}) = %s RETURNING id)",
        ]
        for each in self._rows(sender_id, entries):
            parameters += each.values()
        parameters += [sender_id, sender_id, after]
        if self._record_exp is not None:
            message += [
                f", renewed AS (INSERT INTO {expiry} ",
                "(sender_id, expires_at, last_id) ",
                f"SELECT %s, {_NOW} + %s, max(id) FROM appended ",  # noqa: S608
                "HAVING count(*) > 0 ON CONFLICT (sender_id) DO UPDATE SET ",
                "expires_at = EXCLUDED.expires_at, last_id = EXCLUDED.last_id)",
            ]
            parameters += [sender_id, self._record_exp]
        if user is not None:
            known = "conversation_started_timestamp"
            message += [
                f", assigned AS (INSERT INTO {users} AS known ",
                f"(sender_id, user_id, {known}) ",
                "SELECT %s::varchar, %s::varchar, %s::float8 FROM appended ",
                "HAVING count(*) > 0 ON CONFLICT (sender_id) DO UPDATE SET ",
                f"user_id = EXCLUDED.user_id, {known} = ",
                f"coalesce(known.{known}, EXCLUDED.{known}))",
            ]
            parameters += [sender_id, *user]
        message.append(" SELECT max(id) FROM appended")
        return "".join(message), tuple(parameters)

    def _fetch(self, result: Any) -> Sequence[Any]:
        # What other drivers give for a text is theirs to say.
        if not self._one_message:
            return super()._fetch(result)
        return fetch_from_driver(result, self._engine.dialect)

    def _streamed(self, statement: Any) -> Iterator[Sequence[Any]]:
        # libpq else takes in a whole result before it gives the first row. Other
        # drivers than psycopg2 pass parameters in a way that DECLARE does not take.
        if not self._one_message:
            yield from super()._streamed(statement)
            return
        compiled = statement.compile(dialect=self._engine.dialect)
        with self._transaction() as connection:
            connection.exec_driver_sql(
                f"DECLARE found NO SCROLL CURSOR FOR {compiled}", compiled.params
            )
            while True:
                rows = connection.exec_driver_sql(
                    f"FETCH {self._fetched} FROM found"
                ).all()
                if not rows:
                    return
                yield rows

    def _rows(self, sender_id: str, entries: Sequence[Entry]) -> List[Dict[str, Any]]:
        encoding = self._column_encoding
        return [row(sender_id, entry, encoding=encoding) for entry in entries]

    def _now(self) -> Any:
        return sa.literal_column(_NOW, sa.Float)

    # Errors and end

    def classify(self, error: Exception) -> Optional[Failure]:
        if _is_read_only(getattr(error, "orig", None)):
            return FAILURES_BY_CODE["25006"]
        return super().classify(error)

    def _classify_driver(self, error: sqlalchemy.exc.DBAPIError) -> Failure:
        code = getattr(error.orig, "pgcode", None) or getattr(
            error.orig, "sqlstate", None
        )
        if code:
            for prefix in (code, code[:3], code[:2]):
                if prefix in FAILURES_BY_CODE:
                    return FAILURES_BY_CODE[prefix]
            return super()._classify_driver(error)
        for pattern, failure in FAILURES_BY_TEXT.items():
            if re.search(pattern, str(error.orig)):
                return failure
        failure = super()._classify_driver(error)
        return Failure(failure.transient, _REACHABLE) if failure.transient else failure

    def interrupt(self) -> None:
        # libpq waits for an answer without end. Closing the socket under it is what
        # ends that, also for a server that its operating system still answers for.
        with self._registering:
            connections = list(self._connections)
        for connection in connections:
            try:
                if connection.closed:
                    continue
                with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
                    duplicate.shutdown(socket.SHUT_RDWR)
            except Exception:
                # Closed in the meantime, or a driver that has no file descriptor.
                logger.debug("%s: a connection was not cut.", self.name, exc_info=True)


_NOW = "extract(epoch FROM clock_timestamp())::float8"


def lock_key(name: str) -> int:
    """A key for PostgreSQL's advisory locks: 64 bits, signed, from a text.

    Two texts with one key would only wait for each other.
    """
    digest = hashlib.blake2b(
        name.encode("utf-8", "surrogatepass"), digest_size=8, person=b"rasa_trackers"
    ).digest()
    return int.from_bytes(digest, "big", signed=True)


def _concurrently(
    statement: sa.schema.CreateIndex | sa.schema.DropIndex, engine: sa.engine.Engine
) -> str:
    text = str(statement.compile(dialect=engine.dialect))
    return text.replace(" INDEX ", " INDEX CONCURRENTLY ", 1)


def connect_options(url: URL, *, timeout: float) -> Dict[str, Any]:
    """What libpq is given to connect, beyond the URL.

    Args:
        url: The database's URL; what its query says is left as it is.
        timeout: Seconds for connecting.
    """
    if url.get_driver_name() not in ("psycopg2", "psycopg"):
        return {}
    wanted = {
        # libpq takes whole seconds, and 1 as 2.
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
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=timeout,
        connect_args=connect_options(url, timeout=timeout),
        isolation_level="AUTOCOMMIT",
    )
    _test_idle_connections_only(engine)
    sa.event.listen(engine, "handle_error", _leave_standby)
    return engine


def _is_read_only(error: Any) -> bool:
    code = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)
    return bool(code == "25006")


def _leave_standby(context: Any) -> None:
    # A connection to a server that is no primary (any more) stays alive. All are made
    # anew, and lead to the primary as soon as the address does.
    if _is_read_only(context.original_exception):
        context.is_disconnect = True


def _test_idle_connections_only(engine: sa.engine.Engine) -> None:
    """Let the pool test no connection that was in use just now.

    The test is a round trip, as the call that it is for. One that has died since is
    found out by the call itself, which is made again then.
    """
    test: Callable[[Any], bool] = engine.dialect.do_ping
    last_use: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()

    @sa.event.listens_for(engine, "checkin")
    def _note(connection: Any, _record: Any) -> None:
        if connection is not None:  # one that is broken
            last_use[connection] = time.monotonic()

    def is_alive(connection: Any) -> bool:
        idle = time.monotonic() - last_use.get(connection, -math.inf)
        return idle < _UNTESTED or test(connection)

    engine.dialect.do_ping = is_alive


def _create_database(engine: sa.engine.Engine, database: str) -> None:
    """Create a database, if there is none of that name.

    Args:
        engine: Engine of another database on the same server.
        database: The name, taken to the letter.
    """
    exists = sa.text("SELECT 1 FROM pg_catalog.pg_database WHERE datname = :name")
    with engine.connect() as connection:
        if connection.execute(exists, {"name": database}).scalar():
            return
        quoted = engine.dialect.identifier_preparer.quote_identifier(database)
        try:
            connection.exec_driver_sql(f"CREATE DATABASE {quoted}")
        except sqlalchemy.exc.DBAPIError:
            # Another worker may have created it at the same time.
            if not connection.execute(exists, {"name": database}).scalar():
                raise
