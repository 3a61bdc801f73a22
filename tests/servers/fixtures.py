"""pytest plugin: servers that all tests share, started when a test first asks for them.

With `pytest --docker` they are the containers of docker/docker-compose.yml instead,
through pytest-docker.

Tests that stop, kill or suspend a server make one of their own, so that no other test
meets the wreck: a Redis takes 10 ms, a PostgreSQL half a second, a MongoDB a second.

A driver is imported with the first server of its kind, so that tests that need none run
where it is not installed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Tuple, Union

import pytest

from servers.process import wait_until
from servers.proxy import TcpProxy

if TYPE_CHECKING:
    from servers.h2 import H2Server
    from servers.mariadb import MariaDBAccess
    from servers.mongo import MongoAccess
    from servers.oracle import OracleAccess
    from servers.postgres import PostgresAccess
    from servers.redis import RedisAccess, RedisCluster, RedisSentinel
    from servers.tls import Certificates

COMPOSE_FOLDER = Path(__file__).parent.parent.parent / "docker"
# User and password of the containers.
DOCKER_USER = "rasa"
DOCKER_PASSWORD = "rasa"
DOCKER_SECONDS = 600.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--docker",
        action="store_true",
        help="test with the servers of docker/docker-compose.yml",
    )


@pytest.fixture(scope="session")
def docker_compose_file() -> List[str]:
    """Tells pytest-docker which services there are."""
    ours = Path(__file__).with_name("docker-compose.yml")
    return [str(COMPOSE_FOLDER / "docker-compose.yml"), str(ours)]


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    """Knows all services, for pytest-docker to remove them."""
    from backends import PROFILES

    profiles = " ".join(f"--profile {profile}" for profile in PROFILES)
    # The tests' own file has what the servers take.
    names = re.findall(
        r"^(\w+)=$", (COMPOSE_FOLDER / ".env.example").read_text("utf-8"), re.MULTILINE
    )
    secrets = " ".join(f"{name}=rasa" for name in names)
    example = COMPOSE_FOLDER / ".env.example"
    return f"env {secrets} docker compose --env-file {example} {profiles}"


@pytest.fixture(scope="session")
def docker_setup() -> List[str]:
    """Starts the servers, and no Rasa beside them."""
    from backends import PROFILES

    return [f"up --wait {' '.join([*PROFILES, 'valkey'])}"]


def _with_docker(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--docker"))


def _docker_address(
    request: pytest.FixtureRequest, service: str, port: int
) -> Tuple[str, int]:
    services = request.getfixturevalue("docker_services")
    return request.getfixturevalue("docker_ip"), services.port_for(service, port)


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[PostgresAccess]:
    """A PostgreSQL server."""
    import psycopg2

    from servers.postgres import PostgresAccess, PostgresServer

    if _with_docker(request):
        address = _docker_address(request, "postgres", 5432)
        access = PostgresAccess(*address, DOCKER_USER, DOCKER_PASSWORD, DOCKER_USER)
        wait_until(
            lambda: access.administrator().close() is None,
            "PostgreSQL's container",
            DOCKER_SECONDS,
            (psycopg2.OperationalError,),
        )
        yield access
    else:
        # It is never killed, and making a database waits for the disk otherwise.
        with PostgresServer({"fsync": "off"}) as server:
            yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresAccess) -> Iterator[str]:
    """Name of an empty database in `postgres_server`."""
    name = postgres_server.create_database()
    yield name
    postgres_server.drop_database(name)


@pytest.fixture
def postgres_proxy(postgres_server: PostgresAccess) -> Iterator[TcpProxy]:
    """A proxy before `postgres_server`."""
    with TcpProxy(postgres_server.host, postgres_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def mariadb_server(request: pytest.FixtureRequest) -> Iterator[MariaDBAccess]:
    """A MariaDB server, or a MySQL server that TEST_MYSQL_URL names."""
    import pymysql

    from servers.mariadb import MariaDBAccess, MariaDBServer, server_from_outside

    if _with_docker(request):
        address = _docker_address(request, "mariadb", 3306)
        access = MariaDBAccess(*address, "root", DOCKER_PASSWORD)
        wait_until(
            lambda: access.create_user() is None,
            "MariaDB's container",
            DOCKER_SECONDS,
            (pymysql.err.OperationalError,),
        )
        yield access
        return
    outside = server_from_outside()
    if outside:
        yield outside
    else:
        # It is never killed, and each commit waits for the disk otherwise.
        with MariaDBServer({"innodb_flush_log_at_trx_commit": 0}) as server:
            yield server


@pytest.fixture
def mariadb_database(mariadb_server: MariaDBAccess) -> Iterator[str]:
    """Name of an empty database in `mariadb_server`."""
    name = mariadb_server.create_database()
    yield name
    mariadb_server.drop_database(name)


def _redis(request: pytest.FixtureRequest, flavour: str) -> Iterator[RedisAccess]:
    import redis as redis_driver

    from servers.redis import RedisAccess, RedisServer

    if _with_docker(request):
        access = RedisAccess(*_docker_address(request, flavour, 6379))
        wait_until(
            lambda: access.client().ping(),
            f"{flavour}'s container",
            DOCKER_SECONDS,
            (redis_driver.RedisError,),
        )
        yield access
    else:
        with RedisServer(flavour) as server:
            yield server


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisAccess]:
    """A Redis server without a password."""
    yield from _redis(request, "redis")


@pytest.fixture(scope="session")
def valkey_server(request: pytest.FixtureRequest) -> Iterator[RedisAccess]:
    """A Valkey server without a password."""
    yield from _redis(request, "valkey")


@pytest.fixture
def redis_proxy(redis_server: RedisAccess) -> Iterator[TcpProxy]:
    """A proxy before `redis_server`."""
    with TcpProxy(redis_server.host, redis_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A cluster of three masters."""
    from rasa_trackers.redis.driver import HAS_CLUSTERS
    from servers.redis import RedisCluster

    if not HAS_CLUSTERS:
        pytest.skip("this redis-py is older than 4.4, which clusters need")

    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_sentinel() -> Iterator[RedisSentinel]:
    """A master, a replica and a sentinel."""
    from servers.redis import RedisSentinel

    with RedisSentinel() as sentinel:
        yield sentinel


@pytest.fixture(scope="session")
def mongo_server(request: pytest.FixtureRequest) -> Iterator[MongoAccess]:
    """A MongoDB server without a password."""
    import pymongo.errors

    from servers.mongo import MongoAccess, MongoServer

    if _with_docker(request):
        access = MongoAccess(*_docker_address(request, "mongo", 27017))
        wait_until(
            lambda: access.client().admin.command("ping"),
            "MongoDB's container",
            DOCKER_SECONDS,
            (pymongo.errors.ConnectionFailure,),
        )
        yield access
    else:
        with MongoServer() as server:
            yield server


@pytest.fixture(scope="session")
def mongo_replica_set() -> Iterator[MongoAccess]:
    """A MongoDB server that says that it is the primary of a replica set."""
    from servers.mongo import MongoServer

    with MongoServer(replica_set=True) as server:
        yield server


@pytest.fixture
def mongo_database(mongo_server: MongoAccess) -> Iterator[str]:
    """Name of an empty database in `mongo_server`."""
    name = mongo_server.database_name()
    yield name
    mongo_server.drop_database(name)


@pytest.fixture
def mongo_proxy(mongo_server: MongoAccess) -> Iterator[TcpProxy]:
    """A proxy before `mongo_server`."""
    with TcpProxy(mongo_server.host, mongo_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def h2_server() -> Iterator[H2Server]:
    """H2 in Oracle mode; an error where it cannot start, never a skip."""
    from servers.h2 import H2Server

    with H2Server() as server:
        yield server


@pytest.fixture(scope="session")
def oracle_server(
    request: pytest.FixtureRequest,
) -> Iterator[Union[OracleAccess, H2Server]]:
    """An Oracle server: of TEST_ORACLE_URL, or with Docker, or what stands in."""
    # Named by `servers.oracle`, which needs an Oracle driver.
    url = os.environ.get("TEST_ORACLE_URL")
    if not url and not _with_docker(request):
        yield request.getfixturevalue("h2_server")
        return
    from servers.oracle import NOT_READY, OracleAccess

    if not url:
        host, port = _docker_address(request, "oracle", 1521)
        credentials = f"{DOCKER_USER}:{DOCKER_PASSWORD}"
        # The driver that needs no client of Oracle's is used.
        url = f"oracle+oracledb://{credentials}@{host}:{port}/?service_name=FREEPDB1"
    made: List[OracleAccess] = []
    wait_until(
        lambda: made.append(OracleAccess(url)) or made,
        "Oracle",
        DOCKER_SECONDS if _with_docker(request) else 0,
        NOT_READY,
    )
    yield made[0]
    made[0].close()


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    """Certificates for TLS."""
    from servers.tls import Certificates

    with Certificates() as made:
        yield made
