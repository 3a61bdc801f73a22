"""What an operator reads when Rasa starts with a store, or cannot."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import pytest
from rasa.shared.exceptions import RasaException

import rasa_trackers
from rasa_trackers.errors import sentence
from rasa_trackers.retries import text_of
from servers.process import free_port
from servers.silent import silent_port

SQLITE = {"type": "rasa_trackers.SQLTrackerStore", "dialect": "sqlite"}


def lines(caplog, level):
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == level and record.name.startswith("rasa_trackers")
    ]


def test_one_line_says_where_conversations_are(load, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = str(tmp_path / "rasa.db")
    spool = str(tmp_path / "spool")
    store = load({**SQLITE, "db": path, "timeout": 5, "spool": spool})
    (line,) = lines(caplog, logging.INFO)
    assert line == (
        f"rasa_trackers {rasa_trackers.__version__}: SQLTrackerStore keeps conversations "
        f"in {store._shared.log.name}. 0 conversations wait in the spool ({spool}). "
        f"Options that differ from their defaults: db, spool, timeout."
    )


def test_stores_of_one_place_say_it_once(tmp_path, caplog):
    """Rasa Pro makes a store anew after each call that has failed."""
    caplog.set_level(logging.INFO)
    one, another = str(tmp_path / "one.db"), str(tmp_path / "another.db")
    stores = [
        rasa_trackers.SQLTrackerStore(dialect="sqlite", db=db)
        for db in (one, one, another)
    ]
    assert len(lines(caplog, logging.INFO)) == 2
    for store in stores:
        store.close()


def test_password_is_not_in_it(load, endpoint, caplog):
    caplog.set_level(logging.DEBUG)
    load(endpoint)
    assert lines(caplog, logging.INFO)
    assert not endpoint.get("password") or endpoint["password"] not in caplog.text


@pytest.mark.parametrize(
    "endpoint",
    [
        {"type": "rasa_trackers.RedisTrackerStore", "url": "127.0.0.1"},
        {**SQLITE, "dialect": "postgresql", "url": "127.0.0.1"},
        {"type": "rasa_trackers.MongoTrackerStore", "url": "127.0.0.1"},
    ],
    ids=["redis", "postgresql", "mongo"],
)
def test_server_that_refuses_is_named_at_once_and_in_the_end(load, endpoint, caplog):
    """Rasa prints the traceback before the sentence, so there is little of it."""
    caplog.set_level(logging.DEBUG)
    port = free_port()
    where = (
        {"url": f"mongodb://127.0.0.1:{port}"}
        if "Mongo" in endpoint["type"]
        else {"port": port}
    )
    with pytest.raises(RasaException, match="refused") as raised:
        load({**endpoint, **where, "timeout": 2})
    announced = lines(caplog, logging.WARNING)
    assert any(
        "refused" in line and "Trying again for up to" in line for line in announced
    )
    error = raised.value
    assert (error.__cause__, error.__suppress_context__) == (None, True)
    package = str(Path(rasa_trackers.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    assert sum(frame.filename.startswith(package) for frame in frames) == 1
    (detail,) = [
        record for record in caplog.records if "cannot start" in record.getMessage()
    ]
    assert detail.levelno == logging.DEBUG
    assert "?." not in str(error)
    assert ".." not in str(error)


def test_server_that_is_silent_is_named_before_the_end(load, caplog):
    endpoint = {"type": "rasa_trackers.RedisTrackerStore", "url": "127.0.0.1"}
    with silent_port() as port, pytest.raises(RasaException, match="Redis"):
        load({**endpoint, "port": port, "timeout": 3})
    (line,) = lines(caplog, logging.WARNING)
    assert "has not answered yet. Waiting for up to 2 seconds." in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("refused", "refused."),
        ("refused.\n", "refused."),
        ("refused\n\tIs it there?\n", "refused. Is it there?"),
        ("first,\nthen  second", "first, then second."),
        ("the server\nis gone", "the server is gone."),
        ("a\n\nB", "a. B."),
    ],
)
def test_sentences(text, expected):
    assert sentence(text) == expected


def test_password_with_spaces_is_not_shown():
    error = ValueError("login as ann:pass  word\nx refused")
    assert text_of(error, ["pass  word\nx"]) == "login as ann:*** refused."
