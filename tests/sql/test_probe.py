"""A database that the store does not know: what it does not keep stops the store."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.base import SQLiteTypeCompiler
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from rasa_trackers.errors import is_store_error
from rasa_trackers.event_log import START
from rasa_trackers.sql.health import facts
from rasa_trackers.sql.probe import problems
from sql.sql_logs import entries, make_log, opened, run, texts


class Other(SQLiteDialect_pysqlite):
    """SQLite, by a name that the store does not know."""

    name = "other"
    supports_statement_cache = True

    @classmethod
    def get_pool_class(cls, _url):
        return sa.pool.QueuePool

    def connect(self, *arguments, **options):
        return super().connect(*arguments, **{**options, "check_same_thread": False})


class NoCaseTypes(SQLiteTypeCompiler):
    """Columns that take upper and lower case for the same."""

    def visit_VARCHAR(self, type_, **options):  # noqa: N802 - SQLAlchemy's name
        return f"{super().visit_VARCHAR(type_, **options)} COLLATE NOCASE"


class NoCase(Other):
    name = "nocase"
    supports_statement_cache = True
    type_compiler = type_compiler_cls = NoCaseTypes


class NoSpaces(Other):
    """Columns that ignore spaces at the end."""

    name = "nospaces"
    supports_statement_cache = True
    type_compiler = type_compiler_cls = type(
        "Types",
        (SQLiteTypeCompiler,),
        {"visit_VARCHAR": lambda *_, **__: "VARCHAR(255) COLLATE RTRIM"},
    )


class WholeSeconds(Other):
    """Times without fractions."""

    name = "wholeseconds"
    supports_statement_cache = True

    def connect(self, *arguments, **options):
        connection = super().connect(*arguments, **options)
        if _has_events(connection):
            connection.execute(
                "CREATE TEMP TRIGGER IF NOT EXISTS cut AFTER INSERT ON main.events BEGIN "
                "UPDATE events SET timestamp = CAST(timestamp AS INTEGER) "
                "WHERE id = NEW.id; END"
            )
        return connection


class ShortTexts(Other):
    """Texts that the database cuts without a word."""

    name = "shorttexts"
    supports_statement_cache = True

    def connect(self, *arguments, **options):
        connection = super().connect(*arguments, **options)
        if _has_events(connection):
            connection.execute(
                "CREATE TEMP TRIGGER IF NOT EXISTS cut AFTER INSERT ON main.events BEGIN "
                "UPDATE events SET data = substr(data, 1, 65535) WHERE id = NEW.id; END"
            )
        return connection


class NoTransactions(Other):
    """Each statement is a transaction of its own, whatever is asked for."""

    name = "notransactions"
    supports_statement_cache = True

    def connect(self, *arguments, **options):
        return super().connect(*arguments, **{**options, "isolation_level": None})


def _has_events(connection):
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'")
    return found.fetchone() is not None


class SlowSecond(NoTransactions):
    """A server that takes longer for a connection than the probe waits."""

    name = "slowsecond"
    supports_statement_cache = True

    def connect(self, *arguments, **options):
        if is_of_second_writer():
            time.sleep(1.3)
        return super().connect(*arguments, **options)


class NoSecond(NoTransactions):
    """A server that has no further connection."""

    name = "nosecond"
    supports_statement_cache = True

    def connect(self, *arguments, **options):
        if is_of_second_writer():
            raise sqlite3.OperationalError("too many connections")
        return super().connect(*arguments, **options)


def is_of_second_writer():
    return threading.current_thread().name == "rasa_trackers-probe"


DIALECTS = (
    SlowSecond,
    NoSecond,
    Other,
    NoCase,
    NoSpaces,
    WholeSeconds,
    ShortTexts,
    NoTransactions,
)


@pytest.fixture
def options(tmp_path):
    for dialect in DIALECTS:
        registry.impls[dialect.name] = lambda dialect=dialect: dialect
    return {"db": str(tmp_path / "other.db")}


def made_once(options):
    """The table, so that the driver's triggers have it from the first connection on."""
    opened({**options, "dialect": "other"}).close()


def test_database_that_keeps_all_is_used(options):
    log = opened({**options, "dialect": "other"})
    end = log.append("ada", entries("a"), START)
    assert log.append("ada", entries("b"), START) is None
    assert log.append("ada", entries("b"), end)
    assert texts(log, "ada") == ["a", "b"]
    assert list(problems(log)) == []
    log.close()


def test_probe_leaves_nothing(options):
    log = opened({**options, "dialect": "other"})
    list(problems(log))
    assert run(log, "SELECT * FROM events") == []
    assert run(log, "SELECT sum(writes) FROM rasa_trackers_locks") == [(0,)]
    log.close()


@pytest.mark.parametrize(
    ("dialect", "whats", "remedy"),
    [
        # SQLite's NOCASE compares up to a NUL.
        ("nocase", ["in case", "in what follows a NUL"], "compare texts byte by byte"),
        ("nospaces", ["in spaces at the end"], "compare texts byte by byte"),
        ("wholeseconds", ["loses its microseconds"], "double precision"),
        ("shorttexts", ["1 MB does not come back"], "long texts"),
        ("notransactions", ["do not keep each other out"], "Use SQLite, PostgreSQL"),
        ("slowsecond", ["do not keep each other out"], "Use SQLite, PostgreSQL"),
    ],
)
def test_database_that_does_not_keep_something_is_refused(
    options, dialect, whats, remedy
):
    if dialect in ("wholeseconds", "shorttexts"):
        made_once(options)
    log = make_log({**options, "dialect": dialect})
    with pytest.raises(Exception, match=f"{dialect} database") as refused:
        log.open()
    assert is_store_error(refused.value)
    assert all(what in str(refused.value) for what in whats)
    assert remedy in str(refused.value)
    found = list(problems(log))
    assert len(found) == len(whats), "and nothing else"
    for what, problem in zip(whats, found):
        assert what in problem.what
        assert remedy in problem.remedy
    assert run(log, "SELECT * FROM events") == []
    log.close()


def test_database_whose_second_connection_fails_is_not_used(options):
    """It might let two writers through; nobody has seen that it does not."""
    log = make_log({**options, "dialect": "nosecond"})
    with pytest.raises(Exception, match="too many connections"):
        log.open()
    assert run(log, "SELECT * FROM events") == []
    log.close()


def test_database_that_is_busy_is_not_said_to_be_unsound(options):
    opened({**options, "dialect": "other"}).close()
    log = make_log({**options, "dialect": "other", "query": {"timeout": "0.1"}})
    with closing(sqlite3.connect(options["db"], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Exception, match="locked") as refused:
            log.open()
    assert not is_store_error(refused.value)
    log.open()
    log.close()


def test_database_that_is_busy_after_some_looks_is_not_said_to_be_unsound(
    options, monkeypatch
):
    log = opened({**options, "dialect": "other", "query": {"timeout": "0.1"}})
    with closing(sqlite3.connect(options["db"], isolation_level=None)) as other:
        looks = problems(log)
        monkeypatch.setattr(
            "rasa_trackers.sql.probe._keeps_writers_out",
            lambda _log: bool(other.execute("BEGIN IMMEDIATE")),
        )
        with pytest.raises(Exception, match="locked"):
            list(looks)
    log.close()


def test_probe_locks_no_row_of_writers(options):
    """A writer would wait for it for a second."""
    opened({**options, "dialect": "other"}).close()
    log = make_log({**options, "dialect": "notransactions"})
    list(problems(log))
    written = run(log, "SELECT id FROM rasa_trackers_locks WHERE writes > 0")
    assert written
    assert all(number >= 64 for (number,) in written)
    log.close()


def test_check_writes_nothing(options):
    opened({**options, "dialect": "other"}).close()
    log = make_log({**options, "dialect": "notransactions"})
    found = {fact.name: fact for fact in facts(log)}
    assert found["probe"].level == "ok"
    assert "at each start" in found["probe"].value
    assert run(log, "SELECT sum(writes) FROM rasa_trackers_locks") == [(0,)]
    log.close()


def test_check_creates_nothing(options):
    log = make_log({**options, "dialect": "nocase"})
    assert "probe" not in {fact.name for fact in facts(log)}
    with closing(sqlite3.connect(options["db"])) as connection:
        assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []
    log.close()


def test_row_for_a_lock_that_somebody_has_deleted_is_an_error(options):
    log = opened({**options, "dialect": "other"})
    run(log, "DELETE FROM rasa_trackers_locks")
    with pytest.raises(Exception, match="Restart Rasa"):
        log.append("ada", entries("a"), START)
    log.open()
    assert log.append("ada", entries("a"), START)
    log.close()
