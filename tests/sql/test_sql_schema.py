"""Tables of other programs and of other logs, and columns that are wide enough."""

from __future__ import annotations

import pytest

from rasa_trackers.event_log import START, User
from sql.sql_logs import (
    administer,
    entries,
    make_log,
    opened,
    postgresql_options,
    run,
    sqlite_options,
    texts,
)

#: As Rasa's SQL event broker makes it.
BROKERS_TABLE = (
    "CREATE TABLE events (id INTEGER PRIMARY KEY, sender_id VARCHAR(255), data TEXT)"
)


@pytest.fixture(params=["sqlite", "postgresql"])
def options(request, tmp_path):
    if request.param == "sqlite":
        yield sqlite_options(tmp_path)
    else:
        yield from postgresql_options(request.getfixturevalue("postgres_server"))


@pytest.fixture
def postgresql(postgres_server):
    yield from postgresql_options(postgres_server)


def test_table_of_the_event_broker_is_refused_at_the_start(options):
    log = make_log(options)
    run(log, BROKERS_TABLE)
    with pytest.raises(
        Exception,
        match=r"no column type_name, timestamp, intent_name, action_name\..*db",
    ):
        log.open()
    log.close()


def test_foreign_table_of_users_is_refused_only_if_users_are_kept(options):
    with_users = make_log(options, users=True)
    run(
        with_users,
        "CREATE TABLE users (id INTEGER, name VARCHAR(9))",
        "INSERT INTO users VALUES (1, 'ada')",
    )
    with pytest.raises(Exception, match="'users' of another program"):
        with_users.open()
    log = opened(options)
    log.append("ada", entries("a"), START)
    assert log.delete("ada")
    assert run(log, "SELECT name FROM users") == [("ada",)]
    with_users.close()
    log.close()


def test_log_creates_only_the_tables_that_it_needs(options):
    log = opened(options)
    end = log.append("ada", entries("a"), START, User("u", 1.0))
    assert log.append("ada", [], end, User("u", 1.0)) == end
    assert log.read_back("ada").user_id is None
    assert log.conversations_of("u") == []
    with log.engine.connect() as connection:
        for name in ("users", "rasa_trackers_expiry"):
            assert not log.engine.dialect.has_table(connection, name)
    log.close()


@pytest.mark.parametrize("made_first", [True, False])
def test_delete_erases_what_other_logs_store(options, made_first):
    """They may have created their tables after this log was opened."""
    others = make_log(options, users=True, record_exp=60)
    if made_first:
        others.open()
    log = opened(options)
    others.open()
    others.append("ada", entries("a"), START, User("u", 1.0))
    assert log.delete("ada") is True
    assert run(log, "SELECT * FROM users") == []
    assert run(log, "SELECT * FROM rasa_trackers_expiry") == []
    log.close()
    others.close()


@pytest.mark.parametrize("made_first", [True, False])
def test_expiry_erases_the_user_that_another_log_stores(options, made_first):
    others = make_log(options, users=True, record_exp=60)
    if made_first:
        others.open()
    log = opened(options, record_exp=60)
    others.open()
    for sender_id in ("ada", "grace"):
        others.append(sender_id, entries("a"), START, User("u", 1.0))
    run(log, "UPDATE rasa_trackers_expiry SET expires_at = 0")
    assert log.append("ada", entries("b"), START)
    assert log.purge_expired() == 1
    assert run(log, "SELECT * FROM users") == []
    assert texts(log, "ada") == ["b"]
    assert run(log, "SELECT sender_id FROM rasa_trackers_expiry") == [("ada",)]
    log.close()
    others.close()


@pytest.mark.parametrize("expires", [True, False])
def test_replace_leaves_the_expiry_date(options, expires):
    expiring = opened(options, record_exp=60)
    log = opened(options, record_exp=60) if expires else opened(options)
    end = expiring.append("ada", entries("a", "b"), START)
    run(expiring, "UPDATE rasa_trackers_expiry SET expires_at = 9e9")
    new = log.replace("ada", entries("x"), end)
    query = "SELECT expires_at, last_id FROM rasa_trackers_expiry"
    assert run(expiring, query) == [(9e9, new)]
    expiring.close()
    log.close()


def test_replace_leaves_a_conversation_permanent(options):
    expiring, log = opened(options, record_exp=60), opened(options)
    end = expiring.append("ada", entries("a"), START)
    end = log.append("ada", entries("b"), end)
    run(expiring, "UPDATE rasa_trackers_expiry SET expires_at = 0")
    for each in (expiring, log):
        end = each.replace("ada", entries("x"), end)
        assert texts(expiring, "ada") == ["x"]
    expiring.close()
    log.close()


def test_append_of_nothing_renews_or_ends_the_expiry(options):
    expiring, log = opened(options, record_exp=60), opened(options)
    end = expiring.append("ada", entries("a"), START)
    run(expiring, "UPDATE rasa_trackers_expiry SET expires_at = 9e9")
    query = "SELECT last_id, expires_at < 9e9 FROM rasa_trackers_expiry"
    assert expiring.append("ada", [], end) == end
    assert run(expiring, query) == [(end, True)]
    assert log.append("ada", [], end) == end
    assert run(expiring, query) == []
    assert expiring.append("nobody", [], START, User("u", 1.0)) == START
    assert run(expiring, query) == []
    expiring.close()
    log.close()


def test_delete_of_an_expired_log_erases_the_rest_and_is_false(options):
    log = opened(options, record_exp=60)
    for reader in (log, opened(options)):
        log.append("ada", entries("a"), START)
        run(log, "UPDATE rasa_trackers_expiry SET expires_at = 0")
        assert reader.delete("ada") is False
        assert run(log, "SELECT * FROM events") == []
        assert run(log, "SELECT * FROM rasa_trackers_expiry") == []
        reader.close()


@pytest.mark.parametrize("number", [1, 2, 3, 300])
def test_page_is_complete_if_and_only_if_nothing_is_older(options, number):
    log = opened(options)
    log.append("ada", entries(*map(str, range(number))), START)
    for limit in (number - 1, number, number + 1):
        if limit:
            page = log.read_back("ada", limit)
            assert len(page.events) == min(limit, number)
            assert page.complete is (limit >= number)
    log.close()


# Columns


def column_types(log):
    return dict(
        run(
            log,
            "SELECT table_name || '.' || column_name, data_type "
            "FROM information_schema.columns WHERE column_name IN ('id', 'last_id')",
        )
    )


WIDEN = "ALTER TABLE events ALTER COLUMN id TYPE bigint"
NARROW = "ALTER TABLE rasa_trackers_expiry ALTER COLUMN last_id TYPE integer"


def test_new_tables_hold_every_id(postgresql):
    log = opened(postgresql, record_exp=60)
    assert column_types(log)["rasa_trackers_expiry.last_id"] == "bigint"
    run(log, WIDEN, "ALTER SEQUENCE events_id_seq AS bigint")
    run(log, "SELECT setval('events_id_seq', 5000000000)")
    end = log.append("ada", entries("a"), START)
    assert end == 5_000_000_001
    assert log.append("ada", [], end) == end
    assert log.replace("ada", entries("b"), end) > end
    assert texts(log, "ada") == ["b"]
    log.close()


@pytest.mark.parametrize("schema", [None, 'Odd "schema" -- %s'])
def test_narrow_column_is_widened_beside_a_wide_one(postgresql, schema, monkeypatch):
    if schema is not None:
        quoted = schema.replace('"', '""')
        maker = make_log(postgresql)
        with maker.engine.connect() as connection:
            connection.connection.cursor().execute(f'CREATE SCHEMA "{quoted}"')
        maker.close()
        monkeypatch.setenv("POSTGRESQL_SCHEMA", schema)
        quoted = f'"{quoted}".'
    else:
        quoted = ""
    log = opened(postgresql, record_exp=60)
    with log.engine.connect() as connection:
        cursor = connection.connection.cursor()
        for statement in (WIDEN, NARROW):
            cursor.execute(statement.replace("TABLE ", f"TABLE {quoted}"))
    log.open()
    assert column_types(log)["rasa_trackers_expiry.last_id"] == "bigint"
    log.close()


def test_narrow_column_that_may_not_be_changed_is_an_error(postgresql, postgres_server):
    log = opened(postgresql, record_exp=60)
    run(log, WIDEN, NARROW)
    administer(
        postgres_server,
        postgresql["db"],
        "ALTER TABLE rasa_trackers_expiry OWNER TO postgres",
        f"GRANT ALL ON rasa_trackers_expiry TO {postgresql['username']}",
    )
    with pytest.raises(
        Exception,
        match="ALTER TABLE rasa_trackers_expiry ALTER COLUMN last_id TYPE bigint;",
    ):
        log.open()
    opened(postgresql).close()
    log.close()
