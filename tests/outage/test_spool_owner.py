"""A spool file belongs to one database."""

from __future__ import annotations

import pytest
from rasa.shared.exceptions import RasaException

from conversations import session_start, tracker

STORES = ["postgresql", "redis", "mongo", "oracle"]


@pytest.fixture
def other_endpoint(backend, request):
    server = backend.server_for_all(request)
    name = backend.create(server, others=1)
    yield backend.endpoint(server, name)
    backend.drop(server, name)


@pytest.mark.parametrize("backend", STORES, indirect=True)
async def test_store_of_another_database_does_not_start_with_the_file(
    load, endpoint, other_endpoint, tmp_path
):
    """It would store the messages of one assistant in the database of another."""
    spool = {"spool": str(tmp_path / "spool.db")}
    store = load({**endpoint, **spool})
    with pytest.raises(RasaException) as refused:
        load({**other_endpoint, **spool})
    for words in ("'spool'", spool["spool"], "to another file"):
        assert words in str(refused.value)
    for endpoint_ in (endpoint, other_endpoint):
        password = endpoint_.get("password")
        assert not password or password not in str(refused.value)
    await store.save(tracker("ada", session_start()))
    again = load({**endpoint, **spool, "timeout": 60})
    assert await again.exists("ada")


@pytest.mark.parametrize(
    ("backend", "option"),
    [
        ("redis", {"key_prefix": "other"}),
        ("redis", {"db": 3}),
        ("mongo", {"collection": "others"}),
    ],
    indirect=["backend"],
)
def test_other_names_in_one_server_are_another_place(load, endpoint, tmp_path, option):
    spool = {"spool": str(tmp_path / "spool.db")}
    load({**endpoint, **spool})
    with pytest.raises(RasaException, match="'spool'"):
        load({**endpoint, **option, **spool})


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_another_schema_is_another_place(load, endpoint, tmp_path, monkeypatch):
    spool = {"spool": str(tmp_path / "spool.db")}
    load({**endpoint, **spool})
    monkeypatch.setenv("POSTGRESQL_SCHEMA", "public")
    with pytest.raises(RasaException, match="schema 'public'"):
        load({**endpoint, **spool})


def test_relative_path_names_another_file_in_another_folder(
    load, tmp_path, monkeypatch
):
    options = {
        "type": "rasa_trackers.SQLTrackerStore",
        "db": "rasa.db",
        "spool": str(tmp_path / "spool.db"),
    }
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    load(options)
    load({**options, "db": str(tmp_path / "a" / "rasa.db")})
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(RasaException, match="'spool'"):
        load(options)
