"""Oracle, from 11.2 on."""

# Statements are put together from names alone; what comes from outside is bound.
# ruff: noqa: S608

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.event_log import START, Entry, Failure, User
from rasa_trackers.rasa_versions import RasaException
from rasa_trackers.sql.log import SQLEventLog
from rasa_trackers.sql.oracle_connection import WRITING
from rasa_trackers.sql.schema import Tables

logger = logging.getLogger(__name__)

_REACHABLE = "Check that the server runs and that 'url' and 'port' are right."
_SERVICE = (
    "Correct 'db', the service name ('lsnrctl services' at the server lists them), or "
    "wait until the database is open; for a SID set 'sid' instead."
)
_CREDENTIALS = (
    "Correct 'username' and 'password' in the tracker_store section of endpoints.yml."
)
_SPACE = "Let an administrator give the tablespace more room, or the user more quota."
_TLS = (
    "Correct the wallet and the ssl options in 'query', or the certificates on the "
    "server."
)
_MISSING = (
    "Restart Rasa: it creates what is missing. With 'create_tables: false' let an "
    "administrator run rasa_trackers/sql/oracle.sql."
)
_BUSY = Failure(
    True,
    "Raise the server's PROCESSES and SESSIONS, or let fewer workers run.",
)
_LOST = Failure(True, _REACHABLE)
_STARTING = Failure(True, "Wait until the database is open.")
_NO_HOST = Failure(True, "Correct 'url': there is no server of this name.")
_NO_SERVICE = Failure(True, _SERVICE)
_NO_CREDENTIALS = Failure(False, _CREDENTIALS)
_NO_SPACE = Failure(False, _SPACE)
_NO_TLS = Failure(False, _TLS)

_NO_CLIENT = Failure(
    False,
    "cx_Oracle, and python-oracledb in its thick mode, need Oracle Instant Client: "
    "unpack the Basic or Basic Light package, install libaio, and let the loader know "
    "the folder: echo /opt/oracle/instantclient > /etc/ld.so.conf.d/oracle.conf && "
    "ldconfig (or set LD_LIBRARY_PATH, or 'lib_dir' in 'query'). From Oracle 12.1 on "
    "there is a way without it: pip uninstall cx_Oracle && pip install oracledb.",
)

#: What errors mean, by code (docs.oracle.com/error-help/db, and python-oracledb's
#: ``errors.py``). SQLAlchemy's class says nothing: a closed port is a DatabaseError of
#: one driver and an OperationalError of the other.
FAILURES: Dict[str, Failure] = {
    "ORA-00001": Failure(
        False,
        "The sequence events_seq is behind the ids in the table: let an administrator "
        "drop it and create it again, START WITH more than SELECT MAX(id) FROM events.",
    ),
    "ORA-00018": _BUSY,
    "ORA-00020": _BUSY,
    "ORA-00028": _LOST,
    "ORA-00054": Failure(True),
    "ORA-00060": Failure(True),
    "ORA-00257": Failure(True, "The archiver is stuck: free its recovery area."),
    "ORA-00604": Failure(False, "Look for triggers of logons or DDL that fail."),
    "ORA-00904": Failure(
        False, "The table 'events' is not Rasa's: let 'schema' name another one."
    ),
    "ORA-00942": Failure(False, _MISSING),
    "ORA-01005": _NO_CREDENTIALS,
    "ORA-01012": _LOST,
    "ORA-01013": Failure(True),
    "ORA-01017": _NO_CREDENTIALS,
    "ORA-01031": Failure(
        False,
        "Let an administrator GRANT the user CREATE TABLE and CREATE SEQUENCE, or run "
        "rasa_trackers/sql/oracle.sql.",
    ),
    "ORA-01033": _STARTING,
    "ORA-01034": _STARTING,
    "ORA-01045": Failure(False, "Let an administrator GRANT the user CREATE SESSION."),
    "ORA-01089": _STARTING,
    "ORA-01090": _STARTING,
    "ORA-01092": _LOST,
    "ORA-01109": _STARTING,
    "ORA-01400": Failure(
        False,
        "Oracle keeps an empty text as NULL: let the channel give the conversation a "
        "sender id.",
    ),
    "ORA-01536": _NO_SPACE,
    "ORA-01555": Failure(True),
    "ORA-01653": _NO_SPACE,
    "ORA-01654": _NO_SPACE,
    "ORA-01658": _NO_SPACE,
    "ORA-01688": _NO_SPACE,
    "ORA-01691": _NO_SPACE,
    "ORA-01950": _NO_SPACE,
    "ORA-02049": Failure(True),
    "ORA-02289": Failure(False, _MISSING),
    "ORA-02391": _BUSY,
    "ORA-02396": _LOST,
    "ORA-03113": _LOST,
    "ORA-03114": _LOST,
    "ORA-03135": _LOST,
    "ORA-03136": _LOST,
    "ORA-04021": Failure(True),
    "ORA-04031": Failure(True, "Give the server's shared pool more memory."),
    "ORA-04068": Failure(True),
    "ORA-08177": Failure(True),
    "ORA-12154": Failure(
        False,
        "'dsn' is in no tnsnames.ora: let 'config_dir' name its folder, or give a "
        "complete address.",
    ),
    "ORA-12170": _LOST,
    "ORA-12203": _LOST,
    "ORA-12505": _NO_SERVICE,
    "ORA-12514": _NO_SERVICE,
    "ORA-12516": _BUSY,
    "ORA-12518": _BUSY,
    "ORA-12519": _BUSY,
    "ORA-12520": _BUSY,
    "ORA-12526": _STARTING,
    "ORA-12528": _STARTING,
    "ORA-12533": Failure(False, "Correct the address in 'dsn'."),
    "ORA-12535": _LOST,
    "ORA-12537": _LOST,
    "ORA-12541": _LOST,
    "ORA-12543": _LOST,
    "ORA-12545": _LOST,
    "ORA-12547": _LOST,
    "ORA-12560": _LOST,
    "ORA-12570": _LOST,
    "ORA-12571": _LOST,
    "ORA-12606": _LOST,
    "ORA-12609": _LOST,
    "ORA-12899": Failure(
        False,
        "A column of 'events' holds fewer characters than Rasa's own: let an "
        "administrator ALTER it to VARCHAR2(255 CHAR).",
    ),
    "ORA-16000": Failure(
        True,
        "The server is read-only: a standby, or one that failed over. Let 'url' name "
        "the primary.",
    ),
    "ORA-16456": _STARTING,
    "ORA-20321": Failure(
        False,
        "The sequence events_seq is far behind the ids of this conversation: let an "
        "administrator drop it and create it again, START WITH more than SELECT "
        "MAX(id) FROM events, and with ORDER.",
    ),
    "ORA-25402": _LOST,
    "ORA-25408": _LOST,
    "ORA-28000": Failure(False, "The user is locked: let an administrator unlock it."),
    "ORA-28001": Failure(False, "The user's password has expired: let it be changed."),
    "ORA-28759": _NO_TLS,
    "ORA-28788": _NO_TLS,
    "ORA-28860": _NO_TLS,
    "ORA-28864": _NO_TLS,
    "ORA-29002": _NO_TLS,
    "ORA-29003": _NO_TLS,
    "ORA-29024": _NO_TLS,
    "ORA-30006": Failure(True),
    "ORA-30036": _NO_SPACE,
    "DPI-1010": _LOST,
    "DPI-1047": _NO_CLIENT,
    "DPI-1067": Failure(True, "Check the server's load; raise the option 'timeout'."),
    "DPI-1072": Failure(
        False, "Install Oracle Instant Client 11.2 or later, of this machine's kind."
    ),
    "DPI-1080": _LOST,
    "DPY-1001": _LOST,
    "DPY-2017": Failure(
        False, "Python-oracledb runs in another mode: set 'thick_mode' the same."
    ),
    "DPY-2019": Failure(
        False,
        "Python-oracledb has connected in its thin mode before in this process. Set "
        "'thick_mode' the same for all stores.",
    ),
    "DPY-3001": Failure(
        False, "Set 'thick_mode: true' in 'query', and install Oracle Instant Client."
    ),
    "DPY-3010": Failure(
        False,
        "Python-oracledb's thin mode speaks to Oracle 12.1 and later. Install "
        "cx_Oracle or set 'thick_mode: true' in 'query', and install Oracle Instant "
        "Client.",
    ),
    "DPY-3015": Failure(
        False,
        "The user has a password of an old kind only. Let an administrator set it "
        "anew, or set 'thick_mode: true' in 'query'.",
    ),
    "DPY-4000": Failure(
        False,
        "'dsn' is in no tnsnames.ora: let 'config_dir' in 'query' name its folder, or "
        "give a complete address.",
    ),
    "DPY-4001": _NO_CREDENTIALS,
    "DPY-4011": _LOST,
    "DPY-4024": Failure(True, "Check the server's load; raise the option 'timeout'."),
    "DPY-4026": Failure(False, "Let 'config_dir' name the folder of tnsnames.ora."),
    "DPY-4027": Failure(False, "Let 'config_dir' name the folder of tnsnames.ora."),
    "DPY-6000": _LOST,
    "DPY-6001": _NO_SERVICE,
    "DPY-6003": _NO_SERVICE,
    "DPY-6005": _LOST,
}

#: Also behind a code that says no more than that there is no connection.
_TLS_TEXTS = re.compile(
    r"CERTIFICATE_VERIFY_FAILED|certificate|WRONG_VERSION|ewallet", re.IGNORECASE
)
_CODE = re.compile(r"\b(?:ORA|DPI|DPY|TNS)-\d{4,5}\b")
#: Already there: a name in use, or an index of these columns.
_EXISTS = ("ORA-00955", "ORA-01408")
_REFUSED = ("ORA-01031", "ORA-01536", "ORA-01950", "ORA-01917", "ORA-01918")
_NO_OBJECT = ("ORA-00942", "ORA-02289", "ORA-04043")
_NOT_IN_THIS_EDITION = "ORA-00439"

#: Events of one block. Each is seven bind variables, and each number of events a
#: statement of its own in the server's cache.
_LARGEST_BLOCK = 50
#: Characters of a text that drivers give to PL/SQL as VARCHAR2, which holds 32,767
#: bytes. Oracle's client counts four for each character (``dpiVar.c`` of ODPI-C, which
#: cx_Oracle and python-oracledb's thick mode are made of), and a longer text gets a
#: CLOB of its own in the server, and round trips to fill it.
_LONGEST_VARCHAR = 32767 // 4
#: Numbers drawn at the most to get past the conversation's last id: other instances of
#: a cluster hand theirs out of ranges of their own, as large as the sequence's cache.
_LARGEST_GAP = 20_000
#: Rows up to which an index is created while others wait.
_SMALL_TABLE = 100_000

#: Oracle's clock in seconds since the epoch. EXTRACT gives the seconds with their
#: fraction; the difference does not depend on the session's time zone.
_AGE = "SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'"
_NOW = (
    f"(EXTRACT(DAY FROM ({_AGE})) * 86400 + EXTRACT(HOUR FROM ({_AGE})) * 3600"
    f" + EXTRACT(MINUTE FROM ({_AGE})) * 60 + EXTRACT(SECOND FROM ({_AGE})))"
)

_SCRIPT = Path(__file__).with_name("oracle.sql")
_OBJECT = re.compile(r"CREATE (SEQUENCE|TABLE|INDEX) ([\w.\"$#]+)(?: ON ([\w.\"$#]+))?")


class OracleEventLog(SQLEventLog):
    """Event logs in an Oracle database.

    Appends to one conversation follow each other. What makes them is the primary key:
    each append first inserts a row whose negative id stands for the conversation, and
    deletes it again before its commit. Another one with the same id waits until that
    commit, nobody ever sees the row, and neither a lock table nor a privilege is
    needed (DBMS_LOCK takes a grant; a row of the conversation cannot be locked while
    there is none; locking the table stops every conversation).

    An append is one anonymous block, and so one round trip. What is too much for a
    block goes in several statements of one transaction.
    """

    def __init__(
        self,
        engine: sa.engine.Engine,
        tables: Tables,
        *,
        name: str,
        record_exp: Optional[float] = None,
        create_tables: bool = True,
    ) -> None:
        """Prepare the statements.

        Args:
            engine: Engine of the database.
            tables: The tables to use.
            name: How messages name the database.
            record_exp: Seconds after its last append that a conversation expires.
            create_tables: Whether missing tables are created; else no statement that
                creates or changes one is ever run.
        """
        super().__init__(engine, tables, name=name, record_exp=record_exp)
        self._may_create = create_tables
        self._schema = tables.events.schema
        events = self._events
        # Not the row that stands for the lock: that one goes last.
        is_event = events.c.id > START
        self._newest_id = sa.select(sa.func.max(events.c.id)).where(
            events.c.sender_id == sa.bindparam("sender_id"), is_event
        )
        self._delete_events = self._delete_events.where(is_event)
        self._delete_expired = self._delete_expired.where(is_event)
        self._lock = sa.insert(events).values(
            id=sa.bindparam("lock_id", type_=sa.Integer),
            sender_id=sa.bindparam("sender_id", type_=sa.String),
            type_name=sa.bindparam("type_name", "lock", type_=sa.String),
        )
        self._unlock = sa.delete(events).where(
            events.c.id == sa.bindparam("lock_id", type_=sa.Integer)
        )
        self._draw = sa.select(events.c.id.default.next_value())
        # Inline: nobody asks for the id of a single row, as SQLAlchemy else would.
        self._insert_events = (
            sa.insert(events)
            .values(
                {
                    name: _bound(column, name)
                    for name, column in events.c.items()
                    if name != "id"
                }
            )
            .inline()
        )
        self._blocks: Dict[int, Any] = {}

    # Setting up

    def script(self) -> str:
        """What an administrator runs to create the tables."""
        text = _SCRIPT.read_text(encoding="utf-8")
        if self._schema is None:
            return text
        prefix = self._engine.dialect.identifier_preparer.quote_schema(self._schema)
        return _with_schema(text, prefix)

    def open(self) -> None:
        with self._engine.connect() as connection:
            missing = self._missing(connection)
            if missing and not self._may_create:
                raise self._needs_administrator(
                    f"has no {', '.join(missing)}, and 'create_tables' is false"
                )
            for name, statement in self._statements():
                owner = _named(statement)[2] or name
                if name in missing or owner in missing:
                    self._create(connection, name, statement)
            new_table = self._events.name in missing
            indexed = new_table or self._has_tail_index(connection)
        if not indexed:
            # Beside this one's work: it takes minutes for many millions of events.
            threading.Thread(
                target=self._create_tail_index, name="rasa_trackers-index", daemon=True
            ).start()

    def _statements(self) -> List[Tuple[str, str]]:
        """The statements of the script, each with the plain name of what it creates."""
        lines = [
            line for line in self.script().splitlines() if not line.startswith("--")
        ]
        statements = [part.strip() for part in "\n".join(lines).split(";")]
        return [(_named(each)[1], each) for each in statements if each]

    def _missing(self, connection: Connection) -> List[str]:
        """The tables and the sequence that this user does not see.

        Asked for by using them, which also finds what a synonym stands for.
        """
        probes: List[Tuple[str, Any]] = [
            (self._events.name, _probe(self._events)),
            (self._events.c.id.default.name, self._draw),
        ]
        if self._record_exp is not None:
            probes.append((self._expiry.name, _probe(self._expiry)))
        if self._users is not None:
            probes.append((self._users.name, _probe(self._users)))
        missing = []
        for name, probe in probes:
            try:
                connection.execute(probe).all()
            except sqlalchemy.exc.DBAPIError as error:
                if not _has_code(error, _NO_OBJECT):
                    raise
                missing.append(name)
        return missing

    def _create(self, connection: Connection, name: str, statement: str) -> None:
        try:
            connection.exec_driver_sql(statement)
        except sqlalchemy.exc.DBAPIError as error:
            if _has_code(error, _EXISTS):
                return  # by another worker, at the same time
            if _has_code(error, _REFUSED):
                raise self._needs_administrator(
                    f"has no {name}, and the user may not create it ({error.orig})"
                ) from error
            raise

    def _needs_administrator(self, reason: str) -> RasaException:
        return RasaException(
            f"{self.name} {reason}. Let an administrator run this script (it is also "
            f"in rasa_trackers/sql/oracle.sql):\n\n{self.script()}"
        )

    def _has_tail_index(self, connection: Connection) -> bool:
        found = connection.execute(
            sa.text(
                "SELECT COUNT(*) FROM all_ind_columns c1 JOIN all_ind_columns c2"
                " ON c2.index_owner = c1.index_owner AND c2.index_name = c1.index_name"
                " WHERE c1.table_owner = COALESCE(:owner, USER)"
                " AND c1.table_name = 'EVENTS'"
                " AND c1.column_name = 'SENDER_ID' AND c1.column_position = 1"
                " AND c2.column_name = 'ID' AND c2.column_position = 2"
            ).bindparams(sa.bindparam("owner", type_=sa.String)),
            {"owner": self._owner()},
        ).scalar_one()
        return bool(found)

    def _owner(self) -> Optional[str]:
        """The schema as the dictionary has it; ``None`` for the user's own."""
        if self._schema is None:
            return None
        return str(self._engine.dialect.denormalize_name(self._schema))

    def _create_tail_index(self) -> None:
        """Create the index that a table of Rasa's own store lacks.

        ``ONLINE`` lets others write meanwhile; Standard Edition cannot do it, and a big
        table is left to the administrator there.
        """
        statement = dict(self._statements())[self._tables.tail_index.name]
        if not self._may_create:
            self._warn_of_index(statement, "'create_tables' is false")
            return
        try:
            logger.info("%s: creating an index.", self.name)
            with self._engine.connect() as connection:
                # Of this one's own, which may take longer than a call.
                connection.detach()
                with contextlib.suppress(AttributeError):
                    connection.connection.dbapi_connection.call_timeout = 0
                try:
                    connection.exec_driver_sql(f"{statement} ONLINE")
                except sqlalchemy.exc.DBAPIError as error:
                    if not _has_code(error, (_NOT_IN_THIS_EDITION,)):
                        raise
                    if not self._is_small(connection):
                        raise
                    connection.exec_driver_sql(statement)
            logger.info("%s: the index is ready.", self.name)
        except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            if not _has_code(error, _EXISTS):
                self._warn_of_index(statement, str(getattr(error, "orig", error)))

    def _warn_of_index(self, statement: str, reason: str) -> None:
        logger.warning(
            "%s: there is no index that makes reading fast: %s. Let an administrator "
            "run: %s;",
            self.name,
            reason.strip(),
            statement,
        )

    def _is_small(self, connection: Connection) -> bool:
        few = sa.select(self._events.c.id).limit(_SMALL_TABLE + 1).subquery()
        rows = connection.execute(sa.select(sa.func.count()).select_from(few))
        return bool(rows.scalar_one() <= _SMALL_TABLE)

    # Writing

    def delete(self, sender_id: str) -> bool:
        # Oracle keeps it as NULL, so that no conversation has it.
        return bool(sender_id) and super().delete(sender_id)

    @contextmanager
    def _writing(self, sender_id: str) -> Iterator[Connection]:
        lock = {"lock_id": lock_id(sender_id)}
        with self._engine.connect() as connection:
            info = connection.connection.info
            info[WRITING] = True
            try:
                connection.execute(self._lock, {"sender_id": sender_id, **lock})
                yield connection
                connection.execute(self._unlock, lock)
                connection.commit()
            except BaseException:
                try:
                    connection.rollback()
                except BaseException:
                    # Nor is it to be committed with what is written next.
                    connection.invalidate()
                    raise
                raise
            finally:
                info.pop(WRITING, None)

    def append(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        _refuse_empty(sender_id)
        # A user is named once in a conversation, so that may take more round trips.
        if (
            user is not None
            or not 0 < len(entries) <= _LARGEST_BLOCK
            or any(len(entry.data) > _LONGEST_VARCHAR for entry in entries)
        ):
            return super().append(sender_id, entries, after, user)
        parameters: Dict[str, Any] = {
            "lock_id": lock_id(sender_id),
            "sender_id": sender_id,
            "after_id": after,
        }
        for number, values in enumerate(self._rows(sender_id, entries)):
            del values["sender_id"]
            for name, value in values.items():
                parameters[f"{name}_{number}"] = value
        with self._engine.connect() as connection:
            result = connection.execute(self._block(len(entries)), parameters)
            position: Optional[int] = result.out_parameters["new_id"]
        return position

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        _refuse_empty(sender_id)
        return super().replace(sender_id, entries, after, user)

    def _insert(
        self,
        connection: Connection,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
    ) -> int:
        for _ in range(_LARGEST_GAP):
            if connection.execute(self._draw).scalar_one() > after:
                return super()._insert(connection, sender_id, entries, after)
        raise RasaException(
            f"{self.name}: its sequence gives numbers below {after}, the last event of "
            f"this conversation. {FAILURES['ORA-20321'].remedy}"
        )

    def _block(self, number: int) -> Any:
        """The block that appends so many events."""
        if number not in self._blocks:
            self._blocks[number] = sa.text(self._block_text(number)).bindparams(
                sa.bindparam("lock_id", type_=sa.Integer),
                sa.bindparam("sender_id", type_=sa.String),
                sa.bindparam("after_id", type_=sa.Integer),
                sa.outparam("new_id", sa.Integer),
                *(
                    _bound(column, f"{name}_{index}")
                    for index in range(number)
                    for name, column in self._events.c.items()
                    if name not in ("id", "sender_id")
                ),
            )
        return self._blocks[number]

    def _block_text(self, number: int) -> str:
        preparer = self._engine.dialect.identifier_preparer
        events = preparer.format_table(self._events)
        sequence = preparer.format_sequence(self._events.c.id.default)
        columns = [column.name for column in self._events.c]
        inserts = [
            f"INSERT INTO {events} ({', '.join(columns)}) VALUES ("
            + ", ".join(
                [
                    "drawn" if index == 0 else f"{sequence}.NEXTVAL",
                    ":sender_id",
                    *(f":{name}_{index}" for name in columns[2:]),
                ]
            )
            + ");"
            for index in range(number)
        ]
        expire, renew = self._expiry_text()
        return "\n".join(
            [
                "DECLARE",
                "newest NUMBER;",
                "drawn NUMBER;",
                "BEGIN",
                (
                    f"INSERT INTO {events} (id, sender_id, type_name)"
                    " VALUES (:lock_id, :sender_id, 'lock');"
                ),
                *expire,
                (
                    f"SELECT MAX(id) INTO newest FROM {events}"
                    " WHERE sender_id = :sender_id AND id > 0;"
                ),
                f"IF NVL(newest, {START}) = :after_id THEN",
                # Each instance of a cluster numbers from a range of its own.
                f"FOR attempt IN 1..{_LARGEST_GAP} LOOP",
                f"SELECT {sequence}.NEXTVAL INTO drawn FROM dual;",
                "EXIT WHEN drawn > :after_id;",
                "END LOOP;",
                "IF drawn <= :after_id THEN",
                "RAISE_APPLICATION_ERROR(-20321, 'the sequence is behind');",
                "END IF;",
                *inserts,
                f"SELECT {sequence}.CURRVAL INTO :new_id FROM dual;",
                *renew,
                "END IF;",
                f"DELETE FROM {events} WHERE id = :lock_id;",
                "COMMIT;",
                "EXCEPTION WHEN OTHERS THEN",
                "ROLLBACK;",
                "RAISE;",
                "END;",
            ]
        )

    def _expiry_text(self) -> Tuple[List[str], List[str]]:
        if self._record_exp is None:
            return [], []
        preparer = self._engine.dialect.identifier_preparer
        events = preparer.format_table(self._events)
        expiry = preparer.format_table(self._expiry)
        sequence = preparer.format_sequence(self._events.c.id.default)
        # As in _erase_if_expired: the user first.
        expired = [f"{events} WHERE sender_id = :sender_id AND id > 0"]
        if self._users is not None:
            users = preparer.format_table(self._users)
            expired.insert(0, f"{users} WHERE sender_id = :sender_id")
        expire = [
            (
                f"DELETE FROM {rows}"
                f" AND EXISTS (SELECT 1 FROM {expiry} WHERE sender_id = :sender_id"
                f" AND expires_at <= {_NOW}"
                f" AND NOT EXISTS (SELECT 1 FROM {events} later"
                " WHERE later.sender_id = :sender_id AND later.id > last_id));"
            )
            for rows in expired
        ]
        renew = [
            f"DELETE FROM {expiry} WHERE sender_id = :sender_id;",
            (
                f"INSERT INTO {expiry} (sender_id, expires_at, last_id) VALUES"
                f" (:sender_id, {_NOW} + {self._record_exp!r}, {sequence}.CURRVAL);"
            ),
        ]
        return expire, renew

    def _now(self) -> Any:
        return sa.literal_column(_NOW, sa.Float)

    # Errors

    def classify(self, error: Exception) -> Optional[Failure]:
        if isinstance(error, socket.gaierror):
            return _NO_HOST
        if isinstance(error, sqlalchemy.exc.TimeoutError):
            return Failure(True, "All connections are in use. Raise 'timeout'.")
        if isinstance(error, OSError) and "CERTIFICATE" in str(error):
            return _NO_TLS
        if isinstance(error, OSError):
            return _LOST
        if isinstance(error, sqlalchemy.exc.DBAPIError):
            # Before the class of the error or its being a lost connection is asked.
            return self._classify_driver(error)
        return super().classify(error)

    def _classify_driver(self, error: sqlalchemy.exc.DBAPIError) -> Failure:
        for code in codes(error):
            if code in FAILURES:
                failure = FAILURES[code]
                # As python-oracledb 2.5 wraps it, which Python 3.8 has.
                if isinstance(error.orig.__cause__, socket.gaierror):
                    return _NO_HOST
                if failure is _LOST and _TLS_TEXTS.search(str(error.orig)):
                    return _NO_TLS
                return failure
        if error.connection_invalidated:
            return _LOST
        return super()._classify_driver(error)


def codes(error: Exception) -> List[str]:
    """The codes in an error, the first one first.

    An error in a block is wrapped in others: ``ORA-06550: line 4, column 13: PL/SQL:
    ORA-00942: table or view does not exist``.
    """
    return [
        code.replace("TNS-", "ORA-")
        for code in _CODE.findall(str(getattr(error, "orig", error)))
    ]


def _has_code(error: Exception, wanted: Sequence[str]) -> bool:
    return any(code in wanted for code in codes(error))


def lock_id(sender_id: str) -> int:
    """The id of the row that stands for a conversation while it is appended to.

    Negative, so that the sequence never gives it, and of 31 bits, which any column of
    numbers holds. Two conversations with one id would only wait for each other.
    """
    digest = hashlib.blake2b(
        sender_id.encode("utf-8", "surrogatepass"),
        digest_size=8,
        person=b"rasa_trackers",
    ).digest()
    return -1 - int.from_bytes(digest, "big") % (2**31 - 2)


def _refuse_empty(sender_id: str) -> None:
    if not sender_id:
        raise RasaException(
            f"A conversation without a sender id cannot be stored. "
            f"{FAILURES['ORA-01400'].remedy}"
        )


def _bound(column: Any, name: str) -> Any:
    """A bind variable for a column.

    For a CLOB it is plain text: the type Text makes SQLAlchemy create a CLOB in the
    server for each value, and the driver fill it, in two round trips or more each.
    """
    is_clob = isinstance(column.type, sa.Text)
    return sa.bindparam(name, type_=sa.String() if is_clob else column.type)


def _probe(table: sa.Table) -> Any:
    return sa.select(*table.c).where(sa.literal_column("1") == sa.literal_column("0"))


def _named(statement: str) -> Tuple[str, str, str]:
    """Kind and name of what a statement creates, and the table of an index."""
    found = _OBJECT.match(statement)
    if found is None:
        raise ValueError(f"oracle.sql has another kind of statement: {statement}")
    kind, name, table = (part or "" for part in found.groups())
    return kind, name.rpartition(".")[2], table.rpartition(".")[2]


def _with_schema(script: str, prefix: str) -> str:
    return re.sub(
        r"\b(?=(?:events_seq|events|rasa_trackers_expiry|users|ix_\w+)\b)",
        lambda _: f"{prefix}.",
        script,
    )
