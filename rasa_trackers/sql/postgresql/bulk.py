"""Several conversations in one message to PostgreSQL."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Sequence, Tuple

from rasa_trackers.event_log import START, Page, Stored
from rasa_trackers.sql.postgresql.engine import lock_key
from rasa_trackers.sql.postgresql.log import PostgreSQLEventLog
from rasa_trackers.sql.postgresql.statements import NOW
from rasa_trackers.sql.rows import fetch_from_driver, row, text_of

#: Events that one message writes. It holds the locks of their conversations for 20 ms.
_MOST_EVENTS = 1_000

#: In the order of the keys, so that two writers of several conversations never wait for
#: each other.
_LOCKS = (
    "SELECT pg_advisory_xact_lock(key) FROM "
    "(SELECT unnest(%s::bigint[]) AS key OFFSET 0) AS keys"
)


def read(
    log: PostgreSQLEventLog, sender_ids: Sequence[str], limit: int
) -> Dict[str, Page]:
    """The newest events of conversations, as ``read_back`` gives them."""
    preparer = log.engine.dialect.identifier_preparer
    events, users, expiry = (
        preparer.format_table(table)
        for table in (log.tables.events, log.tables.users, log.tables.expiry)
    )
    alive = user_id = ""
    if log._record_exp is not None:  # noqa: SLF001 - of this package
        alive = (
            f"AND NOT EXISTS (SELECT 1 FROM {expiry} AS mine "  # noqa: S608
            f"WHERE mine.sender_id = wanted.sender_id AND mine.expires_at <= {NOW} "
            f"AND NOT EXISTS (SELECT 1 FROM {events} AS later "
            "WHERE later.sender_id = mine.sender_id AND later.id > mine.last_id)) "
        )
    if log.keeps_users:
        user_id = (
            f"(SELECT user_id FROM {users} AS known "  # noqa: S608
            "WHERE known.sender_id = wanted.sender_id)"
        )
    sql = (
        f"SELECT wanted.sender_id, found.id, found.data, {user_id or 'NULL'} "  # noqa: S608
        "FROM (SELECT unnest(%(sender_ids)s::varchar[]) AS sender_id OFFSET 0) AS wanted, "
        # As in PostgreSQLStatements._in_order.
        f"LATERAL (SELECT id, data FROM {events} AS own "
        f"WHERE own.sender_id BETWEEN wanted.sender_id AND wanted.sender_id {alive}"
        "ORDER BY own.sender_id DESC, own.id DESC LIMIT %(limit)s) AS found"
    )
    with log.engine.connect() as connection:
        result = connection.exec_driver_sql(
            sql, {"sender_ids": list(sender_ids), "limit": limit + 1}
        )
        rows = fetch_from_driver(result, log.engine.dialect)
    texts: Dict[str, List[Stored]] = {}
    user_ids: Dict[str, Any] = {}
    for sender_id, position, data, user in rows:
        texts.setdefault(sender_id, []).append(Stored(position, text_of(data)))
        user_ids[sender_id] = user
    return {
        sender_id: Page(
            sorted(found)[-limit:],
            complete=len(found) <= limit,
            user_id=user_ids[sender_id],
        )
        for sender_id, found in texts.items()
    }


def begin(log: PostgreSQLEventLog, beginnings: Sequence[Any]) -> Dict[str, int]:
    """Append to conversations without events; gives the ends of those that had none."""
    ends: Dict[str, int] = {}
    for part in _parts(beginnings):
        sql, parameters = _begin_statement(log, part)
        ends.update(_begun(log, sql, parameters))
    return ends


def _begun(
    log: PostgreSQLEventLog, sql: str, parameters: Sequence[Any]
) -> Dict[str, int]:
    def write() -> Any:
        with log.engine.connect() as connection:
            return connection.exec_driver_sql(sql, tuple(parameters)).all()

    # The ids that a sequence gives may be taken, as in an append.
    rows: Any = log._with_greater_ids(START, write)  # noqa: SLF001 - of this package
    return {sender_id: int(end) for sender_id, end in rows}


def _parts(beginnings: Sequence[Any]) -> Iterator[List[Any]]:
    """Conversations that go into one message; a long one is left out."""
    part: List[Any] = []
    events = 0
    for each in beginnings:
        if not 0 < len(each.entries) <= _MOST_EVENTS:
            continue
        if events + len(each.entries) > _MOST_EVENTS:
            yield part
            part, events = [], 0
        part.append(each)
        events += len(each.entries)
    if part:
        yield part


def _begin_statement(
    log: PostgreSQLEventLog, beginnings: Sequence[Any]
) -> Tuple[str, List[Any]]:
    """Writes what ``AppendStatement`` writes for each conversation after ``START``."""
    preparer = log.engine.dialect.identifier_preparer
    events, users, expiry = (
        preparer.format_table(table)
        for table in (log.tables.events, log.tables.users, log.tables.expiry)
    )
    encoding, record_exp = log._column_encoding, log._record_exp  # noqa: SLF001
    values: List[Any] = []
    for each in beginnings:
        for entry in each.entries:
            values += [
                len(values),
                *row(each.sender_id, entry, encoding=encoding).values(),
            ]
    number = sum(len(each.entries) for each in beginnings)
    first = (
        "(%s::int,%s::varchar,%s::varchar,%s::float8,%s::varchar,%s::varchar,%s::text)"
    )
    rows = ",".join([first, *["(%s,%s,%s,%s,%s,%s,%s)"] * (number - 1)])
    sql = (
        f"{_LOCKS};WITH new_events (place, sender_id, type_name, timestamp, "  # noqa: S608
        f"intent_name, action_name, data) AS (VALUES {rows}), "
        f"appended AS (INSERT INTO {events} "
        "(sender_id, type_name, timestamp, intent_name, action_name, data) "
        "SELECT sender_id, type_name, timestamp, intent_name, action_name, data "
        # A conversation that has expired is not empty yet.
        f"FROM new_events WHERE (SELECT id FROM {events} AS own "
        "WHERE own.sender_id BETWEEN new_events.sender_id AND new_events.sender_id "
        f"AND own.id > {START} ORDER BY own.sender_id DESC, own.id DESC LIMIT 1) IS NULL "
        "ORDER BY place RETURNING sender_id, id), "
        "ends AS (SELECT sender_id, max(id) AS id FROM appended GROUP BY sender_id)"
    )
    lock_keys = {lock_key(each.sender_id) for each in beginnings}
    parameters: List[Any] = [
        # As text: SQLAlchemy takes a list in the first place for several executions.
        "{" + ",".join(map(str, sorted(lock_keys))) + "}",
        *values,
    ]
    if record_exp is not None:
        sql += (
            f", renewed AS (INSERT INTO {expiry} "  # noqa: S608
            f"(sender_id, expires_at, last_id) SELECT sender_id, {NOW} + %s, id FROM ends "
            "ON CONFLICT (sender_id) DO UPDATE SET "
            "expires_at = EXCLUDED.expires_at, last_id = EXCLUDED.last_id)"
        )
        parameters.append(record_exp)
    assigned = [each for each in beginnings if each.user is not None]
    if assigned and log.keeps_users:
        started = "conversation_started_timestamp"
        first = "(%s::varchar,%s::varchar,%s::float8)"
        rows = ",".join([first, *["(%s,%s,%s)"] * (len(assigned) - 1)])
        sql += (
            f", assigned AS (INSERT INTO {users} AS known "  # noqa: S608
            f"(sender_id, user_id, {started}) SELECT new_users.* "
            f"FROM (VALUES {rows}) AS new_users (sender_id, user_id, started) "
            "JOIN ends USING (sender_id) ON CONFLICT (sender_id) DO UPDATE SET "
            f"user_id = EXCLUDED.user_id, {started} = "
            f"coalesce(known.{started}, EXCLUDED.{started}))"
        )
        for each in assigned:
            parameters += [each.sender_id, *each.user]
    return f"{sql} SELECT sender_id, id FROM ends", parameters  # noqa: S608
