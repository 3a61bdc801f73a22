"""Builds images with buildah and runs them with podman, in a store of its own.

What stands here beside the commands makes both work as root in a container that may
neither raise limits nor talk to systemd. Docker Compose talks to podman as to Docker.
"""

import ast
import contextlib
import json
import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from servers.process import STOP_SECONDS, wait_until

log = logging.getLogger(__name__)

CHECKOUT = Path(__file__).parents[2]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
#: It ends what hangs: the slowest takes a minute or two.
COMMAND_SECONDS = 3600


def run(*command: object, **options: Any) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        RuntimeError: If it fails, with its last output.
    """
    parts = [str(part) for part in command]
    done = subprocess.run(
        parts,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=COMMAND_SECONDS,
        **options,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(parts)} failed with exit code {done.returncode}:\n"
            f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done.stdout


class Engine:
    """A folder with images, containers and volumes.

    Attributes:
        folder: For any other files that live as long.
    """

    def __init__(self) -> None:
        # Not /tmp, which may be memory.
        self.folder = Path(tempfile.mkdtemp(prefix="rasa_trackers-", dir="/var/tmp"))
        self._environment = {
            **os.environ,
            "CONTAINERS_CONF": str(self._containers_conf()),
            "CONTAINERS_STORAGE_CONF": str(self._storage_conf()),
            "CONTAINERS_REGISTRIES_CONF": str(self._registries_conf()),
            "TMPDIR": str(self.folder),
        }
        self._pip_conf = self._write("pip.conf", _pip_conf())

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def _containers_conf(self) -> Path:
        # The defaults lie above what a root without CAP_SYS_RESOURCE may set.
        pid_max = int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
        processes = min(pid_max, _hard_limit(resource.RLIMIT_NPROC))
        nproc = f'"nproc={processes}:{processes}"'
        files = _hard_limit(resource.RLIMIT_NOFILE)
        (self.folder / "networks").mkdir()
        return self._write(
            "containers.conf",
            f"""
            [containers]
            default_ulimits = ["nofile={files}:{files}", {nproc}]
            [engine]
            cgroup_manager = "cgroupfs"
            events_logger = "file"
            lock_type = "file"
            runtime = "runc"
            tmp_dir = "{self.folder}/tmp"
            [network]
            network_backend = "netavark"
            network_config_dir = "{self.folder}/networks"
            """,
        )

    def _storage_conf(self) -> Path:
        return self._write(
            "storage.conf",
            f"""
            [storage]
            driver = "overlay"
            graphroot = "{self.folder}/store"
            runroot = "{self.folder}/run"
            """,
        )

    def _registries_conf(self) -> Path:
        # A name without a registry means Docker's, as to Docker itself.
        return self._write(
            "registries.conf", 'unqualified-search-registries = ["docker.io"]\n'
        )

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        left = (
            (self.podman, "rm", "--all", "--force", "--time=0"),
            (self.podman, "network", "prune", "--force"),
            (self.buildah, "rm", "--all"),
        )
        for program, *arguments in left:
            with contextlib.suppress(RuntimeError):
                program(*arguments)
        # Half a million files, which take a minute or three: nobody waits for that.
        subprocess.Popen(
            ["rm", "-rf", str(self.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def buildah(self, *arguments: object) -> str:
        return run("buildah", "--log-level=error", *arguments, env=self._environment)

    def podman(self, *arguments: object) -> str:
        # It logs as errors that there is no systemd to run health checks in time.
        return run("podman", "--log-level=fatal", *arguments, env=self._environment)

    def build(
        self,
        tag: str,
        dockerfile: Path,
        context: Path,
        args: Mapping[str, str],
        mounts: Sequence[str] = (),
        target: str = "",
        layers: bool = False,
    ) -> str:
        """Build an image and return the output.

        Args:
            tag: Its name.
            dockerfile: What to build.
            context: Folder that COPY sees.
            args: For `--build-arg`.
            mounts: Of files that the build needs and the image must not hold.
            target: The stage to build; the last one by default.
            layers: Whether to keep each step for other builds, which takes longer.
        """
        log.info("building %s", tag)
        # How this machine gets at packages is its own business.
        mounts = [
            f"{self._pip_conf}:/etc/pip.conf:ro",
            f"{CERTIFICATES}:{CERTIFICATES}:ro",
            *mounts,
        ]
        printed = self.buildah(
            *("build", "--isolation=chroot", "--format=docker", "--pull-never"),
            *(f"--layers={layers}", "--tag", on_docker_hub(tag), "--file", dockerfile),
            *([f"--target={target}"] if target else []),
            *(f"--build-arg={name}={value}" for name, value in args.items()),
            *(f"--volume={mount}" for mount in mounts),
            context,
        )
        log.info("built %s", tag)
        return printed

    def start(self, name: str, *arguments: object) -> str:
        """`podman run` in the background; returns the name."""
        self.podman("run", "--detach", f"--name={name}", *arguments)
        return name

    def remove(self, name: str) -> None:
        """Kill a container and delete it."""
        self.podman("rm", "--force", "--time=0", name)

    def logs(self, name: str) -> str:
        """What a container has printed, on both channels, and when."""
        done = subprocess.run(
            ["podman", "--log-level=fatal", "logs", "--timestamps", name],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=self._environment,
        )
        return done.stdout

    def is_healthy(self, name: str) -> bool:
        """Run a container's health check, once."""
        done = subprocess.run(
            ["podman", "--log-level=fatal", "healthcheck", "run", name],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env=self._environment,
        )
        # 1: unhealthy; more: there is none, it could not be run, or took too long.
        slow = "exceeded timeout" in done.stdout
        assert done.returncode in (0, 1) or slow, done.stdout
        assert self.inspect(name)["State"]["Running"], self.logs(name)[-3000:]
        return done.returncode == 0

    def inspect(self, name: str) -> Dict[str, Any]:
        """What podman knows of a container or an image."""
        described: Dict[str, Any] = json.loads(self.podman("inspect", name))[0]
        return described

    @contextlib.contextmanager
    def docker(self) -> Iterator[Dict[str, str]]:
        """Answers as a Docker engine does, for as long as the context lasts.

        podman has systemd run health checks; here a thread does.

        Yields:
            The environment for Docker's client.
        """
        socket = self.folder / "docker.sock"
        service = subprocess.Popen(
            [
                *("podman", "system", "service", "--time=0"),
                f"unix://{socket}",
            ],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            # Full of there being no systemd.
            stderr=subprocess.DEVNULL,
        )
        ended = threading.Event()
        checks = threading.Thread(target=self._run_health_checks, args=(ended,))
        checks.start()
        try:
            wait_until(socket.exists, "podman's socket")
            yield {**self._environment, "DOCKER_HOST": f"unix://{socket}"}
        finally:
            ended.set()
            checks.join()
            service.terminate()
            service.wait(STOP_SECONDS)

    def _run_health_checks(self, ended: threading.Event) -> None:
        while not ended.wait(1):
            with contextlib.suppress(RuntimeError):
                for container in self.podman("ps", "--quiet").split():
                    with contextlib.suppress(RuntimeError):
                        self.podman("healthcheck", "run", container)


def on_docker_hub(tag: str) -> str:
    """The complete name of an image that Docker knows by a short one."""
    folder = "" if "/" in tag else "library/"
    return f"docker.io/{folder}{tag}"


def _hard_limit(which: int) -> int:
    hard = resource.getrlimit(which)[1]
    return 1 << 20 if hard == resource.RLIM_INFINITY else hard


def _pip_conf() -> str:
    """The indexes that this machine uses. Folders of it are not there in a build."""
    listed = run(sys.executable, "-m", "pip", "config", "list")
    lines = ["[global]", f"cert = {CERTIFICATES}"]
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in ("index-url", "extra-index-url", "trusted-host"):
            words = ast.literal_eval(value).split()
            kept = [word for word in words if not word.startswith(("/", "file:"))]
            if kept:
                lines.append(f"{option} = {' '.join(kept)}")
    return "\n".join([*lines, ""])


#: Values for what is empty in .env.example.
SECRETS = {
    "DB_PASSWORD": "letters1",
    "MONGO_ROOT_PASSWORD": "letters2",
    "MONGO_EXPRESS_PASSWORD": "letters3",
    "MONGO_EXPRESS_SECRET": "letters4",
}


def compose_services(profile: str, **environment: str) -> Dict[str, Dict[str, Any]]:
    """The services of a profile of docker-compose.yml, with .env.example as .env.

    Args:
        profile: Of docker-compose.yml.
        environment: Goes before what .env.example says.
    """
    import yaml

    folder = CHECKOUT / "docker"
    text = run(
        *("docker-compose", "--file", folder / "docker-compose.yml"),
        *("--env-file", folder / ".env.example", "--profile", profile, "config"),
        env={**os.environ, **SECRETS, **environment},
    )
    # `config` writes what can be read as a compose file again.
    services: Dict[str, Dict[str, Any]] = yaml.safe_load(text.replace("$$", "$"))[
        "services"
    ]
    return {
        name: service
        for name, service in services.items()
        if profile in service["profiles"]
    }


def recipes() -> List[Tuple[str, str]]:
    """The manual's compose files, each with the endpoints.yml beside it."""
    blocks: List[str] = re.findall(
        r"^```yaml\n# (?:docker-compose|endpoints)\.yml\n(.*?)^```",
        (CHECKOUT / "docs" / "docker.md").read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    return list(zip(blocks[::2], blocks[1::2]))
