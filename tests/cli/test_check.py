"""``check``: facts of real servers, and what is misconfigured."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict

import pytest

from cli.conftest import STORES, MakeStore, Result
from cli.conversations import CONVERSATIONS
from servers.redis import RedisServer
from servers.tls import Certificates, tls_terminator

#: What is told of each kind of store.
FACTS = {
    "sqlite": {"server", "TLS", "rights", "journal_mode", "synchronous", "integrity"},
    "postgresql": {
        "server",
        "TLS",
        "role",
        "schema",
        "rights",
        "index ix_events_sender_id_id",
        "sequence",
        "synchronous_commit",
        "fsync",
    },
    "mariadb": {
        "server",
        "TLS",
        "role",
        "columns",
        "innodb_flush_log_at_trx_commit",
        "binlog_format",
        "max_allowed_packet",
    },
    "oracle": {"server"},
    "redis": {"server", "TLS", "role", "rights", "appendonly", "maxmemory-policy"},
    "mongo": {"server", "TLS", "role", "indexes", "write concern"},
}
FACTS["rasa-sql"] = FACTS["sqlite"]
FACTS["rasa-redis"] = FACTS["redis"]
FACTS["rasa-mongo"] = FACTS["mongo"] - {"indexes"}


def _facts(result: Result) -> Dict[str, Any]:
    return {fact["name"]: fact for fact in result.json()["facts"]}


@pytest.mark.parametrize("name", STORES)
def test_a_healthy_store(
    make: MakeStore, run: Callable[..., Result], name: str
) -> None:
    store = make(name).fill()
    result = run("check", store.path, "--json")
    assert result.status == 0, result.out + result.err
    assert result.json()["healthy"] is True
    facts = _facts(result)
    assert FACTS[name] <= set(facts), set(facts)
    assert facts["conversations"]["value"] == str(len(CONVERSATIONS))
    assert facts["round trip"]["value"].endswith(" ms")
    events = sum(len(each.events) for each in CONVERSATIONS.values())
    assert facts["events"]["value"] == str(events)
    shown = run("check", store.path)
    assert shown.status == 0
    assert "connection" in shown.out


@pytest.mark.parametrize("name", ["postgresql", "mariadb", "redis", "mongo"])
def test_nothing_is_created(
    make: MakeStore, run: Callable[..., Result], name: str
) -> None:
    store = make(name)
    result = run("check", store.path, "--json")
    assert result.status == 0
    facts = _facts(result)
    assert facts["conversations"]["value"] == "0"
    if name in ("postgresql", "mariadb"):
        assert facts["table events"]["value"].startswith("missing")
    again = _facts(run("check", store.path, "--json"))
    assert set(again) == set(facts)


def test_a_file_that_is_not_there_is_not_created(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    result = run("check", make("sqlite").path)
    assert result.status == 1
    assert "There is no database" in result.err


def test_a_server_that_is_away(make: MakeStore, run: Callable[..., Result]) -> None:
    store = make("redis", timeout=1).set(port=1, password="secret-word")
    result = run("check", store.path)
    assert result.status == 1
    assert "connection" in result.out
    assert "error" in result.out
    assert "secret-word" not in result.out + result.err


def test_a_wrong_password(make: MakeStore, run: Callable[..., Result]) -> None:
    store = make("postgresql").set(username="nobody", password="secret-word")
    result = run("check", store.path, "--json")
    assert result.status == 1
    assert result.json()["healthy"] is False
    assert "secret-word" not in result.out + result.err


def test_a_redis_that_forgets(make: MakeStore, run: Callable[..., Result]) -> None:
    with RedisServer("redis") as server:
        store = make("redis").set(url=server.host, port=server.port)
        with server.client() as client:
            client.config_set("maxmemory", "100mb")
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("appendonly", "no")
        result = run("check", store.path, "--json")
    assert result.status == 1
    facts = _facts(result)
    assert facts["maxmemory-policy"]["level"] == "error"
    assert "noeviction" in facts["maxmemory-policy"]["remedy"]
    assert facts["appendonly"]["level"] == "warning"


def test_a_redis_user_without_rights(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    with RedisServer("valkey") as server, server.client() as client:
        client.execute_command(
            *("ACL", "SETUSER", "reader", "on", ">reader", "~*", "+@all", "-rpush")
        )
        store = make("redis").set(url=server.host, port=server.port)
        assert _facts(run("check", store.path, "--json"))["rights"]["level"] == "ok"
        store.set(username="reader", password="reader")
        result = run("check", store.path, "--json")
    assert result.status == 1
    fact = _facts(result)["rights"]
    assert fact["value"] == "may not run rpush on the store's keys"
    assert "+rpush" in fact["remedy"]


def test_a_big_file_is_not_looked_at_for_long(
    make: MakeStore, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rasa_trackers.sql.sqlite import health

    store = make("sqlite").fill()
    monkeypatch.setattr(health, "_LONGEST_CHECK", 0.0)
    result = run("check", store.path, "--json")
    assert result.status == 0
    assert "a part of the file" in _facts(result)["integrity"]["value"]


def test_counting_takes_longer_than_the_timeout(
    make: MakeStore, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers all the time, so it is not silent."""
    from rasa_trackers.redis import health

    store = make("redis", timeout=1).fill()
    original = health.in_batches

    def slow(items: Any, *more: Any) -> Any:
        for item in items:
            time.sleep(0.6)
            yield from original([item], *more)

    monkeypatch.setattr(health, "in_batches", slow)
    assert run("check", store.path).status == 0


def test_a_postgresql_user_without_rights(
    make: MakeStore, run: Callable[..., Result], postgres_server: Any
) -> None:
    store = make("postgresql").fill()
    with postgres_server.administrator(store.endpoint["db"]) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("DROP ROLE IF EXISTS reader")
            cursor.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")
            cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
            cursor.execute("ALTER ROLE reader SET synchronous_commit TO off")
    store.set(username="reader", password="reader")
    result = run("check", store.path, "--json")
    assert result.status == 1
    facts = _facts(result)
    assert "INSERT on events" in facts["rights"]["value"]
    assert facts["rights"]["remedy"].endswith("TO reader;")
    assert facts["synchronous_commit"]["level"] == "warning"
    assert facts["conversations"]["value"] == str(len(CONVERSATIONS))


def test_a_table_without_its_index(
    make: MakeStore, run: Callable[..., Result], postgres_server: Any
) -> None:
    store = make("postgresql").fill()
    with postgres_server.administrator(store.endpoint["db"]) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX ix_events_sender_id_id")
    result = run("check", store.path, "--json")
    assert result.status == 0
    fact = _facts(result)["index ix_events_sender_id_id"]
    assert fact["level"] == "warning"
    assert "CREATE INDEX CONCURRENTLY" in fact["remedy"]
    assert run("check", store.path, "--strict").status == 1


def test_tls_is_seen(
    make: MakeStore,
    run: Callable[..., Result],
    certificates: Certificates,
    redis_server: Any,
) -> None:
    with tls_terminator(certificates, redis_server.host, redis_server.port) as proxy:
        store = make("redis").set(
            url=proxy.host,
            port=proxy.port,
            use_ssl=True,
            ssl_ca_certs=certificates.ca_file,
        )
        assert _facts(run("check", store.path, "--json"))["TLS"]["value"] == "yes"
