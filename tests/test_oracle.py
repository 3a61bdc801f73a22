"""Oracle, as far as it goes without a server of Oracle's.

Each section is a rung of a ladder: the SQL that is sent, what a driver is asked to do,
real drivers against listeners that fail, H2 in Oracle mode, and a real server where
``TEST_ORACLE_URL`` names one. The suites for all stores run on H2 as well.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
import sqlalchemy as sa
from rasa.shared.exceptions import ConnectionException, RasaException
from rasa_trackers.sql.oracle_connection import (
    attempt,
    choose_driver,
    connect_within,
    oracle_engine,
    place,
)
from sqlalchemy.engine.url import make_url

from conversations import add, as_dicts, conversation, dicts, tracker, turn
from rasa_api import backend_log
from rasa_trackers.event_log import START, Entry, User
from rasa_trackers.rasa_versions import KNOWS_USERS
from rasa_trackers.sql import oracle
from rasa_trackers.sql.connection import engine_url
from rasa_trackers.sql.log import _READ_BATCH
from rasa_trackers.sql.oracle import FAILURES, OracleEventLog, codes, lock_id
from rasa_trackers.sql.schema import tables
from servers import h2_driver
from servers.h2 import H2Server
from servers.oracle_client import NOTES_VARIABLE, client_library
from servers.silent import closed_port, silent_port, unreachable_port

GOLDEN = Path(__file__).with_name("golden")
ENTRY = Entry('{"event": "slot"}', "slot", 1753011122.123457, None, "name")

on_oracle = pytest.mark.parametrize("backend", ["oracle"], indirect=True)


@pytest.fixture
def only_h2(oracle_server):
    """For tests that look into the driver, or need what Oracle's users may not do."""
    if not isinstance(oracle_server, H2Server):
        pytest.skip("for H2 only")


def on_h2(test):
    return pytest.mark.usefixtures("only_h2")(on_oracle(test))


def statements(log):
    """All SQL that a log sends in its work, by name."""
    compiled = {
        name: str(getattr(log, name).compile(log._engine))
        for name in (
            "_read_newest",
            "_read_before",
            "_read_all",
            "_newest_id",
            "_delete_events",
            "_delete_expired",
            "_delete_expiry",
            "_insert_expiry",
            "_lock",
            "_unlock",
            "_draw",
            "_insert_events",
            "_delete_user",
            "_delete_expired_user",
            "_insert_user",
            "_change_user",
            "_texts",
            "_sender_ids",
            "_active",
            "_lowest_id",
        )
    }
    theirs = log._users_conversations("u", 10, 5)
    compiled["_users_conversations"] = str(theirs.compile(log._engine))
    compiled["block of 2"] = str(log._block(2).compile(log._engine))
    return compiled


def log_of(version, schema=None, module=h2_driver):
    """A log that has met a server of a version, and is connected to nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cx_Oracle", module)
        url = make_url("oracle+cx_oracle://rasa@dbhost/?service_name=FREEPDB1")
        engine = oracle_engine(url, place(url, 5), timeout=5, workers=2)
    engine.dialect.server_version_info = version
    if hasattr(engine.dialect, "_supports_offset_fetch"):
        # What SQLAlchemy 2.0 sets when it connects.
        engine.dialect._supports_offset_fetch = version >= (12,)
    names = tables(schema, with_users=True)
    return OracleEventLog(engine, names, name="Oracle", record_exp=60.0)


# Rung 1: the SQL


@pytest.mark.parametrize("version", [(11, 2), (19, 3)], ids=["11.2", "19.3"])
def test_sql_is_what_was_looked_at(version):
    major = sa.__version__.split(".", maxsplit=1)[0]
    number = ".".join(map(str, version))
    path = GOLDEN / f"oracle-{number}-sqlalchemy-{major}.sql"
    text = "".join(
        f"-- {name}\n{sql}\n\n" for name, sql in statements(log_of(version)).items()
    )
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


#: What Oracle rejects, or 11.2 does.
REJECTED = {
    r"FROM (\w+|\(.*\)) AS ": "AS before the alias of a table",
    r"SELECT\s+EXISTS": "EXISTS as a value",
    r"(?<!:)\bLIMIT\b": "LIMIT",
    r"\bOFFSET\b(?!.*\bFETCH FIRST\b)": "OFFSET without FETCH",
    r"\b(true|false)\b": "a boolean (before 23)",
    r"SELECT (?!.*\bFROM\b)": "SELECT without FROM (before 23)",
    r"\bIF (NOT )?EXISTS\b": "IF EXISTS (before 23)",
    r"\bON CONFLICT\b": "ON CONFLICT",
    r"VALUES\s*\([^)]*\)\s*,\s*\(": "several rows in VALUES (before 23)",
    r"\bIN\s*\((?!\s*SELECT)": "a list in IN, which may hold 1,000 items",
    r"\bRETURNING\b": "RETURNING, which an executemany has none of in 1.4",
    r"(DISTINCT|GROUP BY|ORDER BY)[^)]*\bdata\b": "a CLOB that is compared",
    r"\bdata\b\s*(=|<|>|LIKE)": "a CLOB that is compared",
    r"''": "an empty text, which is NULL",
}
#: Words that may not name a bind variable: ORA-01745.
RESERVED_WORDS = """
access add all alter and any as asc audit between by char check cluster column
comment compress connect create current date decimal default delete desc distinct drop
else exclusive exists file float for from grant group having identified immediate in
increment index initial insert integer intersect into is level like lock long maxextents
minus mode modify noaudit nocompress not nowait null number of offline on online option
or order pctfree prior public raw rename resource revoke row rowid rownum rows select
session set share size smallint start successful synonym sysdate table then to trigger
uid union unique update user validate values varchar varchar2 view whenever where with
"""
RESERVED = set(RESERVED_WORDS.split())


def complaints(sql):
    found = [
        reason
        for pattern, reason in REJECTED.items()
        if re.search(pattern, " ".join(sql.split()), re.IGNORECASE)
    ]
    found += [
        f"bind variable :{name}"
        for name in re.findall(r"(?<!\d):(\w+)", sql)
        if name.lower() in RESERVED
    ]
    found += [
        f"more than 30 characters: {name}"
        for name in re.findall(r"[A-Za-z_]\w*", sql)
        if len(name) > 30
    ]
    return found


def looked_at(sql):
    """Without what the lint below mistakes for something else."""
    # A list that is kept short.
    assert _READ_BATCH < 1000
    sql = re.sub(r"IN \((__\[POSTCOMPILE_|:)sender_ids[^()]*\)", "", sql)
    # A column that is a query of its own.
    return re.sub(r"\(SELECT users.user_id [^()]*\) AS user_id", "user_id", sql)


@pytest.mark.parametrize("version", [(11, 2), (19, 3)], ids=["11.2", "19.3"])
def test_sql_has_nothing_that_oracle_rejects(version):
    for name, sql in statements(log_of(version)).items():
        assert complaints(looked_at(sql)) == [], name
        if version < (12,):
            assert "FETCH FIRST" not in sql, name
    for _, sql in log_of(version)._statements():
        assert complaints(sql) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT x FROM (SELECT 1 FROM dual) AS y",
        "SELECT EXISTS (SELECT 1 FROM dual) FROM dual",
        "SELECT id FROM events LIMIT 1",
        "SELECT id FROM events WHERE x = false",
        "SELECT id FROM events WHERE id IN (1, 2)",
        "SELECT DISTINCT data FROM events",
        "SELECT id FROM events WHERE id = :level",
        "CREATE INDEX ix_rasa_trackers_expiry_expires_at ON x (y)",
    ],
)
def test_lint_finds_what_it_is_for(sql):
    assert complaints(sql)


@functools.lru_cache(maxsize=None)
def syntax_errors(sql):
    """What the grammar of SQLFluff's Oracle dialect has against a statement or block.

    It knows PL/SQL's blocks, but lets some semicolons be missing, which
    ``h2_driver`` insists on.
    """
    if sys.version_info < (3, 10):
        pytest.skip("no SQLFluff that knows PL/SQL for this Python")
    from sqlfluff.core import FluffConfig, Linter

    linter = Linter(config=FluffConfig(overrides={"dialect": "oracle"}))
    is_block = re.match("DECLARE|BEGIN", sql)
    # As a script, in which a slash ends a block.
    parsed = linter.parse_string(f"{sql}\n/\n" if is_block else f"{sql};\n")
    found = [str(violation) for violation in parsed.violations]
    if found:
        return found  # and there may be no tree
    unknown = [segment.raw for segment in parsed.tree.recursive_crawl("unparsable")]
    kind = "begin_end_block" if is_block else "statement"
    if not unknown and not any(parsed.tree.recursive_crawl(kind)):
        found.append(f"no {kind}")
    return found + unknown


@pytest.mark.parametrize("version", [(11, 2), (19, 3)], ids=["11.2", "19.3"])
def test_sql_follows_a_grammar_of_oracles(version):
    log = log_of(version)
    for name, sql in statements(log).items():
        # Where SQLAlchemy writes values in when it sends the statement.
        text = sql.replace("__[POSTCOMPILE_sender_ids]", ":name_1, :name_2")
        text = re.sub(r"__\[POSTCOMPILE_\w+\]", "5", text)
        # Oracle 12.1's; the grammar knows only the second half of it.
        text = text.replace("OFFSET 5 ROWS\n FETCH FIRST", "FETCH FIRST")
        assert syntax_errors(text) == [], name
    for number in (1, 8, 50):
        assert syntax_errors(log._block_text(number)) == [], number
    for _, sql in log._statements():
        assert syntax_errors(sql) == []
        if "INDEX" in sql:
            assert syntax_errors(f"{sql} ONLINE") == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("DECLARE", "DECLAR"),
        ("newest NUMBER;", "NUMBER newest;"),
        ("BEGIN", ""),
        ("THEN", ""),
        ("END IF;", "ENDIF;"),
        ("END LOOP;", "END;"),
        ("EXIT WHEN", "EXIT IF"),
        ("IN 1..", "1.."),
        (" VALUES (drawn,", " (drawn,"),
        ("WHERE sender_id", "sender_id"),
        ("EXCEPTION WHEN", "EXCEPT WHEN"),
        ("INTO newest FROM", "INTO FROM"),
        ("COMMIT;", "COMMIT,"),
        (":data_0);", ":data_0;"),
    ],
)
def test_grammar_finds_a_block_that_is_broken(old, new):
    block = log_of((19, 3))._block_text(1)
    assert old in block
    assert syntax_errors(block.replace(old, new))


def test_reading_asks_for_no_more_than_the_page():
    """On 11.2 by ROWNUM around the sorted rows, so that it stops the index scan."""
    newest = statements(log_of((11, 2)))["_read_newest"]
    assert newest.index("ORDER BY events.id DESC") < newest.index("ROWNUM <= :limit")


def test_schema_stands_before_each_name():
    log = log_of((19, 3), schema="rasa_data")
    block = statements(log)["block of 2"]
    for text in (block, log.script()):
        assert not re.search(
            r"(?<![.\w])(events_seq|events|rasa_trackers_expiry|ix_\w+)\b", text
        )
    assert "rasa_data.events_seq.NEXTVAL" in block


def test_script_makes_the_columns_that_the_store_uses():
    made = dict(log_of((11, 2))._statements())
    for table in tables():
        if isinstance(table, sa.Table):
            for column in table.c:
                assert re.search(rf"^  {column.name} ", made[table.name], re.MULTILINE)
                assert (f"  {column.name} CLOB" in made[table.name]) == isinstance(
                    column.type, sa.Text
                )


def test_names_are_short_enough_for_oracle_11():
    """And 12.1; from 12.2 on it is 128."""
    metadata = tables().events.metadata
    names = [sequence.name for sequence in metadata._sequences.values()]
    for table in metadata.tables.values():
        indexes = [index.name for index in table.indexes]
        names += [table.name, *(column.name for column in table.c), *indexes]
    names += [index.name for index in tables() if isinstance(index, sa.Index)]
    assert "events_seq" in names
    assert "ix_events_sender_id_id" in names
    assert [name for name in names if len(name) > 30] == []


def test_lock_ids_are_negative_and_fit_any_column_of_numbers():
    found = {lock_id(f"user-{number}") for number in range(2000)}
    assert len(found) == 2000
    assert all(-(2**31) < number < 0 for number in found)
    assert lock_id("ada") == -102747780


# Rung 2: what the driver is asked to do


class Recorder:
    """A module that passes for cx_Oracle, and writes down what it is asked for."""

    def __init__(self):
        self.calls = []
        self.position = 17
        self.module = types.ModuleType("cx_Oracle")
        vars(self.module).update(
            {
                name: value
                for name, value in vars(h2_driver).items()
                if not name.startswith("__") or name == "__future__"
            }
        )
        self.module.connect = self._connect

    def _connect(self, **options):
        self.calls.append(("connect", options))
        return RecordedConnection(self)

    def named(self, name):
        return [call for call in self.calls if call[0] == name]


class RecordedConnection:
    version = "19.3.0.0.0"

    def __init__(self, recorder):
        self.recorder = recorder
        self.round_trips = 0
        self.outputtypehandler = None
        self.autocommit = False
        self.call_timeout = 0

    def cursor(self):
        return RecordedCursor(self)

    def commit(self):
        self.recorder.calls.append(("commit",))

    def rollback(self):
        self.recorder.calls.append(("rollback",))

    def ping(self):
        self.recorder.calls.append(("ping",))

    def close(self):
        self.recorder.calls.append(("close",))


class RecordedCursor(h2_driver.Cursor):
    def execute(self, statement, parameters=None):
        parameters = dict(parameters or {})
        sizes, self._sizes = self._sizes, {}
        self.connection.recorder.calls.append(
            ("execute", statement, parameters, sizes, self.arraysize)
        )
        for value in parameters.values():
            if isinstance(value, h2_driver.Var):
                value.value = self.connection.recorder.position
        if re.match(r"\s*SELECT", statement, re.IGNORECASE):
            self.description = [("X", h2_driver.STRING, 9, 9, 0, 0, 1)]
            value = {"nextval": 5, "max": None}.get(
                (re.findall("nextval|max", statement) or [""])[0], "1.1"
            )
            self._rows = [(value,)]
            self._fetched = 0
        return self

    def executemany(self, statement, parameters):
        sizes, self._sizes = self._sizes, {}
        self.connection.recorder.calls.append(
            ("executemany", statement, parameters, sizes, self.arraysize)
        )


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "cx_Oracle", recorder.module)
    return recorder


@pytest.fixture
def recorded(recorder):
    url = make_url("oracle+cx_oracle://rasa:geheim@dbhost/?service_name=FREEPDB1")
    engine = oracle_engine(url, place(url, 3), timeout=3, workers=2)
    log = OracleEventLog(engine, tables(), name="Oracle")
    with engine.connect():
        pass
    recorder.calls.clear()
    yield log
    log.close()


def test_append_of_8_events_is_one_round_trip(recorded, recorder):
    assert recorded.append("ada", [ENTRY] * 8, START) == 17
    (call,) = recorder.calls
    name, statement, parameters, _, _ = call
    assert name == "execute"
    assert (
        statement.count("INSERT INTO events (id, sender_id, type_name, timestamp") == 8
    )
    assert statement.index("COMMIT") > statement.rindex("INSERT")
    assert parameters["timestamp_0"] == ENTRY.timestamp
    assert parameters["data_7"] == ENTRY.data


def test_append_binds_texts_as_texts_and_timestamps_as_doubles(recorded, recorder):
    recorded.append("ada", [ENTRY], START)
    ((_, _, parameters, sizes, _),) = recorder.calls
    assert sizes["timestamp_0"] is h2_driver.NATIVE_FLOAT
    # A CLOB is made and filled in round trips of its own; text goes with the rest.
    assert h2_driver.CLOB not in sizes.values()
    assert isinstance(parameters["data_0"], str)
    assert parameters["intent_name_0"] is None
    recorder.calls.clear()
    recorded.append("ada", [ENTRY] * 51, START)
    ((_, _, _, sizes, _),) = recorder.named("executemany")
    assert sizes["timestamp"] is h2_driver.NATIVE_FLOAT
    assert h2_driver.CLOB not in sizes.values()


def test_connection_whose_transaction_cannot_be_ended_is_not_used_again(
    recorded, recorder, monkeypatch
):
    """Its next COMMIT would be for this one too, of which it has done a part."""
    fails = True
    executemany = RecordedCursor.executemany

    def silent(self, *arguments):
        if fails:
            raise h2_driver.DatabaseError("DPI-1067: call timeout of 3000 ms exceeded")
        return executemany(self, *arguments) if arguments else None

    monkeypatch.setattr(RecordedCursor, "executemany", silent)
    monkeypatch.setattr(RecordedConnection, "rollback", silent)
    with pytest.raises(sa.exc.DBAPIError):
        recorded.append("ada", [ENTRY] * 51, START)
    fails = False
    recorder.calls.clear()
    recorded.append("bob", [ENTRY], START)
    assert recorder.named("connect")


@pytest.mark.parametrize(
    "entries",
    [
        [ENTRY._replace(data="x" * 8192)],
        [ENTRY] * 51,
        [ENTRY._replace(data="x" * 2_000_000)] * 3,
    ],
    ids=["long", "many", "huge"],
)
def test_large_append_is_a_transaction_without_clobs_of_its_own(
    recorded, recorder, entries
):
    recorded.append("ada", entries, START)
    assert [call[0] for call in recorder.calls][-1] == "commit"
    assert len(recorder.named("commit")) == 1
    assert len(recorder.calls) <= 7  # whatever their number and length
    for call in recorder.named("executemany") + recorder.named("execute"):
        assert h2_driver.CLOB not in call[3].values()
    first, last = recorder.named("execute")[0], recorder.named("execute")[-1]
    assert first[2]["lock_id"] == last[2]["lock_id"] == lock_id("ada")
    assert first[1].startswith("INSERT")
    assert last[1].startswith("DELETE")


def test_read_is_one_query_and_ends_without_a_rollback(recorded, recorder):
    with pytest.raises(Exception, match=r"unpack|values"):
        recorded.read_back("ada", 100)  # the recorder's row has one column
    assert [call[0] for call in recorder.calls] == ["execute"]
    # One array holds the first page that a tracker store asks for.
    assert recorder.calls[0][4] >= 100


def test_transaction_that_fails_is_rolled_back(recorded, recorder):
    with pytest.raises(KeyError), recorded._writing("ada"):
        raise KeyError
    assert recorder.named("rollback")
    assert not recorder.named("commit")
    recorder.calls.clear()
    recorded.append("ada", [ENTRY], START)
    assert not recorder.named("rollback")


def test_connection_is_asked_after_it_lay_unused(recorded, recorder, monkeypatch):
    recorded.append("ada", [ENTRY], START)
    assert not recorder.named("ping")
    now = time.monotonic()
    monkeypatch.setattr(
        "rasa_trackers.sql.oracle_connection.time",
        types.SimpleNamespace(monotonic=lambda: now + 60),
    )
    recorded.append("ada", [ENTRY], START)
    assert recorder.named("ping")


def test_connecting_says_where_and_until_when(recorder):
    url = make_url(
        "oracle+cx_oracle://rasa:geheim@dbhost/?service_name=FREEPDB1&stmtcachesize=40"
    )
    engine = oracle_engine(url, place(url, 2.5), timeout=2.5, workers=2)
    with engine.connect() as connection:
        assert connection.connection.dbapi_connection.call_timeout == 2500
    options = recorder.named("connect")[0][1]
    assert options.pop("dsn") == (
        "(DESCRIPTION=(CONNECT_TIMEOUT=3)(TRANSPORT_CONNECT_TIMEOUT=3)"
        "(ADDRESS=(PROTOCOL=TCP)(HOST=dbhost)(PORT=1521))"
        "(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)))"
    )
    assert options == {
        "user": "rasa",
        "password": "geheim",
        "threaded": True,
        "encoding": "UTF-8",
        "nencoding": "UTF-8",
        "stmtcachesize": 40,
    }
    engine.dispose()


def test_clob_is_fetched_as_text_by_the_dialect(recorded):
    """A CLOB that comes as an object costs a round trip, or more, to read."""
    with recorded._engine.connect() as connection:
        raw = connection.connection.dbapi_connection
    var = raw.outputtypehandler(raw.cursor(), "DATA", h2_driver.CLOB, 0, 0, 0)
    assert var.type not in (h2_driver.CLOB, None)


# Where to


def address(**options):
    defaults = {
        "dialect": "oracle+cx_oracle",
        "url": "dbhost",
        "port": None,
        "db": "rasa.db",
        "username": "rasa",
        "password": "x",
        "query": None,
    }
    return place(engine_url(**{**defaults, **options}), 4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"db": "FREEPDB1"}, "(PORT=1521))(CONNECT_DATA=(SERVICE_NAME=FREEPDB1))"),
        ({"db": "X", "port": "1600"}, "(PORT=1600))(CONNECT_DATA=(SERVICE_NAME=X))"),
        ({"url": "h:1600/X"}, "(HOST=h)(PORT=1600))(CONNECT_DATA=(SERVICE_NAME=X))"),
        ({"query": {"sid": "XE"}}, "(CONNECT_DATA=(SID=XE))"),
        ({"query": {"service_name": "X"}}, "(CONNECT_DATA=(SERVICE_NAME=X))"),
        ({"url": "oracle://u:p@h/XE"}, "(CONNECT_DATA=(SID=XE))"),
        ({"url": "oracle://h/?service_name=X"}, "(CONNECT_DATA=(SERVICE_NAME=X))"),
        ({"url": "oracle://h", "db": "X"}, "(CONNECT_DATA=(SERVICE_NAME=X))"),
        (
            {"db": "X", "query": {"protocol": "tcps", "ssl_server_dn_match": True}},
            (
                "(PROTOCOL=TCPS)(HOST=dbhost)(PORT=1521))(CONNECT_DATA=(SERVICE_NAME=X))"
                "(SECURITY=(SSL_SERVER_DN_MATCH=YES))"
            ),
        ),
        (
            {
                "db": "X",
                "query": {"wallet_location": "/w", "ssl_server_cert_dn": "CN=d"},
            },
            '(SECURITY=(SSL_SERVER_CERT_DN="CN=d")(MY_WALLET_DIRECTORY="/w"))',
        ),
        (
            {"url": "(DESCRIPTION=(ADDRESS=(HOST=h))(CONNECT_DATA=(SID=XE)))"},
            "(DESCRIPTION=(CONNECT_TIMEOUT=4)(TRANSPORT_CONNECT_TIMEOUT=4)(ADDRESS",
        ),
        (
            {"query": {"dsn": "(description = (connect_timeout=9)(address=(host=h)))"}},
            "(TRANSPORT_CONNECT_TIMEOUT=4) (connect_timeout=9)",
        ),
        ({"query": {"dsn": "alias_of_tnsnames"}}, "alias_of_tnsnames"),
        (
            {"query": {"dsn": "//h:1600/X"}},
            (
                "(CONNECT_TIMEOUT=4)(TRANSPORT_CONNECT_TIMEOUT=4)(ADDRESS=(PROTOCOL=TCP)"
                "(HOST=h)(PORT=1600))(CONNECT_DATA=(SERVICE_NAME=X))"
            ),
        ),
        ({"query": {"dsn": "h/X.example.com"}}, "(HOST=h)(PORT=1521))"),
        ({"query": {"dsn": "tcps://h:1600/X"}}, "tcps://h:1600/X"),
    ],
)
def test_address(options, expected):
    assert expected in address(**options).dsn


@pytest.mark.parametrize(
    "url", ["rasa:ge/heim@h/X", "rasa:ge/heim@h", "rasa:ge?heim@h/X", "h/", "h:x/X"]
)
def test_url_that_is_no_address_is_refused_without_its_password(url):
    with pytest.raises(RasaException, match="neither a host") as refused:
        address(url=url)
    assert "heim" not in str(refused.value)


@pytest.mark.parametrize(
    "options", [{}, {"db": ""}, {"query": {"sid": "XE", "service_name": "X"}}]
)
def test_address_must_name_one_database(options):
    with pytest.raises(RasaException, match="FREEPDB1"):
        address(**options)


def test_name_that_would_change_the_address_is_refused():
    with pytest.raises(RasaException, match="dsn"):
        address(db="X)(HOST=elsewhere")


def test_wallet_with_a_password_is_passed_on():
    found = address(
        db="X", query={"wallet_location": "/w", "wallet_password": "123", "retry": "2"}
    )
    assert found.driver_options == {
        "wallet_location": "/w",
        "wallet_password": "123",
        "retry": 2,
    }


def test_option_that_the_driver_does_not_take_is_an_error(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "cx_Oracle", None)
    with pytest.raises(RasaException, match="wallet_pasword"):
        load({**ENDPOINT, "query": {"wallet_pasword": "x"}})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schem": "x"}, ["schem", "did you mean 'schema'"]),
        ({"dialect": "postgresql"}, ["oracle+oracledb"]),
        ({"dialect": "oracle+odbc"}, ["oracle+oracledb"]),
        ({"url": "postgresql://h/d"}, ["another kind of database"]),
        ({"create_tables": "perhaps"}, ["create_tables", "true or false"]),
        ({"query": {"thick_mode": "x"}}, ["thick_mode", "true or false"]),
        ({"query": {"sid": ["a", "b"]}}, ["sid", "more than once"]),
    ],
)
def test_bad_option_is_an_error(load, options, words):
    with pytest.raises(RasaException) as error:
        load({**ENDPOINT, **options})
    for word in words:
        assert word in str(error.value)


# The drivers


ENDPOINT = {
    "type": "rasa_trackers.OracleTrackerStore",
    "url": "127.0.0.1",
    "db": "FREEPDB1",
    "username": "rasa",
    "password": "S3cret/",
    "timeout": 1,
}
NEEDS_CX_ORACLE = pytest.mark.skipif(
    sys.version_info >= (3, 11), reason="no wheels of cx_Oracle for Python 3.11"
)


def without(monkeypatch, *modules):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("dialect", ["oracle", "oracle+cx_oracle"])
def test_oracledb_stands_in_where_cx_oracle_is_missing(monkeypatch, dialect):
    without(monkeypatch, "cx_Oracle")
    module = choose_driver(dialect).module
    original = getattr(module, "rasa_trackers_original", module)
    assert original.__name__ == "oracledb"
    assert original.version != "8.3.0", "the real module is left as it is"


@NEEDS_CX_ORACLE
def test_cx_oracle_is_taken_where_it_is_asked_for():
    assert choose_driver("oracle+cx_oracle").module.__name__ == "cx_Oracle"


@pytest.mark.parametrize(
    ("dialect", "missing", "remedy"),
    [
        ("oracle", ["cx_Oracle", "oracledb"], "pip install "),
        ("oracle+cx_oracle", ["cx_Oracle", "oracledb"], "pip install cx_Oracle"),
        ("oracle+oracledb", ["oracledb"], "pip install oracledb"),
    ],
)
def test_missing_driver_is_an_error(load, monkeypatch, dialect, missing, remedy):
    without(monkeypatch, *missing)
    with pytest.raises(RasaException, match=remedy):
        load({**ENDPOINT, "dialect": dialect})


# Rung 3: real drivers, listeners that fail


@pytest.fixture
def thin(monkeypatch):
    """python-oracledb in thin mode is what the store finds."""
    without(monkeypatch, "cx_Oracle")


@pytest.mark.parametrize("dialect", ["oracle", "oracle+cx_oracle", "oracle+oracledb"])
def test_closed_port_is_a_connection_error(load, thin, dialect):
    with closed_port() as port, pytest.raises(ConnectionException, match="DPY-6005"):
        load({**ENDPOINT, "port": port, "dialect": dialect})


def test_unknown_host_is_a_connection_error(load, thin):
    with pytest.raises(ConnectionException, match="no server of this name"):
        load({**ENDPOINT, "url": "no-such-host.invalid"})


@pytest.mark.parametrize("peer", [silent_port, unreachable_port])
def test_silent_peer_is_given_up_in_time(load, thin, peer):
    before = time.monotonic()
    with peer() as port, pytest.raises(
        ConnectionException, match=r"took no connection|timed out"
    ):
        load({**ENDPOINT, "port": port})
    assert time.monotonic() - before < 4


def test_silent_peer_leaves_no_thread_behind(load, thin):
    with silent_port() as port:
        with pytest.raises(ConnectionException):
            load({**ENDPOINT, "port": port})
        deadline = time.monotonic() + 10
        while any(
            thread.name == "rasa_trackers-connect" for thread in threading.enumerate()
        ):
            assert time.monotonic() < deadline, "still waits for the silent peer"
            time.sleep(0.05)


def test_peer_that_closes_at_once_is_a_connection_error(load, thin):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.1)
        ended = threading.Event()

        def close_each():
            while not ended.is_set():
                with contextlib.suppress(socket.timeout):
                    listener.accept()[0].close()

        thread = threading.Thread(target=close_each)
        thread.start()
        try:
            with pytest.raises(ConnectionException, match="DPY-"):
                load({**ENDPOINT, "port": listener.getsockname()[1]})
        finally:
            ended.set()
            thread.join()


def test_connection_that_comes_too_late_is_closed():
    closed, go_on = threading.Event(), threading.Event()

    class Late:
        def close(self):
            closed.set()

    def connect():
        go_on.wait(10)
        return Late()

    with pytest.raises(TimeoutError):
        connect_within(0.1, connect)
    go_on.set()
    assert closed.wait(10)


def test_error_while_connecting_is_passed_on():
    def connect():
        raise KeyError("x")

    with pytest.raises(KeyError):
        connect_within(5, connect)


def _client_library_is_there():
    script = "import cx_Oracle; cx_Oracle.clientversion()"
    return not subprocess.run(
        [sys.executable, "-c", script], check=False, stderr=subprocess.DEVNULL
    ).returncode


@NEEDS_CX_ORACLE
def test_missing_client_library_is_an_error_with_a_remedy(load):
    if _client_library_is_there():
        pytest.skip("this machine has an Oracle client")
    with closed_port() as port, pytest.raises(RasaException) as error:
        load({**ENDPOINT, "port": port, "dialect": "oracle+cx_oracle"})
    for words in ("DPI-1047", "Instant Client", "ldconfig", "pip install oracledb"):
        assert words in str(error.value)
    assert not isinstance(error.value, ConnectionException), "waiting will not help"


def test_thick_mode_without_a_client_library_is_an_error_with_a_remedy(tmp_path):
    """In a process of its own, since a process is thin or thick for good."""
    script = (
        "import sys; sys.modules['cx_Oracle'] = None\n"
        "from rasa_trackers import OracleTrackerStore\n"
        "OracleTrackerStore(url='127.0.0.1', db='X', timeout=2,\n"
        f"  query={{'thick_mode': True, 'lib_dir': {str(tmp_path)!r}}})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        encoding="utf-8",
        timeout=100,
    )
    assert "DPI-1047" in done.stderr
    assert "ldconfig" in done.stderr


@contextlib.contextmanager
def tls_listener(certificates):
    """A listener that wants the client's certificate, notes a request, and closes."""
    requests = []
    context = certificates.server_context(client_certificate_required=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def take():
            try:
                client = listener.accept()[0]
            except socket.timeout:
                return
            client.settimeout(5)
            with client, contextlib.suppress(OSError), context.wrap_socket(
                client, server_side=True
            ) as stream:
                # A long request comes in two packets.
                request = stream.recv(4096) + stream.recv(4096)
                requests.append((stream.getpeercert()["subject"], request))

        def serve():
            while not ended.is_set():
                take()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], requests
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def wallet(certificates, tmp_path):
    (tmp_path / "ewallet.pem").write_bytes(
        Path(certificates.client_file).read_bytes()
        + Path(certificates.ca_file).read_bytes()
    )
    return str(tmp_path)


def test_wallet_lets_the_driver_in(load, thin, certificates, wallet):
    """As far as the request for the service, which goes over TLS."""
    query = {"protocol": "tcps", "wallet_location": wallet, "ssl_server_dn_match": True}
    with tls_listener(certificates) as (port, requests), pytest.raises(
        ConnectionException
    ):
        load({**ENDPOINT, "url": "localhost", "port": port, "query": query})
    subject, request = requests[0]
    assert "client" in str(subject)
    assert b"(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)" in request


def test_server_without_a_certificate_that_the_wallet_knows_is_refused(
    load, thin, certificates
):
    query = {"protocol": "tcps"}
    with tls_listener(certificates) as (port, requests), pytest.raises(
        RasaException, match="Correct the wallet"
    ) as error:
        load({**ENDPOINT, "url": "localhost", "port": port, "query": query})
    assert not isinstance(error.value, ConnectionException), "waiting will not help"
    assert requests == []


# What passes for Oracle's client, in processes that only know one of the drivers

CLIENT_DRIVERS = pytest.mark.parametrize(
    "driver", [pytest.param("cx_Oracle", marks=NEEDS_CX_ORACLE), "oracledb"]
)
WITH_CLIENT = """
import asyncio, sys, threading
from rasa.shared.exceptions import ConnectionException
from rasa_trackers import OracleTrackerStore
from rasa_trackers.sql.oracle import OracleEventLog

driver, folder, port = sys.argv[1:]
sys.modules[{{"cx_Oracle": "oracledb", "oracledb": "cx_Oracle"}}[driver]] = None
options = {{"lib_dir": folder}}
if driver == "oracledb":
    options["thick_mode"] = True

def make(db="FREEPDB1"):
    return OracleTrackerStore(
        url="127.0.0.1", port=port, db=db, timeout=1, query=options
    )

def connects():
    names = [thread.name for thread in threading.enumerate()]
    return names.count("rasa_trackers-connect")

try:
{script}
except ConnectionException as error:
    print("ConnectionException", error)
print(connects(), "still connect")
"""


@pytest.fixture(scope="module")
def client_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    client_library(folder)
    return folder


def with_client(driver, folder, port, script):
    """What a process prints that uses Oracle's client, and what that noted."""
    notes = folder / "notes"
    with contextlib.suppress(FileNotFoundError):
        notes.unlink()
    indented = "".join(f"    {line}\n" for line in script.splitlines())
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITH_CLIENT.format(script=indented)),
            *(driver, str(folder), str(port)),
        ],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env={
            **os.environ,
            NOTES_VARIABLE: str(notes),
            # The Tiny C Compiler does not say that its libraries run no code on the
            # stack, and glibc 2.41 and later load none that may.
            "GLIBC_TUNABLES": "glibc.rtld.execstack=2",
        },
        # The client would wait for as long as the test holds its port silent.
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, notes.read_text(encoding="utf-8").splitlines()


#: The stand-in crashes there when python-oracledb binds a block's variables; it is not
#: known why.
not_on_new_glibc = pytest.mark.skipif(
    tuple(map(int, os.confstr("CS_GNU_LIBC_VERSION").split()[1].split("."))) >= (2, 41),
    reason="the stand-in for Oracle's client crashes with glibc 2.41 and later",
)


@CLIENT_DRIVERS
def test_silent_peer_of_oracles_client_is_given_up(client_folder, driver):
    """Its thread, which nothing can cut, does not keep the process from ending."""
    with silent_port() as port:
        printed, notes = with_client(driver, client_folder, port, "make()")
    assert "ConnectionException Oracle database 'FREEPDB1'" in printed
    assert "within 1 seconds" in printed
    assert "1 still connect" in printed
    (connect,) = notes
    assert connect == (
        "connect (DESCRIPTION=(CONNECT_TIMEOUT=1)(TRANSPORT_CONNECT_TIMEOUT=1)"
        f"(ADDRESS=(PROTOCOL=TCP)(HOST=127.0.0.1)(PORT={port}))"
        "(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)))"
    )


@CLIENT_DRIVERS
def test_silent_peer_of_oracles_client_is_given_up_in_the_midst_of_work(
    client_folder, driver
):
    """A store that is at work connects anew: each call ends, none waits for another."""
    script = """
OracleEventLog.open = lambda log: None
store = make()
async def ask():
    asked = (store.retrieve(name) for name in ("ada", "grace", "joan"))
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        print(type(answer).__name__, answer)
asyncio.run(ask())
"""
    with silent_port() as port:
        printed, notes = with_client(driver, client_folder, port, script)
    assert printed.count("ConnectionException Oracle database 'FREEPDB1'") == 3
    assert "3 still connect" in printed
    assert len(notes) == 3


@CLIENT_DRIVERS
def test_errors_of_oracles_client_are_connection_errors(client_folder, driver):
    with closed_port() as port:
        printed, _ = with_client(driver, client_folder, port, "make()")
    assert "ConnectionException" in printed
    assert "ORA-12541" in printed
    assert "0 still connect" in printed


APPEND = """
import contextlib
import sqlalchemy.exc
from rasa_trackers.event_log import Entry
from rasa_trackers.sql import oracle

oracle._LONGEST_VARCHAR = 32767
OracleEventLog.open = lambda log: None
log = backend_log(make("ANSWERS"))
type(log._engine.dialect).initialize = lambda dialect, connection: None
entry = Entry("x" * %d, "slot", 1753011122.123457, None, "name")
with contextlib.suppress(sqlalchemy.exc.DatabaseError):
    log.append("ada", [entry] * 2, 0)
"""


@not_on_new_glibc
@CLIENT_DRIVERS
def test_append_is_one_call_of_oracles_client(client_folder, driver):
    """By the real driver; types are numbered as in Oracle's ocidfn.h."""
    _, notes = with_client(driver, client_folder, 1, APPEND % 8191)
    assert notes[1:2] == ["prepare DECLARE"]
    assert notes[-1] == "execute"
    binds = {note.split()[1]: note.split()[2:] for note in notes[2:-1]}
    text, number, double = "1", "6", "22"
    assert binds["data_0"] == [text, "32764"]
    assert binds["timestamp_1"] == [double, "8"]
    assert binds["intent_name_1"][0] == text
    assert binds["lock_id"][0] == number
    assert len(binds) == len(notes[2:-1]) == 14, "each name is bound once"


@not_on_new_glibc
@CLIENT_DRIVERS
def test_longer_text_would_be_a_clob_of_oracles_client(client_folder, driver):
    """So the store has a limit for what goes into a block."""
    _, notes = with_client(driver, client_folder, 1, APPEND % 8192)
    assert notes.count("lob") == 2
    assert [note for note in notes if note.startswith("bind data_")] == [
        f"bind data_{number} 112 8" for number in range(2)
    ]
    assert oracle._LONGEST_VARCHAR == 8191


@CLIENT_DRIVERS
def test_many_long_texts_are_one_call_of_oracles_client(client_folder, driver):
    """Without a CLOB that is made for any of them."""
    script = (
        (APPEND % 40_000).partition("with")[0]
        + """
with log._engine.connect() as connection:
    connection.execute(log._insert_events, log._rows("ada", [entry] * 60))
"""
    )
    _, notes = with_client(driver, client_folder, 1, script)
    assert notes[1] == "prepare INSERT"
    binds = {note.split()[1]: note.split()[2] for note in notes[2:-1]}
    assert binds["data"] == "1", "text, and not 112, a CLOB"
    assert binds["timestamp"] == "22"
    assert len(binds) == len(notes[2:-1]) == 6
    assert notes[-1] == "execute"


def test_attempts_that_hang_are_not_without_number():
    go_on = threading.Event()
    attempts = threading.Semaphore(2)
    for _ in range(2):
        with pytest.raises(TimeoutError, match="took no connection"):
            attempt(0.05, lambda: go_on.wait(10), attempts)
    with pytest.raises(TimeoutError, match=r"tnsnames\.ora"):
        attempt(0.05, lambda: 17, attempts)
    go_on.set()
    assert attempt(10, lambda: 17, attempts) == 17


def test_password_is_in_no_error(load, thin, caplog):
    with closed_port() as port, pytest.raises(RasaException) as error:
        load({**ENDPOINT, "port": port, "query": {"wallet_password": "Wa11et"}})
    for secret in (ENDPOINT["password"], "Wa11et"):
        assert secret not in str(error.value) + caplog.text


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_error_is_classified_by_its_code(code):
    log = log_of((19, 3))
    for kind in (h2_driver.DatabaseError, h2_driver.OperationalError):
        cause = kind(f"{code}: something")
        wrapped = sa.exc.DBAPIError.instance(None, None, cause, h2_driver.Error)
        assert log.classify(wrapped) == FAILURES[code]
    log.close()


def test_error_in_a_block_is_classified_by_what_is_in_it():
    text = (
        "ORA-06550: line 4, column 13:\nPL/SQL: ORA-00942: table or view does not exist"
    )
    cause = h2_driver.DatabaseError(text)
    error = sa.exc.DBAPIError.instance(None, None, cause, h2_driver.Error)
    assert codes(error) == ["ORA-06550", "ORA-00942"]
    assert log_of((19, 3)).classify(error) is FAILURES["ORA-00942"]


@pytest.mark.parametrize(
    ("code", "transient"),
    [
        ("ORA-12541", True),
        ("ORA-12514", True),
        ("ORA-03113", True),
        ("ORA-00060", True),
        ("ORA-12170", True),
        ("DPY-6005", True),
        ("DPY-4011", True),
        ("ORA-01017", False),
        ("ORA-01031", False),
        ("ORA-00942", False),
        ("ORA-00001", False),
        ("DPI-1047", False),
    ],
)
def test_what_may_pass_is_tried_again(code, transient):
    assert FAILURES[code].transient is transient


def test_certificate_that_is_refused_is_not_tried_again():
    cause = h2_driver.DatabaseError(
        "DPY-6005: cannot connect to database. [SSL: CERTIFICATE_VERIFY_FAILED]"
    )
    error = sa.exc.DBAPIError.instance(None, None, cause, h2_driver.Error)
    assert not log_of((19, 3)).classify(error).transient


# Rung 4: H2 in Oracle mode


def executed(store, statement):
    with backend_log(store)._engine.connect() as connection:
        try:
            result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else None
        finally:
            connection.connection.commit()


def number_from(store, first):
    """Let the sequence go on with a number."""
    executed(store, "DROP SEQUENCE events_seq")
    executed(store, f"CREATE SEQUENCE events_seq START WITH {first}")


@on_h2
async def test_sql_store_with_an_oracle_dialect_is_the_same(
    make_store, load, endpoint, domain, monkeypatch
):
    without(monkeypatch, "oracledb")
    events = conversation(2, 1)
    await make_store().save(tracker("ada", events))
    for dialect in ("oracle", "oracle+cx_oracle"):
        other = load(
            {**endpoint, "type": "rasa_trackers.SQLTrackerStore", "dialect": dialect},
            domain,
        )
        assert isinstance(backend_log(other), OracleEventLog)
        assert as_dicts(await other.retrieve_full_tracker("ada")) == dicts(events)


@on_oracle
async def test_tables_of_rasas_store_are_used_as_they_are(
    make_store, load, endpoint, domain, eventually
):
    """With FLOAT, and the sequence of the documentation; the index is added."""
    maker = make_store()
    for statement in (
        "DROP TABLE events",
        "DROP SEQUENCE events_seq",
        "CREATE SEQUENCE events_seq",
        (
            "CREATE TABLE events (id INTEGER NOT NULL, sender_id VARCHAR2(255 CHAR)"
            " NOT NULL, type_name VARCHAR2(255 CHAR) NOT NULL, timestamp FLOAT,"
            " intent_name VARCHAR2(255 CHAR), action_name VARCHAR2(255 CHAR),"
            " data CLOB, PRIMARY KEY (id))"
        ),
        "CREATE INDEX ix_events_sender_id ON events (sender_id)",
        (
            "INSERT INTO events (id, sender_id, type_name, timestamp, data) VALUES"
            " (events_seq.nextval, 'ada', 'action', 1.5,"
            ' \'{"event": "action", "timestamp": 1.5, "name": "action_listen"}\')'
        ),
    ):
        executed(maker, statement)
    store = make_store()
    kept = await store.retrieve("ada")
    assert [event.as_dict()["name"] for event in kept.events] == ["action_listen"]
    add(kept, turn())
    await store.save(kept)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)

    async def indexed():
        with backend_log(store)._engine.connect() as connection:
            return backend_log(store)._has_tail_index(connection)

    await eventually(indexed)


@on_oracle
@pytest.mark.parametrize("big", [False, True])
async def test_other_workers_numbers_are_skipped(make_store, big):
    """As on RAC, where a session may draw from another range than the one before."""
    store = make_store()
    backend_log(store).append("ada", [ENTRY] * 3, START)
    number_from(store, 3000)
    last = backend_log(store).append(
        "ada", [ENTRY], backend_log(store).read_back("ada").events[-1][0]
    )
    number_from(store, 2900)
    new = [ENTRY._replace(data=f"{number}") for number in range(60 if big else 3)]
    position = backend_log(store).append("ada", new, last)
    assert position > last
    page = backend_log(store).read_back("ada", len(new))
    assert [stored.data for stored in page.events] == [entry.data for entry in new]


@on_oracle
@pytest.mark.parametrize("big", [False, True])
def test_sequence_that_is_far_behind_is_an_error(make_store, monkeypatch, big):
    monkeypatch.setattr(oracle, "_LARGEST_GAP", 20)
    store = make_store()
    number_from(store, 3000)
    last = backend_log(store).append("ada", [ENTRY], START)
    number_from(store, 2000)
    saved = tracker("ada", conversation(1, 8 if big else 1))
    with pytest.raises(RasaException, match="START WITH"):
        store._calls.run_blocking(
            lambda deadline: store._append(
                deadline,
                "ada",
                store._encode(deadline, list(saved.events)),
                last,
                None,
                False,
                None,
            ),
            timeout=5,
        )
    assert len(backend_log(store).read_back("ada").events) == 1
    backend_log(store).append("grace", [ENTRY], START)


@on_oracle
def test_row_that_stands_for_the_lock_is_never_seen(make_store):
    store, other = make_store(), make_store()
    with backend_log(store)._writing("ada") as connection:
        assert list(backend_log(other).sender_ids()) == []
        assert backend_log(other).read_back("ada").events == []
        assert connection.execute(
            sa.text("SELECT COUNT(*) FROM events WHERE id < 0")
        ).scalar_one()
    assert executed(store, "SELECT COUNT(*) FROM events") == [(0,)]


@on_oracle
def test_append_waits_for_the_one_before_and_sees_what_it_wrote(make_store):
    store, other = make_store(), make_store()
    outcome = []
    with backend_log(store)._writing("ada") as connection:
        thread = threading.Thread(
            target=lambda: outcome.append(
                backend_log(other).append("ada", [ENTRY], START)
            )
        )
        thread.start()
        assert backend_log(other).append("grace", [ENTRY], START), (
            "others are not held up"
        )
        thread.join(0.5)
        assert thread.is_alive(), "it does not wait"
        backend_log(store)._insert(connection, "ada", [ENTRY], START)
    thread.join(10)
    assert outcome == [None]
    assert len(backend_log(store).read_back("ada").events) == 1


#: One block, and several statements.
EITHER_WAY = pytest.mark.parametrize("events", [1, 51])


@on_oracle
@EITHER_WAY
def test_append_writes_only_where_the_log_ends(make_store, events):
    log = backend_log(make_store())
    batch = [ENTRY] * events
    assert log.append("ada", batch, 5) is None
    position = log.append("ada", batch, START)
    assert log.append("ada", batch, START) is None
    assert log.append("ada", batch, position + 1) is None
    log.delete("ada")
    assert log.append("ada", batch, position) is None
    assert log.append("ada", batch, START) > position


@on_oracle
@EITHER_WAY
def test_conversation_that_a_store_without_expiry_went_on_with_is_kept(
    make_store, events
):
    expiring, other = make_store(record_exp=3600), make_store()
    batch = [ENTRY] * events
    position = backend_log(expiring).append("ada", batch, START)
    assert executed(expiring, "SELECT last_id FROM rasa_trackers_expiry") == [
        (position,)
    ]
    position = backend_log(other).append("ada", batch, position)
    executed(expiring, "UPDATE rasa_trackers_expiry SET expires_at = 0")
    position = backend_log(expiring).append("ada", batch, position)
    assert len(backend_log(expiring).read_back("ada").events) == 3 * events
    executed(expiring, "UPDATE rasa_trackers_expiry SET expires_at = 0")
    assert backend_log(expiring).append("ada", batch, position) is None, (
        "it has expired"
    )
    assert backend_log(expiring).append("ada", batch, START) > position
    assert len(backend_log(expiring).read_back("ada").events) == events


@on_h2
@pytest.mark.parametrize(
    ("events", "characters", "expected"),
    [(8, 100, 1), (50, 100, 1), (1, 8191, 1), (1, 8192, 7), (51, 100, 7)],
)
def test_round_trips(make_store, events, characters, expected):
    store = make_store()
    batch = [ENTRY._replace(data="x" * characters)] * events
    backend_log(store).append("ada", batch, START)
    with backend_log(store)._engine.connect() as connection:
        raw = connection.connection.dbapi_connection
    before = raw.round_trips
    backend_log(store).append("grace", batch, START)
    assert raw.round_trips - before == expected
    before = raw.round_trips
    backend_log(store).read_back("grace", 100)
    assert raw.round_trips - before == 1


@on_oracle
async def test_conversation_without_a_sender_id_is_refused(store):
    assert await store.retrieve("") is None
    with pytest.raises(RasaException, match="without a sender id cannot"):
        await store.save(tracker("", turn()))


@on_oracle
def test_worker_that_comes_second_takes_what_the_first_one_made(
    make_store, monkeypatch
):
    """Both have seen that there is nothing."""
    missing = ["events", "events_seq", "rasa_trackers_expiry"]
    if KNOWS_USERS:
        missing.append("users")
    monkeypatch.setattr(OracleEventLog, "_missing", lambda *_: missing)
    first, second = make_store(record_exp=60), make_store(record_exp=60)
    position = backend_log(first).append("ada", [ENTRY], START)
    assert backend_log(second).append("ada", [ENTRY], position) > position


@on_h2
def test_index_of_another_name_is_taken(make_store, monkeypatch):
    """Oracle has one index of the same columns only: ORA-01408."""
    original = h2_driver.Cursor.execute

    def execute(cursor, statement, parameters=None):
        if statement.startswith("CREATE INDEX"):
            raise h2_driver.DatabaseError(
                h2_driver._Error(1408, "such column list already indexed")
            )
        return original(cursor, statement, parameters)

    monkeypatch.setattr(h2_driver.Cursor, "execute", execute)
    assert backend_log(make_store()).append("ada", [ENTRY], START)


@on_oracle
def test_without_create_tables_no_ddl_is_run(make_store, monkeypatch):
    with pytest.raises(RasaException) as error:
        make_store(create_tables=False, record_exp=10)
    message = str(error.value)
    assert "has no events, events_seq, rasa_trackers_expiry" in message
    assert "CREATE SEQUENCE events_seq ORDER;" in message
    assert "oracle.sql" in message
    make_store(create_tables=True)
    statement = []
    monkeypatch.setattr(OracleEventLog, "_create", lambda *_: statement.append(1))
    make_store(create_tables=False)
    assert not statement


@on_oracle
async def test_script_makes_what_a_store_without_ddl_needs(
    make_store, oracle_server, endpoint
):
    script = Path(oracle.__file__).with_name("oracle.sql").read_text(encoding="utf-8")
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    for statement in "\n".join(lines).split(";"):
        if statement.strip():
            oracle_server.execute(endpoint["db"], statement.strip())
    store = make_store(create_tables=False, record_exp=100)
    saved = tracker("ada", conversation(1, 1))
    await store.save(saved)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)
    with backend_log(store)._engine.connect() as connection:
        assert backend_log(store)._has_tail_index(connection)


@on_oracle
async def test_missing_index_is_a_warning_where_no_ddl_is_wanted(
    make_store, caplog, eventually
):
    executed(make_store(), "DROP INDEX ix_events_sender_id_id")
    make_store(create_tables=False)

    async def warned():
        return "run: CREATE INDEX ix_events_sender_id_id ON events" in caplog.text

    await eventually(warned)


@on_h2
@pytest.mark.parametrize("code", ["ORA-01031", "ORA-01950"])
def test_user_without_rights_gets_the_script(make_store, monkeypatch, code):
    original = h2_driver.Cursor.execute

    def execute(cursor, statement, parameters=None):
        if statement.startswith("CREATE"):
            raise h2_driver.DatabaseError(
                h2_driver._Error(int(code[4:]), "insufficient privileges")
            )
        return original(cursor, statement, parameters)

    monkeypatch.setattr(h2_driver.Cursor, "execute", execute)
    with pytest.raises(RasaException) as error:
        make_store()
    assert code in str(error.value)
    assert "CREATE TABLE events (" in str(error.value)


@on_h2
async def test_schema_of_another_owner(make_store):
    executed(make_store(), "CREATE SCHEMA rasa_data")
    store = make_store(schema="RASA_DATA")
    saved = tracker("ada", conversation(1, 1))
    await store.save(saved)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)
    assert executed(store, "SELECT COUNT(*) FROM rasa_data.events") != [(0,)]
    assert await make_store().retrieve("ada") is None


@on_oracle
def test_unknown_service_is_a_connection_error(make_store):
    with pytest.raises(ConnectionException, match=r"(ORA-12514|DPY-6001).*lsnrctl"):
        make_store(db="no_such_service", timeout=1)


@on_oracle
def test_all_that_a_store_sends_is_looked_at(make_store):
    """With what SQLAlchemy adds, from the first connection on."""
    sent = set()

    def note(_connection, _cursor, sql, *_rest):
        sent.add(sql)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    try:
        store = make_store(record_exp=60)
        backend_log(store).append("ada", [ENTRY], START)
        backend_log(store).append("grace", [ENTRY] * 51, START)
        executed(store, "UPDATE rasa_trackers_expiry SET expires_at = 0")
        backend_log(store).purge_expired()
        end = backend_log(store).append("ada", [ENTRY] * 8, START)
        backend_log(store).replace("ada", [ENTRY], end)
        page = backend_log(store).read_back("ada", 1)
        backend_log(store).read_back("ada", 1, page.events[0].position)
        backend_log(store).read_back("ada")
        backend_log(store).sender_ids()
        backend_log(store).count_conversations(0.0)
        if KNOWS_USERS:
            backend_log(store).append(
                "ada", [], page.events[-1].position, User("u", 1.0)
            )
            assert backend_log(store).conversations_of("u", 1)
        backend_log(store).delete("ada")
        backend_log(store)._create_tail_index()
        with backend_log(store)._engine.connect() as connection:
            assert backend_log(store)._is_small(connection)
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)
    kinds = {re.match(r"\s*(\w+)", sql).group(1).upper() for sql in sent}
    assert kinds == {"CREATE", "DECLARE", "DELETE", "INSERT", "SELECT", "UPDATE"}
    for sql in sent:
        assert syntax_errors(sql.replace("OFFSET 0 ROWS", "")) == [], sql
        assert complaints(looked_at(sql)) == [], sql


@on_oracle
def test_only_the_index_may_take_longer_than_a_call(make_store):
    store = make_store()
    log = backend_log(store)
    index = log._tables.tail_index.name
    executed(store, f"DROP INDEX {index}")
    limits = {}

    def note(connection, _cursor, sql, *_rest):
        limits[sql.split()[0]] = connection.connection.dbapi_connection.call_timeout

    sa.event.listen(log._engine, "before_cursor_execute", note)
    log._create_tail_index()
    assert limits == {"CREATE": 0}
    with log._engine.connect() as connection:
        assert log._has_tail_index(connection)
    # That connection is not used for anything else.
    for number in range(10):
        log.append(str(number), [ENTRY], START)
        assert limits["DECLARE"] == 10_000


@on_oracle
async def test_timestamps_come_back_to_the_microsecond(store):
    events = turn()
    for number, event in enumerate(events):
        event.timestamp = 1753011122.123457 + number / 1_000_000
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)
    column = executed(store, "SELECT timestamp FROM events ORDER BY id")
    assert [float(value) for (value,) in column] == [e.timestamp for e in events]


# Rung 5: a real server, which all that is marked with on_oracle, and the suites of all
# stores, run on where TEST_ORACLE_URL or --docker names one


def test_suites_run_on_an_oracle_server(oracle_server):
    if isinstance(oracle_server, H2Server):
        pytest.skip(
            "no Oracle server: H2 stands in for it, without TEST_ORACLE_URL or --docker"
        )
    assert "Oracle" in oracle_server.version()


def run_suite(folder, *arguments, **environment):
    """A test run that takes H2's driver for the real ones."""
    checkout = Path(__file__).parents[1]
    servers = checkout / "tests" / "servers"
    path = [str(servers / "h2_modules"), str(servers.parent)]
    path += filter(None, [os.environ.get("PYTHONPATH")])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"),
            *("-c", str(checkout / "pyproject.toml"), *arguments),
        ],
        check=False,
        # Not the checkout, whose sources would be tested instead of the wheel.
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=200,
    )
    return done.returncode, done.stdout


@pytest.fixture
def passes_for_oracle(h2_server):
    """A database as the containers have it, behind what passes for their drivers."""
    name = h2_server.create_database("FREEPDB1", "rasa", "rasa")
    yield f"rasa:rasa@{h2_server.host}:{h2_server.port}/?service_name={name}"
    h2_server.drop_database(name, "rasa", "rasa")


#: A small part of it.
SUITE = (str(Path(__file__).with_name("test_event_log.py")), "-k", "oracle and append")


def test_suite_runs_on_the_server_of_the_url(passes_for_oracle, h2_server, tmp_path):
    url = f"oracle+cx_oracle://{passes_for_oracle}"
    code, printed = run_suite(tmp_path, *SUITE, TEST_ORACLE_URL=url)
    assert code == 0, printed
    assert " passed" in printed
    assert " skipped" not in printed

    # All in one schema, which each test has left as it was.
    with contextlib.closing(h2_server._connect("FREEPDB1", "rasa", "rasa")) as raw:
        cursor = raw.cursor()
        cursor.execute("SELECT object_name FROM user_objects")
        assert cursor.fetchall() == []
        cursor.execute("CREATE TABLE mine (x INTEGER)")
        raw.commit()
    code, printed = run_suite(tmp_path, *SUITE, TEST_ORACLE_URL=url)
    assert code == 1, "a schema that somebody uses"
    assert "need an empty schema, and rasa's has MINE" in printed
    assert " passed" not in printed


def test_suite_runs_on_the_container_of_a_docker_engine(
    passes_for_oracle, h2_server, tmp_path
):
    """pytest-docker's commands go to a program that knows one port."""
    engine = tmp_path / "docker"
    engine.write_text(
        '#!/bin/sh\necho "$@" >> "$0.log"\n'
        f'case "$*" in *"port oracle 1521") echo 127.0.0.1:{h2_server.port};; esac\n'
    )
    engine.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    code, printed = run_suite(
        tmp_path, *SUITE, "--docker", PATH=path, TEST_ORACLE_URL=""
    )
    assert code == 0, printed
    assert " passed" in printed
    assert " skipped" not in printed
    asked = engine.with_name("docker.log").read_text()
    assert re.search(r"^compose .*/docker-compose.yml .* up --wait .*oracle", asked)
    assert asked.splitlines()[-1].endswith("down -v")
