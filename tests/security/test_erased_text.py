"""Erased text is in no file of SQLite, and others may not read the files."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from rasa_trackers.event_log import START, Entry
from sql.sql_logs import make_log, opened

SECRET = "my name is Ada Lovelace"


def files_of(path: Path):
    return [each for each in path.parent.iterdir() if each.name.startswith(path.name)]


def found_in_files(path: Path) -> bool:
    return any(SECRET.encode() in each.read_bytes() for each in files_of(path))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rasa.db"


def stored_entries(number=30):
    return [
        Entry(f'"{SECRET} {each} {"x" * 500}"', "user", 1.0, None, None)
        for each in range(number)
    ]


@pytest.mark.parametrize("method", ["delete", "replace", "purge"])
def test_erased_text_is_overwritten(path, method):
    log = make_log(
        {"db": str(path), **({"record_exp": 0.5} if method == "purge" else {})}
    )
    log.open()
    end = log.append("ada", stored_entries(), START)
    log.append("grace", [Entry('"stays"', "user", 1.0, None, None)], START)
    assert found_in_files(path)
    if method == "delete":
        assert log.delete("ada")
    elif method == "replace":
        entry = Entry('"***"', "user", 1.0, None, None)
        assert log.replace("ada", [entry], end) is not None
    else:
        deadline = time.monotonic() + 60
        while log.read_back("ada").events or log.purge_expired():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    # While the log is open: a process may be killed, and its files copied.
    assert not found_in_files(path)
    log.close()


def test_files_are_for_their_owner_alone(path):
    log = opened({"db": str(path)})
    log.append("ada", stored_entries(1), START)
    files = files_of(path)
    assert len(files) == 3
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
    log.close()


def test_rights_of_a_file_that_is_there_stay(path):
    path.touch(0o640)
    path.chmod(0o640)
    log = opened({"db": str(path)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    log.close()
