"""A real `rasa run` on each store, through its loader, its channel and a crash."""

from pathlib import Path
from typing import Iterator

import pytest

from backends import Endpoint
from rasa_server import RasaServer, train

#: One of each class: what is behind it makes no difference to Rasa.
pytestmark = pytest.mark.parametrize(
    "backend", ["sqlite", "postgresql", "redis", "mongo"], indirect=True
)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("model"))


@pytest.fixture
def rasa(model: Path, endpoint: Endpoint) -> Iterator[RasaServer]:
    with RasaServer(model, {"tracker_store": endpoint}) as server:
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
