"""Logs in a database of the test's own, and what they send to the server."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Tuple

import bson
import pymongo
import pymongo.monitoring
import pytest

from rasa_trackers.mongo.log import MongoEventLog
from rasa_trackers.mongo.options import MONGO
from rasa_trackers.store_options import checked
from servers.mongo import MongoAccess

MakeLog = Callable[..., MongoEventLog]


class Commands(pymongo.monitoring.CommandListener):
    """The commands that are sent, and what is to happen just before one of them."""

    def __init__(self) -> None:
        self.names: List[str] = []
        self.replies: List[Any] = []
        self.before: Dict[Tuple[str, int], Callable[[], Any]] = {}

    def started(self, event: Any) -> None:
        self.names.append(event.command_name)
        number = self.names.count(event.command_name)
        self.before.pop((event.command_name, number), lambda: None)()

    def succeeded(self, event: Any) -> None:
        self.replies.append(event.reply)

    def failed(self, event: Any) -> None:
        pass

    def clear(self) -> None:
        self.names.clear()
        self.replies.clear()

    def bytes_received(self) -> int:
        return sum(len(bson.encode(reply)) for reply in self.replies)


@pytest.fixture
def make_log(mongo_server: MongoAccess, mongo_database: str) -> Iterator[MakeLog]:
    """Makes logs of one collection, as a store does."""
    made: List[MongoEventLog] = []

    def make(*, keeps_users: bool = True, listener: Any = None, **options: Any) -> Any:
        given = {"url": mongo_server.url(), "db": mongo_database, **options}
        if listener is not None:
            given["client_options"] = {"event_listeners": [listener]}
        values = checked(MONGO.store, MONGO.options, given)
        log: Any = MONGO.make_log(values, keeps_users).log
        made.append(log)
        log.open()
        return log

    yield make
    for log in made:
        log.close()


@pytest.fixture
def log(make_log: MakeLog) -> MongoEventLog:
    return make_log()


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def watched(make_log: MakeLog, commands: Commands) -> MongoEventLog:
    """A log whose commands are recorded."""
    log = make_log(listener=commands)
    commands.clear()
    return log


@pytest.fixture
def collection(mongo_server: MongoAccess, mongo_database: str) -> Iterator[Any]:
    """What the logs have stored."""
    with mongo_server.client() as client:
        yield client[mongo_database]["conversations"]
