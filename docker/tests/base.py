"""Stands in for images of Rasa: Debian 12, this machine's CPython and real Rasa.

All of it comes from where this machine has its packages from.
"""

import shutil
import sys
import sysconfig
from pathlib import Path
from typing import List

from engine import CHECKOUT, Engine, run
from pythons import Generation

RELEASE = "bookworm"
DEBIAN_IMAGE = "debian:12"
# What Rasa's own images have beside Python, and what a CPython that was compiled on
# Debian 12 links to.
PACKAGES = [
    *("ca-certificates", "curl", "libpq5", "python3"),
    *("libbz2-1.0", "libffi8", "liblzma5", "libncursesw6", "libreadline8"),
    *("libsqlite3-0", "libssl3", "libuuid1", "zlib1g"),
]


def build_debian(engine: Engine) -> str:
    """Build an image of Debian 12 with the Python that runs this in /opt/python.

    Returns:
        Its name.
    """
    context = engine.folder / "debian"
    context.mkdir()
    make_debian(context / "debian.tar")
    copy_python(context / "python")
    dockerfile = Path(__file__).with_name("debian.Dockerfile")
    engine.build(DEBIAN_IMAGE, dockerfile, context, {})
    shutil.rmtree(str(context))
    return DEBIAN_IMAGE


def build_rasa(
    engine: Engine, tag: str, generation: Generation, python: str, compiled: str
) -> str:
    """Build an image with Rasa upon Debian's.

    Args:
        engine: Where to.
        tag: Its name.
        generation: Which Rasa.
        python: The interpreter's path in Debian's image.
        compiled: The folder of site-packages that is compiled. For everything in it
            this takes as long as it saves in three starts of Rasa; pip should be
            compiled here and not in each image that is built upon this one.

    Returns:
        Its name.
    """
    context = engine.folder / "rasa"
    context.mkdir(exist_ok=True)
    engine.build(
        tag,
        Path(__file__).with_name("rasa.Dockerfile"),
        context,
        {
            "DEBIAN": DEBIAN_IMAGE,
            "RASA": generation.rasa,
            "LOCK": generation.lock,
            "PYTHON": python,
            "COMPILED": compiled,
        },
        mounts=uv_mounts(),
    )
    return tag


def uv_mounts() -> List[str]:
    """For builds that install with uv: this machine's, its wheels, and the hashes."""
    uv = shutil.which("uv")
    assert uv
    cache = run(uv, "cache", "dir").strip()
    return [
        f"{uv}:/usr/local/bin/uv:ro",
        f"{cache}:/uv-cache",
        f"{CHECKOUT / 'requirements'}:/requirements:ro",
    ]


def make_debian(archive: Path) -> None:
    """Debian 12 with apt, as an archive, from the mirror that this machine has."""
    options = ("--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}")
    run("mmdebstrap", *options, RELEASE, archive, *debian_sources())


def debian_sources() -> List[str]:
    """Lines of a sources.list with where this machine has Debian from.

    Raises:
        RuntimeError: If it knows no Debian 12.
    """
    indexes = (
        *("apt-get", "indextargets", "Created-By: Packages", "Origin: Debian"),
        *("--format", "$(CODENAME) deb $(REPO_URI) $(RELEASE) $(COMPONENT)"),
    )
    lines = run(*indexes).splitlines()
    # Without the lists, apt does not know what a mirror has.
    if not lines:
        run("apt-get", "update", "-qq")
        lines = run(*indexes).splitlines()
    named = [line.partition(" ") for line in lines]
    sources = [line for codename, _, line in named if codename.startswith(RELEASE)]
    if not sources:
        raise RuntimeError(f"This needs a mirror of Debian {RELEASE}; apt has {lines}")
    return sources


def copy_python(folder: Path) -> None:
    """The CPython that runs this, without its packages: pyenv's, uv's or another."""
    home, version = Path(sys.base_prefix), f"python{sysconfig.get_python_version()}"
    library = folder / "lib"
    left_out = ("test", "idlelib", "tkinter", "site-packages", "dist-packages")
    shutil.copytree(
        sysconfig.get_path("stdlib"),
        str(library / version),
        ignore=shutil.ignore_patterns("__pycache__", *left_out),
    )
    for shared in home.glob("lib/libpython*.so*"):
        shutil.copy2(str(shared), str(library))
    (folder / "bin").mkdir()
    shutil.copy2(str(home / "bin" / version), str(folder / "bin"))
