"""The tables in MySQL and MariaDB: how they are made, and which columns are not right.

Rasa's own store makes them with the server's defaults: a collation that ignores case and
spaces at the end, so that several people share a conversation; ``TEXT``, which ends at 64
KB; ``FLOAT``, which moves a timestamp by up to a minute; and ``INTEGER`` ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rasa_trackers.errors import store_error
from rasa_trackers.sql.mysql.statements import LOCKS, LOCKS_TABLE, SENDER_INDEX

if TYPE_CHECKING:
    from rasa_trackers.sql.mysql.log import MySQLEventLog

#: Collations that compare character by character and do not ignore spaces at the end, as
#: utf8mb4_bin does. The first one that a server has is used: MariaDB 10.2 and MySQL 8.0.17
#: are the first ones with one.
COLLATIONS = {"mariadb": "utf8mb4_nopad_bin", "mysql": "utf8mb4_0900_bin"}

#: Columns by table: name, type, and what follows the type. ``{exact}`` is for texts that
#: name a conversation or a user.
_Column = Tuple[str, str, str]
_EXACT, _UTF8 = "CHARACTER SET utf8mb4 COLLATE {collation}", "CHARACTER SET utf8mb4"
_COLUMNS: Dict[str, List[_Column]] = {
    "events": [
        ("id", "BIGINT", "NOT NULL AUTO_INCREMENT"),
        ("sender_id", "VARCHAR(255)", f"{_EXACT} NOT NULL"),
        ("type_name", "VARCHAR(255)", f"{_UTF8} NOT NULL"),
        ("timestamp", "DOUBLE", "NULL"),
        ("intent_name", "VARCHAR(255)", f"{_UTF8} NULL"),
        ("action_name", "VARCHAR(255)", f"{_UTF8} NULL"),
        ("data", "LONGTEXT", f"{_UTF8} NULL"),
    ],
    "users": [
        ("sender_id", "VARCHAR(255)", f"{_EXACT} NOT NULL"),
        ("user_id", "VARCHAR(255)", f"{_EXACT} NOT NULL"),
        ("conversation_started_timestamp", "DOUBLE", "NULL"),
    ],
    "rasa_trackers_expiry": [
        ("sender_id", "VARCHAR(255)", f"{_EXACT} NOT NULL"),
        ("expires_at", "DOUBLE", "NOT NULL"),
        ("last_id", "BIGINT", "NOT NULL"),
    ],
    LOCKS_TABLE: [
        ("id", "SMALLINT", "NOT NULL"),
        ("writes", "BIGINT UNSIGNED", "NOT NULL"),
    ],
}
#: The names of all tables.
TABLES = tuple(_COLUMNS)
#: Two rows for one lock, for one conversation's user or for its date would each count.
_PRIMARY_KEYS = {
    "events": "id",
    "users": "sender_id",
    "rasa_trackers_expiry": "sender_id",
    LOCKS_TABLE: "id",
}
_INDEXES = {
    "events": f",\n    KEY {SENDER_INDEX} (sender_id)",
    "users": ",\n    KEY ix_users_user_id (user_id)",
    "rasa_trackers_expiry": ",\n    KEY ix_rasa_trackers_expires_at (expires_at)",
    LOCKS_TABLE: "",
}
_ENGINE = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC"

#: As information_schema names them, where that is not how they are written.
_FOUND_TYPES = {"VARCHAR(255)": "varchar", "BIGINT UNSIGNED": "bigint"}
#: Types that hold whatever fits into VARCHAR(255), and that somebody has widened it to.
_TEXTS = ("text", "mediumtext", "longtext")
#: Characters of the longest VARCHAR that a column is changed to: a row takes 65,535 bytes
#: without its long texts. And those of one with an index, which takes 3,072 bytes.
_LONGEST_VARCHAR = 1000
_LONGEST_INDEXED = 768


class Column(NamedTuple):
    """A column that a database has."""

    name: str
    #: In lower case and without a length: ``varchar``.
    type: str
    length: Optional[int]
    character_set: Optional[str]
    collation: Optional[str]


def columns_of(connection: Connection, table: str) -> List[Column]:
    """The columns of a table; none if there is no such table."""
    found = connection.exec_driver_sql(
        "SELECT column_name, lower(data_type), character_maximum_length, "
        "character_set_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = database() AND table_name = %s ORDER BY ordinal_position",
        (table,),
    )
    return [Column(*row) for row in found]


def create_statement(table: str, collation: str, *, schema: str = "") -> str:
    """The statement that creates a table.

    Args:
        table: Its name.
        collation: One of ``COLLATIONS``.
        schema: The database with a dot, if it is not the connection's own.
    """
    columns = "".join(
        f"    {name} {type_} {rest.format(collation=collation)},\n"
        for name, type_, rest in _COLUMNS[table]
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {schema}{table} (\n{columns}"
        f"    PRIMARY KEY ({_PRIMARY_KEYS[table]}){_INDEXES[table]}\n"
        f") {_ENGINE} CHARACTER SET utf8mb4"
    )


def fill_statement(schema: str = "") -> str:
    """The statement that makes the rows of the table for locks."""
    rows = ", ".join(f"({number}, 0)" for number in range(LOCKS))
    return f"INSERT IGNORE INTO {schema}{LOCKS_TABLE} (id, writes) VALUES {rows}"  # noqa: S608


def collation_of(log: MySQLEventLog, connection: Connection) -> str:
    """The collation that the tables of a server need.

    Raises:
        StoreError: if the server has none that compares sender ids as they are.
    """
    known = set(
        connection.exec_driver_sql(
            "SELECT collation_name FROM information_schema.collations"
        ).scalars()
    )
    for collation in COLLATIONS.values():
        if collation in known:
            return collation
    raise store_error(
        f"{log.name} has no collation that keeps sender ids apart that differ in spaces "
        f"at the end ({' or '.join(COLLATIONS.values())}). Use MySQL 8.0.17 or later, or "
        f"MariaDB 10.6 or later."
    )


def corrections(
    log: MySQLEventLog, connection: Connection, tables: List[sa.Table]
) -> List[str]:
    """The statements that make tables right; one ALTER TABLE for each table."""
    collation = collation_of(log, connection)
    found = []
    for table in tables:
        changes = list(_changes(connection, table.name, collation))
        if not changes:
            continue
        if table.name == LOCKS_TABLE:
            # There may be several rows for a lock. Writers make the rows again.
            found.append(f"DELETE FROM {LOCKS_TABLE}")  # noqa: S608
        found.append(f"ALTER TABLE {table.name} {', '.join(changes)}")
    return found


def _changes(connection: Connection, table: str, collation: str) -> Iterator[str]:
    engine, row_format = connection.exec_driver_sql(
        "SELECT lower(engine), lower(row_format) FROM information_schema.tables "
        "WHERE table_schema = database() AND table_name = %s",
        (table,),
    ).one()
    changes = [
        *(
            _column_changes(connection, table, collation)
            if table != LOCKS_TABLE
            else ()
        ),
        *_key_changes(connection, table),
    ]
    if engine != "innodb":
        yield _ENGINE
    elif changes and row_format not in ("dynamic", "compressed"):
        # In other formats an index takes no more than 767 bytes of a text.
        yield "ROW_FORMAT=DYNAMIC"
    yield from changes


def _column_changes(
    connection: Connection, table: str, collation: str
) -> Iterator[str]:
    there = {column.name: column for column in columns_of(connection, table)}
    for name, type_, rest in _COLUMNS[table]:
        needed = rest.format(collation=collation)
        column = there[name]
        if not _is_right(column, type_, needed):
            yield f"MODIFY {name} {_wanted_type(column, type_, needed)} {needed}"


def _key_changes(connection: Connection, table: str) -> Iterator[str]:
    wanted = [(_PRIMARY_KEYS[table], None)]
    found = _columns_of_index(connection, table, "PRIMARY")
    if found != wanted:
        if found:
            yield "DROP PRIMARY KEY"
        yield f"ADD PRIMARY KEY ({_PRIMARY_KEYS[table]})"
    if table == "events" and not _has_sender_index(connection):
        yield f"ADD INDEX {SENDER_INDEX} (sender_id)"


def _wanted_type(column: Column, type_: str, needed: str) -> str:
    """The type that a column is changed to. It holds what the column holds."""
    if not type_.startswith("VARCHAR"):
        return type_
    is_exact = "COLLATE" in needed
    if column.type == "varchar":
        length = max(255, column.length or 0)
        if is_exact or length <= _LONGEST_VARCHAR:
            return f"VARCHAR({length})"
        return "LONGTEXT"
    if column.type.endswith("text"):
        return f"VARCHAR({_LONGEST_INDEXED})" if is_exact else "LONGTEXT"
    return type_


def _is_right(column: Column, type_: str, needed: str) -> bool:
    is_exact = "COLLATE" in needed
    if type_.startswith("VARCHAR") and not is_exact and column.type in _TEXTS:
        return column.character_set == "utf8mb4"
    if column.type != _FOUND_TYPES.get(type_, type_.lower()):
        return False
    if type_.startswith("VARCHAR") and (column.length or 0) < 255:
        return False
    if is_exact:
        return f"COLLATE {column.collation} " in needed
    return "CHARACTER SET" not in needed or column.character_set == "utf8mb4"


def _columns_of_index(
    connection: Connection, table: str, index: str
) -> List[Tuple[str, Optional[int]]]:
    """The columns of an index, and how much of their texts it has; ``None``: all."""
    found = connection.exec_driver_sql(
        "SELECT lower(column_name), sub_part FROM information_schema.statistics "
        "WHERE table_schema = database() AND table_name = %s AND index_name = %s "
        "ORDER BY seq_in_index",
        (table, index),
    )
    return [(name, part) for name, part in found]


def _has_sender_index(connection: Connection) -> bool:
    return bool(
        connection.exec_driver_sql(
            "SELECT 1 FROM information_schema.statistics WHERE table_schema = database() "
            "AND table_name = 'events' AND index_name = %s AND seq_in_index = 1 "
            "AND column_name = 'sender_id'",
            (SENDER_INDEX,),
        ).scalar()
    )


def require_right_columns(log: MySQLEventLog, connection: Connection) -> None:
    """Refuse tables in which conversations would mix, or texts would not fit.

    Raises:
        StoreError: with the statements that change the tables.
    """
    statements = corrections(log, connection, tables_there(log, connection))
    if statements:
        raise _wrong_columns(log, statements)


def tables_there(log: MySQLEventLog, connection: Connection) -> List[sa.Table]:
    """The tables of the log that exist and are no other program's."""
    wanted: List[Any] = [
        log.tables.events,
        log.tables.users,
        log.tables.expiry,
        log.locks,
    ]
    return [
        table
        for table in wanted
        if {column.name for column in table.c}
        <= {column.name for column in columns_of(connection, table.name)}
    ]


def _wrong_columns(log: MySQLEventLog, statements: List[str]) -> Exception:
    printed = " ".join(f"{statement};" for statement in statements)
    return store_error(
        f"{log.name} has tables whose columns, keys or engine the store cannot use: made "
        f"with the server's defaults, they give several people one conversation ('Anna', "
        f"'anna' and 'anna '), and cut long messages and times. Back the database up, and "
        f"let an administrator run: {printed} Or set the option 'alter_tables: true', and "
        f"the store runs this at its start. It takes minutes for millions of events, in "
        f"which nobody can write. Rasa's own store can use the tables as before."
    )
