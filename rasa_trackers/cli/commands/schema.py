"""``schema``: the DDL for an administrator."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, Iterator, List, Optional

import click

from rasa_trackers.cli.arguments import example
from rasa_trackers.cli.errors import CommandError

#: SQLAlchemy's names of the databases.
_DIALECTS = ("postgresql", "oracle", "mysql", "mariadb", "sqlite")


@click.command(
    epilog=example(
        "rasa-trackers schema --dialect postgresql",
        "rasa-trackers schema --dialect oracle > rasa_trackers.sql",
    )
)
@click.option(
    "--dialect",
    type=click.Choice(_DIALECTS),
    required=True,
    help="The database.",
)
@click.option(
    "--schema",
    metavar="NAME",
    help="The schema of the tables; where the server looks first unless given.",
)
def command(dialect: str, schema: Optional[str]) -> None:
    """Print the DDL that the store would run, for an administrator.

    With the tables in place, the store needs no right to create any.
    """
    if importlib.util.find_spec("sqlalchemy") is None:
        raise CommandError(
            "This needs SQLAlchemy: pip install 'rasa-trackers[cli,postgresql]'"
        )
    if dialect == "oracle":
        click.echo(_oracle(schema))
        return
    found = _mysql if dialect in ("mysql", "mariadb") else _statements
    click.echo("\n\n".join(f"{each};" for each in found(dialect, schema)))


def _oracle(schema: Optional[str]) -> str:
    """The script that stands beside the Oracle log, which has more than tables."""
    if schema is not None:
        raise click.UsageError(
            "--schema is not for oracle: run the script as the owner of the tables."
        )
    from rasa_trackers.sql import oracle

    return Path(str(oracle.__file__)).with_name("oracle.sql").read_text("utf-8").strip()


def _statements(dialect: str, schema: Optional[str]) -> Iterator[str]:
    from sqlalchemy.schema import CreateIndex, CreateTable

    from rasa_trackers.sql.schema import tables

    module = importlib.import_module(f"sqlalchemy.dialects.{dialect}")
    own: Any = module.dialect()
    made = tables(schema)
    for table in (made.events, made.users, made.expiry):
        yield _text(CreateTable(table).compile(dialect=own))
        indexes: List[Any] = sorted(table.indexes, key=lambda index: str(index.name))
        if table is made.events:
            indexes.append(made.tail_index)
        for index in indexes:
            yield _text(CreateIndex(index).compile(dialect=own))


def _mysql(dialect: str, schema: Optional[str]) -> Iterator[str]:
    """The store's own statements: the server's defaults mix conversations."""
    from rasa_trackers.sql.mysql import columns

    prefix = f"`{schema.replace('`', '``')}`." if schema is not None else ""
    for table in columns.TABLES:
        yield columns.create_statement(
            table, columns.COLLATIONS[dialect], schema=prefix
        )
    yield columns.fill_statement(prefix)


def _text(compiled: Any) -> str:
    text = str(compiled).strip().replace("\t", "    ").replace("%%", "%")
    return re.sub(r" +$", "", text, flags=re.MULTILINE)
