"""The SQL that is sent: looked at, linted, and parsed by a grammar of Oracle's."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from oracle.grammar import complaints, looked_at, syntax_errors
from oracle.oracle_logs import (
    log_of,
    statements,
)
from rasa_trackers.sql.oracle import setup
from rasa_trackers.sql.oracle.statements import lock_id
from rasa_trackers.sql.schema import tables

GOLDEN = Path(__file__).with_name("golden")


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


@pytest.mark.parametrize("version", [(11, 2), (19, 3)], ids=["11.2", "19.3"])
def test_sql_has_nothing_that_oracle_rejects(version):
    for name, sql in statements(log_of(version)).items():
        assert complaints(looked_at(sql)) == [], name
        if version < (12,):
            assert "FETCH FIRST" not in sql, name
    for _, sql in setup.statements(log_of(version)):
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


@pytest.mark.parametrize("version", [(11, 2), (19, 3)], ids=["11.2", "19.3"])
def test_sql_follows_a_grammar_of_oracles(version):
    log = log_of(version)
    for name, sql in statements(log).items():
        # SQLAlchemy writes values in there when it sends the statement.
        text = sql.replace("__[POSTCOMPILE_sender_ids]", ":name_1, :name_2")
        text = re.sub(r"__\[POSTCOMPILE_\w+\]", "5", text)
        # Oracle 12.1's; the grammar knows only the second half of it.
        text = text.replace("OFFSET 5 ROWS\n FETCH FIRST", "FETCH FIRST")
        assert syntax_errors(text) == [], name
    for number in (1, 8, 50):
        assert syntax_errors(log.append_block.whole_text(number)) == [], number
    for _, sql in setup.statements(log):
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
    block = log_of((19, 3)).append_block.whole_text(1)
    assert old in block
    assert syntax_errors(block.replace(old, new))


def test_reading_asks_for_no_more_than_the_page():
    """On 11.2 by ROWNUM around the sorted rows, so that it stops the index scan."""
    newest = statements(log_of((11, 2)))["read_newest"]
    assert newest.index("ORDER BY events.id DESC") < newest.index("ROWNUM <= :limit")


def test_schema_stands_before_each_name():
    log = log_of((19, 3), schema="rasa_data")
    block = statements(log)["block of 2"]
    for text in (block, setup.script(log)):
        assert not re.search(
            r"(?<![.\w])(events_seq|events|rasa_trackers_expiry|ix_\w+)\b", text
        )
    assert "rasa_data.events_seq.NEXTVAL" in block


def test_script_makes_the_columns_that_the_store_uses():
    made = dict(setup.statements(log_of((11, 2))))
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
