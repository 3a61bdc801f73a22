"""Builds images with buildah and runs them with podman, in a store of its own.

What stands here beside the commands makes both work as root in a container that may
neither raise limits nor talk to systemd.
"""

import ast
import contextlib
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

CHECKOUT = Path(__file__).parents[2]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
COMMAND_SECONDS = 600


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
            "TMPDIR": str(self.folder),
        }
        self._pip_conf = self._write("pip.conf", _pip_conf())
        self._containers: List[str] = []

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
            netns = "none"
            [engine]
            cgroup_manager = "cgroupfs"
            events_logger = "file"
            lock_type = "file"
            runtime = "runc"
            tmp_dir = "{self.folder}/tmp"
            [network]
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

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        for container in reversed(self._containers):
            with contextlib.suppress(RuntimeError):
                self.remove(container)
        with contextlib.suppress(RuntimeError):
            self.buildah("rm", "--all")
        # Half a million files, for which Python takes a minute.
        run("rm", "-rf", self.folder)

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
    ) -> str:
        """Build an image and return the output.

        Args:
            tag: Its name.
            dockerfile: What to build.
            context: Folder that COPY sees.
            args: For `--build-arg`.
            mounts: Of files that the build needs and the image must not hold.
        """
        # How this machine gets at packages is its own business.
        mounts = [
            f"{self._pip_conf}:/etc/pip.conf:ro",
            f"{CERTIFICATES}:{CERTIFICATES}:ro",
            *mounts,
        ]
        return self.buildah(
            *("build", "--isolation=chroot", "--format=docker", "--pull-never"),
            *("--layers", "--tag", tag, "--file", dockerfile),
            *(f"--build-arg={name}={value}" for name, value in args.items()),
            *(f"--volume={mount}" for mount in mounts),
            context,
        )

    def start(self, name: str, *arguments: object) -> str:
        """`podman run` in the background; returns the name."""
        self._containers.append(name)
        self.podman("run", "--detach", f"--name={name}", *arguments)
        return name

    def remove(self, name: str) -> None:
        """Kill a container and delete it."""
        self._containers.remove(name)
        self.podman("rm", "--force", "--time=0", name)

    def logs(self, name: str) -> str:
        """What a container has printed, on both channels."""
        done = subprocess.run(
            ["podman", "--log-level=fatal", "logs", name],
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
        # 1: unhealthy; more: there is none, or it could not be run.
        assert done.returncode in (0, 1), done.stdout
        assert self.inspect(name)["State"]["Running"], self.logs(name)[-3000:]
        return done.returncode == 0

    def inspect(self, name: str) -> Dict[str, Any]:
        """What podman knows of a container or an image."""
        described: Dict[str, Any] = json.loads(self.podman("inspect", name))[0]
        return described

    @contextlib.contextmanager
    def service(
        self, name: str, description: Mapping[str, Any], *more: object
    ) -> Iterator[str]:
        """A container as a service of a compose file describes it.

        Args:
            name: Of the container.
            description: From `compose_services`.
            more: Arguments of `podman run`.
        """
        arguments: List[object] = [
            *(f"--env={k}={v}" for k, v in description.get("environment", {}).items()),
            *(f"--volume={volume}" for volume in description.get("volumes", ())),
        ]
        if "user" in description:
            arguments.append(f"--user={description['user']}")
        if "healthcheck" in description:
            # As a shell's command line: podman 4.3 makes nothing of a list.
            kind, *words = description["healthcheck"]["test"]
            assert kind == "CMD"
            arguments.append(f"--health-cmd={shlex.join(words)}")
        command = description["command"]
        words = command.split() if isinstance(command, str) else command
        self.start(name, *arguments, *more, description["image"], *words)
        try:
            yield name
        finally:
            self.remove(name)


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
        env={**os.environ, **environment},
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
