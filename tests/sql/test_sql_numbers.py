"""No event gets an id that is not greater than the last one of its conversation."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from rasa_trackers.event_log import START
from rasa_trackers.sql.log import SQLEventLog
from rasa_trackers.sql.schema import tables
from sql.sql_logs import (
    administer,
    entries,
    opened,
    postgresql_options,
    run,
    sqlite_options,
    texts,
)

RESET = "SELECT setval('events_id_seq', 1, false)"


@pytest.fixture
def postgresql(postgres_server):
    yield from postgresql_options(postgres_server)


@pytest.fixture(params=[None, 60])
def log(request, postgresql):
    log = opened(postgresql, record_exp=request.param)
    yield log
    log.close()


@pytest.mark.parametrize("number", [1, 3, 600])
def test_append_after_a_reset_gets_greater_ids(log, number):
    end = log.append("ada", entries(*"abcdefgh"), START)
    run(log, "DELETE FROM events WHERE id < 8", RESET)
    new = [str(each) for each in range(number)]
    assert log.append("ada", entries(*new), end) > end
    assert texts(log, "ada") == ["h", *new]


def test_append_goes_on_where_the_low_ids_are_taken(log):
    end = log.append("ada", entries(*"abc"), START)
    run(log, RESET)
    before = time.monotonic()
    assert log.append("grace", entries("x", "y"), START) > end
    assert time.monotonic() - before < 8
    assert texts(log, "ada") == ["a", "b", "c"]
    assert texts(log, "grace") == ["x", "y"]


def test_replace_after_a_reset_gets_greater_ids(log):
    log.append("grace", entries(*"abcd"), START)
    end = log.append("ada", entries("x"), START)
    run(log, "DELETE FROM events WHERE id < 4", RESET)
    assert log.replace("ada", entries("y", "z"), end) > end
    assert texts(log, "ada") == ["y", "z"]


def test_append_that_is_late_writes_nothing_after_a_reset(log):
    end = log.append("ada", entries(*"abc"), START)
    run(log, RESET)
    assert log.append("ada", entries("x"), end - 1) is None
    assert texts(log, "ada") == ["a", "b", "c"]


def test_server_that_shares_the_numbers_keeps_its_own(log):
    """Several masters number their rows in steps, each with another remainder."""
    run(
        log,
        "ALTER SEQUENCE events_id_seq INCREMENT BY 2 RESTART WITH 3",
        "INSERT INTO events (id, sender_id, type_name, data) "
        "VALUES (40, 'ada', 'slot', '\"a\"')",
    )
    assert log.append("ada", entries("b", "c"), 40) == 45


def test_old_default_of_a_sequence_without_an_owner(log):
    run(log, "ALTER SEQUENCE events_id_seq OWNED BY NONE")
    end = log.append("ada", entries("a", "b"), START)
    run(log, RESET)
    assert log.append("ada", entries("c"), end) > end


def test_user_without_the_right_gets_the_statement_at_once(postgresql, postgres_server):
    log = opened(postgresql)
    end = log.append("ada", entries(*"abc"), START)
    user = postgresql["username"]
    administer(
        postgres_server,
        postgresql["db"],
        "ALTER TABLE events OWNER TO postgres",
        f"REVOKE ALL ON events, events_id_seq FROM {user}",
        f"GRANT SELECT, INSERT, DELETE ON events TO {user}",
        f"GRANT USAGE ON SEQUENCE events_id_seq TO {user}",
        RESET,
    )
    before = time.monotonic()
    with pytest.raises(Exception, match=r"setval\('events_id_seq', 3\);") as refused:
        log.append("ada", entries("d"), end)
    assert time.monotonic() - before < 8
    assert log.classify(refused.value) is None, "an error of ours, and not tried again"
    assert texts(log, "ada") == ["a", "b", "c"]
    log.close()


@pytest.fixture
def without_autoincrement(tmp_path):
    """A file that Rasa's own store has made."""
    options = sqlite_options(tmp_path)
    log = opened(options)
    run(
        log,
        "DROP TABLE events",
        "CREATE TABLE events (id INTEGER NOT NULL, sender_id VARCHAR(255) NOT NULL, "
        "type_name VARCHAR(255) NOT NULL, timestamp FLOAT, intent_name VARCHAR(255), "
        "action_name VARCHAR(255), data TEXT, PRIMARY KEY (id))",
    )
    log.close()
    log = opened(options)
    yield log
    log.close()


def test_replace_in_sqlite_gets_greater_ids(without_autoincrement):
    log = without_autoincrement
    end = log.append("ada", entries(*"abc"), START)
    assert log.replace("ada", entries("x"), end) > end
    assert log.append("ada", entries("late"), end) is None
    assert texts(log, "ada") == ["x"]


def test_id_of_an_erased_event_is_not_given_again(without_autoincrement):
    log = without_autoincrement
    log.append("grace", entries("x"), START)
    end = log.append("ada", entries(*[str(number) for number in range(300)]), START)
    assert log.replace("ada", [], end) == START
    assert log.append("ada", entries("a", "b"), START) == end + 2
    assert log.delete("ada")
    assert log.append("ada", entries("c"), START) == end + 3
    log.open()
    assert log.append("ada", entries("d"), end + 3) == end + 4
    assert texts(log, "ada") == ["c", "d"]


def test_append_in_sqlite_after_its_counter_was_reset(tmp_path):
    log = opened(sqlite_options(tmp_path))
    end = log.append("ada", entries(*"abc"), START)
    run(log, "UPDATE sqlite_sequence SET seq = 0")
    assert log.append("ada", entries("d"), end) > end
    log.close()


def test_other_database_that_gives_lower_ids_is_an_error(tmp_path):
    """As MySQL after a restore, whose counter AUTO_INCREMENT is too low."""
    path = tmp_path / "other.db"
    engine = sa.create_engine(f"sqlite:///{path}", future=True)
    log = SQLEventLog(engine, tables(), name="Other")
    log.open()
    end = log.append("ada", entries(*"abc"), START)
    run(
        log,
        "CREATE TRIGGER lower AFTER INSERT ON events BEGIN"
        " UPDATE events SET id = id - 100 WHERE id = NEW.id; END",
    )
    with pytest.raises(Exception, match="set the counter of the table") as refused:
        log.append("ada", entries("d"), end)
    assert log.classify(refused.value) is None, "an error of ours, and not tried again"
    assert texts(log, "ada") == ["a", "b", "c"]
    log.close()
