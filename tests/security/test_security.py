"""Nothing is injected, no password shown, no server trusted blindly, no pickle read."""

from __future__ import annotations

import ast
import os
import pickle
import traceback
from pathlib import Path

import pytest
import sqlalchemy as sa
from psycopg2 import sql
from rasa.shared.exceptions import ConnectionException, RasaException

import rasa_trackers
from conversations import as_dicts, dicts, session_start, tracker
from rasa_api import backend_log
from servers import h2
from servers.silent import closed_port
from servers.tls import Certificates, postgresql_tls

SQL = "rasa_trackers.SQLTrackerStore"
PACKAGE = Path(rasa_trackers.__file__).parent

# Names that are code elsewhere

NAMES = [
    "'; DROP TABLE events; --",
    '"; DROP TABLE events; --',
    "$where",
    "{0}{tracker}%s%(x)s:x",
    "*[a-z]?",
    "' .. redis.call('FLUSHALL') .. '",
    "]]; redis.call('FLUSHALL') --",
]


async def works_beside(store, other):
    """Whether a store works, and leaves what another one has stored."""
    kept, mine = session_start(), session_start()
    await other.save(tracker("kept", kept))
    await store.save(tracker("ada", mine))
    assert as_dicts(await store.retrieve("ada")) == dicts(mine)
    assert list(await store.keys()) == ["ada"]
    assert as_dicts(await other.retrieve("kept")) == dicts(kept)
    assert list(await other.keys()) == ["kept"]


@pytest.mark.parametrize("backend", ["redis"], indirect=True)
@pytest.mark.parametrize("name", NAMES)
async def test_key_prefix_is_only_a_name(make_store, name):
    await works_beside(make_store(key_prefix=name), make_store())


@pytest.mark.parametrize("backend", ["mongo"], indirect=True)
@pytest.mark.parametrize(
    "name", [name for name in NAMES if "$" not in name and ".." not in name]
)
async def test_collection_is_only_a_name(make_store, name):
    await works_beside(make_store(collection=name), make_store())


@pytest.mark.parametrize("backend", ["mongo"], indirect=True)
@pytest.mark.parametrize(
    ("option", "name"), [("collection", "$where"), ("db", "$x"), ("db", 'a"b.c')]
)
def test_name_that_mongodb_does_not_take_is_an_error(make_store, option, name):
    with pytest.raises(RasaException, match=f"'{option}'"):
        make_store(**{option: name})


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("name", NAMES[:5])
async def test_schema_is_only_a_name(
    make_store, endpoint, postgres_server, monkeypatch, name
):
    other = make_store()
    connection = postgres_server.connect(endpoint["db"])
    with connection.cursor() as cursor:
        statement = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name))
        cursor.execute(statement)
    connection.close()
    monkeypatch.setenv("POSTGRESQL_SCHEMA", name)
    await works_beside(make_store(), other)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("name", NAMES[:5])
async def test_database_that_is_created_is_only_a_name(
    load, make_store, endpoint, postgres_server, name
):
    administrator = {
        "username": postgres_server.administrator_name,
        "login_db": "postgres",
    }
    store = load({**endpoint, "db": name, **administrator})
    try:
        await works_beside(store, make_store())
    finally:
        store.close()
        postgres_server.drop_database(name)


@pytest.mark.parametrize("backend", ["oracle"], indirect=True)
@pytest.mark.parametrize("name", NAMES[:2])
async def test_oracle_schema_is_only_a_name(make_store, name):
    other = make_store()
    await other.save(tracker("kept", session_start()))
    with pytest.raises(RasaException):
        make_store(schema=name, timeout=2)
    assert await other.exists("kept")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", [name for name in NAMES if "/" not in name])
async def test_file_is_only_a_name(make_store, tmp_path, name):
    await works_beside(make_store(db=str(tmp_path / name)), make_store())
    assert (tmp_path / name).exists()


# Passwords

SECRET, QUOTED = "S3cret/pass:word@%&", "S3cret%2Fpass%3Aword%40%25%26"


@pytest.mark.parametrize(
    "options",
    [
        {"url": "{place}", "password": SECRET},
        {"url": "{place}", "username": SECRET, "password": SECRET},
        {"url": "{place}", "password": SECRET, "deployment_mode": "cluster"},
        {"url": "{place}", "password": SECRET, "deployment_mode": "sentinel"},
        {"url": "{place}", "password": SECRET, "passwort": SECRET},
        {"url": f"redis://:{QUOTED}@{{place}}"},
        {"url": f"redis://ada:{QUOTED}@{{place}}/0"},
        {"url": f"redis://ada:{SECRET}@{{place}}"},
        {"url": f"redis://ada:{QUOTED}@{{place}}/x"},
        {"url": f"redis://{{place}}?password={QUOTED}&misspelt=1"},
        {"url": f"ada:{SECRET}@{{place}}"},
        {"url": f"reddis://ada:{QUOTED}@{{place}}"},
        *(
            {"url": "{place}", "deployment_mode": mode, "endpoints": [endpoint]}
            for mode in ("cluster", "sentinel")
            for endpoint in (
                f"ada:{SECRET}@127.0.0.1:1",
                f"redis://ada:{QUOTED}@127.0.0.1:1",
                f"ada:{SECRET}@127.0.0.1",
            )
        ),
    ],
)
@pytest.mark.parametrize("alive", [False, True], ids=["dead", "alive"])
def test_redis_shows_no_password(load, redis_server, caplog, options, alive):
    with closed_port() as port:
        place = f"127.0.0.1:{redis_server.port if alive else port}"
        _shows_none(
            load, caplog, {"type": "rasa_trackers.RedisTrackerStore", **options}, place
        )


@pytest.mark.parametrize(
    "options",
    [
        {"url": "{place}", "db": "X", "username": "ada", "password": SECRET},
        {"url": "{place}", "db": "X", "username": SECRET, "password": SECRET},
        {"url": f"oracle+cx_oracle://ada:{QUOTED}@{{place}}/?service_name=X"},
        {"url": f"oracle+cx_oracle://ada:{SECRET}@{{place}}/X"},
        {"url": f"ada:{SECRET}@{{place}}", "db": "X"},
    ],
)
@pytest.mark.parametrize("backend", ["oracle"], indirect=True)
@pytest.mark.parametrize("alive", [False, True], ids=["dead", "alive"])
def test_oracle_shows_no_password(load, endpoint, caplog, options, alive):
    # The server's own password is another one.
    assert h2.PASSWORD not in SECRET
    with closed_port() as port:
        place = f"127.0.0.1:{endpoint['port'] if alive else port}"
        if options.get("db") and alive:
            options = {**options, "db": endpoint["db"]}
        given = {"type": endpoint["type"], "dialect": endpoint["dialect"], **options}
        _shows_none(load, caplog, given, place)


def _shows_none(load, caplog, options, place):
    caplog.set_level("DEBUG")
    options = {**options, "url": options["url"].format(place=place)}
    with pytest.raises(RasaException) as raised:
        load({"timeout": 0.5, **options})
    # Causes and contexts are part of it. A traceback quotes the lines of this file.
    shown = "".join(
        traceback.TracebackException.from_exception(raised.value).format()
    ).splitlines()
    shown = [line for line in shown if '{"url"' not in line and "SECRET" not in line]
    text = "\n".join([*shown, caplog.text, repr(raised.value)])
    assert "S3cret" not in text
    assert "pass:word" not in text


# TLS, which is verified; of Redis, MongoDB and Oracle it stands with their options


@pytest.fixture(scope="module")
def postgresql_tls_port(certificates, postgres_server):
    with postgresql_tls(
        certificates, postgres_server.host, postgres_server.port
    ) as port:
        yield port


@pytest.fixture
def tls_endpoint(endpoint, postgresql_tls_port, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # where libpq looks for authorities
    return {**endpoint, "port": postgresql_tls_port, "timeout": 5}


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_postgresql_server_is_verified(
    load, make_store, tls_endpoint, certificates, caplog, host
):
    query = {"sslmode": "verify-full", "sslrootcert": certificates.ca_file}
    store = load({**tls_endpoint, "url": host, "query": query})
    events = session_start()
    await store.save(tracker("ada", events))
    assert as_dicts(await make_store().retrieve("ada")) == dicts(events)
    assert "sslmode" not in caplog.text


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_postgresql_server_of_another_authority_is_refused(load, tls_endpoint, mode):
    with Certificates() as others:
        query = {"sslmode": mode, "sslrootcert": others.ca_file}
        with pytest.raises(RasaException, match="Correct sslmode") as error:
            load({**tls_endpoint, "query": query})
        assert not isinstance(error.value, ConnectionException)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_certificate_of_another_postgresql_server_is_refused(
    load, tls_endpoint, certificates
):
    query = {
        "sslmode": "verify-full",
        "sslrootcert": certificates.ca_file,
        "hostaddr": "127.0.0.1",
    }
    with pytest.raises(RasaException, match="Correct sslmode"):
        load({**tls_endpoint, "url": "postgres.example.com", "query": query})


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("place", ["query", "url", "SQL_TRACKER_STORE_SSL_MODE"])
def test_postgresql_server_that_is_not_verified_is_warned_of(
    load, tls_endpoint, postgres_server, monkeypatch, caplog, place
):
    """Libpq does not verify with ``require``, whatever its name promises."""
    if place == "query":
        tls_endpoint["query"] = {"sslmode": "require"}
    elif place == "url":
        url = postgres_server.url(tls_endpoint["db"], tls_endpoint["port"])
        tls_endpoint["url"] = f"{url}?sslmode=require"
    else:
        monkeypatch.setenv(place, "require")
    load(tls_endpoint)
    assert "sslmode 'require'" in caplog.text
    assert "verify-full" in caplog.text


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("mode", ["prefer", "allow"])
def test_mode_that_goes_on_without_tls_is_warned_of(
    load, endpoint, certificates, caplog, mode
):
    """However well the certificate would be verified."""
    query = {"sslmode": mode, "sslrootcert": certificates.ca_file}
    load({**endpoint, "query": query})
    assert f"sslmode '{mode}'" in caplog.text


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("mode", ["require", "verify-ca"])
def test_name_that_is_not_verified_is_warned_of_once(
    load, tls_endpoint, certificates, caplog, mode
):
    query = {"sslmode": mode, "sslrootcert": certificates.ca_file}
    load({**tls_endpoint, "url": "localhost", "query": query})
    assert caplog.text.count(f"sslmode '{mode}'") == 1
    assert "same authority" in caplog.text


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("query", [{}, {"sslmode": "disable"}])
def test_no_warning_where_no_tls_is_asked_for(load, endpoint, caplog, query):
    load({**endpoint, "query": query})
    assert "sslmode" not in caplog.text


# Pickles

MODULES = ["pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=str)
def test_no_module_can_load_pickles_or_run_text(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(name.name for name in node.names)]
        elif isinstance(node, (ast.Name, ast.Attribute)):
            name = node.id if isinstance(node, ast.Name) else node.attr
            names = [name] if name in ("PickleType", "jsonpickle") else []
            if isinstance(node, ast.Name) and name in ("eval", "exec", "__import__"):
                names = [name]
        wrong = {*MODULES, "PickleType", "jsonpickle", "eval", "exec", "__import__"}
        assert not {name.partition(".")[0] for name in names} & wrong


class Bomb:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("backend", ["sqlite", "redis", "mongo"], indirect=True)
async def test_stored_pickle_is_not_loaded(store, backend, tmp_path, protocol):
    made = tmp_path / "made"
    bomb = pickle.dumps(Bomb(str(made)), protocol)
    events = session_start()
    await store.save(tracker("ada", events))
    if backend.name == "redis":
        client = backend_log(store).transport.connected().__enter__()
        client.rpush(backend_log(store).namespace.of("ada").log, bomb)
        client.set("tracker:bob", bomb)
    elif backend.name == "mongo":
        documents = backend_log(store).collection
        change = {"$push": {"log": {"data": bomb}}, "$inc": {"last": 1}}
        documents.update_one({"_id": "open:ada"}, change)
        documents.insert_one({"sender_id": "bob", "events": [bomb]})
    else:
        with backend_log(store).engine.begin() as connection:
            statement = sa.text(
                "INSERT INTO events (sender_id, type_name, data) VALUES (:a, 'x', :b)"
            )
            connection.execute(statement, {"a": "ada", "b": bomb})
    assert as_dicts(await store.retrieve("ada")) == dicts(events)
    await store.retrieve("bob")
    assert not made.exists()
    pickle.loads(bomb)
    assert made.exists()  # it would have been noticed
