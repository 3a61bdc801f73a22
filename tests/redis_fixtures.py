"""Redis' servers one by one, with a client beside the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterator

import pytest

from backends import redis_endpoint

if TYPE_CHECKING:
    from rasa.shared.core.domain import Domain

on_servers = pytest.mark.parametrize(
    "server_fixture", ["redis_server", "valkey_server", "redis_cluster"]
)


@pytest.fixture
def server_fixture() -> str:
    return "redis_server"


@pytest.fixture
def server(request: pytest.FixtureRequest, server_fixture: str) -> Any:
    """A server without keys, shared with other tests."""
    server = request.getfixturevalue(server_fixture)
    with server.client() as client:
        client.flushall()
    return server


@pytest.fixture
def client(server: Any) -> Iterator[Any]:
    with server.client() as client:
        yield client


@pytest.fixture
def connect(load: Callable[..., Any], server: Any, domain: Domain) -> Any:
    """Makes stores."""

    def connect(**options: Any) -> Any:
        return load(redis_endpoint(server, **options), domain)

    return connect
