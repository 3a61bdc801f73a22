"""What Oracle needs before the first event: sequence, tables and indexes."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection

from rasa_trackers.errors import store_error
from rasa_trackers.sql.oracle.failures import (
    EXISTS,
    NO_OBJECT,
    NOT_IN_THIS_EDITION,
    REFUSED,
    has_code,
)

if TYPE_CHECKING:
    from rasa_trackers.sql.oracle.log import OracleEventLog

logger = logging.getLogger(__name__)

#: Rows up to which an index is created while others wait.
_SMALL_TABLE = 100_000

_SCRIPT = Path(__file__).with_name("oracle.sql")
_OBJECT = re.compile(
    r"CREATE (?:SEQUENCE|TABLE|INDEX) ([\w.\"$#]+)(?: ON ([\w.\"$#]+))?"
)


def set_up(log: OracleEventLog) -> None:
    """Create what is missing; the index of an existing table in the background."""
    with log.engine.connect() as connection:
        missing = missing_objects(log, connection)
        if missing and not log.may_create_tables:
            raise _needs_administrator(
                log, f"has no {', '.join(missing)}, and 'create_tables' is false"
            )
        for name, statement in statements(log):
            table = _names(statement)[1] or name
            if name in missing or table in missing:
                create(log, connection, name, statement)
        log.check_tables(connection)
        is_new = log.tables.events.name in missing
        indexed = is_new or has_tail_index(log, connection)
    if not indexed:
        # The log works meanwhile: for many millions of events, the index takes minutes.
        threading.Thread(
            target=create_tail_index,
            args=(log,),
            name="rasa_trackers-index",
            daemon=True,
        ).start()


def script(log: OracleEventLog) -> str:
    """What an administrator runs to create the tables."""
    text = _SCRIPT.read_text(encoding="utf-8")
    schema = log.tables.events.schema
    if schema is None:
        return text
    prefix = log.engine.dialect.identifier_preparer.quote_schema(schema)
    return re.sub(
        r"\b(?=(?:events_seq|events|rasa_trackers_expiry|users|ix_\w+)\b)",
        lambda _: f"{prefix}.",
        text,
    )


def statements(log: OracleEventLog) -> List[Tuple[str, str]]:
    """The statements of the script, each with the plain name of what it creates."""
    lines = [line for line in script(log).splitlines() if not line.startswith("--")]
    found = [part.strip() for part in "\n".join(lines).split(";")]
    return [(_names(each)[0], each) for each in found if each]


def _names(statement: str) -> Tuple[str, str]:
    """The plain name of what a statement creates, and of the table of an index."""
    found = _OBJECT.match(statement)
    if found is None:
        raise ValueError(f"oracle.sql has another kind of statement: {statement}")
    name, table = ((part or "").rpartition(".")[2] for part in found.groups())
    return name, table


def missing_objects(log: OracleEventLog, connection: Connection) -> List[str]:
    """The tables and the sequence that this user does not see.

    A query asks for each of them, which also finds what a synonym stands for.
    """
    sequence = log.tables.events.c.id.default
    probes: List[Tuple[str, Any]] = [
        (log.tables.events.name, probe(log.tables.events)),
        (sequence.name, log.statements.draw),
        *((table.name, probe(table)) for table in log.own_tables),
    ]
    missing = []
    for name, query in probes:
        try:
            connection.execute(query).all()
        except sqlalchemy.exc.DBAPIError as error:
            if not has_code(error, NO_OBJECT):
                raise
            missing.append(name)
    return missing


def probe(table: sa.Table) -> Any:
    """A query that has every column of a table and gives no row."""
    nothing = sa.literal_column("1") == sa.literal_column("0")
    return sa.select(sa.literal_column("*")).select_from(table).where(nothing)


def create(
    log: OracleEventLog, connection: Connection, name: str, statement: str
) -> None:
    """Run a statement of the script, unless another worker has run it meanwhile."""
    try:
        connection.exec_driver_sql(statement)
    except sqlalchemy.exc.DBAPIError as error:
        if has_code(error, EXISTS):
            return
        if has_code(error, REFUSED):
            raise _needs_administrator(
                log, f"has no {name}, and the user may not create it ({error.orig})"
            ) from error
        raise


def _needs_administrator(log: OracleEventLog, reason: str) -> Exception:
    return store_error(
        f"{log.name} {reason}. Let an administrator run this script (it is also in "
        f"rasa_trackers/sql/oracle/oracle.sql):\n\n{script(log)}"
    )


def has_tail_index(log: OracleEventLog, connection: Connection) -> bool:
    """Whether an index begins with the conversation and the id."""
    schema = log.tables.events.schema
    owner: Optional[str] = None  # the user
    if schema is not None:
        owner = str(log.engine.dialect.denormalize_name(schema))
    found = connection.execute(
        sa.text(
            "SELECT COUNT(*) FROM all_ind_columns c1 JOIN all_ind_columns c2"
            " ON c2.index_owner = c1.index_owner AND c2.index_name = c1.index_name"
            " WHERE c1.table_owner = COALESCE(:owner, USER)"
            " AND c1.table_name = 'EVENTS'"
            " AND c1.column_name = 'SENDER_ID' AND c1.column_position = 1"
            " AND c2.column_name = 'ID' AND c2.column_position = 2"
        ).bindparams(sa.bindparam("owner", type_=sa.String)),
        {"owner": owner},
    ).scalar_one()
    return bool(found)


def create_tail_index(log: OracleEventLog) -> None:
    """Create the index that a table of Rasa's own store lacks.

    ``ONLINE`` lets others write meanwhile. Standard Edition cannot do that; a big table
    is left to the administrator there.
    """
    statement = dict(statements(log))[log.tables.tail_index.name]
    if not log.may_create_tables:
        _warn_of_index(log, statement, "'create_tables' is false")
        return
    try:
        logger.info("%s: creating an index.", log.name)
        with log.engine.connect() as connection:
            # Not a connection of the pool: this may take longer than a call.
            connection.detach()
            with contextlib.suppress(AttributeError):
                connection.connection.dbapi_connection.call_timeout = 0
            try:
                connection.exec_driver_sql(f"{statement} ONLINE")
            except sqlalchemy.exc.DBAPIError as error:
                if not has_code(error, (NOT_IN_THIS_EDITION,)):
                    raise
                if not is_small(log, connection):
                    raise
                connection.exec_driver_sql(statement)
        logger.info("%s: the index is ready.", log.name)
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        if not has_code(error, EXISTS):
            _warn_of_index(log, statement, str(getattr(error, "orig", error)))


def _warn_of_index(log: OracleEventLog, statement: str, reason: str) -> None:
    logger.warning(
        "%s: there is no index that makes reading fast: %s. Let an administrator run: "
        "%s;",
        log.name,
        reason.strip(),
        statement,
    )


def is_small(log: OracleEventLog, connection: Connection) -> bool:
    """Whether so few events are stored that others may wait for the index."""
    few = sa.select(log.tables.events.c.id).limit(_SMALL_TABLE + 1).subquery()
    rows = connection.execute(sa.select(sa.func.count()).select_from(few))
    return bool(rows.scalar_one() <= _SMALL_TABLE)
