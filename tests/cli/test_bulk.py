"""Several conversations in one message do what a message for each of them does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from cli.conftest import MakeStore, Result
from cli.conversations import BEGIN, CONVERSATIONS, Texts, append, session
from rasa_trackers.cli.bulk import Beginning
from rasa_trackers.cli.stores import opened
from rasa_trackers.entries import entry_of
from rasa_trackers.event_log import User

#: Backends that have it.
BULK = ("postgresql", "redis", "redis-cluster")


def _begin(store: Any, conversations: Dict[str, Texts]) -> Dict[str, int]:
    beginnings = [
        Beginning(
            sender_id,
            list(map(entry_of, each.events)),
            User(each.user_id, BEGIN) if each.user_id else None,
        )
        for sender_id, each in conversations.items()
    ]
    found: Dict[str, int] = store.call(store.bulk.begin, beginnings)
    return found


@pytest.mark.parametrize("record_exp", [None, 1000])
@pytest.mark.parametrize("name", BULK)
def test_begins_conversations_that_are_not_there(
    make: MakeStore, name: str, record_exp: Any
) -> None:
    made = make(name, record_exp=record_exp)
    with made.log() as log:
        end = append(log, "bob", Texts(session(BEGIN)))
        # Calls for one conversation bring the scripts to each node of a cluster.
        for number in range(30):
            append(log, f"other-{number}", Texts(session(BEGIN), "user-1"))
            log.delete(f"other-{number}")
    others = {key: each for key, each in CONVERSATIONS.items() if key != "bob"}
    with opened(Path(made.path)) as store:
        ends = _begin(store, CONVERSATIONS)
        assert set(ends) == set(others)
        assert _begin(store, CONVERSATIONS) == {}
        log = store.log
        for sender_id, each in others.items():
            page = log.read_back(sender_id)
            assert [event.data for event in page.events] == each.events
            assert page.events[-1].position == ends[sender_id]
            assert page.user_id == each.user_id
        assert log.read_back("bob").events[-1].position == end
        assert [each.sender_id for each in log.conversations_of("user-1")] == ["ada"]
        dates = store.call(store.dates.expires_at, list(others))
        assert set(dates) == (set(others) if record_exp else set())
        # A conversation goes on as after an append of its own.
        append(log, "ada", Texts(session(BEGIN)), ends["ada"])


@pytest.mark.parametrize("name", BULK)
def test_reads_what_one_read_each_gives(make: MakeStore, name: str) -> None:
    made = make(name).fill()
    with opened(Path(made.path)) as store:
        wanted = [*CONVERSATIONS, "nobody"]
        pages = {sender_id: store.log.read_back(sender_id) for sender_id in wanted}
        found = store.call(store.bulk.read, wanted)
        # The long one is read alone, in pages.
        assert set(found) == set(CONVERSATIONS) - {"long"}
        for sender_id, page in found.items():
            assert page == pages[sender_id]


def test_a_server_that_knows_no_script_writes_nothing_yet(
    make: MakeStore, redis_server: Any
) -> None:
    made = make("redis")
    with opened(Path(made.path)) as store:
        with redis_server.client() as client:
            client.script_flush()
        # Another call may bring a script while a message is under way.
        unknown = ("EVALSHA", "0" * 40, 1, b"key")
        replies = store.log.transport.execute_all([unknown, ("EXISTS", b"key")])
        assert replies == [None, 0]
        assert _begin(store, CONVERSATIONS) == {}
        assert store.call(store.bulk.read, list(CONVERSATIONS)) == {}
    assert made.texts() == {}


@pytest.mark.parametrize("name", ["postgresql", "redis"])
def test_what_has_expired_is_not_there(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path, name: str
) -> None:
    old, made = make("sqlite").fill(), make(name, record_exp=0.2).fill()
    deadline = time.monotonic() + 60
    with opened(Path(made.path)) as store:
        while store.call(store.bulk.read, ["ada", "bob"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    made.set(record_exp=1000)
    assert run("copy", "--from", old.path, "--to", made.path).status == 0
    assert made.texts() == old.texts()


@pytest.mark.parametrize("name", ["postgresql", "redis"])
def test_a_conversation_that_is_refused_keeps_no_other_out(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path, name: str
) -> None:
    made, file = make(name), tmp_path / "x.jsonl"
    refused = "a\\u0000b" if name == "postgresql" else "a\\ud800"
    file.write_text(
        "".join(
            f'{{"sender_id": "{sender_id}", "events": [{{"event": "restart"}}]}}\n'
            for sender_id in ("one", "two", refused, "three", "four")
        )
    )
    result = run("import", str(file), "-e", made.path)
    assert result.status == 1
    assert "1 conversation could not be imported" in result.err
    assert set(made.texts()) == {"one", "two", "three", "four"}
