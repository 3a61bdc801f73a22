"""A real `rasa run` on each store, through its loader, its channel and a crash."""

from pathlib import Path
from typing import Iterator

import pytest

from backends import Backend, Endpoint
from outage_experiment import live_through, people
from rasa_server import RasaServer, train
from servers.process import wait_until

#: Seconds for an answer in an outage; without a spool it is more than twice `timeout`.
#: Measured are 0.5 (refused) and 1.8 (silent), and 0.05 for all later ones.
FIRST_SECONDS, LATER_SECONDS = 15.0, 10.0


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("model"))


@pytest.fixture
def rasa(model: Path, endpoint: Endpoint) -> Iterator[RasaServer]:
    with RasaServer(model, {"tracker_store": endpoint}) as server:
        yield server


# One of each class: what is behind it makes no difference to Rasa.
@pytest.mark.parametrize(
    "backend", ["sqlite", "postgresql", "redis", "mongo"], indirect=True
)
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


@pytest.mark.parametrize("backend", ["postgresql", "redis"], indirect=True)
def test_nobody_notices_that_the_database_is_away(
    backend: Backend, model: Path
) -> None:
    with backend.make_server() as database:
        endpoint = {
            **backend.endpoint(database, backend.create(database)),
            "timeout": 30,
        }
        with RasaServer(model, {"tracker_store": endpoint}) as rasa:
            for kind, go_away, come_back in (
                ("killed", database.kill, database.start),
                ("hung", database.suspend, database.resume),
            ):
                those = people(rasa, f"{kind}-")
                outage = live_through(those, go_away, come_back, seconds=4, pause=0.5)
                assert [
                    a for person in those for a in person.answers if not a.is_right
                ] == []
                began = outage.answers[0].sent_at
                for answer in outage.answers:
                    is_first = answer.sent_at - began < 1
                    limit = FIRST_SECONDS if is_first else LATER_SECONDS
                    assert answer.seconds < limit, outage.answers
                assert len(outage.answers) >= 6
                for person in those:
                    said = [answer.text for answer in person.answers]
                    wait_until(
                        lambda person=person, said=said: person.texts_of(rasa) == said,
                        "all texts, once and in order, in the database",
                        60,
                    )
            assert rasa.log.count(" is away since ") == 2
            assert rasa.log.count(" is back after ") == 2
            # What Rasa's memory has does not count.
            rasa.kill()
            rasa.start()
            assert people(rasa, "hung-")[0].texts_of(rasa)[:3] == [
                "hello",
                "a pizza",
                "large",
            ]
