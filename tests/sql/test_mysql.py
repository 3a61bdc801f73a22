"""What is special to MySQL and MariaDB, on a real server, without Rasa."""

from __future__ import annotations

import functools
import random
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing

import pytest

from backends import BACKENDS
from rasa_trackers.errors import is_store_error
from rasa_trackers.event_log import START, Entry, User
from rasa_trackers.sql import dates
from rasa_trackers.sql.health import facts
from rasa_trackers.sql.mysql import columns
from rasa_trackers.sql.mysql.health import is_on
from rasa_trackers.sql.mysql.statements import LOCKS, LOCKS_TABLE
from servers.mariadb import MariaDBServer
from sql.sql_logs import entries, make_log, opened, run, texts


@pytest.fixture
def options(mariadb_server, mariadb_database):
    endpoint = BACKENDS["mariadb"].endpoint(mariadb_server, mariadb_database)
    del endpoint["type"]
    return endpoint


@pytest.fixture
def log(options):
    log = opened(options)
    yield log
    log.close()


@pytest.fixture
def administer(mariadb_server, mariadb_database):
    """Runs statements as administrator, in the database."""

    def administer(*statements):
        return mariadb_server.administer(*statements, database=mariadb_database)

    return administer


@pytest.fixture
def with_globals(mariadb_server):
    """Sets global variables of the server until the test ends; needs new connections."""
    before = {}

    def with_globals(**variables):
        for name, value in variables.items():
            ((old,),) = mariadb_server.administer(f"SELECT @@GLOBAL.{name}")
            before.setdefault(name, old)
            mariadb_server.administer(f"SET GLOBAL {name} = {value!r}")

    yield with_globals
    for name, value in before.items():
        mariadb_server.administer(f"SET GLOBAL {name} = {value!r}")


def end_of(log, sender_id):
    return log.read_back(sender_id, 1).events[-1].position


# Tables

#: As Rasa's own store makes them, with the server's defaults.
RASAS_TABLE = (
    "CREATE TABLE events (id INTEGER NOT NULL AUTO_INCREMENT, "
    "sender_id VARCHAR(255) NOT NULL, type_name VARCHAR(255) NOT NULL, "
    "timestamp FLOAT, intent_name VARCHAR(255), action_name VARCHAR(255), data TEXT, "
    "PRIMARY KEY (id), KEY ix_events_sender_id (sender_id)) "
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
)
PROS_TABLE = (
    "CREATE TABLE users (sender_id VARCHAR(255) NOT NULL PRIMARY KEY, "
    "user_id VARCHAR(255) NOT NULL, conversation_started_timestamp FLOAT) "
    "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
)


def types_of(log):
    query = (
        "SELECT column_name, column_type, collation_name FROM information_schema.columns "
        "WHERE table_schema = database()"
    )
    return {name: (type_.split("(")[0], text) for name, type_, text in run(log, query)}


def test_new_tables_are_exact_whatever_the_servers_defaults(options, administer):
    administer("ALTER DATABASE CHARACTER SET latin1")
    log = opened(options, users=True, record_exp=60)
    found = types_of(log)
    exact = found["sender_id"][1]
    assert exact in columns.COLLATIONS.values()
    assert found["user_id"] == ("varchar", exact)
    assert found["data"][0] == "longtext"
    assert found["timestamp"][0] == found["expires_at"][0] == "double"
    assert found["id"][0] in ("bigint", "smallint")
    assert found["last_id"][0] == "bigint"
    assert found["action_name"][1].startswith("utf8mb4_")
    engines = run(
        log,
        "SELECT DISTINCT engine FROM information_schema.tables "
        "WHERE table_schema = database()",
    )
    assert engines == [("InnoDB",)]
    log.close()


def test_sender_ids_and_user_ids_are_compared_byte_by_byte(options):
    log = opened(options, users=True, record_exp=60)
    names = ["Anna", "anna", "anna ", "ann\u00e4", "anna\0", "ANNA"]
    for name in names:
        assert log.append(name, entries(name.strip("\0")), START, User(name, 1.0))
    for name in names:
        assert texts(log, name) == [name.strip("\0")]
        assert [each.sender_id for each in log.conversations_of(name)] == [name]
    assert log.delete("anna")
    assert sorted(one for batch in log.sender_ids() for one in batch) == sorted(
        set(names) - {"anna"}
    )
    log.close()


def test_long_texts_and_times_come_back_as_they_are(log):
    data = '"' + "x" * 1_500_000 + "\\\\ 'quoted' \U0001f600" + '"'
    entry = Entry(data, "user", 1_700_000_000.123456, "greet", "\U0001f600")
    assert log.append("ada", [entry, *entries("b"), entry], START)
    assert [event.data for event in log.read_back("ada").events] == [data, '"b"', data]
    rows = run(
        log, "SELECT timestamp, action_name FROM events WHERE type_name = 'user'"
    )
    assert rows == [(1_700_000_000.123456, "\U0001f600")] * 2


def test_text_that_is_larger_than_the_server_takes_fails_at_once(options, with_globals):
    with_globals(max_allowed_packet=1_048_576)
    log = opened(options)
    assert log.append("ada", entries("x" * 900_000), START)
    end = end_of(log, "ada")
    with pytest.raises(ValueError, match="max_allowed_packet") as refused:
        log.append("ada", entries("a", '"' * 600_000), end)
    failure = log.classify(refused.value)
    assert not failure.transient
    assert "raise max_allowed_packet" in failure.remedy
    assert end_of(log, "ada") == end
    log.close()


@pytest.mark.parametrize("packet", [65_536, 1_048_576])
@pytest.mark.parametrize("text", ["x", '"', "\u20ac", "\U0001f600"])
def test_appends_go_into_messages_that_the_server_takes(
    options, with_globals, packet, text
):
    """Escapes, bytes of UTF-8 and the other columns count."""
    with_globals(max_allowed_packet=packet)
    log = opened(options, users=True, record_exp=60)
    name = "\U0001f600" * 255
    added = [
        Entry(f"{place} {text * 4_000}", "user", 1.0, name, name)
        for place in range(300)
    ]
    end = log.append(name, added, START, User(name, 1.0))
    end = log.append(name, added, end, User(name, 1.0))
    assert log.replace(name, added, end, User(name, 1.0))
    assert [event.data for event in log.read_back(name).events] == [
        entry.data for entry in added
    ]
    log.close()


def test_events_of_many_texts_that_are_not_long(options, with_globals):
    """Such as 250 events of 100 bytes, whose other columns take ten times as much."""
    with_globals(max_allowed_packet=131_072)
    log = opened(options)
    name = "\u20ac" * 255
    added = [Entry("x" * 100, "user", 1.0, name, name)] * 250
    assert log.append("ada", added, START)
    assert len(log.read_back("ada").events) == 250
    log.close()


@pytest.mark.parametrize("text", ["x", '"', "\U0001f600"])
def test_event_is_stored_or_refused_at_once_whatever_its_size(
    options, with_globals, text
):
    with_globals(max_allowed_packet=65_536)
    log = opened(options, users=True, record_exp=60)
    name = '"' * 255
    stored = refused = 0
    end = START
    for size in range(48_000, 66_000, 500):
        data = text * (size // len(text.encode()) // (1 + (text == '"')))
        try:
            end = log.append(
                name, [Entry(data, "user", 1.0, name, name)], end, User(name, 1.0)
            )
            stored += 1
        except ValueError:
            refused += 1
    assert stored > 5
    assert refused > 5
    log.close()


# A table that Rasa's own store has made


@pytest.fixture
def rasas(options, administer):
    """A database of Rasa's own store with a conversation."""
    administer(
        RASAS_TABLE,
        "INSERT INTO events (sender_id, type_name, timestamp, data) VALUES "
        "('Anna', 'slot', 1.5, '\"a\"'), ('anna', 'slot', 1.5, '\"b\"'), "
        "('Anna', 'slot', 1.5, '\"c\"')",
    )
    return options


def statements_in(error):
    text = str(error)
    begin, end = text.index("ALTER TABLE"), text.index(" Or set the option")
    return [each.strip() for each in text[begin:end].split(";") if each.strip()]


def test_table_of_rasas_store_is_refused_with_statements_that_correct_it(
    rasas, administer
):
    log = make_log(rasas)
    with pytest.raises(Exception, match=r"'Anna'.*alter_tables: true") as refused:
        log.open()
    assert is_store_error(refused.value)
    assert types_of(log)["data"][0] == "text", "nothing was changed"
    administer(*statements_in(refused.value))
    log.open()
    assert texts(log, "Anna") == ["a", "c"]
    assert texts(log, "anna") == ["b"]
    assert log.append("anna", entries("d"), end_of(log, "anna"))
    log.close()


def test_table_of_rasas_store_is_changed_where_that_is_asked_for(rasas):
    logs = [make_log(rasas, alter_tables=True) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        for opening in [threads.submit(log.open) for log in logs]:
            opening.result()
    assert texts(logs[0], "Anna") == ["a", "c"]
    assert texts(logs[1], "anna") == ["b"]
    found = types_of(logs[0])
    assert found["data"][0] == "longtext"
    assert found["timestamp"][0] == "double"
    for log in (*logs, opened(rasas)):
        log.close()


def test_change_of_tables_that_waits_for_another_process_is_interrupted(
    rasas, mariadb_server, mariadb_database, administer
):
    log = make_log(rasas, alter_tables=True)
    with closing(
        mariadb_server.administrator(mariadb_database)
    ) as other, other.cursor() as cursor, ThreadPoolExecutor(1) as thread:
        cursor.execute(
            "SELECT get_lock(concat('rasa_trackers ', crc32(database())), 9)"
        )
        opening = thread.submit(log.open)
        waiting = (
            "SELECT 1 FROM information_schema.processlist WHERE state = 'User lock' "
            "AND db = database()"
        )
        while not administer(waiting):
            assert not opening.done()
        try:
            log.interrupt()
            error = opening.exception(8)
        finally:
            cursor.execute("DO release_all_locks()")
    assert log.classify(error).away
    assert types_of(log)["data"][0] == "text", "nothing was changed"
    log.close()


def test_change_of_tables_cuts_nothing_on_a_server_that_is_not_strict(
    options, administer, with_globals
):
    with_globals(sql_mode="")
    administer(
        RASAS_TABLE.replace("sender_id VARCHAR(255)", "sender_id TEXT").replace(
            "(sender_id)", "(sender_id(99))"
        ),
        "INSERT INTO events (sender_id, type_name) VALUES (repeat('x', 1000), '')",
    )
    log = make_log(options, alter_tables=True)
    with pytest.raises(Exception, match="Data too long"):
        log.open()
    assert run(log, "SELECT char_length(sender_id) FROM events") == [(1000,)]
    log.close()


def test_change_of_tables_takes_longer_than_the_limits_of_other_calls(
    rasas, mariadb_server, mariadb_database
):
    log = make_log(rasas, alter_tables=True, timeout=1, query={"read_timeout": "1"})
    with closing(
        mariadb_server.administrator(mariadb_database)
    ) as other, other.cursor() as cursor, ThreadPoolExecutor(1) as thread:
        # Who reads the table keeps it from being changed.
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM events")
        opening = thread.submit(log.open)
        with pytest.raises(FutureTimeout):
            opening.result(4)
        cursor.execute("COMMIT")
        opening.result(30)
    assert types_of(log)["data"][0] == "longtext"
    log.close()


#: What is wrong with a table, and the beginning of what corrects it.
WRONG = [
    ("events DROP KEY ix_events_sender_id, ENGINE=MyISAM", "ENGINE=InnoDB"),
    (
        "events MODIFY sender_id VARCHAR(255) COLLATE utf8mb4_bin NOT NULL",
        "MODIFY sender_id VARCHAR(255)",
    ),
    ("events MODIFY id INTEGER NOT NULL AUTO_INCREMENT", "MODIFY id BIGINT"),
    ("events MODIFY timestamp FLOAT", "MODIFY timestamp DOUBLE"),
    ("events MODIFY data MEDIUMTEXT", "MODIFY data LONGTEXT"),
    ("events MODIFY type_name VARCHAR(99) NOT NULL", "MODIFY type_name VARCHAR(255)"),
    (
        "events MODIFY action_name VARCHAR(300) CHARACTER SET latin1",
        "MODIFY action_name VARCHAR(300) CHARACTER SET utf8mb4",
    ),
    ("events DROP KEY ix_events_sender_id", "ADD INDEX ix_events_sender_id"),
    (
        "users MODIFY user_id VARCHAR(255) COLLATE utf8mb4_general_ci NOT NULL",
        "MODIFY user_id VARCHAR(255)",
    ),
    (
        "rasa_trackers_expiry MODIFY last_id INTEGER NOT NULL",
        "MODIFY last_id BIGINT",
    ),
    (
        "events ROW_FORMAT=COMPACT, MODIFY sender_id CHAR(9) CHARACTER SET latin1",
        "ROW_FORMAT=DYNAMIC, MODIFY sender_id VARCHAR(255)",
    ),
    ("events MODIFY action_name TINYTEXT", "MODIFY action_name LONGTEXT"),
    ("rasa_trackers_locks ENGINE=MyISAM", "ENGINE=InnoDB"),
    ("rasa_trackers_locks DROP PRIMARY KEY", "ADD PRIMARY KEY (id)"),
    (
        "rasa_trackers_locks DROP PRIMARY KEY, ADD PRIMARY KEY (id, writes)",
        "DROP PRIMARY KEY, ADD PRIMARY KEY (id)",
    ),
    ("users DROP PRIMARY KEY", "ADD PRIMARY KEY (sender_id)"),
    (
        "users DROP PRIMARY KEY, ADD PRIMARY KEY (sender_id(9))",
        "DROP PRIMARY KEY, ADD PRIMARY KEY (sender_id)",
    ),
    (
        "rasa_trackers_expiry DROP PRIMARY KEY, ADD PRIMARY KEY (sender_id, last_id)",
        "DROP PRIMARY KEY, ADD PRIMARY KEY (sender_id)",
    ),
]


@pytest.mark.parametrize(("wrong", "correction"), WRONG)
def test_each_column_that_is_not_right_is_corrected(
    options, administer, wrong, correction
):
    both = {"users": True, "record_exp": 60}
    before = opened(options, **both)
    before.append("Anna", entries("a"), START, User("u", 1.0))
    right = types_of(before)
    before.close()
    administer(f"ALTER TABLE {wrong}")
    with pytest.raises(Exception, match="alter_tables") as refused:
        opened(options, **both)
    (statement,) = statements_in(refused.value)
    assert correction in statement
    log = opened(options, alter_tables=True, **both)
    if "TINYTEXT" not in wrong:
        assert types_of(log) == right
    assert texts(log, "Anna") == ["a"]
    assert [each.sender_id for each in log.conversations_of("u")] == ["Anna"]
    opened(options, **both).close()
    log.close()


def test_two_rows_for_one_lock_are_corrected(options, administer):
    """Each of two writers would have one."""
    opened(options).close()
    administer(
        f"ALTER TABLE {LOCKS_TABLE} DROP PRIMARY KEY",
        f"INSERT INTO {LOCKS_TABLE} SELECT * FROM {LOCKS_TABLE}",
    )
    with pytest.raises(Exception, match=f"DELETE FROM {LOCKS_TABLE}; ALTER TABLE"):
        opened(options)
    log = opened(options, alter_tables=True)
    assert run(log, f"SELECT count(*) FROM {LOCKS_TABLE}") == [(LOCKS,)]
    log.close()


@pytest.mark.parametrize("type_", ["TEXT", "MEDIUMTEXT", "LONGTEXT"])
def test_columns_that_somebody_has_widened_are_used(options, administer, type_):
    opened(options).close()
    wide = "CHARACTER SET utf8mb4"
    administer(
        f"ALTER TABLE events MODIFY type_name {type_} {wide} NOT NULL, "
        f"MODIFY action_name {type_} {wide}, MODIFY intent_name VARCHAR(9000) {wide}"
    )
    log = opened(options)
    assert log.append("ada", entries("a"), START)
    log.close()


@pytest.mark.parametrize("type_", ["TEXT", "VARCHAR(20000)"])
def test_widened_columns_of_another_character_set_are_corrected(
    options, administer, type_
):
    opened(options).close()
    administer(
        f"ALTER TABLE events MODIFY action_name {type_} CHARACTER SET latin1",
        "INSERT INTO events (sender_id, type_name, action_name) "
        "VALUES ('ada', '', repeat('\u00e4', 20000))",
    )
    log = opened(options, alter_tables=True)
    assert run(log, "SELECT char_length(action_name) FROM events") == [(20_000,)]
    assert types_of(log)["action_name"][0] == "longtext"
    log.close()


def test_log_that_does_not_use_a_table_looks_at_it_too(options, administer):
    """Its deletions would erase what another log stores of somebody else."""
    administer(PROS_TABLE)
    with pytest.raises(Exception, match="ALTER TABLE users MODIFY sender_id"):
        opened(options)


def test_table_of_another_program_is_left_alone(options, administer):
    administer("CREATE TABLE users (id INTEGER, name VARCHAR(9))")
    opened(options, alter_tables=True).close()
    assert administer("SHOW COLUMNS FROM users LIKE 'name'")[0][1] == "varchar(9)"


def test_dates_of_expiry_are_set_in_an_exact_table(log):
    end = log.append("Anna", entries("a"), START)
    dates.set_expires_at(log, "Anna", end, 9e9)
    dates.set_expires_at(log, "Anna", end, 8e9)
    assert dates.expires_at(log, ["Anna", "anna"]) == {"Anna": 8e9}
    log.open()


def test_login_db_creates_the_database(options, mariadb_server, mariadb_database):
    name = f"{mariadb_database[:30]} odd `name` -- %s"
    mariadb_server.administer(
        f"GRANT ALL ON `{name.replace('`', '``')}`.* TO {mariadb_server.username}@'%'"
    )
    try:
        for _ in range(2):  # created, and found there
            log = opened({**options, "login_db": mariadb_database, "db": name})
            assert log.append("ada", entries("a"), START) in (1, None)
            assert texts(log, "ada") == ["a"]
            log.close()
    finally:
        mariadb_server.administer(f"DROP DATABASE `{name.replace('`', '``')}`")


# What a connection is set to


def test_server_that_is_not_strict_cuts_nothing(options, with_globals, administer):
    with_globals(sql_mode="ANSI_QUOTES,NO_BACKSLASH_ESCAPES")
    log = opened(options)
    data = r'"back\\slash and \"quotes\" and '
    assert log.append("a\\'\"", [Entry(data, "slot", 1.0, None, None)], START)
    assert [event.data for event in log.read_back("a\\'\"").events] == [data]
    administer("ALTER TABLE events MODIFY type_name VARCHAR(3) NOT NULL")
    with pytest.raises(Exception, match=r"Data (too long|truncated)"):
        log.append("ada", entries("a"), START)
    assert texts(log, "ada") == []
    log.close()


def test_server_that_limits_the_rows_of_a_query(options, with_globals):
    with_globals(sql_select_limit=3)
    log = opened(options)
    names = list("abcdefgh")
    assert log.append("ada", entries(*names), START)
    assert texts(log, "ada") == names
    log.close()


@pytest.mark.parametrize("completion", [1, 2])
def test_server_whose_commits_begin_a_transaction_or_end_the_connection(
    options, administer, completion
):
    administer(f"SET GLOBAL completion_type = {completion}")
    try:
        log = opened(options, users=True)
        end = log.append("ada", entries("a"), START, User("u", 1.0))
        ((mine,),) = run(log, "SELECT connection_id()")
        end = log.replace("ada", entries("b"), end)
        end = log.append("ada", entries("c"), end)
        assert texts(log, "ada") == ["b", "c"]
        assert run(log, "SELECT connection_id()") == [(mine,)]
        assert run(log, "SELECT @@completion_type") == [("NO_CHAIN",)]
        log.close()
    finally:
        administer("SET GLOBAL completion_type = 0")


def test_server_with_another_default_isolation(options, administer):
    administer("SET GLOBAL TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    log = opened(options)
    # MariaDB and MySQL have other names for it.
    shown = run(log, "SHOW SESSION VARIABLES LIKE '%isolation'")
    assert "READ-COMMITTED" in dict(shown).values()
    log.close()
    administer("SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def test_each_text_is_one_that_the_database_keeps(log):
    for sender_id in ("a\ud800", "\udc80", "a\udcffb"):
        with pytest.raises(UnicodeEncodeError) as refused:
            log.append(sender_id, entries("a"), START)
        assert not log.classify(refused.value).transient


# Appends


@pytest.mark.parametrize("count", [3, 8, 40, 250])
@pytest.mark.parametrize("record_exp", [None, 60])
def test_events_of_mixed_sizes_keep_their_order(options, count, record_exp):
    """Above 16 KB MariaDB keeps a derived table on disk, and reads it in its own order."""
    log = opened(options, record_exp=record_exp)
    end = START
    sizes = random.Random(2)
    for begin in range(0, 6 * count, count):
        added = [
            Entry(
                f'"{begin + place} {"x" * int(sizes.lognormvariate(7.5, 1.5))}"',
                *("slot", -float(place), None, None),
            )
            for place in range(count)
        ]
        write = log.replace if begin == 3 * count else log.append
        end = write("ada", added, end)
        assert [e.data for e in log.read_back("ada", count).events] == [
            entry.data for entry in added
        ]
    log.close()


def test_masters_that_share_the_numbers(options, with_globals):
    """Each of several masters numbers in steps, from another first number."""
    with_globals(auto_increment_increment=7, auto_increment_offset=3)
    log = opened(options)
    end = START
    for number in (1, 3, 300, 2):
        end = log.append("ada", entries(*map(str, range(number))), end)
        assert end == end_of(log, "ada")
        assert end % 7 == 3
    assert len(log.read_back("ada").events) == 306
    log.close()


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_ids_ascend_whatever_the_mode_of_auto_increment(mode):
    with MariaDBServer(
        {"innodb_autoinc_lock_mode": mode, "innodb_flush_log_at_trx_commit": 0}
    ) as server:
        endpoint = BACKENDS["mariadb"].endpoint(server, server.create_database())
        del endpoint["type"]
        log = opened(endpoint)

        def talk(name):
            end = START
            for number in range(12):
                said = [f"{name} {number} {part}" for part in range(number % 4 + 1)]
                end, before = log.append(name, entries(*said), end), end
                assert end > before
            return texts(log, name)

        with ThreadPoolExecutor(6) as threads:
            for name, found in zip("abcdef", threads.map(talk, "abcdef")):
                assert found == [
                    f"{name} {number} {part}"
                    for number in range(12)
                    for part in range(number % 4 + 1)
                ]
        log.close()


def test_conversations_that_begin_at_once_do_not_lock_each_other_out(log):
    """Locks on gaps, by which InnoDB keeps phantoms out, would let them deadlock."""
    with ThreadPoolExecutor(8) as threads:
        ends = [
            threads.submit(log.append, f"user-{number}", entries("a", "b"), START)
            for number in range(300)
        ]
        assert all(end.result() for end in ends)  # not even one that is tried again


def test_writer_does_not_wait_for_those_of_other_conversations(log, mariadb_server):
    end = log.append("ada", entries("a", "b"), START)
    other = mariadb_server.connect(log.engine.url.database)
    with closing(other), other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(
            "INSERT INTO events (sender_id, type_name) VALUES "
            "('a', 'slot'), ('adb', 'slot'), ('z', 'slot')"
        )
        # Each would fail after the wait for a lock.
        end = log.append("ada", entries("c"), end)
        assert log.replace("ada", entries("d"), end)
        assert log.delete("ada")


def test_late_append_that_waits_for_another_writer_writes_nothing(log):
    """After the wait it sees what was committed meanwhile, and no snapshot from before."""
    end = log.append("ada", entries("a"), START)
    results = []
    with log._writing("ada") as first:
        late = threading.Thread(
            target=lambda: results.append(log.append("ada", entries("late"), end))
        )
        late.start()
        late.join(0.3)
        assert late.is_alive()
        assert log._insert(first, "ada", entries("b"), end)
    late.join(30)
    assert results == [None]
    assert texts(log, "ada") == ["a", "b"]


def test_lock_that_another_program_holds_is_waited_for_no_longer_than_timeout(options):
    log = opened(options, timeout=1)
    with log._writing("ada"), pytest.raises(Exception, match="1205") as refused:
        log.append("ada", entries("a"), START)
    failure = log.classify(refused.value)
    assert failure.transient
    assert "SHOW ENGINE INNODB STATUS" in failure.remedy
    assert log.append("ada", entries("a"), START)
    log.close()


def test_table_for_locks_that_somebody_has_emptied(log):
    run(log, f"DELETE FROM {LOCKS_TABLE}")
    end = log.append("ada", entries("a"), START)
    assert log.append("ada", entries("b"), end)
    assert run(log, f"SELECT writes FROM {LOCKS_TABLE}") == [(2,)]
    log.open()
    assert run(log, f"SELECT count(*) FROM {LOCKS_TABLE}") == [(LOCKS,)]


# Numbers


@pytest.mark.parametrize(
    ("number", "remedy"), [(1, "trigger"), (300, "AUTO_INCREMENT")]
)
def test_append_whose_ids_are_lower_writes_nothing(log, administer, number, remedy):
    run(log, "ALTER TABLE events AUTO_INCREMENT = 7000")
    end = log.append("ada", entries("a"), START)
    administer("CREATE TRIGGER low BEFORE INSERT ON events FOR EACH ROW SET NEW.id = 5")
    with pytest.raises(Exception, match=r"out of range|Duplicate entry") as refused:
        log.append("ada", entries(*map(str, range(number))), end)
    failure = log.classify(refused.value)
    assert not failure.transient
    assert remedy in failure.remedy
    assert texts(log, "ada") == ["a"]


def test_numbers_are_moved_on(log):
    log._move_numbers(7000)
    end = log.append("ada", entries("a"), START)
    assert end > 7000
    log._move_numbers(START)
    assert log.append("ada", entries("b"), end) > end


def test_numbers_are_moved_past_the_highest_id(log):
    end = log.append("ada", entries("a"), START)
    run(log, "UPDATE events SET id = 7000")
    end = log.append("ada", entries("b", "c"), 7000)
    assert end > 7000
    assert texts(log, "ada") == ["a", "b", "c"]


def test_numbers_never_go_back(log):
    """A position that was given once would stand for another event."""
    log.append("ada", entries("a"), START)
    erased = log.append("grace", entries("x"), START)
    assert log.delete("grace")
    log._move_numbers(START)
    assert log.append("grace", entries("y"), START) > erased


def test_unique_index_that_somebody_has_added_moves_no_numbers(log, administer):
    end = log.append("ada", entries("a"), START)
    erased = log.append("grace", entries("x"), START)
    assert log.delete("grace")
    administer("ALTER TABLE events ADD UNIQUE KEY one (sender_id, type_name)")
    moved = []
    log._move_numbers = moved.append
    with pytest.raises(Exception, match="1062") as refused:
        log.append("ada", entries("b"), end)
    failure = log.classify(refused.value)
    assert not failure.transient
    assert "unique index" in failure.remedy
    assert moved == []
    assert log.append("grace", entries("y"), START) > erased


def test_user_without_the_right_to_alter_moves_the_numbers(
    options, mariadb_server, mariadb_database, administer
):
    log = opened(options)
    log.append("ada", entries("a"), START)
    administer("UPDATE events SET id = 7000")
    log.close()
    mariadb_server.administer(
        "CREATE USER IF NOT EXISTS mover@'%' IDENTIFIED BY 'mover'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {mariadb_database}.* TO mover@'%'",
    )
    log = opened({**options, "username": "mover", "password": "mover"})
    assert log.append("ada", entries("b"), 7000) > 7000
    assert log.append("grace", entries("x"), START) > 7000
    assert texts(log, "ada") == ["a", "b"]
    log.close()
    mariadb_server.administer("DROP USER mover@'%'")


def test_event_that_another_program_adds_meanwhile_is_a_conflict(
    options, mariadb_server, mariadb_database, administer
):
    """Other programs take no lock; their event comes between the append and its check."""
    log = opened(options, users=True)
    end = log.append("ada", entries("a"), START)
    administer(
        "CREATE TRIGGER slow BEFORE INSERT ON users FOR EACH ROW "
        "SET @held = get_lock('gate', 10)"
    )
    log.close()
    # Who may not ALTER TABLE, which nothing here needs.
    plain = f"plain{mariadb_database[-20:]}"
    administer(
        f"CREATE USER {plain}@'%' IDENTIFIED BY 'plain'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {mariadb_database}.* TO {plain}@'%'",
    )
    log = opened({**options, "username": plain, "password": "plain"}, users=True)
    with closing(
        mariadb_server.administrator()
    ) as gate, gate.cursor() as cursor, ThreadPoolExecutor(1) as thread:
        cursor.execute("SELECT get_lock('gate', 10)")
        append = thread.submit(log.append, "ada", entries("b"), end, User("u", 1.0))
        waiting = "FROM information_schema.processlist WHERE state = 'User lock'"
        while not administer(f"SELECT 1 {waiting}"):
            assert not append.done()
        administer("INSERT INTO events (sender_id, type_name) VALUES ('ada', 'user')")
        cursor.execute("DO release_lock('gate')")
        assert append.result(30) is None
    assert run(log, "SELECT type_name FROM events ORDER BY id") == [
        ("slot",),
        ("user",),
    ]
    log.close()
    administer(f"DROP USER {plain}@'%'")


# Reading


@pytest.mark.parametrize("analyzed", [False, True])
def test_pages_are_read_by_the_index_whatever_the_statistics_say(options, analyzed):
    log = opened(options)
    with log.engine.connect() as connection:
        # One conversation with a part of all events, and newer ones of others.
        for first, last, name in ((1, 4_000, "old"), (4_001, 16_000, "user")):
            for begin in range(first, last, 1_000):
                rows = ", ".join(
                    f"({number}, '{name}{number // 30 if name == 'user' else ''}', '', "
                    "repeat('x', 300))"
                    for number in range(begin, begin + 1_000)
                )
                connection.exec_driver_sql(
                    f"INSERT INTO events (id, sender_id, type_name, data) VALUES {rows}"
                )
        if analyzed:
            connection.exec_driver_sql("ANALYZE TABLE events").all()
    for before in (None, 3_990, 2_000, 50):
        read = functools.partial(log.read_back, "old", 20, before)
        assert rows_read(log, read) <= 30, before
    assert rows_read(log, lambda: log.append("old", entries("a", "b"), 4000)) <= 30
    assert rows_read(log, lambda: log.delete("old")) <= 3 * 4_002 + 30
    log.close()


def rows_read(log, call):
    """The rows that the server looks at in a call, on the one connection of the pool."""

    def count():
        found = run(log, "SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(value) for _, value in found)

    before = count()
    idle = count() - before
    before = count()
    call()
    return count() - before - idle


def test_sender_ids_come_in_parts(log, monkeypatch):
    monkeypatch.setattr(log, "_fetched", 2)
    names = ["e", "c", "A", "\u00e4", "b", "a", "d", "a "]
    for name in names:
        log.append(name, entries("x", "y"), START)
    batches = list(log.sender_ids())
    assert [one for batch in batches for one in batch] == sorted(names)
    assert max(map(len, batches)) == 2


# Servers


def test_connection_to_a_server_that_became_a_replica_is_replaced(options):
    log = opened(options)
    with log.engine.connect() as connection:
        # As that of one that was the primary, and still lives.
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
    with pytest.raises(Exception, match="1792") as refused:
        log.append("ada", entries("a"), START)
    failure = log.classify(refused.value)
    assert failure.transient
    assert failure.away
    assert log.append("ada", entries("a"), START)
    log.close()


def test_check_says_whether_the_server_is_a_replica(log, with_globals):
    assert {fact.name: fact.level for fact in facts(log)}["role"] == "ok"
    with_globals(read_only=1)
    assert {fact.name: fact.level for fact in facts(log)}["role"] == "error"


@pytest.mark.parametrize("off", [0, "0", "OFF", None])
def test_switch_that_is_off_by_any_name(off):
    """Some servers give a word, and others a number."""
    assert not is_on(off)
    assert is_on(1)
    assert is_on("ON")
    assert is_on("NO_LOCK_NO_ADMIN")


def test_binary_log_that_cannot_take_the_writes_is_an_error():
    settings = {"log_bin": "binlog", "binlog_format": "STATEMENT", "server_id": 1}
    with MariaDBServer(settings) as server:
        endpoint = BACKENDS["mariadb"].endpoint(server, server.create_database())
        del endpoint["type"]
        log = make_log(endpoint)
        with pytest.raises(Exception, match=r"(?i)binlog_format") as refused:
            log.open()
        failure = log.classify(refused.value)
        assert not failure.transient
        assert "ROW or MIXED" in failure.remedy
        found = {fact.name: fact for fact in facts(log)}
        assert found["binlog_format"].level == "error"
        log.close()


def test_tls_with_a_certificate_that_is_verified(certificates):
    with MariaDBServer(certificate=certificates.server_file) as server:
        endpoint = BACKENDS["mariadb"].endpoint(server, server.create_database())
        del endpoint["type"]
        trusted = {"ssl_ca": certificates.ca_file, "ssl_check_hostname": "true"}
        log = opened({**endpoint, "query": trusted})
        found = {fact.name: fact for fact in facts(log)}
        assert found["TLS"].level == "ok"
        assert found["TLS"].value.startswith("TLS_")
        assert log.append("ada", entries("a"), START)
        log.close()
        # An authority that has not signed the server's certificate.
        strange = {**trusted, "ssl_ca": certificates.client_certificate_file}
        log = make_log({**endpoint, "query": strange})
        with pytest.raises(Exception, match="certificate") as refused:
            log.open()
        failure = log.classify(refused.value)
        assert not failure.transient
        assert "ssl_ca" in failure.remedy
        log.close()


def test_words_of_users_are_in_no_error(log, administer):
    administer(
        "ALTER TABLE events MODIFY action_name VARCHAR(255) CHARACTER SET latin1"
    )
    secret = "\U0001f600 my secret words"
    with pytest.raises(Exception, match="Incorrect string value") as refused:
        log.append("ada", [Entry("{}", "slot", 1.0, None, secret)], START)
    assert "xF0" not in str(refused.value)
    administer("ALTER TABLE events ADD UNIQUE KEY one (sender_id, type_name)")
    with pytest.raises(Exception, match="Duplicate entry") as refused:
        log.append("secret name", entries("a", "b"), START)
    assert "secret" not in str(refused.value)


# Drivers


@pytest.mark.parametrize("dialect", ["mysql+pymysql", "mariadb+pymysql", "mysql"])
def test_names_of_the_dialect(options, dialect, monkeypatch, administer):
    ((version,),) = administer("SELECT version()")
    if dialect.startswith("mariadb") and "MariaDB" not in version:
        pytest.skip("SQLAlchemy refuses it for a MySQL server")
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    log = opened({**options, "dialect": dialect})
    assert log.append("ada", entries("a"), START)
    assert texts(log, "ada") == ["a"]
    log.close()


@pytest.mark.parametrize(
    "dialect", ["mysql+mysqlconnector", "mariadb+mariadbconnector"]
)
def test_driver_that_the_store_does_not_know(dialect):
    with pytest.raises(Exception, match=r"\+pymysql or \w+\+mysqldb") as refused:
        make_log({"dialect": dialect, "url": "h"})
    assert is_store_error(refused.value)


@pytest.mark.parametrize(
    ("dialect", "module", "package"),
    [
        ("mysql+pymysql", "pymysql", "PyMySQL"),
        ("mysql+mysqldb", "MySQLdb", "mysqlclient"),
    ],
)
def test_driver_that_is_not_installed(dialect, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Exception, match=f"pip install {package}") as refused:
        make_log({"dialect": dialect, "url": "h"})
    assert is_store_error(refused.value)


def test_driver_that_lacks_the_package_for_a_login(monkeypatch):
    """As MySQL 8 asks for without TLS; MariaDB has no such login."""

    class Error(Exception):
        pass

    def connect(**_options):
        raise RuntimeError(
            "'cryptography' package is required for caching_sha2_password"
        )

    module = types.ModuleType("pymysql")
    vars(module).update(paramstyle="format", Error=Error, connect=connect)
    monkeypatch.setitem(sys.modules, "pymysql", module)
    log = make_log({"dialect": "mysql+pymysql", "url": "h"})
    with pytest.raises(Exception, match=r'pip install "PyMySQL\[rsa\]"') as refused:
        log.open()
    assert is_store_error(refused.value)
