"""The images, built from the Dockerfiles and run as docker-compose.yml says."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping

import pytest

import instant_client
from engine import CHECKOUT, Engine, compose_services
from servers.process import wait_until
from stores import STORES, Network

START_SECONDS = 120
ORACLE = CHECKOUT / "docker" / "oracle"


def get(engine: Engine, container: str, path: str, *options: str) -> Any:
    """Ask Rasa's API from within its container."""
    url = f"http://127.0.0.1:5005/{path}"
    answer = engine.podman("exec", container, "curl", "-fsS", *options, url)
    return json.loads(answer)


def say(engine: Engine, container: str, text: str) -> List[str]:
    message = json.dumps({"sender": "anna", "message": text})
    answers = get(engine, container, "webhooks/rest/webhook", "-d", message)
    return [answer["text"] for answer in answers]


@contextlib.contextmanager
def rasa(engine: Engine, network: Network, service: Mapping[str, Any]) -> Iterator[str]:
    with engine.service("rasa", service, *network.options) as container:
        try:
            yield container
        except BaseException:
            print(engine.logs(container)[-3000:])
            raise


def wait_until_healthy(engine: Engine, container: str) -> None:
    wait_until(lambda: engine.is_healthy(container), "a healthy Rasa", START_SECONDS)


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("variant", ["mounted", "baked"])
@pytest.mark.parametrize("profile", STORES)
def test_a_conversation_is_stored_by_a_store_that_comes_up_after_rasa(
    engine: Engine,
    network: Network,
    baked_image: str,
    profile: str,
    variant: str,
    tmp_path: Path,
) -> None:
    services = compose_services(profile, RASA_VARIANT=variant)
    name, port, run_store = STORES[profile]
    # PostgreSQL's user may not enter pytest's own folder.
    folder = engine.folder / f"{profile}-{variant}"
    folder.mkdir()
    engine.folder.chmod(0o755)
    with contextlib.ExitStack() as store:
        with rasa(engine, network, services[f"rasa-{profile}"]) as container:
            with network.turns_away(port) as client:
                assert client.wait(START_SECONDS) == 0
            assert not engine.is_healthy(container)
            store.enter_context(run_store(network, services[name], folder))
            wait_until_healthy(engine, container)
            assert engine.podman("exec", container, "id", "-u") == "1001\n"
            assert "model_file" in get(engine, container, "status")
            assert say(engine, container, "a pizza") == ["Small, medium or large?"]

        # Another container knows nothing but what the store has kept.
        with rasa(engine, network, services[f"rasa-{profile}"]) as container:
            wait_until_healthy(engine, container)
            answers = say(engine, container, "large")
            assert answers == ["A large pizza. With which topping?"]


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


@pytest.mark.usefixtures("model")
def test_the_images_health_check_needs_a_rasa_that_answers(
    engine: Engine, network: Network, baked_image: str
) -> None:
    service = {
        "image": baked_image,
        "command": "run",
        "volumes": ["models:/app/models:ro"],
    }
    with rasa(engine, network, service) as container:
        assert not engine.is_healthy(container)
        wait_until_healthy(engine, container)


def in_image(engine: Engine, image: str, *command: str) -> str:
    """What a command prints in a container of an image, as the image's user."""
    program, *arguments = command
    return engine.podman(
        "run", "--rm", "--network=none", f"--entrypoint={program}", image, *arguments
    )


def oracle_image(engine: Engine, rasa_image: str, client: Path, suffix: str) -> str:
    """The Oracle image with a client, from a copy of what the build sees."""
    context = engine.folder / "context"
    shutil.rmtree(str(context), ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "oracle.*")
    shutil.copytree(str(CHECKOUT / "rasa_trackers"), str(context / "rasa_trackers"))
    shutil.copytree(str(ORACLE), str(context / "docker" / "oracle"), ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".dockerignore"):
        shutil.copy(str(CHECKOUT / name), str(context))
    shutil.copy(str(client), str(context / "docker" / "oracle" / f"oracle.{suffix}"))
    tag = compose_services("oracle")["rasa-oracle"]["image"]
    dockerfile = context / "docker" / "oracle" / "Dockerfile"
    engine.build(tag, dockerfile, context, {"RASA_IMAGE": rasa_image})
    return tag


@pytest.mark.parametrize("suffix", ["rpm", "zip"])
def test_cx_oracle_finds_the_client_in_the_oracle_image(
    engine: Engine, rasa_image: str, client_library: Path, suffix: str, tmp_path: Path
) -> None:
    made: Dict[str, Any] = {
        "rpm": lambda: instant_client.rpm(client_library, tmp_path),
        "zip": lambda: instant_client.zip_file(client_library, tmp_path / "client.zip"),
    }
    image = oracle_image(engine, rasa_image, made[suffix](), suffix)
    assert engine.inspect(image)["User"] == "1001"
    printed = in_image(
        engine,
        image,
        *("python", "-c", "import cx_Oracle; print(cx_Oracle.clientversion())"),
    )
    assert printed == f"{instant_client.VERSION}\n"
    # Nothing of what unpacked it is left.
    for program in ("alien", "bsdtar", "gcc", "rpm"):
        found = in_image(engine, image, "sh", "-c", f"command -v {program} || true")
        assert found == ""
    added = engine.inspect(image)["Size"] - engine.inspect(rasa_image)["Size"]
    assert added < 20_000_000, "bytes beyond Rasa, with a client of some kilobytes"
    packages = "import rasa_trackers.sql.store, sqlalchemy.dialects.oracle.cx_oracle"
    in_image(engine, image, "python", "-c", packages)


def test_a_file_without_the_client_is_refused(
    engine: Engine, rasa_image: str, tmp_path: Path
) -> None:
    other = tmp_path / "libsqora.so.21.1"
    other.write_bytes(b"of another package of Instant Client")
    package = instant_client.zip_file(other, tmp_path / "odbc.zip")
    with pytest.raises(RuntimeError, match="download Instant Client Basic"):
        oracle_image(engine, rasa_image, package, "zip")
