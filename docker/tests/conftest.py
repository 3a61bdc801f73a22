"""Images are built and run for real; what is missing for that is an error, no skip."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

import instant_client
from engine import CHECKOUT, Engine, compose_services, run
from stores import Network

RASA_IMAGE = "rasa/rasa:3.6.21-full"
# What Rasa's own images are made of. Debian has no package with Ubuntu's keys, so that
# TLS has to do.
UBUNTU = "deb [trusted=yes] https://archive.ubuntu.com/ubuntu jammy main universe"
UBUNTU_PACKAGES = "ca-certificates,curl,libpq5,python3-venv"


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
def rasa_image(engine: Engine) -> str:
    """Rasa's image, or what stands in for it."""
    context = engine.folder / "ubuntu"
    context.mkdir()
    run(
        *("mmdebstrap", "--quiet", "--variant=apt", f"--include={UBUNTU_PACKAGES}"),
        *("jammy", context / "ubuntu.tar", UBUNTU),
    )
    uv = shutil.which("uv")
    assert uv
    engine.build(
        RASA_IMAGE,
        Path(__file__).with_name("base.Dockerfile"),
        context,
        {"RASA": os.environ["RASA"]},
        mounts=[
            f"{uv}:/usr/local/bin/uv:ro",
            f"{run(uv, 'cache', 'dir').strip()}:/uv-cache",
        ],
    )
    shutil.rmtree(str(context))
    return RASA_IMAGE


@pytest.fixture(scope="session")
def baked_image(engine: Engine, rasa_image: str) -> str:
    dockerfile = CHECKOUT / "docker" / "Dockerfile"
    tag = compose_services("postgres", RASA_VARIANT="baked")["train"]["image"]
    engine.build(tag, dockerfile, CHECKOUT, {"RASA_IMAGE": rasa_image})
    return tag


@pytest.fixture(scope="session")
def network(engine: Engine, rasa_image: str) -> Network:
    return Network(engine, rasa_image)


@pytest.fixture(scope="session")
def model(engine: Engine, network: Network) -> None:
    """The demo assistant, trained by the service for it into the volume for it."""
    service = compose_services("postgres", RASA_VARIANT="mounted")["train"]
    with engine.service("train", service, *network.options):
        engine.podman("wait", "train")
        assert "is trained and saved" in engine.logs("train"), engine.logs("train")


@pytest.fixture(scope="session")
def client_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return instant_client.library(tmp_path_factory.mktemp("client"))
