"""Docker Compose, which runs docker-compose.yml on what answers as a Docker engine."""

import os
from pathlib import Path
from typing import Dict, Mapping

import base
from engine import CHECKOUT, SECRETS, run

# Debian 12 has but Docker Compose 1, which knows neither `up --wait` nor `!override`.
RELEASE = "trixie"
PACKAGES = ["docker-cli", "docker-compose"]


def install(folder: Path) -> Dict[str, str]:
    """Unpack Docker's client and Docker Compose 2.

    Returns:
        The environment in which `docker compose` is found.
    """
    (folder / "lists" / "partial").mkdir(parents=True)
    sources = folder / "sources.list"
    _, repository, *_ = base.debian_sources()[0].split()
    sources.write_text(f"deb {repository} {RELEASE} main\n", encoding="ascii")
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::State::status": "/dev/null",
        "APT::Sandbox::User": "root",
    }
    options = [f"--option={name}={value}" for name, value in settings.items()]
    run("apt-get", *options, "update", "-qq")
    run("apt-get", *options, "download", "-qq", *PACKAGES, cwd=str(folder))
    for package in folder.glob("*.deb"):
        run("dpkg-deb", "--extract", package, folder)
    plugins = folder / "cli-plugins"
    plugins.symlink_to(folder / "usr" / "libexec" / "docker" / "cli-plugins")
    programs = folder / "usr" / "bin"
    return {
        "DOCKER_CONFIG": str(folder),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }


class Compose:
    """`docker compose` in a folder; as a context it ends with `down`."""

    def __init__(
        self, environment: Mapping[str, str], folder: Path, *options: object
    ) -> None:
        self._environment = environment
        self._folder = folder
        self._command = ["docker", "compose", *options]

    @classmethod
    def of_profile(
        cls, environment: Mapping[str, str], profile: str, variant: str
    ) -> "Compose":
        """For a profile of docker-compose.yml, with .env.example as .env."""
        return cls(
            {**environment, **SECRETS, "RASA_VARIANT": variant},
            CHECKOUT / "docker",
            *("--profile", profile, "--env-file", ".env.example"),
            # With ports that no one else has.
            *("--file", "docker-compose.yml", "--file", "tests/ports.yml"),
        )

    def __call__(self, *arguments: object) -> str:
        return run(
            *self._command,
            *arguments,
            cwd=str(self._folder),
            env=self._environment,
        )

    def __enter__(self) -> "Compose":
        return self

    def __exit__(self, *exception: object) -> None:
        self("down", "--timeout=5")

    def container(self, service: str) -> str:
        """The id of a service's container, also of one that has ended; "" if none."""
        return self("ps", "--all", "--quiet", service).strip()

    def url(self, service: str, port: int) -> str:
        """Where a port of a service is reached from this machine."""
        return f"http://{self('port', service, port).strip()}"
