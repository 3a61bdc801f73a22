"""What a driver is asked to do, by a module that passes for one and writes it down."""

from __future__ import annotations

import re
import sys
import threading
import time
import types
from concurrent import futures

import pytest
import sqlalchemy as sa
from sqlalchemy.engine.url import make_url

from oracle.oracle_logs import (
    ENTRY,
)
from rasa_trackers.event_log import START
from rasa_trackers.sql.oracle.address import place
from rasa_trackers.sql.oracle.engine import oracle_engine
from rasa_trackers.sql.oracle.log import OracleEventLog
from rasa_trackers.sql.oracle.statements import lock_id
from rasa_trackers.sql.schema import tables
from servers import h2_driver


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
        "rasa_trackers.sql.oracle.engine.time",
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
    with recorded.engine.connect() as connection:
        raw = connection.connection.dbapi_connection
    var = raw.outputtypehandler(raw.cursor(), "DATA", h2_driver.CLOB, 0, 0, 0)
    assert var.type not in (h2_driver.CLOB, None)


def test_no_call_is_under_way_during_a_fork(recorded):
    """A child inherits the locks of Oracle's client, and no thread that holds them."""
    begun, go_on = threading.Event(), threading.Event()

    def call():
        with recorded.engine.connect():
            begun.set()
            go_on.wait(60)

    with futures.ThreadPoolExecutor(3) as threads:
        threads.submit(call)
        assert begun.wait(60)
        waits = threads.submit(recorded.before_fork)
        with pytest.raises(futures.TimeoutError):
            waits.result(0.2)
        go_on.set()
        waits.result(60)
        later = threads.submit(recorded.append, "ada", [ENTRY], START)
        with pytest.raises(futures.TimeoutError):
            later.result(0.2)
        recorded.after_fork()
        assert later.result(60) == 17
