"""Rasa's own stores read what ``copy`` writes, and ``copy`` reads what they write."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any, Callable, List

import pytest

from cli.conftest import RASAS, MakeStore, Result, Store
from rasa_trackers.cli.reading import canonical

pytest.importorskip("rasa")


def _rasas_store(store: Store) -> Any:
    from rasa.shared.core.domain import Domain
    from rasa.utils.endpoints import EndpointConfig

    from rasa_api import TrackerStore, unwrapped

    return unwrapped(
        # Rasa Pro's own stores count events in another way without a domain.
        TrackerStore.create(
            EndpointConfig(**store.endpoint), Domain.from_dict({"intents": ["greet"]})
        )
    )


def _result(value: Any) -> Any:
    async def awaited() -> Any:
        return await value

    return asyncio.run(awaited()) if inspect.isawaitable(value) else value


def _events(store: Any, sender_id: str) -> List[str]:
    tracker = _result(store.retrieve_full_tracker(sender_id))
    return [json.dumps(event.as_dict()) for event in tracker.events]


@pytest.mark.parametrize("name", RASAS)
def test_goes_the_way_in_and_the_way_back(
    make: MakeStore, run: Callable[..., Result], name: str
) -> None:
    from conversations import conversation, tracker

    old, ours, new = make(name), make("postgresql"), make(name)
    if name == "rasa-redis":
        new.set(key_prefix="back")
    written = tracker("ada", conversation(2, 3))
    expected = [json.dumps(event.as_dict()) for event in written.events]
    rasas = _rasas_store(old)
    _result(rasas.save(written))

    run("copy", "--from", old.path, "--to", ours.path, "--verify")
    assert ours.texts() == {"ada": expected}
    # The source is as it was.
    assert _events(rasas, "ada") == expected
    result = run("copy", "--from", ours.path, "--to", new.path, "--verify")
    assert result.status == 0, result.err
    back = _rasas_store(new)
    assert _events(back, "ada") == expected

    # Rasa's own store goes on with it, and so does another copy.
    from conversations import add, turn

    more = _result(back.retrieve("ada"))
    add(more, turn("again"))
    _result(back.save(more))
    assert len(_events(back, "ada")) == len(expected) + 8
    result = run("copy", "--from", new.path, "--to", ours.path)
    assert "; 8 of them were new" in result.out, result.err
    assert list(map(canonical, ours.texts()["ada"])) == _events(back, "ada")
