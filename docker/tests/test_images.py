"""The images, built from the Dockerfiles and run as docker-compose.yml says."""

import base64
import contextlib
import json
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import pytest

import instant_client
from compose import Compose
from engine import CHECKOUT, SECRETS, Engine, compose_services, recipes, run
from servers.process import wait_until

#: They end what hangs: Rasa starts in 15 seconds, an answer takes one.
START_SECONDS = 900
ANSWER_SECONDS = 300
SERVICES = ["postgres", "redis", "redis-cluster", "mongo", "mongo-express"]
ORACLE = CHECKOUT / "docker" / "oracle"


def get(url: str, data: Optional[Dict[str, str]] = None, **headers: str) -> Any:
    body = json.dumps(data).encode() if data else None
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        return answer.read()


def say(rasa: str, text: str) -> List[str]:
    """What the assistant at an address answers."""
    message = {"sender": "anna", "message": text}
    answers = json.loads(get(f"{rasa}/webhooks/rest/webhook", message))
    return [answer["text"] for answer in answers]


@contextlib.contextmanager
def log_shown(engine: Engine, compose: Compose, *services: str) -> Iterator[None]:
    """Print what services have logged if a test fails."""
    try:
        yield
    except BaseException:
        for service in services:
            container = compose.container(service)
            if container:
                print(f"{service}:\n{engine.logs(container)[-5000:]}")
        raise


def wait_until_healthy(engine: Engine, container: str) -> None:
    wait_until(lambda: engine.is_healthy(container), "good health", START_SECONDS)


def turn_away(engine: Engine, debian: str, name: str, port: int) -> None:
    """Let one client of a name in the project's network connect, and hang up."""
    code = (
        f"import socket; server = socket.create_server(('', {port})); server.accept()"
    )
    engine.podman(
        *("run", "--rm", "--network=docker_default", f"--network-alias={name}"),
        *(debian, "timeout", START_SECONDS, "python3", "-c", code),
    )


@pytest.mark.usefixtures("model", "baked_image", "store_images")
def test_docker_compose_up(
    engine: Engine, docker: Dict[str, str], debian_image: str
) -> None:
    with Compose.of_profile(docker, "postgres", "mounted") as mounted:
        # The store comes up after Rasa.
        mounted("up", "--detach", "--no-deps", "rasa-postgres")
        with log_shown(engine, mounted, "postgres", "rasa-postgres"):
            container = mounted.container("rasa-postgres")
            turn_away(engine, debian_image, "postgres", 5432)
            assert not engine.is_healthy(container)
            mounted("up", "--detach", "--no-deps", "postgres")
            wait_until_healthy(engine, container)
        assert engine.podman("exec", container, "id", "-u") == "1001\n"
        url = mounted.url("rasa-postgres", 5005)
        assert "model_file" in json.loads(get(f"{url}/status"))
        assert say(url, "a pizza") == ["Small, medium or large?"]

    # Other containers know nothing but what the store has kept.
    with Compose.of_profile(docker, "postgres", "baked") as baked:
        baked("up", "--detach")
        with log_shown(engine, baked, "postgres", "rasa-postgres"):
            assert engine.is_healthy(baked.container("postgres"))
            wait_until_healthy(engine, baked.container("rasa-postgres"))
        answers = say(baked.url("rasa-postgres", 5005), "large")
        assert answers == ["A large pizza. With which topping?"]


#: Prints whose store keeps a conversation, and what another one reads of it.
CONVERSATION = """
import asyncio, sys
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import UserUttered
from rasa.utils.endpoints import read_endpoint_config

try:
    from rasa.core.tracker_stores.tracker_store import TrackerStore
except ImportError:  # Rasa Open Source
    from rasa.core.tracker_store import TrackerStore

async def converse():
    endpoint = read_endpoint_config("endpoints.yml", "tracker_store")
    first, second = (TrackerStore.create(endpoint, Domain.empty()) for _ in range(2))
    tracker = await first.get_or_create_tracker("anna")
    tracker.update(UserUttered("a pizza"))
    await first.save(tracker)
    kept = await second.retrieve("anna")
    # Rasa Pro wraps the store into one that renews its credentials.
    store = getattr(second, "_tracker_store", second)
    package = type(store).__module__.partition(".")[0]
    print(package, kept.latest_message.text)

asyncio.run(converse())
"""
CONVERSE = ("-W", "ignore", "-c", CONVERSATION)


@pytest.mark.usefixtures("rasa_image", "store_images")
@pytest.mark.parametrize("profile", ["redis", "redis-cluster", "mongo"])
def test_rasas_container_reaches_each_store(
    engine: Engine, docker: Dict[str, str], profile: str
) -> None:
    """A server in it does all else as on PostgreSQL."""
    with Compose.of_profile(docker, profile, "mounted") as mounted:
        shown = ["mongo-express"] if profile == "mongo" else []
        mounted("up", "--detach", "--no-deps", profile, *shown)
        with log_shown(engine, mounted, profile):
            wait_until_healthy(engine, mounted.container(profile))
            printed = converse(mounted, f"rasa-{profile}")
        assert printed == "rasa_trackers a pizza"
        if shown:
            the_database_is_shown(engine, mounted)


def converse(compose: Compose, service: str) -> str:
    """What CONVERSATION prints in a container of a service."""
    entrypoint = ("--entrypoint", "python", service)
    printed = compose("run", "--rm", "--no-deps", "--no-TTY", *entrypoint, *CONVERSE)
    return printed.splitlines()[-1]


def the_database_is_shown(engine: Engine, compose: Compose) -> None:
    with log_shown(engine, compose, "mongo-express"):
        wait_until_healthy(engine, compose.container("mongo-express"))
    url = compose.url("mongo-express", 8081)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(url)
    login = base64.b64encode(
        f"rasa:{SECRETS['MONGO_EXPRESS_PASSWORD']}".encode()
    ).decode()
    assert b"rasa" in get(f"{url}/db/rasa/", Authorization=f"Basic {login}")


@pytest.mark.usefixtures("baked_image", "store_images")
@pytest.mark.parametrize("number", range(2), ids=["mounted", "baked"])
def test_the_manuals_recipe_runs(
    engine: Engine, docker: Dict[str, str], model: Path, number: int, tmp_path: Path
) -> None:
    compose_file, endpoints = recipes()[number]
    (tmp_path / "docker-compose.yml").write_text(compose_file, "utf-8")
    (tmp_path / "endpoints.yml").write_text(endpoints, "utf-8")
    (tmp_path / ".env").write_text("DB_PASSWORD=secret1\n", "utf-8")
    ours = 'services: {rasa: {ports: !override ["127.0.0.1::5005"]}}'
    (tmp_path / "docker-compose.override.yml").write_text(ours, "utf-8")
    (tmp_path / "models").mkdir()
    shutil.copy(str(model), str(tmp_path / "models"))
    ignored = shutil.ignore_patterns("__pycache__")
    package = tmp_path / "rasa_trackers"
    shutil.copytree(str(CHECKOUT / "rasa_trackers"), str(package), ignore=ignored)
    with Compose(docker, tmp_path) as recipe, log_shown(engine, recipe, "rasa"):
        recipe("up", "--detach")
        url = recipe.url("rasa", 5005)
        wait_until(lambda: get(url), "Rasa", START_SECONDS, (OSError,))
        assert say(url, "a pizza") == ["Small, medium or large?"]
        if number:  # which has the health check of the image
            assert engine.is_healthy(recipe.container("rasa"))


def test_the_images_health_check_needs_a_rasa_that_answers(
    engine: Engine, baked_image: str
) -> None:
    name = engine.start(
        *("rasa", "--network=none", "--entrypoint=sleep", baked_image, "900")
    )
    try:
        assert not engine.is_healthy(name)
    finally:
        engine.remove(name)


@pytest.mark.usefixtures("store_images")
@pytest.mark.parametrize("name", SERVICES)
def test_a_health_check_fails_where_no_server_runs(engine: Engine, name: str) -> None:
    profile = "mongo" if name == "mongo-express" else name
    service = compose_services(profile)[name]
    variables = [f"--env={k}={v}" for k, v in service["environment"].items()]
    with pytest.raises(RuntimeError, match=r"failed with exit code [12]:"):
        engine.podman(
            *("run", "--rm", "--network=none", "--entrypoint=sh", *variables),
            *(service["image"], "-c", service["healthcheck"]["test"]),
        )


@pytest.mark.usefixtures("store_images")
def test_the_suite_finds_the_services(docker: Dict[str, str]) -> None:
    """A part of it: nothing but the address depends on `--docker`."""
    served = ["postgresql", "mariadb", "redis", "valkey", "mongo"]
    tested = [f"{SUITE}::{test}[{backend}]" for test in TESTS for backend in served]
    printed = run(
        *("pytest", "--docker", "-q", "-rN", *tested), cwd=str(CHECKOUT), env=docker
    )
    assert re.search(rf"\b{len(tested)} passed", printed), printed


#: What is run of the suite.
SUITE = "tests/contract/test_append.py"
TESTS = [
    "test_append_gives_the_position_of_the_last_entry",
    "test_append_goes_on_at_the_end",
]


def test_the_baked_image_holds_the_package_and_nothing_of_this_machine(
    engine: Engine, baked_image: str
) -> None:
    assert engine.inspect(baked_image)["User"] == "1001"
    printed = in_image(
        engine,
        baked_image,
        *("python", "-c", "import rasa_trackers; print(rasa_trackers.__file__)"),
    )
    assert "/site-packages/" in printed
    assert in_image(engine, baked_image, "cat", "/etc/pip.conf") == ""


def in_image(
    engine: Engine, image: str, *command: str, options: Sequence[str] = ()
) -> str:
    """What a command prints in a container of an image, as the image's user."""
    program, *arguments = command
    return engine.podman(
        *("run", "--rm", "--network=none", f"--entrypoint={program}", *options),
        *(image, *arguments),
    )


@pytest.mark.parametrize("base", ["rasa_image", "pro_image"])
def test_the_baked_image_adds_little_and_leaves_no_tools(
    engine: Engine, request: pytest.FixtureRequest, base: str
) -> None:
    rasa = request.getfixturevalue(base)
    baked = request.getfixturevalue("baked_" + base.replace("rasa_", ""))
    adds_little(engine, rasa, baked)


def adds_little(engine: Engine, rasa: str, image: str) -> None:
    for program in ("alien", "bsdtar", "cc", "gcc", "rpm", "rpm2cpio", "unzip"):
        found = in_image(engine, image, "sh", "-c", f"command -v {program} || true")
        assert found == ""
    for folder in ("/checkout", "/download", "/wheels"):
        in_image(engine, image, "test", "!", "-e", folder)
    added = engine.inspect(image)["Size"] - engine.inspect(rasa)["Size"]
    assert added < 20_000_000, "bytes beyond Rasa, with a client of some kilobytes"


def test_a_conversation_is_stored_in_an_image_of_rasa_pro(
    engine: Engine, baked_pro_image: str, tmp_path: Path
) -> None:
    """By the store itself: `rasa run` of Rasa Pro asks for a licence."""
    assert engine.inspect(baked_pro_image)["User"] == "1001"
    endpoints = tmp_path / "endpoints.yml"
    endpoints.write_text(
        "tracker_store: {type: rasa_trackers.SQLTrackerStore, db: rasa.db}", "utf-8"
    )
    mount = f"--volume={endpoints}:/app/endpoints.yml:ro"
    printed = in_image(engine, baked_pro_image, "python", *CONVERSE, options=[mount])
    assert printed.splitlines()[-1] == "rasa_trackers a pizza"


def oracle_image(engine: Engine, image: str, client: Path, suffix: str) -> str:
    """The Oracle image with a client, from a copy of what the build sees."""
    context = engine.folder / "context"
    shutil.rmtree(str(context), ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "oracle.*")
    for folder in ("rasa_trackers", "requirements"):
        shutil.copytree(str(CHECKOUT / folder), str(context / folder))
    shutil.copytree(str(ORACLE), str(context / "docker" / "oracle"), ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".dockerignore"):
        shutil.copy(str(CHECKOUT / name), str(context))
    shutil.copy(str(client), str(context / "docker" / "oracle" / f"oracle.{suffix}"))
    tag = compose_services("oracle")["rasa-oracle"]["image"]
    dockerfile = context / "docker" / "oracle" / "Dockerfile"
    engine.build(tag, dockerfile, context, {"RASA_IMAGE": image}, layers=True)
    return tag


#: By base image: what makes its driver say which client it has found.
CLIENT_VERSION = {
    "rasa_image": "import cx_Oracle; print(cx_Oracle.clientversion())",
    "pro_image": "import oracledb; oracledb.init_oracle_client(); "
    "print(oracledb.clientversion())",
}


@pytest.mark.parametrize(
    ("base", "suffix"),
    [("rasa_image", "rpm"), ("rasa_image", "zip"), ("pro_image", "rpm")],
)
def test_the_driver_finds_the_client_in_the_oracle_image(
    engine: Engine,
    request: pytest.FixtureRequest,
    client_library: Path,
    base: str,
    suffix: str,
    tmp_path: Path,
) -> None:
    made: Dict[str, Any] = {
        "rpm": lambda: instant_client.rpm(client_library, tmp_path),
        "zip": lambda: instant_client.zip_file(client_library, tmp_path / "client.zip"),
    }
    rasa = request.getfixturevalue(base)
    image = oracle_image(engine, rasa, made[suffix](), suffix)
    assert engine.inspect(image)["User"] == "1001"
    printed = in_image(engine, image, "python", "-c", CLIENT_VERSION[base])
    assert printed == f"{instant_client.VERSION}\n"
    adds_little(engine, rasa, image)
    store = "import rasa_trackers; print(rasa_trackers.OracleTrackerStore.__module__)"
    assert "rasa_trackers.sql" in in_image(engine, image, "python", "-c", store)


def test_a_file_without_the_client_is_refused(
    engine: Engine, rasa_image: str, tmp_path: Path
) -> None:
    other = tmp_path / "libsqora.so.21.1"
    other.write_bytes(b"of another package of Instant Client")
    package = instant_client.zip_file(other, tmp_path / "odbc.zip")
    with pytest.raises(RuntimeError, match="download Instant Client Basic"):
        oracle_image(engine, rasa_image, package, "zip")
