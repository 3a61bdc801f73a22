"""Oracle, as far as it goes without a server of Oracle's.

Each section is a rung of a ladder: the SQL that is sent, what a driver is asked to do,
real drivers against listeners that fail, H2 in Oracle mode, and a real server where
``TEST_ORACLE_URL`` names one. The suites for all stores run on H2 as well.
"""

from __future__ import annotations

import contextlib
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
from rasa.utils.endpoints import EndpointConfig
from sqlalchemy.engine.url import make_url

from conversations import add, as_dicts, conversation, dicts, tracker, turn
from rasa_api import TrackerStore
from rasa_trackers.event_log import START, Entry
from rasa_trackers.sql import oracle
from rasa_trackers.sql.connection import engine_url
from rasa_trackers.sql.oracle import FAILURES, OracleEventLog, codes, lock_id
from rasa_trackers.sql.oracle_connection import (
    choose_driver,
    connect_within,
    oracle_engine,
    place,
)
from rasa_trackers.sql.schema import tables
from servers import h2_driver
from servers.silent import closed_port, silent_port, unreachable_port

GOLDEN = Path(__file__).with_name("golden")
ENTRY = Entry('{"event": "slot"}', "slot", 1753011122.123457, None, "name")

on_oracle = pytest.mark.parametrize("backend", ["oracle"], indirect=True)


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
        )
    }
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
    return OracleEventLog(engine, tables(schema), name="Oracle", record_exp=60.0)


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
    r"\bOFFSET\b": "OFFSET without FETCH",
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


@pytest.mark.parametrize("version", [(11, 2), (19, 3)], ids=["11.2", "19.3"])
def test_sql_has_nothing_that_oracle_rejects(version):
    for name, sql in statements(log_of(version)).items():
        # Clauses of PL/SQL are not SQL's.
        assert complaints(sql) == [], name
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


@pytest.mark.parametrize(
    "entries",
    [
        [ENTRY._replace(data="x" * 40_000)],
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
    with store._log._engine.connect() as connection:
        try:
            result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else None
        finally:
            connection.connection.commit()


@on_oracle
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
        assert isinstance(other._log, OracleEventLog)
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
        with store._log._engine.connect() as connection:
            return store._log._has_tail_index(connection)

    await eventually(indexed)


@on_oracle
@pytest.mark.parametrize("big", [False, True])
async def test_other_workers_numbers_are_skipped(make_store, big):
    """As on RAC, where a session may draw from another range than the one before."""
    store = make_store()
    store._log.append("ada", [ENTRY] * 3, START)
    executed(store, "ALTER SEQUENCE events_seq RESTART WITH 3000")
    last = store._log.append("ada", [ENTRY], store._log.read_back("ada").events[-1][0])
    executed(store, "ALTER SEQUENCE events_seq RESTART WITH 2900")
    new = [ENTRY._replace(data=f"{number}") for number in range(60 if big else 3)]
    position = store._log.append("ada", new, last)
    assert position > last
    page = store._log.read_back("ada", len(new))
    assert [stored.data for stored in page.events] == [entry.data for entry in new]


@on_oracle
@pytest.mark.parametrize("big", [False, True])
def test_sequence_that_is_far_behind_is_an_error(make_store, monkeypatch, big):
    monkeypatch.setattr(oracle, "_LARGEST_GAP", 20)
    store = make_store()
    executed(store, "ALTER SEQUENCE events_seq RESTART WITH 3000")
    last = store._log.append("ada", [ENTRY], START)
    executed(store, "ALTER SEQUENCE events_seq RESTART WITH 2000")
    saved = tracker("ada", conversation(1, 8 if big else 1))
    with pytest.raises(RasaException, match="START WITH"):
        store._calls.run_blocking(
            lambda deadline: store._append(
                deadline,
                "ada",
                store._encode(deadline, list(saved.events)),
                last,
                False,
            ),
            timeout=5,
        )
    assert len(store._log.read_back("ada").events) == 1
    store._log.append("grace", [ENTRY], START)


@on_oracle
def test_row_that_stands_for_the_lock_is_never_seen(make_store):
    store, other = make_store(), make_store()
    with store._log._writing("ada") as connection:
        assert list(other._log.sender_ids()) == []
        assert other._log.read_back("ada").events == []
        assert connection.execute(
            sa.text("SELECT COUNT(*) FROM events WHERE id < 0")
        ).scalar_one()
    assert executed(store, "SELECT COUNT(*) FROM events") == [(0,)]


@on_oracle
def test_append_waits_for_the_one_before_and_sees_what_it_wrote(make_store):
    store, other = make_store(), make_store()
    outcome = []
    with store._log._writing("ada") as connection:
        thread = threading.Thread(
            target=lambda: outcome.append(other._log.append("ada", [ENTRY], START))
        )
        thread.start()
        assert other._log.append("grace", [ENTRY], START), "others are not held up"
        thread.join(0.5)
        assert thread.is_alive(), "it does not wait"
        store._log._insert(connection, "ada", [ENTRY], START)
    thread.join(10)
    assert outcome == [None]
    assert len(store._log.read_back("ada").events) == 1


#: One block, and several statements.
EITHER_WAY = pytest.mark.parametrize("events", [1, 51])


@on_oracle
@EITHER_WAY
def test_append_writes_only_where_the_log_ends(make_store, events):
    log = make_store()._log
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
    position = expiring._log.append("ada", batch, START)
    assert executed(expiring, "SELECT last_id FROM rasa_trackers_expiry") == [
        (position,)
    ]
    position = other._log.append("ada", batch, position)
    executed(expiring, "UPDATE rasa_trackers_expiry SET expires_at = 0")
    position = expiring._log.append("ada", batch, position)
    assert len(expiring._log.read_back("ada").events) == 3 * events
    executed(expiring, "UPDATE rasa_trackers_expiry SET expires_at = 0")
    assert expiring._log.append("ada", batch, position) is None, "it has expired"
    assert expiring._log.append("ada", batch, START) > position
    assert len(expiring._log.read_back("ada").events) == events


@on_oracle
@pytest.mark.parametrize("events", [8, 50])
def test_round_trips(make_store, events):
    store = make_store()
    store._log.append("ada", [ENTRY] * events, START)
    with store._log._engine.connect() as connection:
        raw = connection.connection.dbapi_connection
    before = raw.round_trips
    store._log.append("grace", [ENTRY] * events, START)
    assert raw.round_trips - before == 1
    before = raw.round_trips
    store._log.read_back("grace", 100)
    assert raw.round_trips - before == 1


@on_oracle
async def test_conversation_without_a_sender_id_is_refused(store):
    assert await store.retrieve("") is None
    with pytest.raises(RasaException, match="without a sender id cannot"):
        await store.save(tracker("", turn()))


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
    make_store, h2_server, endpoint
):
    script = Path(oracle.__file__).with_name("oracle.sql").read_text(encoding="utf-8")
    connection = h2_server._connect(endpoint["db"])
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    for statement in "\n".join(lines).split(";"):
        if statement.strip():
            connection.cursor().execute(statement.strip())
    connection.commit()
    connection.close()
    store = make_store(create_tables=False, record_exp=100)
    saved = tracker("ada", conversation(1, 1))
    await store.save(saved)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)
    with store._log._engine.connect() as connection:
        assert store._log._has_tail_index(connection)


@on_oracle
async def test_missing_index_is_a_warning_where_no_ddl_is_wanted(
    make_store, caplog, eventually
):
    executed(make_store(), "DROP INDEX ix_events_sender_id_id")
    make_store(create_tables=False)

    async def warned():
        return "run: CREATE INDEX ix_events_sender_id_id ON events" in caplog.text

    await eventually(warned)


@on_oracle
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


@on_oracle
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
    with pytest.raises(ConnectionException, match=r"ORA-12514.*lsnrctl"):
        make_store(db="no_such_service", timeout=1)


@on_oracle
async def test_timestamps_come_back_to_the_microsecond(store):
    events = turn()
    for number, event in enumerate(events):
        event.timestamp = 1753011122.123457 + number / 1_000_000
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve("ada")) == dicts(events)
    column = executed(store, "SELECT timestamp FROM events ORDER BY id")
    assert [float(value) for (value,) in column] == [e.timestamp for e in events]


# Rung 5: a real server


@pytest.fixture
def oracle_server(domain):
    """The store of ``TEST_ORACLE_URL``: a complete URL, of one who may create tables.

    Such as ``oracle+cx_oracle://rasa:pw@localhost:1521/?service_name=FREEPDB1``, with
    the image gvenzl/oracle-free:23-slim-faststart.
    """
    url = os.environ.get("TEST_ORACLE_URL")
    if not url:
        pytest.skip("no Oracle server: TEST_ORACLE_URL is not set")
    stores = []

    def make(**options):
        endpoint = {"type": "rasa_trackers.OracleTrackerStore", "url": url, **options}
        stores.append(TrackerStore.create(EndpointConfig(**endpoint), domain))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


async def test_real_server_keeps_a_conversation(oracle_server):
    store = oracle_server(record_exp=3600)
    sender_id = f"test-{time.time()}"
    events = conversation(2, 3)
    try:
        await store.save(tracker(sender_id, events))
        kept = await store.retrieve_full_tracker(sender_id)
        assert as_dicts(kept) == dicts(events)
        new = turn("x" * 100_000)
        add(kept, new)
        await store.save(kept)
        again = await oracle_server().retrieve_full_tracker(sender_id)
        assert as_dicts(again) == dicts(events + new)
        assert store._log.append(sender_id, [ENTRY], START) is None
        assert sender_id in await store.keys()
    finally:
        store._log.delete(sender_id)


async def test_real_server_serialises_appends(oracle_server):
    store, other = oracle_server(), oracle_server()
    sender_id = f"test-{time.time()}"
    outcomes = []

    def append(log):
        outcomes.append(log.append(sender_id, [ENTRY] * 8, START))

    try:
        for _ in range(20):
            threads = [
                threading.Thread(target=append, args=(each._log,))
                for each in (store, other) * 2
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert len([outcome for outcome in outcomes if outcome]) == 1
            assert len(store._log.read_back(sender_id).events) == 8
            store._log.delete(sender_id)
            outcomes.clear()
    finally:
        store._log.delete(sender_id)
