"""What a MySQL or MariaDB server says about itself, for an operator."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from sqlalchemy.engine import Connection

from rasa_trackers.health import ERROR, OK, WARNING, Fact
from rasa_trackers.sql.mysql.columns import columns_of, corrections, tables_there
from rasa_trackers.sql.mysql.statements import LOCKS_TABLE

#: Bytes of one message below which a long event may not fit.
_SMALL_PACKET = 1_000_000

#: The size of the tables with their indexes.
_SIZE = (
    "SELECT sum(data_length + index_length) FROM information_schema.tables "  # noqa: S608
    "WHERE table_schema = database() AND table_name IN "
    f"('events', 'users', 'rasa_trackers_expiry', '{LOCKS_TABLE}')"
)


def facts(log: Any, connection: Connection) -> Iterator[Fact]:
    """What is known about the database of a log."""

    def value(sql: str) -> Any:
        return connection.exec_driver_sql(sql).scalar()

    def status(name: str) -> Optional[str]:
        found = connection.exec_driver_sql(f"SHOW STATUS LIKE '{name}'").first()
        return found and str(found[1])

    version = str(value("SELECT version()"))
    is_mariadb = "mariadb" in version.lower()
    yield Fact("server", f"{'MariaDB' if is_mariadb else 'MySQL'} {version}")
    yield _tls(connection, status("Ssl_cipher"))
    if is_on(value("SELECT @@read_only")):
        yield Fact(
            "role",
            "a replica, which is read-only",
            ERROR,
            "Let 'url' name the primary.",
        )
    else:
        yield Fact("role", "primary")
    yield from _columns(log, connection)
    yield from _durability(connection)
    format_ = (
        str(value("SELECT @@binlog_format") or "") if _has_binlog(value) else "off"
    )
    yield Fact(
        "binlog_format",
        format_,
        ERROR if format_ == "STATEMENT" else OK,
        "The store cannot write. Set it to ROW or MIXED."
        if format_ == "STATEMENT"
        else "",
    )
    packet = int(value("SELECT @@max_allowed_packet"))
    yield Fact(
        "max_allowed_packet",
        f"{packet:,} bytes",
        WARNING if packet < _SMALL_PACKET else OK,
        "Longer events cannot be stored. Raise it." if packet < _SMALL_PACKET else "",
    )
    limit = int(value("SELECT @@max_connections"))
    used = int(status("Threads_connected") or 0)
    is_short = used > 0.9 * limit
    yield Fact(
        "connections",
        f"{used} of {limit}",
        WARNING if is_short else OK,
        "Raise max_connections." if is_short else "",
    )
    if columns_of(connection, log.tables.events.name):
        yield Fact("size", f"{int(value(_SIZE) or 0):,} bytes")


def is_on(switch: Any) -> bool:
    """Whether a switch of the server is on, which is a number or a word."""
    return switch not in (0, "0", "OFF", None)


def _tls(connection: Connection, cipher: Optional[str]) -> Fact:
    if cipher:
        return Fact("TLS", cipher)
    if connection.engine.url.host in (None, "localhost", "127.0.0.1", "::1"):
        return Fact("TLS", "no; the connection does not leave this machine")
    return Fact(
        "TLS",
        "no",
        WARNING,
        "Set 'query: {ssl_ca: ...}' in endpoints.yml.",
    )


def _columns(log: Any, connection: Connection) -> Iterator[Fact]:
    """Whether the columns keep conversations apart."""
    statements = corrections(log, connection, tables_there(log, connection))
    if statements:
        yield Fact(
            "columns",
            "made with the server's defaults, which mix conversations and cut texts",
            ERROR,
            f"Let an administrator run: {' '.join(f'{each};' for each in statements)} Or "
            f"set the option 'alter_tables: true'.",
        )
    else:
        yield Fact("columns", "as they should be")


def _has_binlog(value: Any) -> bool:
    return bool(value("SELECT @@log_bin"))


def _durability(connection: Connection) -> Iterator[Fact]:
    for setting, good, remedy in (
        (
            "innodb_flush_log_at_trx_commit",
            "1",
            "A crash of the server may lose the last messages. Set it to 1.",
        ),
        (
            "innodb_doublewrite",
            "ON",
            "A power failure may damage the database. Set it to ON.",
        ),
    ):
        row = connection.exec_driver_sql(f"SHOW VARIABLES LIKE '{setting}'").first()
        found = str(row[1]) if row else "unknown"
        is_good = found == good
        yield Fact(
            setting, found, OK if is_good else WARNING, "" if is_good else remedy
        )
