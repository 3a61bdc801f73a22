"""Debian's packages, unpacked into a cache without being installed."""

import shutil
import tempfile
from pathlib import Path

from servers import wheels


def unpacked(*packages: str) -> Path:
    """A folder with the files of packages; the first one names it.

    Raises:
        RuntimeError: If they cannot be had, with apt's own words.
    """
    for command in ("apt-get", "dpkg"):
        if not shutil.which(command):
            raise RuntimeError(
                f"{packages[0]} is a package of Debian, and there is no {command} to "
                f"fetch it. Install it."
            )

    def unpack(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as download:
            try:
                _download(Path(download), *packages)
            except RuntimeError:
                if not wheels.is_root():
                    raise RuntimeError(
                        f"apt-get could not download {' '.join(packages)}. As root run: "
                        f"apt-get update, or apt-get install {packages[0]}"
                    ) from None
                # The lists of packages are missing or old, as in a fresh image.
                wheels.run("apt-get", "update", "-qq")
                _download(Path(download), *packages)
            for package in Path(download).glob("*.deb"):
                wheels.run("dpkg", "-x", package, folder)

    return wheels.made_once(f"{packages[0]}-debian", unpack)


def _download(folder: Path, *packages: str) -> None:
    # apt writes to the current folder only. As root, apt's own user may not enter it,
    # which is a warning.
    wheels.run("apt-get", "download", "-qq", *packages, cwd=folder)
