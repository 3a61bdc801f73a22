"""What is special to SQL: Rasa's own tables, both ways, and what is created when."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from rasa.shared.core.events import SlotSet
from rasa.shared.exceptions import RasaException

from backends import BACKENDS
from conversations import (
    add,
    as_dicts,
    conversation,
    dicts,
    session_start,
    tracker,
    turn,
)
from rasa_api import backend_log
from rasa_trackers.codec import encode
from rasa_trackers.event_log import START, Entry
from rasa_trackers.rasa_versions import KNOWS_USERS
from rasa_trackers.sql.postgresql import setup
from rasa_trackers.sql.rows import row
from rasa_trackers.sql.schema import tables
from rasa_trackers.sql.store import SQLTrackerStore

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request):
    return BACKENDS[request.param]


@pytest.fixture
def rasas_store(load, endpoint, domain):
    """Rasa's own store on the same database."""
    return lambda: load({**endpoint, "type": "SQL"}, domain)


def rows(store, statement, **parameters):
    with backend_log(store).engine.connect() as connection:
        return [
            tuple(row) for row in connection.execute(sa.text(statement), parameters)
        ]


def has_tail_index(store):
    return setup.has_tail_index(backend_log(store))


def indexes(store):
    inspector = sa.inspect(backend_log(store).engine)
    return {
        index["name"]: index["column_names"]
        for index in inspector.get_indexes("events")
    }


def entry(timestamp=1.0):
    return Entry('{"event": "slot"}', "slot", timestamp, None, None)


# Rasa's own store


async def test_what_rasas_store_wrote_is_read_and_continued(make_store, rasas_store):
    old = rasas_store()
    first = conversation(1, 2)
    await old.save(tracker("ada", first))
    store = make_store()
    assert as_dicts(await store.retrieve("ada")) == dicts(first)
    assert list(await store.keys()) == ["ada"]
    retrieved = await store.retrieve("ada")
    new = turn()
    add(retrieved, new)
    await store.save(retrieved)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(first + new)


async def test_rasas_store_reads_and_continues_what_this_one_wrote(
    make_store, rasas_store
):
    events = conversation(1, 2)
    await make_store().save(tracker("ada", events))
    old = rasas_store()
    assert as_dicts(await old.retrieve_full_tracker("ada")) == dicts(events)
    retrieved = await old.retrieve_full_tracker("ada")
    new = turn()
    add(retrieved, new)
    # That of Rasa 3.6 counts from ``session_started`` on, so it is given that part.
    first = 0 if KNOWS_USERS else 1
    await old.save(tracker("ada", list(retrieved.events)[first:]))
    assert as_dicts(await make_store().retrieve_full_tracker("ada")) == dicts(
        events + new
    )


async def test_rows_are_those_of_rasas_store(make_store, rasas_store):
    events = conversation(1, 2)
    await rasas_store().save(tracker("theirs", events))
    await make_store().save(tracker("ours", events))
    columns = "type_name, timestamp, intent_name, action_name, data"
    statement = f"SELECT {columns} FROM events WHERE sender_id = :sender_id ORDER BY id"
    store = make_store()
    assert rows(store, statement, sender_id="ours") == rows(
        store, statement, sender_id="theirs"
    )


async def test_tables_are_those_of_rasas_store(
    make_store, rasas_store, backend, request
):
    with backend.database(request) as database:
        other = database.endpoint()
        rasas = rasas_store()
        theirs = sa.inspect(rasas.engine)
        ours = make_store(**{key: value for key, value in other.items() if key == "db"})
        mine = sa.inspect(backend_log(ours).engine)
        assert [_described(column) for column in mine.get_columns("events")] == [
            _described(column) for column in theirs.get_columns("events")
        ]
        # SQLite's own note of the ids that were given out.
        names = set(mine.get_table_names()) - {"sqlite_sequence"}
        expected = {"events", "users"} if KNOWS_USERS else {"events"}
        assert names == set(theirs.get_table_names()) == expected
        assert mine.get_pk_constraint("events") == theirs.get_pk_constraint("events")
        ours.close()


def _described(column):
    return column["name"], str(column["type"]), column["nullable"]


# Starting


def test_new_database_gets_the_indexes(make_store, backend):
    found = indexes(make_store())
    assert found["ix_events_sender_id"] == ["sender_id"]
    if backend.name == "postgresql":
        assert found["ix_events_sender_id_id"] == ["sender_id", "id"]


@on_postgresql
async def test_database_of_rasas_store_gets_the_index(
    make_store, rasas_store, eventually
):
    await rasas_store().save(tracker("ada", conversation(1, 1)))
    store = make_store()

    async def there():
        return has_tail_index(store)

    await eventually(there)
    assert indexes(store)["ix_events_sender_id_id"] == ["sender_id", "id"]


@on_postgresql
async def test_index_is_built_while_others_write(
    make_store, rasas_store, endpoint, eventually
):
    """CREATE INDEX CONCURRENTLY waits for transactions, and nobody waits for it."""
    old = rasas_store()
    await old.save(tracker("ada", conversation(1, 1)))
    with old.engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO events (sender_id, type_name) VALUES ('x', 'slot')")
        )
        store = make_store()
        kept = await store.retrieve("ada")
        add(kept, turn())
        await store.save(kept)
        assert not has_tail_index(store)

    async def there():
        return has_tail_index(store)

    await eventually(there)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


@on_postgresql
async def test_smallest_pool_is_enough_to_create_the_index(
    make_store, rasas_store, monkeypatch, eventually
):
    await rasas_store().save(tracker("ada", conversation(1, 1)))
    monkeypatch.setenv("POSTGRESQL_POOL_SIZE", "1")
    monkeypatch.setenv("POSTGRESQL_MAX_OVERFLOW", "0")
    store = make_store(timeout=3)

    async def there():
        assert await store.retrieve("ada")
        return has_tail_index(store)

    await eventually(there)


@on_postgresql
async def test_index_is_built_whatever_the_servers_statement_timeout(
    make_store, rasas_store, endpoint, postgres_server, eventually
):
    with postgres_server.administrator(
        endpoint["db"]
    ) as connection, connection.cursor() as cursor:
        cursor.execute(
            f'ALTER DATABASE "{endpoint["db"]}" SET statement_timeout TO 300'
        )
    old = rasas_store()
    await old.save(tracker("ada", conversation(1, 1)))
    with old.engine.begin() as connection:
        # It is waited for longer than a statement may take.
        connection.execute(
            sa.text("INSERT INTO events (sender_id, type_name) VALUES ('x', 'slot')")
        )
        store = make_store()
        await asyncio.sleep(0.6)

    async def there():
        return has_tail_index(store)

    await eventually(there)


@on_postgresql
def test_sequence_that_hands_out_blocks_is_refused(
    make_store, endpoint, postgres_server
):
    """Its numbers do not have the order of the appends."""
    make_store()
    with postgres_server.connect(
        endpoint["db"]
    ) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER SEQUENCE events_id_seq CACHE 20")
    with pytest.raises(RasaException, match=r"ALTER SEQUENCE events_id_seq CACHE 1"):
        make_store()


@on_postgresql
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_database_of_another_encoding(load, endpoint, postgres_server, encoding):
    name = f"{endpoint['db']}_{encoding.lower()}"
    with contextlib.closing(postgres_server.administrator()) as connection:
        connection.cursor().execute(
            f'CREATE DATABASE "{name}" OWNER {endpoint["username"]} '
            f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        )
    try:
        store = load({**endpoint, "db": name})
        events = [*session_start(), SlotSet("日本", "語", 1.0), *turn("日本")]
        await store.save(tracker("ada", events))
        assert as_dicts(await store.retrieve("ada")) == dicts(events)
        store.close()
    finally:
        postgres_server.drop_database(name)


@on_postgresql
async def test_index_whose_build_was_broken_off_is_built_again(
    make_store, rasas_store, eventually
):
    old = rasas_store()
    with old.engine.connect().execution_options(
        isolation_level="AUTOCOMMIT"
    ) as connection:
        for _ in range(2):
            connection.execute(
                sa.text(
                    "INSERT INTO events (sender_id, type_name) VALUES ('x', 'slot')"
                )
            )
        # As after a crash: an index of this name that is not valid.
        with pytest.raises(sa.exc.IntegrityError):
            connection.execute(
                sa.text(
                    "CREATE UNIQUE INDEX CONCURRENTLY ix_events_sender_id_id "
                    "ON events (sender_id)"
                )
            )
    store = make_store()

    async def there():
        return has_tail_index(store)

    await eventually(there)
    assert indexes(store)["ix_events_sender_id_id"] == ["sender_id", "id"]


@on_postgresql
async def test_index_that_may_not_be_created_is_a_warning(
    make_store, rasas_store, endpoint, postgres_server, caplog, eventually
):
    rasas_store()
    with postgres_server.administrator(
        endpoint["db"]
    ) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE events OWNER TO postgres")
        # What the manual calls enough.
        user = endpoint["username"]
        cursor.execute(f"REVOKE ALL ON events, events_id_seq FROM {user}")
        cursor.execute(f"GRANT SELECT, INSERT, DELETE ON events TO {user}")
        cursor.execute(f"GRANT USAGE ON SEQUENCE events_id_seq TO {user}")
    store = make_store()

    async def warned():
        return "CREATE INDEX CONCURRENTLY ix_events_sender_id_id" in caplog.text

    await eventually(warned)
    saved = tracker("ada", session_start())
    await store.save(saved)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)


@on_postgresql
@pytest.mark.parametrize(
    "statistics", [None, "ANALYZE events", "VACUUM ANALYZE events"]
)
def test_the_index_is_used_whatever_the_statistics_say(make_store, statistics):
    log = backend_log(make_store())
    entry = encode(session_start()[0])
    append = log._append_statement.build("old", [row("old", entry)], 10_000)
    read = log.statements
    reads = [
        read.read_newest,
        read.read_newest_before,
        read.read_all,
        read.read_all_before,
        read.newest_id,
    ]
    mine = {"sender_id": "old", "limit": 100, "before": 9_000, "param_1": 1}
    with log.engine.connect() as connection:
        # One conversation with much of all events, and newer ones of others.
        for first, name in ((1, "'old'"), (10_001, "'user-' || number / 30")):
            connection.exec_driver_sql(
                f"INSERT INTO events (sender_id, type_name, data) SELECT {name}, '', "
                f"repeat('x', 300) FROM generate_series({first}, {3 * first + 9_999}) "
                f"AS number ORDER BY number"
            )
        if statistics:
            connection.exec_driver_sql(statistics)
        queries = [(str(read.compile(log.engine)), mine) for read in reads]
        queries.append(append)
        for query, values in queries:
            found = connection.exec_driver_sql(f"EXPLAIN {query}", values).scalars()
            plan = "\n".join(found)
            assert "ix_events_sender_id_id" in plan, plan
            assert "Sort" not in plan, plan


def test_several_workers_start_at_once_on_a_database_of_rasas_store(
    endpoint, rasas_store, writers
):
    """On an empty one: ``test_four_writers_begin_on_an_empty_database``."""
    rasas_store()
    task = {
        "endpoint": endpoint,
        "sender_id": "ada",
        "writer": "x",
        "events": 0,
        "fresh": False,
    }
    assert writers.run([task] * 3) == [[], [], []]


# Options


async def test_complete_url(load, endpoint, backend, domain):
    if backend.name == "sqlite":
        url = f"sqlite:///{endpoint['db']}"
    else:
        url = sa.engine.url.URL.create(
            "postgres",
            endpoint["username"],
            endpoint["password"],
            endpoint["url"],
            endpoint["port"],
            endpoint["db"],
        ).render_as_string(hide_password=False)
    events = session_start()
    await load({"type": endpoint["type"], "url": url}, domain).save(
        tracker("ada", events)
    )
    assert as_dicts(await load(endpoint, domain).retrieve("ada")) == dicts(events)


@on_postgresql
async def test_host_with_port_and_complete_url_without_password(load, endpoint, domain):
    events = session_start()
    with_port = {**endpoint, "url": f"{endpoint['url']}:{endpoint['port']}"}
    del with_port["port"]
    await load(with_port, domain).save(tracker("ada", events))
    without_password = {
        "type": endpoint["type"],
        "url": f"postgresql://{endpoint['url']}/{endpoint['db']}",
        "port": str(endpoint["port"]),
        "username": endpoint["username"],
        "password": endpoint["password"],
    }
    assert as_dicts(await load(without_password, domain).retrieve("ada")) == dicts(
        events
    )


@on_sqlite
def test_arguments_by_position_and_by_both_names_of_the_url(endpoint, domain, tmp_path):
    """Rasa 1.10 passes ``url``, Rasa 3 ``host``; the documentation says ``url``."""
    url = f"sqlite:///{endpoint['db']}"
    broker = object()
    for store in (
        SQLTrackerStore(domain, url, broker),
        SQLTrackerStore(domain=domain, host=url, event_broker=broker),
        SQLTrackerStore(domain=domain, url=url, host=url, event_broker=broker),
    ):
        assert store.domain is domain
        assert store.event_broker is broker
        assert endpoint["db"] in repr(store)
        store.close()


def test_defaults_are_the_documented_ones(domain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SQLTrackerStore(domain)
    assert (tmp_path / "rasa.db").exists()
    store.close()


@on_sqlite
async def test_database_in_memory(load, domain, endpoint, caplog):
    store = load({"type": endpoint["type"], "db": ":memory:"}, domain)
    events = conversation(2, 1)
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events)
    assert "lost when Rasa stops. Set 'db' to the path of a file" in caplog.text


@on_sqlite
async def test_sqlite_is_in_wal_mode_and_durable(make_store):
    store = make_store()
    with backend_log(store).engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


@on_sqlite
async def test_locked_file_is_waited_for(make_store, endpoint):
    store = make_store(timeout=1)
    saved = tracker("ada", session_start())
    with sqlite3.connect(endpoint["db"], isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await store.retrieve("ada") is None
        with pytest.raises(RasaException, match="locked"):
            await store.save(saved)
        other.execute("ROLLBACK")
    other.close()
    await store.save(saved)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(saved)


@on_sqlite
async def test_full_disk_is_an_error_and_loses_nothing(make_store, eventually):
    """SQLite's own limit of a file's size stands in for a disk that is full."""
    store = make_store(spool="off")
    kept = tracker("ada", session_start())
    await store.save(kept)
    before = as_dicts(kept)
    with backend_log(store).engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    limit = sa.event.listens_for(backend_log(store).engine, "checkout")(
        lambda connection, *_: connection.execute(f"PRAGMA max_page_count = {pages}")
    )
    big = turn("x" * 100_000)
    add(kept, big)
    with pytest.raises(RasaException, match=r"full.*Free space"):
        await store.save(kept)

    async def readable():
        # Whether the file can be read is known after a first look.
        with contextlib.suppress(RasaException):
            return as_dicts(await store.retrieve("ada")) == before
        return False

    await eventually(readable)
    sa.event.remove(backend_log(store).engine, "checkout", limit)
    with backend_log(store).engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    backend_log(store).engine.dispose()

    async def saved():
        with contextlib.suppress(RasaException):
            await store.save(kept)
            return True
        return False

    await eventually(saved)
    assert as_dicts(await store.retrieve("ada")) == as_dicts(kept)


@on_postgresql
@pytest.mark.parametrize("name", ["new", 'odd "name" -- %s; DROP TABLE x', "Größe"])
async def test_login_db_creates_the_database(load, endpoint, postgres_server, name):
    with postgres_server.administrator() as connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER ROLE {endpoint['username']} CREATEDB")
    wanted = f"{name} {endpoint['db'][-8:]}"
    try:
        for _ in range(2):  # created, and found there
            store = load({**endpoint, "login_db": endpoint["db"], "db": wanted})
            saved = tracker("ada", session_start())
            await store.save(saved)
            store.close()
    finally:
        postgres_server.drop_database(wanted)


@on_sqlite
def test_login_db_of_sqlite_is_ignored_as_rasa_does(make_store, caplog, endpoint):
    make_store(login_db="other")
    assert "login_db" in caplog.text
    assert Path(endpoint["db"]).exists()


@on_postgresql
@pytest.mark.parametrize("name", ["plain", 'Odd "schema" -- %s'])
async def test_schema_from_the_environment(
    make_store, endpoint, postgres_server, monkeypatch, name
):
    quoted = name.replace('"', '""')
    with postgres_server.connect(
        endpoint["db"]
    ) as connection, connection.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA "{quoted}"')
    monkeypatch.setenv("POSTGRESQL_SCHEMA", name)
    store = make_store(record_exp=1000)
    events = conversation(2, 1)
    await store.save(tracker("ada", events))
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events)
    assert list(await store.keys()) == ["ada"]
    assert await store.count_conversations() == 1
    monkeypatch.delenv("POSTGRESQL_SCHEMA")
    assert await make_store().retrieve("ada") is None


@on_postgresql
async def test_pool_settings_from_the_environment(make_store, monkeypatch):
    monkeypatch.setenv("POSTGRESQL_POOL_SIZE", "1")
    monkeypatch.setenv("POSTGRESQL_MAX_OVERFLOW", "0")
    store = make_store()
    assert backend_log(store).engine.pool.size() == 1
    for number in range(5):
        await store.save(tracker(f"user-{number}", session_start()))
    found = await asyncio.gather(
        *(store.retrieve(f"user-{number % 5}") for number in range(40))
    )
    assert all(found)
    monkeypatch.setenv("POSTGRESQL_POOL_SIZE", "0")
    with pytest.raises(
        RasaException,
        match="POSTGRESQL_POOL_SIZE and POSTGRESQL_MAX_OVERFLOW are both 0",
    ):
        make_store()
    monkeypatch.setenv("POSTGRESQL_MAX_OVERFLOW", "-1")
    assert await make_store().retrieve("user-0")


@on_postgresql
async def test_one_kept_connection_and_any_number_more(make_store, monkeypatch):
    """As SQLAlchemy counts; the two add up to none."""
    monkeypatch.setenv("POSTGRESQL_POOL_SIZE", "1")
    monkeypatch.setenv("POSTGRESQL_MAX_OVERFLOW", "-1")
    store = make_store()
    saves = (store.save(tracker(str(n), session_start())) for n in range(20))
    await asyncio.gather(*saves)
    assert len(list(await store.keys())) == 20


@on_postgresql
def test_pool_has_rasas_size_and_tests_its_connections(make_store):
    pool = backend_log(make_store()).engine.pool
    assert (pool.size(), pool._max_overflow) == (50, 100)
    assert pool._pre_ping
    assert pool._recycle > 0


@on_postgresql
async def test_server_with_another_default_isolation(
    make_store, endpoint, postgres_server
):
    with postgres_server.administrator(
        endpoint["db"]
    ) as connection, connection.cursor() as cursor:
        cursor.execute(
            f'ALTER DATABASE "{endpoint["db"]}" '
            "SET default_transaction_isolation TO 'serializable'"
        )
    store = make_store()
    assert rows(store, "SHOW transaction_isolation") == [("read committed",)]


# All conversations


in_parts = pytest.mark.parametrize(
    "backend", ["sqlite", "postgresql", "mariadb", "oracle"], indirect=True
)


@in_parts
def test_many_conversations_are_listed_in_parts(make_store, monkeypatch):
    """The server need not find all of them within ``timeout``."""
    log = backend_log(make_store(record_exp=60))
    monkeypatch.setattr(log, "_fetched", 2)
    assert list(log.sender_ids()) == []
    wanted = ["e", "c", "A", "\u00e4", "b", "a", "d"]
    for sender_id in wanted:
        for after in (START, log.append(sender_id, [entry()], START)):
            log.append(sender_id, [entry()], after)
    batches = list(log.sender_ids())
    assert sorted(itertools.chain(*batches)) == sorted(wanted)
    assert len(batches) >= 4


@in_parts
def test_many_conversations_are_counted_in_parts(make_store, monkeypatch):
    log = backend_log(make_store(record_exp=60))
    monkeypatch.setattr(log, "_window", 3)
    assert sum(log.count_conversations(0.0)) == 0
    for number in range(10):
        for timestamp in (10.0, 30.0 - number, 20.0):
            end = log.read_back(str(number), limit=1).events
            after = end[0].position if end else START
            log.append(str(number), [entry(timestamp)], after)
    numbers = list(log.count_conversations(0.0))
    assert sum(numbers) == len(numbers) == 10
    assert sum(log.count_conversations(25.0)) == 6
    # Ids have gaps: wide ones that cost no statement each, and at the beginning.
    for number in range(2, 8):
        log.delete(str(number))
    numbers = list(log.count_conversations(0.0))
    assert sum(numbers) == len(numbers) == 4
    log.delete("0")
    assert sum(log.count_conversations(25.0)) == 1


@in_parts
def test_conversation_that_is_rewritten_while_all_are_counted(make_store, monkeypatch):
    log = backend_log(make_store())
    monkeypatch.setattr(log, "_window", 2)
    for sender_id in "abcd":
        end = log.append(sender_id, [entry()], START)
        if sender_id == "c":
            ends = [end]

    def rewrite():
        # Before all rows of it were come to; then it is behind all that there were.
        if len(ends) == 1:
            for _ in range(3):
                ends.append(log.replace("c", [entry()], ends[-1]))

    counted = 0
    for number in log.count_conversations(0.0):
        counted += number
        rewrite()
    assert counted == 4


@on_postgresql
def test_all_conversations_are_found_by_the_index(make_store):
    """Otherwise the server reads and sorts all events before it answers at all."""
    log = backend_log(make_store())
    log.append("ada", [entry()], START)
    statement = log.statements.sender_ids.compile(dialect=log.engine.dialect)
    with log.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN {statement}").scalars().all()
    assert "Index Only Scan" in "".join(plan)
    assert "Sort" not in "".join(plan)
    assert "Hash" not in "".join(plan)


# Bad data


async def test_sender_id_that_is_too_long(store):
    longest = "x" * 255
    events = session_start()
    await store.save(tracker(longest, events))
    assert as_dicts(await store.retrieve(longest)) == dicts(events)
    with pytest.raises(RasaException, match=r"256 characters.*255.*shorter"):
        await store.save(tracker("x" * 256, session_start()))
    assert await store.retrieve("x" * 256) is None
    assert list(await store.keys()) == [longest]


@pytest.mark.parametrize("sender_id", ["\ud800", "nul\0"])
async def test_sender_id_that_the_database_does_not_take(store, backend, sender_id):
    if backend.name == "sqlite" and "\0" in sender_id:
        await store.save(tracker(sender_id, session_start()))
        assert await store.exists(sender_id)
        return
    with pytest.raises(RasaException, match="printable characters"):
        await store.save(tracker(sender_id, session_start()))


@pytest.mark.parametrize("sender_id", [5, None, b"ada"])
async def test_sender_id_that_is_no_text(store, sender_id):
    odd = tracker("x", session_start())
    odd.sender_id = sender_id
    with pytest.raises(RasaException, match="not text"):
        await store.save(odd)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('{"event": "holo", "timestamp": 1}', "no event type 'holo'"),
        ('{"event": "user", "text": "cut o', "not JSON"),
        (None, "not JSON"),
        ("[]", "not a Rasa event"),
    ],
)
async def test_event_that_cannot_be_read_is_skipped_and_kept(
    store, make_store, caplog, data, reason
):
    events = conversation(1, 1)
    await store.save(tracker("ada", events))
    with backend_log(store).engine.begin() as connection:
        connection.execute(
            sa.insert(tables().events),
            {"sender_id": "ada", "type_name": "x", "data": data},
        )
    retrieved = await store.retrieve("ada")
    assert as_dicts(retrieved) == dicts(events)
    assert reason in caplog.text
    assert "They stay stored" in caplog.text
    new = turn()
    add(retrieved, new)
    await store.save(retrieved)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == dicts(events + new)
    # The same holds for a tracker of unknown origin, which is compared with stored events.
    again = tracker("ada", list((await make_store().retrieve("ada")).events) + turn())
    await store.save(again)
    assert as_dicts(await store.retrieve_full_tracker("ada")) == as_dicts(again)
    assert rows(store, "SELECT count(*) FROM events WHERE type_name = 'x'") == [(1,)]


@on_sqlite
async def test_text_that_is_no_utf_8_costs_no_other(make_store, endpoint, caplog):
    store = make_store(timeout=5)
    kept = tracker("ada", conversation(1, 3))
    await store.save(kept)
    await store.save(tracker("grace", session_start()))
    with contextlib.closing(sqlite3.connect(endpoint["db"])) as connection, connection:
        connection.execute(
            "UPDATE events SET data = CAST(x'7bff' || CAST(data AS BLOB) AS TEXT) "
            "WHERE id = 2"
        )
        connection.execute(
            "UPDATE events SET sender_id = CAST(x'ff' AS TEXT) "
            "WHERE sender_id = 'grace'"
        )
    loaded = await store.retrieve("ada")
    assert as_dicts(loaded) == [*as_dicts(kept)[:1], *as_dicts(kept)[2:]]
    assert sorted(await store.keys()) == ["ada", "\ufffd"]
    assert await store.count_conversations() == 2
    # Python's own error has the text.
    assert "a text in it is damaged" in caplog.text
    assert "timestamp" not in caplog.text


async def test_event_that_cannot_be_applied_costs_no_conversation(store, caplog):
    events = session_start()
    await store.save(tracker("ada", events))
    with backend_log(store).engine.begin() as connection:
        data = '{"event": "slot", "name": ["no", "text"], "value": 1}'
        row = {"sender_id": "ada", "type_name": "slot", "data": data}
        connection.execute(sa.insert(tables().events), row)
    kept = await store.retrieve("ada")
    assert "could not be applied" in caplog.text
    add(kept, turn())
    await store.save(kept)
    assert len((await store.retrieve("ada")).events) == len(events) + 1 + 8


async def test_nothing_is_injected(store):
    odd = "'; DROP TABLE events; --"
    events = [*session_start(), *turn(odd)]
    await store.save(tracker(odd, events))
    assert as_dicts(await store.retrieve(odd)) == dicts(events)
    assert await store.retrieve("' OR '1'='1") is None
