"""What the errors of SQL drivers mean: the tables, entry by entry."""

from __future__ import annotations

import errno
import re
import socket
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import sqlalchemy as sa

from backends import BACKENDS
from rasa_trackers.errors import is_store_error
from rasa_trackers.event_log import START, Entry
from rasa_trackers.sql import failures
from rasa_trackers.sql.log import SQLEventLog
from rasa_trackers.sql.mysql import failures as mysql
from rasa_trackers.sql.oracle import failures as oracle
from rasa_trackers.sql.postgresql import failures as postgresql
from rasa_trackers.sql.schema import tables
from rasa_trackers.sql.sqlite import failures as sqlite
from sql.sql_logs import (
    entries,
    make_log,
    opened,
    postgresql_options,
    sqlite_options,
    texts,
)


class OperationalError(Exception):
    """As a driver raises it: a class that says nothing about passing."""


def wrapped(cause, **options):
    cls = sa.exc.OperationalError
    return cls("SELECT 1", {}, cause, **options)


def driver_error(text="", **codes):
    error = OperationalError(text)
    vars(error).update(codes)
    return error


@pytest.fixture
def any_log():
    log = SQLEventLog(sa.create_engine("sqlite://", future=True), tables(), name="x")
    yield log
    log.close()


@pytest.fixture
def sqlite_log(tmp_path):
    log = make_log(sqlite_options(tmp_path))
    yield log
    log.close()


@pytest.fixture
def mysql_log():
    log = make_log({"dialect": "mysql+pymysql", "url": "h", "username": "u"})
    yield log
    log.close()


@pytest.fixture
def postgresql_log():
    log = make_log({"dialect": "postgresql", "url": "h", "username": "u"})
    yield log
    log.close()


def transient(table):
    return {key for key, failure in table.items() if failure.transient}


def away(table):
    return {key for key, failure in table.items() if failure.away}


# Remedies

TABLES = {
    "mysql": mysql.FAILURES,
    "sqlite": sqlite.FAILURES,
    "postgresql": {**postgresql.BY_CODE, **postgresql.BY_TEXT},
    "oracle": oracle.FAILURES,
}


@pytest.mark.parametrize("name", list(TABLES))
def test_every_entry_says_what_to_do(name):
    without = [
        key
        for key, each in TABLES[name].items()
        if not each.remedy.endswith((".", ";"))
    ]
    assert without == []


#: What went wrong on a server, and what the remedy names.
BROKEN = {
    "sqlite": [
        ("ALTER TABLE events RENAME COLUMN data TO texts", "another file"),
        ("DROP TABLE events", "creates missing"),
        ("CREATE UNIQUE INDEX mine ON events (type_name)", "unique index"),
        (
            (
                "CREATE TABLE others (id INTEGER PRIMARY KEY CHECK (id < 1));"
                "CREATE TRIGGER mine AFTER INSERT ON events BEGIN"
                " INSERT INTO others VALUES (1); END"
            ),
            "CHECK",
        ),
        (
            (
                "CREATE TABLE others (id INTEGER PRIMARY KEY, other REFERENCES others);"
                "CREATE TRIGGER mine AFTER INSERT ON events BEGIN"
                " INSERT INTO others VALUES (NULL, NULL), (NULL, NULL);"
                " UPDATE others SET id = NULL; END"
            ),
            "another file",
        ),
    ],
    "postgresql": [
        (
            "TRUNCATE events; ALTER TABLE events ALTER type_name TYPE varchar(3)",
            "varchar(255)",
        ),
        (
            (
                "ALTER SEQUENCE events_id_seq AS bigint RESTART 3000000000;"
                "ALTER SEQUENCE events_id_seq MAXVALUE 4000000000;"
                "ALTER TABLE events ALTER id TYPE integer"
            ),
            "TYPE bigint",
        ),
        (
            "ALTER SEQUENCE events_id_seq MAXVALUE 2; SELECT nextval('events_id_seq')",
            "used up",
        ),
        ("ALTER TABLE events RENAME data TO texts", "another program"),
        (
            "TRUNCATE events; ALTER TABLE events ADD other integer NOT NULL",
            "another program",
        ),
        ("DROP TABLE events CASCADE", "creates missing"),
        ("ALTER TABLE events ADD CHECK (type_name <> 'slot') NOT VALID", "CHECK"),
        (
            (
                "CREATE TABLE others (name varchar PRIMARY KEY);"
                "ALTER TABLE events ADD FOREIGN KEY (type_name)"
                " REFERENCES others NOT VALID"
            ),
            "foreign key",
        ),
        (
            "ALTER TABLE rasa_trackers_expiry DROP CONSTRAINT rasa_trackers_expiry_pkey",
            "primary key",
        ),
        (
            (
                "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
                "CREATE TRIGGER mine BEFORE INSERT ON events EXECUTE FUNCTION no()"
            ),
            "trigger",
        ),
        (
            (
                "ALTER TABLE events ENABLE ROW LEVEL SECURITY;"
                "ALTER TABLE events FORCE ROW LEVEL SECURITY"
            ),
            "POLICY",
        ),
        ("REVOKE ALL ON events FROM CURRENT_USER", "GRANT"),
    ],
    "mysql": [
        (
            "DELETE FROM events; ALTER TABLE events MODIFY type_name CHAR(0) NOT NULL",
            "corrects the table",
        ),
        ("ALTER TABLE events CHANGE data texts LONGTEXT", "another program"),
        ("ALTER TABLE events ADD other INTEGER NOT NULL", "another program"),
        ("DROP TABLE events", "creates missing"),
        ("DROP TABLE rasa_trackers_locks", "creates missing"),
        ("ALTER TABLE events DROP KEY ix_events_sender_id", "CREATE INDEX"),
        ("ALTER TABLE events ADD CHECK (type_name <> 'x' OR data IS NULL)", "CHECK"),
        (
            (
                "CREATE TABLE others (name VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL"
                " PRIMARY KEY); INSERT INTO others VALUES ('slot');"
                "ALTER TABLE events MODIFY type_name VARCHAR(255) CHARACTER SET utf8mb4"
                " NOT NULL, ADD FOREIGN KEY (type_name) REFERENCES others (name)"
            ),
            "foreign key",
        ),
        (
            (
                "CREATE TRIGGER mine BEFORE INSERT ON events FOR EACH ROW"
                " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'"
            ),
            "trigger",
        ),
        (
            (
                "ALTER TABLE events MODIFY id TINYINT NOT NULL AUTO_INCREMENT,"
                " AUTO_INCREMENT = 127; INSERT INTO events (sender_id, type_name)"
                " VALUES ('x', 'slot')"
            ),
            "BIGINT",
        ),
    ],
}


def remedy_after(log, statements):
    """The remedy of an append once the statements have been run."""
    log.append("bob", entries("a"), START)
    with log.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        (getattr(driver, "executescript", None) or driver.cursor().execute)(statements)
        connection.connection.commit()
    log.engine.dispose()
    with pytest.raises(sa.exc.DBAPIError) as raised:
        log.append("ada", entries("b"), START)
    log.close()
    return log.classify(raised.value).remedy


@pytest.mark.parametrize(("statements", "remedy"), BROKEN["sqlite"])
def test_remedy_for_what_is_wrong_with_a_sqlite_file(tmp_path, statements, remedy):
    log = opened(sqlite_options(tmp_path))
    assert remedy in remedy_after(log, statements)


@pytest.fixture
def database(postgres_server):
    yield from postgresql_options(postgres_server)


@pytest.mark.parametrize(("statements", "remedy"), BROKEN["postgresql"])
def test_remedy_for_what_is_wrong_on_postgresql(database, statements, remedy):
    log = opened(database, record_exp=3600)
    assert remedy in remedy_after(log, statements)


@pytest.mark.parametrize(("statements", "remedy"), BROKEN["mysql"])
def test_remedy_for_what_is_wrong_on_mysql(mariadb, mariadb_server, statements, remedy):
    log = opened(mariadb, record_exp=3600)
    log.append("bob", entries("a"), START)
    mariadb_server.administer(*re.split(r"; ?", statements), database=mariadb["db"])
    with pytest.raises(sa.exc.DBAPIError) as raised:
        log.append("ada", [Entry("{}", "x", 1.0, None, None)], START)
    assert remedy in log.classify(raised.value).remedy
    assert not log.classify(raised.value).transient
    log.close()


@pytest.fixture
def mariadb(mariadb_server, mariadb_database):
    endpoint = BACKENDS["mariadb"].endpoint(mariadb_server, mariadb_database)
    del endpoint["type"]
    return endpoint


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"password": "wrong"}, "username"),
        ({"db": "test_missing"}, "login_db"),
        ({"db": "mysql"}, "GRANT"),
    ],
)
def test_remedy_for_what_is_wrong_in_the_options_of_mysql(mariadb, wrong, remedy):
    log = make_log({**mariadb, **wrong})
    with pytest.raises(sa.exc.DBAPIError) as raised:
        log.open()
    failure = log.classify(raised.value)
    assert not failure.transient
    assert remedy in failure.remedy
    log.close()


# Unknown errors


@pytest.mark.parametrize(
    "name", ["any_log", "sqlite_log", "postgresql_log", "mysql_log"]
)
def test_unknown_error_is_permanent(name, request):
    log = request.getfixturevalue(name)
    for code in (None, "XX000", "58030"):
        error = wrapped(driver_error("never heard of", pgcode=code))
        assert log.classify(error) == failures.Failure(False)


@pytest.mark.parametrize(
    "name", ["any_log", "sqlite_log", "postgresql_log", "mysql_log"]
)
def test_unknown_error_of_a_lost_connection_passes(name, request):
    log = request.getfixturevalue(name)
    error = wrapped(driver_error("x"), connection_invalidated=True)
    assert log.classify(error) is failures.LOST


def test_error_that_is_no_drivers(any_log):
    assert any_log.classify(KeyError("a bug")) is None
    assert not any_log.classify(failures.NumbersBehind()).transient
    assert any_log.classify(sa.exc.TimeoutError()).transient
    assert not any_log.classify(sa.exc.NoSuchModuleError()).transient
    assert any_log.classify(UnicodeError()) is failures.UNSTORABLE


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        ConnectionResetError(),
        TimeoutError(),
        socket.timeout(),
        socket.gaierror(),
        OSError(errno.EHOSTUNREACH, ""),
        OSError(errno.ENETUNREACH, ""),
    ],
)
def test_error_of_the_network_passes(any_log, error):
    assert any_log.classify(error) is failures.LOST


def test_missing_file_of_a_certificate_does_not_pass(any_log):
    assert not any_log.classify(FileNotFoundError("ca.pem")).transient


# MySQL and MariaDB


def test_what_passes_on_mysql():
    table = mysql.FAILURES
    lost = {0, 1053, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2005, 2006, 2013, 2014}
    lost |= {2045, 2055, 3168, 3169, 4031}
    full = {1040, 1203, 1226}
    read_only = {1290, 1792, 1836}
    stopped = {1317, 1969, 3024}
    conflicts = {1020, 1205, 1213, 1412, 1637, 3100, 3101}
    assert transient(table) == (lost | full | read_only | stopped | conflicts | {1047})
    assert away(table) == lost | full | read_only | {1021, 1047, 1114}


@pytest.mark.parametrize("number", sorted(mysql.FAILURES))
def test_error_of_mysql_is_found_by_its_number(mysql_log, number):
    error = wrapped(OperationalError(number, "text"))
    assert mysql_log.classify(error) is mysql.FAILURES[number]


# SQLite


def test_what_passes_on_sqlite():
    assert transient(sqlite.FAILURES) == {
        "is locked",
        "locking protocol",
        "database schema has changed",
        "interrupted",
    }
    assert away(sqlite.FAILURES) == {"database or disk is full", "disk I/O error"}


@pytest.mark.parametrize("text", sorted(sqlite.FAILURES))
def test_error_of_sqlite_is_found_by_its_text(sqlite_log, text):
    error = wrapped(OperationalError(f"some {text}: x"))
    assert sqlite_log.classify(error) is sqlite.FAILURES[text]


# PostgreSQL


def test_what_passes_on_postgresql():
    lost = {"08", "40003", "57P01", "57P02", "57P03", "57P05", "25P03"}
    assert transient(postgresql.BY_CODE) == lost | {
        "25006",
        "40001",
        "40P01",
        "42710",
        "42P07",
        "53200",
        "53300",
        "55006",
        "55P03",
        "57014",
    }
    assert away(postgresql.BY_CODE) == lost | {"25006", "53100", "53200", "53300"}


@pytest.mark.parametrize("attribute", ["pgcode", "sqlstate"])
@pytest.mark.parametrize("code", sorted(postgresql.BY_CODE))
def test_error_of_postgresql_is_found_by_its_code(postgresql_log, code, attribute):
    error = wrapped(driver_error("x", **{attribute: code.ljust(5, "0")}))
    assert postgresql_log.classify(error) is postgresql.BY_CODE[code]


SERVER = 'connection to server at "h" (10.0.0.1), port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SERVER + "Connection refused", failures.LOST),
        (SERVER + "timeout expired", failures.LOST),
        (SERVER + "No route to host", failures.LOST),
        (SERVER + "Network is unreachable", failures.LOST),
        (SERVER + "FATAL:  the database system is starting up", failures.LOST),
        (SERVER + "FATAL:  the database system is shutting down", failures.LOST),
        (SERVER + "FATAL:  the database system is in recovery mode", failures.LOST),
        (SERVER + "SSL SYSCALL error: EOF detected", failures.LOST),
        (SERVER + "SSL error: unexpected eof while reading", failures.LOST),
        ("server closed the connection unexpectedly", failures.LOST),
        ("could not receive data from server: x", failures.LOST),
        ('could not translate host name "h" to address: x', failures.LOST),
        ("FATAL: server login has been failing, try again later", failures.LOST),
        ("FATAL: pgbouncer cannot connect to server", failures.LOST),
        ("FATAL: server conn crashed?", failures.LOST),
        ("terminating connection due to administrator command", failures.LOST),
        ("connection already closed", failures.LOST),
        (
            SERVER + "FATAL:  sorry, too many clients already",
            postgresql.TOO_MANY_CONNECTIONS,
        ),
        (
            SERVER + "FATAL:  remaining connection slots are reserved for roles",
            postgresql.TOO_MANY_CONNECTIONS,
        ),
        (
            SERVER + 'FATAL:  too many connections for role "u"',
            postgresql.TOO_MANY_CONNECTIONS,
        ),
        (
            "FATAL: no more connections allowed (max_client_conn)",
            postgresql.TOO_MANY_CONNECTIONS,
        ),
        ("FATAL: query_wait_timeout", postgresql.TOO_MANY_CONNECTIONS),
        (
            SERVER + 'FATAL:  password authentication failed for user "u"',
            postgresql.BY_CODE["28"],
        ),
        (SERVER + "fe_sendauth: no password supplied", postgresql.BY_CODE["28"]),
        (SERVER + 'FATAL:  role "u" does not exist', postgresql.BY_CODE["28"]),
        (SERVER + 'FATAL:  database "d" does not exist', postgresql.BY_CODE["3D000"]),
    ],
)
def test_error_while_connecting_is_found_by_its_text(postgresql_log, text, expected):
    for code in (None, "08P01"):
        found = postgresql_log.classify(wrapped(driver_error(text, pgcode=code)))
        assert found == expected


@pytest.mark.parametrize(
    "text",
    [
        SERVER + 'FATAL:  no pg_hba.conf entry for host "h"',
        SERVER + "server does not support SSL, but SSL was required",
        SERVER + "SSL error: certificate verify failed",
        'root certificate file "x" does not exist',
        'invalid connection option "sslmod"',
        'invalid sslmode value: "x"',
    ],
)
def test_mistake_in_the_options_does_not_pass(postgresql_log, text):
    found = postgresql_log.classify(wrapped(driver_error(text)))
    assert not found.transient
    assert found.remedy


@pytest.mark.parametrize(
    ("code", "text", "passes"),
    [
        ("23505", 'violates unique constraint "pg_type_typname_nsp_index"', True),
        ("XX000", "tuple concurrently updated", True),
        ("23505", 'violates unique constraint "events_pkey"', False),
        ("23505", 'violates unique constraint "mine"', False),
    ],
)
def test_two_processes_create_the_tables_at_once(postgresql_log, code, text, passes):
    found = postgresql_log.classify(wrapped(driver_error(text, pgcode=code)))
    assert found.transient is passes
    assert passes or "setval" in found.remedy


# Oracle


def test_what_passes_on_oracle():
    """The table by code: ``tests/oracle``."""
    lost = {code for code, each in oracle.FAILURES.items() if each is failures.LOST}
    assert lost <= transient(oracle.FAILURES)
    assert {"ORA-00060", "ORA-30006", "ORA-16000", "ORA-12514", "ORA-00020"} <= (
        transient(oracle.FAILURES)
    )
    permanent = set(oracle.FAILURES) - transient(oracle.FAILURES)
    assert {"ORA-00001", oracle.NUMBERS_BEHIND, "ORA-01017", "ORA-00904"} <= permanent
    assert {"ORA-01653", "ORA-16000", "ORA-01034"} <= away(oracle.FAILURES)


# A server with few connections


@pytest.fixture
def few_connections(postgres_server):
    """A database whose user may have two connections."""
    limit = f"ALTER ROLE {postgres_server.username} CONNECTION LIMIT"
    with closing(postgres_server.administrator()) as connection:
        connection.cursor().execute(f"{limit} 2")
        yield from postgresql_options(postgres_server)
        connection.cursor().execute(f"{limit} -1")


def test_threads_wait_for_a_connection_that_comes_free(few_connections):
    log = opened(few_connections)
    with ThreadPoolExecutor(8) as threads:
        ends = [
            threads.submit(log.append, f"user-{number}", entries("a"), START)
            for number in range(200)
        ]
        assert all(end.result() for end in ends)
    assert texts(log, "user-7") == ["a"]
    log.close()


def test_server_that_gives_no_connection_at_all_is_an_error(few_connections):
    first, second, third = (make_log(few_connections) for _ in range(3))
    with first.engine.connect(), second.engine.connect(), pytest.raises(
        sa.exc.OperationalError
    ) as refused:
        third.open()
    found = third.classify(refused.value)
    assert found is postgresql.TOO_MANY_CONNECTIONS
    assert "POSTGRESQL_POOL_SIZE" in found.remedy
    for log in (first, second, third):
        log.close()


# Other databases


@pytest.mark.parametrize(
    ("connect", "words"),
    [
        (lambda user="", host="", passwd="", charset="": None, "'charset'"),
        (lambda **options: len(5), "no len"),
    ],
    ids=["with a signature", "without one"],
)
def test_option_that_another_driver_does_not_know(monkeypatch, connect, words):
    module = types.ModuleType("pymysql")
    vars(module).update(
        paramstyle="format",
        Error=OperationalError,
        OperationalError=OperationalError,
        ProgrammingError=OperationalError,
        InterfaceError=OperationalError,
        InternalError=OperationalError,
        connect=connect,
    )
    monkeypatch.setitem(sys.modules, "pymysql", module)
    with pytest.raises(Exception, match=words) as refused:
        make_log(
            {"dialect": "mysql+pymysql", "url": "h", "query": {"charst": "utf8mb4"}}
        ).open()
    assert is_store_error(refused.value)
