"""``schema``: the DDL is what the store itself would run."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from cli.conftest import MakeStore, Result
from cli.conversations import CONVERSATIONS


def test_postgresql_takes_it_and_the_store_needs_no_more_rights(
    make: MakeStore, run: Callable[..., Result], postgres_server: Any
) -> None:
    ddl = run("schema", "--dialect", "postgresql").out
    store = make("postgresql")
    with postgres_server.administrator(store.endpoint["db"]) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(ddl)
            cursor.execute("DROP ROLE IF EXISTS writer")
            cursor.execute("CREATE ROLE writer LOGIN PASSWORD 'writer'")
            cursor.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            cursor.execute(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public "
                "TO writer"
            )
            cursor.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO writer")
    store.set(username="writer", password="writer", record_exp=10_000).fill()
    assert set(store.texts()) == set(CONVERSATIONS)
    checked = run("check", store.path, "--json")
    assert checked.status == 0, checked.out
    warnings = {
        each["name"] for each in checked.json()["facts"] if each["level"] == "warning"
    }
    # The server of the tests does without, to be fast.
    assert warnings <= {"fsync"}


def test_sqlite_takes_it(make: MakeStore, run: Callable[..., Result]) -> None:
    import sqlite3

    store = make("sqlite")
    with sqlite3.connect(store.endpoint["db"]) as connection:
        connection.executescript(run("schema", "--dialect", "sqlite").out)
    store.fill()
    assert set(store.texts()) == set(CONVERSATIONS)


def test_oracles_is_the_script_beside_the_log(run: Callable[..., Result]) -> None:
    from pathlib import Path

    from rasa_trackers.sql import oracle

    script = Path(str(oracle.__file__)).with_name("oracle.sql").read_text()
    assert run("schema", "--dialect", "oracle").out.strip() == script.strip()


def test_mysql_keeps_case_long_texts_and_digits(run: Callable[..., Result]) -> None:
    ddl = run("schema", "--dialect", "mysql").out
    assert "data LONGTEXT" in ddl
    assert "timestamp DOUBLE" in ddl
    assert "FLOAT" not in ddl
    # Of sender_id in three tables and of user_id; utf8mb4_bin ignores spaces at the end.
    assert ddl.count("COLLATE utf8mb4_0900_bin") == 4


def test_mariadb_takes_it_and_the_store_needs_no_more_rights(
    make: MakeStore, run: Callable[..., Result], mariadb_server: Any
) -> None:
    store = make("mariadb")
    db = store.endpoint["db"]
    ((version,),) = mariadb_server.administer("SELECT version()")
    dialect = "mariadb" if "MariaDB" in version else "mysql"
    ddl = run("schema", "--dialect", dialect).out
    mariadb_server.administer(*ddl.strip().rstrip(";").split(";\n\n"), database=db)
    mariadb_server.administer(
        "CREATE USER IF NOT EXISTS writer@'%' IDENTIFIED BY 'writer'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{db}`.* TO writer@'%'",
    )
    store.set(username="writer", password="writer", record_exp=10_000).fill()
    assert set(store.texts()) == set(CONVERSATIONS)
    checked = run("check", store.path, "--json")
    assert checked.status == 0, checked.out
    warnings = {
        each["name"] for each in checked.json()["facts"] if each["level"] == "warning"
    }
    # The server of the tests does without, to be fast.
    assert warnings <= {"innodb_flush_log_at_trx_commit"}
    mariadb_server.administer("DROP USER writer@'%'")


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_a_schema_is_named(run: Callable[..., Result], dialect: str) -> None:
    ddl = run("schema", "--dialect", dialect, "--schema", "rasa").out
    assert "rasa.events" in ddl.replace("`", "")
