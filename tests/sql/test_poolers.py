"""Ways to a PostgreSQL server: a pooler with few connections, a socket."""

from __future__ import annotations

import asyncio

import pytest

from conversations import add, session_start, tracker
from servers.pgbouncer import PgBouncer
from servers.postgres import PostgresServer

USERS = 30
TURNS = 5


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_pooler_in_session_mode_with_fewer_connections_than_threads(
    load, endpoint, postgres_server, caplog
):
    """A connection that the server does not give is no reason to wait for it alone."""
    settings = {"pool_mode": "session", "default_pool_size": 3}
    with PgBouncer(postgres_server, settings) as pooler:
        store = load({**endpoint, "port": pooler.port, "spool": "off"})

        async def talk(user):
            for _ in range(TURNS):
                found = await store.retrieve(user) or tracker(user, [])
                add(found, session_start())
                await store.save(found)

        await asyncio.gather(*(talk(f"user {number}") for number in range(USERS)))
        for number in range(USERS):
            full = await store.retrieve_full_tracker(f"user {number}")
            assert len(full.events) == TURNS * len(session_start())
        store.close()
    assert not caplog.text, "no connection was taken for a silent one"


@pytest.fixture
def server_with_socket():
    with PostgresServer() as server:
        server.stop()
        server.settings["unix_socket_directories"] = server.folder
        server.start()
        yield server


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_folder_of_a_socket_is_a_url(load, endpoint, server_with_socket):
    """As with Rasa's own store: ``/var/run/postgresql``, ``/cloudsql/...``."""
    server = server_with_socket
    options = {"db": server.create_database(), "port": server.port, "timeout": 60}
    store = load({**endpoint, **options, "url": str(server.folder)})
    await store.save(tracker("ada", session_start()))
    assert await store.exists("ada")
    assert str(server.folder) in repr(store)
    store.close()
