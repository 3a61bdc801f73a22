"""Images are built and run for real; what is missing for that is an error, no skip."""

import json
import subprocess
import sysconfig
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

import base
import compose
import images
import instant_client
from engine import CHECKOUT, Engine, compose_services, run
from pythons import OPEN_SOURCE, PRO

pytest_plugins = ["hanging"]

RASA_IMAGE = "rasa/rasa:3.6.21-full"
PRO_IMAGE = "rasa/rasa-pro:3.21.0"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        try:
            engine.buildah("info")
            # What a build needs of the kernel, before minutes go into the base.
            engine.buildah("run", "--isolation=chroot", _scratch(engine), "--", "/true")
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            pytest.exit(f"buildah cannot build images here: {error}", returncode=1)
        yield engine


def _scratch(engine: Engine) -> str:
    """A container that holds one program."""
    container = engine.buildah("from", "scratch").strip()
    program = engine.folder / "true"
    source = engine.folder / "true.c"
    source.write_text("int main(void) { return 0; }\n", encoding="ascii")
    run("gcc", "-static", "-o", program, source)
    engine.buildah("copy", container, program, "/true")
    return container


@pytest.fixture(scope="session")
def debian_image(engine: Engine) -> str:
    return base.build_debian(engine)


@pytest.fixture(scope="session")
def builds(engine: Engine, debian_image: str) -> Iterator[Dict[str, "Future[Any]"]]:
    """Images that are built two at a time, while tests run that need none of them."""
    with ThreadPoolExecutor(2) as pool:
        python = f"/opt/python/bin/python{sysconfig.get_python_version()}"
        yield {
            "rasa": pool.submit(
                base.build_rasa, engine, RASA_IMAGE, OPEN_SOURCE, python, compiled="."
            ),
            "stores": pool.submit(images.build, engine, debian_image),
            # On Debian's own Python.
            "pro": pool.submit(
                base.build_rasa, engine, PRO_IMAGE, PRO, "/usr/bin/python3", "pip"
            ),
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def rasa_image(builds: Dict[str, "Future[Any]"]) -> str:
    """Rasa's image, or what stands in for it."""
    image: str = builds["rasa"].result()
    return image


@pytest.fixture(scope="session")
def pro_image(builds: Dict[str, "Future[Any]"]) -> str:
    """An image with Rasa Pro."""
    image: str = builds["pro"].result()
    return image


def bake(engine: Engine, tag: str, image: str) -> str:
    dockerfile = CHECKOUT / "docker" / "Dockerfile"
    engine.build(tag, dockerfile, CHECKOUT, {"RASA_IMAGE": image})
    return tag


@pytest.fixture(scope="session")
def baked_image(engine: Engine, rasa_image: str) -> str:
    tag = compose_services("postgres", RASA_VARIANT="baked")["train"]["image"]
    return bake(engine, tag, rasa_image)


@pytest.fixture(scope="session")
def baked_pro_image(engine: Engine, pro_image: str) -> str:
    return bake(engine, "rasa_trackers:3.21.0-pro", pro_image)


@pytest.fixture(scope="session")
def store_images(builds: Dict[str, "Future[Any]"]) -> None:
    """All other images of docker-compose.yml, or what stands in for them."""
    builds["stores"].result()


@pytest.fixture(scope="session")
def compose_2(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """The environment in which `docker compose` is found."""
    return compose.install(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="session")
def docker(engine: Engine, compose_2: Dict[str, str]) -> Iterator[Dict[str, str]]:
    """The environment of a Docker client and an engine for it."""
    with engine.docker() as environment:
        yield {**environment, **compose_2}


@pytest.fixture(scope="session")
def model(engine: Engine, docker: Dict[str, str], rasa_image: str) -> Path:
    """The demo assistant, in the volume of docker-compose.yml and as a file."""
    assert rasa_image
    service = compose.Compose.of_profile(docker, "postgres", "mounted")
    with service:
        service("run", "--rm", "--no-deps", "train")
    volume = engine.podman("volume", "inspect", "docker_models")
    (file,) = Path(json.loads(volume)[0]["Mountpoint"]).glob("*.tar.gz")
    return file


@pytest.fixture(scope="session")
def client_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return instant_client.library(tmp_path_factory.mktemp("client"))
