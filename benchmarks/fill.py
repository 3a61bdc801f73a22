"""Makes databases of many conversations, by the drivers' means."""

import contextlib
import json
import sqlite3
import time
from typing import Any, Callable, Dict

import psycopg2
import pymongo
import pymysql
import redis

import conversations as examples
from measuring import Place

#: The conversation that the others are copies of.
TEMPLATE = "template-of-many"
_BATCH = 2000
#: Seconds to wait for an index.
_PATIENCE = 300.0

_INSERT = (
    "INSERT INTO events "
    "(sender_id, type_name, timestamp, intent_name, action_name, data) "
)


def _texts() -> Dict[str, str]:
    first = examples.session_start()[0]
    other = examples.turn()[-1]
    return {
        "first": json.dumps(first.as_dict()),
        "other": json.dumps(other.as_dict()),
    }


def _fill_sqlite(place: Place, name: str, conversations: int, events: int) -> None:
    with contextlib.closing(sqlite3.connect(name)) as connection, connection:
        connection.execute(
            _INSERT  # noqa: S608
            + "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL "
            "SELECT n + 1 FROM numbers WHERE n + 1 < :all_of_them) "
            "SELECT 'user-' || (n % :conversations), 'action', 1.7e9 + n, NULL, "
            "'action_listen', CASE WHEN n < :conversations THEN :first ELSE :other END "
            "FROM numbers",
            {
                "all_of_them": conversations * events,
                "conversations": conversations,
                **_texts(),
            },
        )


def _fill_postgresql(place: Place, name: str, conversations: int, events: int) -> None:
    with contextlib.closing(_postgresql(place, name)) as connection:
        cursor = connection.cursor()
        cursor.execute(
            _INSERT  # noqa: S608
            + "SELECT 'user-' || (n %% %(conversations)s), 'action', 1.7e9 + n, NULL, "
            "'action_listen', CASE WHEN n < %(conversations)s THEN %(first)s "
            "ELSE %(other)s END FROM generate_series(0, %(last)s) AS n",
            {
                "last": conversations * events - 1,
                "conversations": conversations,
                **_texts(),
            },
        )
        cursor.execute("VACUUM ANALYZE events")


def _postgresql(place: Place, name: str) -> Any:
    where = place.endpoint
    connection = psycopg2.connect(
        dbname=name,
        host=where["url"],
        port=where["port"],
        user=where["username"],
        password=where["password"],
    )
    connection.autocommit = True
    return connection


def _fill_mariadb(place: Place, name: str, conversations: int, events: int) -> None:
    texts = _texts()
    with contextlib.closing(_mariadb(place, name)) as connection:
        cursor = connection.cursor()
        total = conversations * events
        for begin in range(0, total, _BATCH):
            cursor.executemany(
                f"{_INSERT} VALUES (%s, 'action', %s, NULL, 'action_listen', %s)",
                [
                    (
                        f"user-{number % conversations}",
                        1.7e9 + number,
                        texts["first" if number < conversations else "other"],
                    )
                    for number in range(begin, min(begin + _BATCH, total))
                ],
            )
        cursor.execute("ANALYZE TABLE events")


def _mariadb(place: Place, name: str) -> Any:
    where = place.endpoint
    return pymysql.connect(
        database=name,
        host=where["url"],
        port=where["port"],
        user=where["username"],
        password=where["password"],
        charset="utf8mb4",
        autocommit=True,
    )


def _wait_for_postgresql(place: Place, name: str) -> None:
    with contextlib.closing(_postgresql(place, name)) as connection:
        cursor = connection.cursor()

        def is_valid() -> bool:
            cursor.execute(
                "SELECT indisvalid FROM pg_index "
                "WHERE indexrelid = to_regclass('ix_events_sender_id_id')"
            )
            return bool(cursor.fetchone() == (True,))

        _wait_until(is_valid)


def _wait_for_mongo(place: Place, name: str) -> None:
    with pymongo.MongoClient(place.endpoint["url"]) as client:
        collection: Any = client[name]["conversations"]
        # The last one that a store asks for.
        _wait_until(lambda: "unclean_1" in collection.index_information())


def _wait_until(is_there: Callable[[], bool]) -> None:
    # Not by the tests' means, which Rasa Pro's process has none of.
    end = time.monotonic() + _PATIENCE
    while not is_there():
        if time.monotonic() > end:
            raise TimeoutError(f"There is no index after {_PATIENCE:g} seconds")
        time.sleep(0.02)


def _copy_in_redis(place: Place, name: str, conversations: int) -> None:
    client: Any = redis.Redis(**place.options(name))
    template = TEMPLATE.encode()
    dumps = {key: client.dump(key) for key in client.keys(f"*{TEMPLATE}*")}
    for begin in range(0, conversations, _BATCH):
        pipeline = client.pipeline(transaction=False)
        for number in range(begin, min(begin + _BATCH, conversations)):
            for key, dump in dumps.items():
                pipeline.restore(key.replace(template, b"user-%d" % number), 0, dump)
        pipeline.execute()
    for key in dumps:
        client.delete(key)
    client.close()


def _copy_in_mongo(place: Place, name: str, conversations: int) -> None:
    with pymongo.MongoClient(place.endpoint["url"]) as client:
        collection: Any = client[name]["conversations"]
        documents = list(collection.find({"sender_id": TEMPLATE}))
        for begin in range(0, conversations, _BATCH):
            collection.insert_many(
                [
                    _renamed(document, f"user-{number}")
                    for number in range(begin, min(begin + _BATCH, conversations))
                    for document in documents
                ]
            )
        collection.delete_many({"sender_id": TEMPLATE})


def _renamed(document: Dict[str, Any], sender_id: str) -> Dict[str, Any]:
    copy = {**document, "sender_id": sender_id}
    if isinstance(copy["_id"], str):
        copy["_id"] = copy["_id"].replace(TEMPLATE, sender_id)
    else:
        del copy["_id"]
    return copy


#: Fill an SQL database: its place and name, how many conversations, events of each.
SQL: Dict[str, Callable[[Place, str, int, int], None]] = {
    "sqlite": _fill_sqlite,
    "postgresql": _fill_postgresql,
    "mariadb": _fill_mariadb,
}
#: Wait until a database has the indexes of ours: its place and name.
WAIT_FOR_INDEX: Dict[str, Callable[[Place, str], None]] = {
    "postgresql": _wait_for_postgresql,
    "mongo": _wait_for_mongo,
}
#: Copy the template's conversation: the database's place and name, how many.
COPY: Dict[str, Callable[[Place, str, int], None]] = {
    "redis": _copy_in_redis,
    "mongo": _copy_in_mongo,
}
