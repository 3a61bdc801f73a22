"""Oracle's logs that are connected to nothing, and what they send."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy.engine.url import make_url

from rasa_trackers.event_log import Entry
from rasa_trackers.sql.oracle.address import place
from rasa_trackers.sql.oracle.engine import oracle_engine
from rasa_trackers.sql.oracle.log import OracleEventLog
from rasa_trackers.sql.schema import tables
from servers import h2_driver

ENTRY = Entry('{"event": "slot"}', "slot", 1753011122.123457, None, "name")

on_oracle = pytest.mark.parametrize("backend", ["oracle"], indirect=True)


def on_h2(test):
    return pytest.mark.usefixtures("only_h2")(on_oracle(test))


def statements(log):
    """All SQL that a log sends in its work, by name."""
    compiled = {
        name: str(getattr(log.statements, name).compile(log.engine))
        for name in (
            "read_newest",
            "read_newest_before",
            "read_all",
            "read_all_before",
            "newest_id",
            "delete_events",
            "delete_replaced",
            "expired",
            "overdue",
            "delete_expiry",
            "insert_expiry",
            "keep_expiry",
            "delete_overdue",
            "lock",
            "unlock",
            "draw",
            "insert_events",
            "delete_user",
            "insert_user",
            "change_user",
            "texts",
            "sender_ids",
            "active",
            "lowest_id",
        )
    }
    theirs = log.statements.conversations_of("u", 10, 5)
    compiled["conversations_of"] = str(theirs.compile(log.engine))
    compiled["block of 2"] = str(log.append_block.whole(2).compile(log.engine))
    compiled["comparison"] = str(log.append_block.comparison().compile(log.engine))
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
    names = tables(schema)
    return OracleEventLog(engine, names, name="Oracle", record_exp=60.0)


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
