"""H2 in its Oracle mode, or an Oracle server where there is one."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from rasa.shared.exceptions import ConnectionException, RasaException

from conversations import add, as_dicts, conversation, dicts, tracker, turn
from oracle.grammar import complaints, looked_at, syntax_errors
from oracle.oracle_logs import (
    ENTRY,
    on_h2,
    on_oracle,
    without,
)
from rasa_api import backend_log
from rasa_trackers.event_log import START, User
from rasa_trackers.rasa_versions import KNOWS_USERS
from rasa_trackers.sql.oracle import setup
from rasa_trackers.sql.oracle import statements as oracle_statements
from rasa_trackers.sql.oracle.log import OracleEventLog
from servers import h2_driver


def executed(store, statement):
    with backend_log(store).engine.connect() as connection:
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
    """The table has FLOAT and the sequence of the documentation; the index is added."""
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
        with backend_log(store).engine.connect() as connection:
            return setup.has_tail_index(backend_log(store), connection)

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
    monkeypatch.setattr(oracle_statements, "LARGEST_GAP", 20)
    store = make_store()
    number_from(store, 3000)
    last = backend_log(store).append("ada", [ENTRY], START)
    number_from(store, 2000)
    with pytest.raises(RasaException, match="START WITH"):
        backend_log(store).append("ada", [ENTRY] * (60 if big else 1), last)
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
    thread.join(60)
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
    [(8, 100, 1), (50, 100, 1), (1, 8191, 1), (1, 8192, 6), (51, 100, 6)],
)
def test_round_trips(make_store, events, characters, expected):
    store = make_store()
    batch = [ENTRY._replace(data="x" * characters)] * events
    backend_log(store).append("ada", batch, START)
    with backend_log(store).engine.connect() as connection:
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
    monkeypatch.setattr(setup, "missing_objects", lambda *_: missing)
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
    monkeypatch.setattr(setup, "create", lambda *_: statement.append(1))
    make_store(create_tables=False)
    assert not statement


@on_oracle
async def test_script_makes_what_a_store_without_ddl_needs(
    make_store, oracle_server, endpoint
):
    script = Path(setup.__file__).with_name("oracle.sql").read_text(encoding="utf-8")
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    for statement in "\n".join(lines).split(";"):
        if statement.strip():
            oracle_server.execute(endpoint["db"], statement.strip())
    store = make_store(create_tables=False, record_exp=100)
    saved = tracker("ada", conversation(1, 1))
    await store.save(saved)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)
    with backend_log(store).engine.connect() as connection:
        assert setup.has_tail_index(backend_log(store), connection)


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
    """SQLAlchemy's additions are there from the first connection on."""
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
        assert list(backend_log(store).sender_ids())
        assert list(backend_log(store).count_conversations(0.0))
        if KNOWS_USERS:
            backend_log(store).append(
                "ada", [], page.events[-1].position, User("u", 1.0)
            )
            assert backend_log(store).conversations_of("u", 1)
        backend_log(store).delete("ada")
        setup.create_tail_index(backend_log(store))
        with backend_log(store).engine.connect() as connection:
            assert setup.is_small(backend_log(store), connection)
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
    index = log.tables.tail_index.name
    executed(store, f"DROP INDEX {index}")
    limits = {}

    def note(connection, _cursor, sql, *_rest):
        limits[sql.split()[0]] = connection.connection.dbapi_connection.call_timeout

    sa.event.listen(log.engine, "before_cursor_execute", note)
    setup.create_tail_index(log)
    assert limits == {"CREATE": 0}
    with log.engine.connect() as connection:
        assert setup.has_tail_index(log, connection)
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
