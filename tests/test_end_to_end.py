"""A real `rasa run` on our stores, through its loader, its channel and a crash."""

from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

from rasa_server import RasaServer, train


def sqlite(request: pytest.FixtureRequest) -> Dict[str, Any]:
    folder = request.getfixturevalue("tmp_path")
    return {
        "type": "rasa_trackers.SQLTrackerStore",
        "dialect": "sqlite",
        "db": str(folder / "conversations.db"),
    }


def postgresql(request: pytest.FixtureRequest) -> Dict[str, Any]:
    server = request.getfixturevalue("postgres")
    return {
        "type": "rasa_trackers.SQLTrackerStore",
        "dialect": "postgresql",
        "url": server.host,
        "port": server.port,
        "db": server.create_database(),
        "username": server.username,
        "password": server.password,
    }


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("model"))


@pytest.fixture(params=[sqlite, postgresql], ids=lambda store: store.__name__)
def rasa(request: pytest.FixtureRequest, model: Path) -> Iterator[RasaServer]:
    tracker_store: Callable[[pytest.FixtureRequest], Dict[str, Any]] = request.param
    with RasaServer(model, {"tracker_store": tracker_store(request)}) as server:
        yield server


def test_a_conversation_goes_on_after_the_server_was_killed(rasa: RasaServer) -> None:
    assert rasa.say("anna", "I'd like a pizza.") == ["Small, medium or large?"]
    before = rasa.events("anna")

    rasa.kill()
    rasa.start()

    assert rasa.events("anna") == before
    assert rasa.say("anna", "large") == ["A large pizza. With which topping?"]
    events = rasa.events("anna")
    assert events[: len(before)] == before
    assert [event["text"] for event in events if event["event"] in ("user", "bot")] == [
        "I'd like a pizza.",
        "Small, medium or large?",
        "large",
        "A large pizza. With which topping?",
    ]
    assert [event["event"] for event in events].count("session_started") == 1
    assert not [event for event in events if events.count(event) > 1]
