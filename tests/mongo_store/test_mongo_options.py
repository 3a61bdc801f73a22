"""What an operator can write into the MongoDB section of endpoints.yml."""

from __future__ import annotations

import sys
import traceback
import urllib.parse

import pymongo
import pytest
from rasa.shared.exceptions import ConnectionException, RasaException

from conversations import as_dicts, session_start, tracker
from rasa_api import backend_log
from rasa_trackers.mongo import MongoTrackerStore
from rasa_trackers.rasa_versions import KNOWS_USERS
from servers.mongo import MongoServer

TYPE = {"type": "rasa_trackers.MongoTrackerStore", "timeout": 2}
SECRET = "S3cret/pass:word@%&"
QUOTED = urllib.parse.quote(SECRET, safe="")


@pytest.fixture(scope="module")
def server():
    """A server that asks for a password."""
    with MongoServer(username="ada", password=SECRET) as server:
        yield server


def given(options):
    """Options without empty ones, which Rasa Pro's loader refuses itself (3.21)."""
    if not KNOWS_USERS:
        return options
    return {name: value for name, value in options.items() if value is not None}


def refused(load, endpoint, *parts):
    with pytest.raises(RasaException) as raised:
        load({**TYPE, **endpoint})
    for part in parts:
        assert part in str(raised.value)
    return raised


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"url": "http://localhost"}, ["mongodb://", "'url'"]),
        ({"url": "mongodb://"}, ["'url'"]),
        ({"url": "localhost:port"}, ["'url'"]),
        ({"url": "localhost:99999"}, ["'url'"]),
        ({"url": "mongodb://localhost/?ssll=true"}, ["'ssll'", "'ssl'"]),
        ({"url": "mongodb://localhost/?w=0"}, ["w=0", "Remove it"]),
        ({"url": "mongodb://localhost/?tls=true&tlsCAFile=/no/such"}, ["/no/such"]),
        ({"url": "mongodb://localhost/?authMechanism=NONE"}, ["authmechanism"]),
        ({"url": "mongodb+srv://a.invalid"}, ["a.invalid", "endpoints.yml"]),
        ({"url": "mongodb://localhost/prod"}, ["'prod'", "'rasa'", "'db'"]),
        ({"url": "mongodb://localhost/prod", "db": "test"}, ["'prod'", "'test'"]),
        ({"db": "ra.sa"}, ["'db'", "'ra.sa'"]),
        ({"db": "ra sa"}, ["'db'"]),
        ({"db": ["a"]}, ["'db'", "text"]),
        ({"collection": "$a"}, ["'collection'", "'$a'"]),
        ({"collection": "a\0b"}, ["'collection'"]),
        ({"collection": {"a": 1}}, ["'collection'", "text"]),
        ({"username": "ada"}, ["password"]),
        ({"username": ["a"]}, ["'username'", "text"]),
        ({"auth_source": 5.5j}, ["'auth_source'", "text"]),
        ({"client_options": "tls=true"}, ["'client_options'", "mapping"]),
        ({"client_options": {"maxPoolSizes": 5}}, ["'maxPoolSizes'", "'maxpoolsize'"]),
        ({"client_options": {"maxPoolSize": "many"}}, ["maxPoolSize"]),
        ({"client_options": {"document_class": dict}}, ["'document_class'"]),
        ({"client_options": {"w": 0}}, ["w=0"]),
        ({"pasword": "x"}, ["'pasword'", "'password'"]),
        ({"timeout": "never"}, ["'timeout'", "seconds"]),
        ({"startup_timeout": -1}, ["'startup_timeout'", "seconds"]),
    ],
)
def test_options_that_make_no_sense(load, options, parts):
    refused(load, options, *parts)


def test_srv_without_its_package_names_the_package(load, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "dns"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dns", None)
    for module in ("pymongo.srv_resolver", "pymongo.synchronous.srv_resolver"):
        if module in sys.modules and hasattr(sys.modules[module], "_HAVE_DNSPYTHON"):
            monkeypatch.setattr(f"{module}._HAVE_DNSPYTHON", False)
    if hasattr(pymongo.uri_parser, "_HAVE_DNSPYTHON"):
        monkeypatch.setattr("pymongo.uri_parser._HAVE_DNSPYTHON", False)
    refused(load, {"url": "mongodb+srv://a.invalid"}, "pip install dnspython")


@pytest.mark.parametrize(
    "options",
    [
        {"password": "wrong"},
        {"username": "nobody"},
        {"auth_source": "other"},
        {"url": "mongodb://ada:wrong@{place}", "username": None, "password": None},
    ],
)
def test_wrong_credentials_are_an_error_at_once(load, server, options):
    place = f"{server.host}:{server.port}"
    endpoint = {"url": place, "username": "ada", "password": SECRET, **options}
    endpoint["url"] = endpoint["url"].format(place=place)
    expected = "Check 'username', 'password' and 'auth_source'"
    raised = refused(load, given(endpoint), expected)
    assert not isinstance(raised.value, ConnectionException)  # which says: try again


def test_no_credentials_where_they_are_needed(load, server):
    raised = refused(load, {"url": f"{server.host}:{server.port}"}, "readWrite")
    assert not isinstance(raised.value, ConnectionException)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "{place}", "username": "ada", "password": SECRET},
        {"url": "mongodb://{place}", "username": "ada", "password": SECRET},
        {"url": f"mongodb://ada:{QUOTED}@{{place}}"},
        {"url": f"mongodb://ada:{QUOTED}@{{place}}/", "username": 0, "password": None},
        {"url": f"mongodb://ada:{QUOTED}@{{place}}/?authSource=admin&appName=x"},
        {
            "url": "{place}",
            "client_options": {"authMechanism": "SCRAM-SHA-256"},
            "username": "ada",
            "password": SECRET,
        },
        {
            "url": "mongodb://{place}/admin?authSource=admin",
            "username": "ada",
            "password": SECRET,
            "auth_source": "admin",
        },
    ],
)
async def test_ways_to_name_the_server_and_the_user(load, server, options):
    place = f"{server.host}:{server.port}"
    options = {
        key: value.format(place=place) if key in ("url", "host") else value
        for key, value in options.items()
    }
    db = server.database_name()
    store = load({**TYPE, "db": db, "collection": "talk", **given(options)})
    events = session_start()
    await store.save(tracker("ada", events))
    with server.client() as client:
        assert client[db].talk.find_one({"sender_id": "ada"})["last"]
        client.drop_database(db)


def test_defaults_are_those_of_rasas_documentation(mongo_server, monkeypatch):
    monkeypatch.setattr(
        "rasa_trackers.mongo.connection.DEFAULT_URL", mongo_server.url()
    )
    store = MongoTrackerStore()
    documents = backend_log(store).collection
    assert documents.full_name == "rasa.conversations"
    store.close()
    monkeypatch.undo()
    from rasa_trackers.mongo import connection, options

    assert connection.DEFAULT_URL == "mongodb://localhost:27017"
    assert options.DEFAULT_AUTH_SOURCE == "admin"


def test_host_is_another_name_of_url(mongo_server):
    store = MongoTrackerStore(host=mongo_server.url())
    assert f"{mongo_server.host}:{mongo_server.port}" in repr(store)
    store.close()


async def test_tls(load, certificates):
    with MongoServer(certificates=certificates) as server:
        url = f"{server.url()}/?ssl=true&tlsCAFile={certificates.ca_file}"
        store = load({**TYPE, "url": url})
        events = session_start()
        await store.save(tracker("ada", events))
        assert as_dicts(await store.retrieve("ada"))
        options = {"tls": True, "tlsCAFile": certificates.ca_file}
        load({**TYPE, "url": server.url(), "client_options": options})
        refused(load, {"url": f"{server.url()}/?tls=true"}, "certificate")
        store.close()


@pytest.mark.parametrize(
    "options",
    [
        {"url": "{place}", "username": "ada", "password": f"{SECRET}2"},
        {"url": f"mongodb://ada:{QUOTED}2@{{place}}"},
        {"url": f"mongodb://ada:{SECRET}2@{{place}}"},
        {"url": "mongodb://ada:S3cret?S3cret@{place}"},
        {"url": "mongodb://ada:S3cret@S3cret@{place}"},
        {"url": "mongodb://ada:x:S3cret@{place}"},
        {"url": "ada:S3cret/S3cret@{place}"},
        {"url": "mongodb://ada:S3cret"},
        {"url": "ada:S3cret"},
        {"url": f"mongodb://ada:{QUOTED}2@127.0.0.1:1"},
        {"url": f"mongodb://ada:{QUOTED}2@{{place}}/?w=zero"},
        {"url": f"mongodb://ada:{QUOTED}2@{{place}}/?misspelt=zero"},
        {"url": f"mongo://ada:{QUOTED}2@{{place}}"},
        {"url": "{place}", "username": "ada", "password": SECRET, "passwort": SECRET},
    ],
)
def test_no_password_in_any_error_or_log(load, server, options, caplog):
    caplog.set_level("DEBUG")
    place = f"{server.host}:{server.port}"
    endpoint = {**options, "url": options["url"].format(place=place)}
    raised = refused(load, {"timeout": 0.5, **endpoint})
    error = raised.value
    shown = "".join(traceback.format_exception(None, error, error.__traceback__))
    lines = [
        line
        for line in (shown + caplog.text).splitlines()
        if "SECRET" not in line and "QUOTED" not in line and '{"url"' not in line
    ]
    assert "S3cret" not in "\n".join(lines)


def test_password_is_not_in_the_repr(load, server):
    store = load({**TYPE, "url": f"mongodb://ada:{QUOTED}@{server.host}:{server.port}"})
    assert "S3cret" not in repr(store)
    assert f"'rasa.conversations' at {server.host}:{server.port}" in repr(store)


@pytest.mark.parametrize("sender_id", ["a" * 3000, "a\0b", "$a", "a.b", ""])
async def test_sender_ids_of_any_kind(load, mongo_server, sender_id):
    db = mongo_server.database_name()
    store = load({**TYPE, "url": mongo_server.url(), "db": db})
    events = session_start()
    await store.save(tracker(sender_id, events))
    assert as_dicts(await store.retrieve(sender_id))
    assert list(await store.keys()) == [sender_id]
    mongo_server.drop_database(db)


async def test_sender_id_that_is_no_unicode(load, mongo_server):
    store = load({**TYPE, "url": mongo_server.url(), "db": "never_made"})
    with pytest.raises(RasaException, match="valid Unicode"):
        await store.save(tracker("\ud800", session_start()))
