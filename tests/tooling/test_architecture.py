"""docs/architecture.md says what is there.

``HOPS=write pytest tests/tooling/test_architecture.py`` writes its lists of functions.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pymongo.collection
import pymysql.cursors
import pytest
import redis
import sqlalchemy.engine

import rasa_trackers
from conversations import add, session_start, tracker, turn

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "architecture.md"

#: The last function of this package's before the driver's own, for each backend.
WIRE: Dict[str, Tuple[Any, str]] = {
    "sqlite": (sqlalchemy.engine.Connection, "exec_driver_sql"),
    "postgresql": (sqlalchemy.engine.Connection, "exec_driver_sql"),
    "mariadb": (pymysql.cursors.Cursor, "execute"),
    "redis": (redis.Redis, "execute_command"),
    "mongo": (pymongo.collection.Collection, "update_one"),
}


def functions_of_the_package() -> List[str]:
    """The functions of this package that are being called, the outermost first."""
    found = []
    package = f"{Path(rasa_trackers.__file__).parent.as_posix()}/"
    frame = sys._getframe(2)
    while frame is not None:
        file = Path(frame.f_code.co_filename).as_posix()
        if file.startswith(package):
            found.append(f"{file[len(package) :]} {frame.f_code.co_name}")
        frame = frame.f_back
    return found[::-1]


def listed(backend: str) -> List[str]:
    text = PAGE.read_text("utf-8").partition("<!-- hops -->")[2]
    section = re.search(rf"^{backend}\n((?:  .*\n)+)", text, re.MULTILINE)
    return [line.strip() for line in section.group(1).splitlines()] if section else []


def write(backend: str, hops: List[str]) -> None:
    text = PAGE.read_text("utf-8")
    new = "".join(f"{line}\n" for line in [backend, *(f"  {hop}" for hop in hops)])
    pattern = re.compile(rf"^{backend}\n((?:  .*\n)+)", re.MULTILINE)
    if pattern.search(text):
        text = pattern.sub(lambda _: new, text)
    else:
        text = text.replace("```\n<!-- /hops -->", f"{new}```\n<!-- /hops -->")
    PAGE.write_text(text, "utf-8")


@pytest.mark.parametrize("backend", list(WIRE), indirect=True)
async def test_page_lists_the_functions_between_save_and_the_wire(
    store, backend, monkeypatch
):
    kept = tracker("ada", session_start())
    await store.save(kept)
    driver, method = WIRE[backend.name]
    call, hops = getattr(driver, method), []

    def watched(*args, **kwargs):
        hops.append(functions_of_the_package())
        return call(*args, **kwargs)

    monkeypatch.setattr(driver, method, watched)
    add(kept, turn())
    await store.save(kept)
    if os.environ.get("HOPS") == "write":
        write(backend.name, hops[0])
    assert hops[0] == listed(backend.name)


def test_page_has_every_module():
    package = CHECKOUT / "rasa_trackers"
    modules = [*package.glob("*.py"), *package.glob("outage/*.py")]
    there = {path.name for path in modules if path.name[0] != "_"}
    there |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    rooms = PAGE.read_text("utf-8").partition("rasa_trackers/\n")[2].partition("```")[0]
    assert set(re.findall(r"(?<=[ ^])\w+(?:\.py|/)(?= )", rooms)) == there
