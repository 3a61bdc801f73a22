"""What a PostgreSQL server says about itself, for an operator."""

from __future__ import annotations

from typing import Any, Iterator, List

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rasa_trackers.health import ERROR, OK, WARNING, Fact
from rasa_trackers.sql.schema import columns_of

#: Rights that the store needs, by table.
_RIGHTS = {
    "events": ("SELECT", "INSERT", "DELETE"),
    "users": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "rasa_trackers_expiry": ("SELECT", "INSERT", "UPDATE", "DELETE"),
}

#: The size of the tables with their indexes.
_SIZE = "SELECT pg_total_relation_size(to_regclass(:events))"


def facts(log: Any, connection: Connection) -> Iterator[Fact]:
    """What is known about the database of a log."""

    def value(sql: str, **parameters: Any) -> Any:
        return connection.execute(sa.text(sql), parameters).scalar()

    yield Fact("server", f"PostgreSQL {value('SHOW server_version')}")
    yield _tls(value)
    if value("SELECT pg_is_in_recovery()"):
        yield Fact(
            "role",
            "a standby, which is read-only",
            ERROR,
            "Let 'url' name the primary.",
        )
    else:
        yield Fact("role", "primary")
    yield Fact("schema", str(value("SELECT current_schema()") or "none"))
    has_events = columns_of(connection, log.tables.events) is not None
    yield from _rights(log, connection, value)
    if has_events:
        yield from _index(log, connection)
        yield from _sequence(log, connection)
    yield from _durability(value)
    encoding = value("SHOW server_encoding")
    yield Fact(
        "encoding",
        encoding,
        OK if encoding == "UTF8" else WARNING,
        ""
        if encoding == "UTF8"
        else "Sender ids outside of this encoding are errors. Use a database in UTF8.",
    )
    limit, used = (
        int(value("SHOW max_connections")),
        int(value("SELECT count(*) FROM pg_stat_activity") or 0),
    )
    is_short = used > 0.9 * limit
    yield Fact(
        "connections",
        f"{used} of {limit}",
        WARNING if is_short else OK,
        "Raise max_connections or use a pooler such as PgBouncer." if is_short else "",
    )
    if has_events:
        yield Fact("size", f"{value(_SIZE, events=log.events_name):,} bytes")


def _tls(value: Any) -> Fact:
    row = value(
        "SELECT version || ', ' || cipher FROM pg_stat_ssl "
        "WHERE pid = pg_backend_pid() AND ssl"
    )
    if row:
        return Fact("TLS", row)
    address = value("SELECT host(inet_server_addr())")
    if address in (None, "127.0.0.1", "::1"):
        return Fact("TLS", "no; the connection does not leave this machine")
    return Fact(
        "TLS",
        "no",
        WARNING,
        "Set 'query: {sslmode: verify-full, sslrootcert: ...}' in endpoints.yml.",
    )


def _rights(log: Any, connection: Connection, value: Any) -> Iterator[Fact]:
    lacking: List[str] = []
    for table in (log.tables.events, log.tables.users, log.tables.expiry):
        if columns_of(connection, table) is None:
            continue
        name = log.engine.dialect.identifier_preparer.format_table(table)
        name = name.replace("%%", "%")
        lacking += [
            f"{right} on {name}"
            for right in _RIGHTS[table.name]
            if not value(
                "SELECT has_table_privilege(to_regclass(:name), :right)",
                name=name,
                right=right,
            )
        ]
    may_create = value("SELECT has_schema_privilege(current_schema(), 'CREATE')")
    if lacking:
        yield Fact(
            "rights",
            f"lacking: {', '.join(lacking)}",
            ERROR,
            f"Let an administrator run: GRANT {', '.join(lacking)} TO "
            f"{value('SELECT quote_ident(current_user)')};",
        )
        return
    is_complete = columns_of(connection, log.tables.events) is not None
    yield Fact(
        "rights",
        "may read and write" + (" and create tables" if may_create else ""),
        OK if may_create or is_complete else ERROR,
        ""
        if may_create or is_complete
        else "Let an administrator run the output of `rasa-trackers schema --dialect "
        "postgresql`, or GRANT CREATE on the schema.",
    )


def _index(log: Any, connection: Connection) -> Iterator[Fact]:
    index = log.tables.tail_index
    state = connection.execute(
        sa.text(
            "SELECT i.indisvalid FROM pg_catalog.pg_index i "
            "JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid = to_regclass(:events) AND c.relname = :name"
        ),
        {"events": log.events_name, "name": index.name},
    ).scalar()
    words = {True: "there", False: "not complete", None: "missing"}
    create = str(sa.schema.CreateIndex(index).compile(dialect=log.engine.dialect))
    create = create.strip().replace(" INDEX ", " INDEX CONCURRENTLY ", 1)
    yield Fact(
        f"index {index.name}",
        words[state],
        OK if state else WARNING,
        ""
        if state
        else f"Reading is slow without it. The store creates it at its start; or run: "
        f"{create};",
    )


def _sequence(log: Any, connection: Connection) -> Iterator[Fact]:
    from rasa_trackers.errors import is_store_error
    from rasa_trackers.sql.postgresql.sequence import check_sequence

    try:
        check_sequence(log)
    except Exception as error:
        if not is_store_error(error):
            raise
        yield Fact("sequence", "not in the order of events", ERROR, str(error))
    else:
        yield Fact("sequence", "as it should be")


def _durability(value: Any) -> Iterator[Fact]:
    for setting, good, remedy in (
        (
            "synchronous_commit",
            ("on", "remote_write", "remote_apply", "local"),
            "A crash of the server may lose the last messages. Set it to on.",
        ),
        ("fsync", ("on",), "A power failure may destroy the database. Set it to on."),
        (
            "full_page_writes",
            ("on",),
            "A power failure may damage the database. Set it to on.",
        ),
    ):
        found = value(f"SHOW {setting}")
        is_good = found in good
        yield Fact(
            setting, found, OK if is_good else WARNING, "" if is_good else remedy
        )
