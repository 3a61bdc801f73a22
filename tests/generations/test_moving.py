"""Conversations that stay where they are while Rasa is replaced by another one.

Needs an environment for each generation, which a variable names (see ``generation``).
Without it these tests are skipped. No session of Nox makes these environments yet.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from backends import DURABLE, Endpoint
from generations.generation import VARIABLE, Generation, pythons

pytestmark = [
    pytest.mark.skipif(len(pythons()) < 2, reason=f"{VARIABLE} names no other Rasa"),
    pytest.mark.parametrize("backend", DURABLE, indirect=True),
]

#: Rasa 2 gave two kinds of events other names, and still reads the older ones.
RENAMED = {"form": "active_loop", "form_validation": "loop_interrupted"}

#: What makes an event what it is, in all generations.
FIELDS = ("text", "value", "input_channel", "message_id", "action_name")


@pytest.fixture(scope="session")
def started() -> Iterator[Dict[Optional[str], List[Generation]]]:
    """Workers by the PYTHONPATH with which they were started: that takes 20 seconds."""
    workers: Dict[Optional[str], List[Generation]] = {}
    yield workers
    for started_together in workers.values():
        for each in started_together:
            each.end()


@pytest.fixture
def generations(
    started: Dict[Optional[str], List[Generation]], endpoint: Endpoint
) -> Iterator[List[Generation]]:
    """All generations, the oldest first."""
    # A database may bring a driver of its own.
    path = os.environ.get("PYTHONPATH")
    if path not in started:
        started[path] = [Generation(*each) for each in pythons().items()]
    yield started[path]
    for each in started[path]:
        each.call("close")


def test_a_conversation_moves_with_its_assistant_and_back(
    generations: List[Generation], endpoint: Endpoint
) -> None:
    said: List[Dict[str, Any]] = []
    generations = [each for each in generations if opens(each, endpoint)]
    assert len(generations) > 1

    for each in generations:
        if said:
            check(each, each.call("read", "anna"), said)
        # One goes on in the session of its forerunner, and begins one of its own.
        said += each.call("talk", "anna", [f"{each.name}: first"], not said)
        said += each.call("talk", "anna", [f"{each.name}: second"], True)
        check(each, each.call("read", "anna"), said)

    for each in reversed(generations):
        check(each, each.call("read", "anna"), said)
        said += each.call("talk", "anna", [f"{each.name}: back"], False)
        check(each, each.call("read", "anna"), said)

    generations[0].call("erase", "anna")
    for each in generations:
        assert not each.call("read", "anna")["exists"]


def opens(each: Generation, endpoint: Endpoint) -> bool:
    """Whether a generation has a store for the endpoint; otherwise it says what to do."""
    try:
        module: str = each.call("open", endpoint)
    except RuntimeError as error:
        if "'deployment_mode: cluster' needs redis-py 4.4" in str(error):
            return False
        raise
    assert module.startswith("rasa_trackers.")
    return True


def check(each: Generation, read: Dict[str, Any], said: List[Dict[str, Any]]) -> None:
    """A generation reads all events of kinds that it knows, in order, each once."""
    known = set(each.call("known"))
    expected = [brief(event) for event in said if event["event"] in known]
    assert [brief(event) for event in read["all"]] == expected

    starts = [
        n for n, event in enumerate(expected) if event[1] == "action_session_start"
    ]
    assert [brief(event) for event in read["last"]] == expected[starts[-1] :]

    sizes = [event["value"] for event in said if event.get("name") == "size"]
    assert read["slots"]["size"] == sizes[-1]
    assert read["keys"] == ["anna"]
    assert read["exists"]


def brief(event: Dict[str, Any]) -> Tuple[Any, ...]:
    kind = RENAMED.get(event["event"], event["event"])
    return (kind, event.get("name"), event["timestamp"], *map(event.get, FIELDS))
