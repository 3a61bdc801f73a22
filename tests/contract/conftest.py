"""The backends that the contract is checked on, and logs of them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import pytest

from contract.places import EndpointPlace, FactoryPlace, Place, takes_keep_users
from contract.processes import Worker
from rasa_trackers.event_log import EventLog

#: Makes a log and opens it: ``make_log(record_exp=None, keep_users=True)``.
MakeLog = Callable[..., EventLog]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--event-log",
        metavar="PACKAGE.MODULE:FACTORY",
        help="check this backend; factory(folder, record_exp) makes a log of it",
    )


class Candidate(NamedTuple):
    """A backend that the contract is checked on."""

    name: str
    #: Its factory; ``None`` for a registered backend.
    factory: Optional[str] = None
    #: What tests may need that not every backend can give: fixtures of this module.
    gives: Tuple[str, ...] = ()


def _candidates(config: pytest.Config) -> List[Candidate]:
    factory = config.getoption("--event-log", None)
    if factory:
        more = ["without_users"] if takes_keep_users(factory) else []
        return [Candidate(factory, factory, ("make_log", *more))]
    from backends import BACKENDS, names_for

    found = []
    for backend in map(BACKENDS.get, names_for("contract")):
        gives = ["without_users"]
        gives += ["make_log"] if backend.durable else []
        gives += ["meter"] if backend.is_metered else []
        gives += ["proxy"] if backend.is_metered and backend.has_port else []
        found.append(Candidate(backend.name, None, tuple(gives)))
    return found


#: Fixtures that only some backends can give.
_SPECIAL = {"make_log", "without_users", "meter", "proxy"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each backend that gives what it needs."""
    if "candidate" not in metafunc.fixturenames:
        return
    needs = _SPECIAL.intersection(metafunc.fixturenames)
    candidates = [
        candidate
        for candidate in _candidates(metafunc.config)
        if needs.issubset(candidate.gives)
    ]
    metafunc.parametrize(
        "candidate",
        candidates or [None],
        ids=[each.name for each in candidates] or ["nobody"],
    )


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Leave out tests that need what no candidate gives."""
    items[:] = [item for item in items if "[nobody" not in item.name]


@pytest.fixture
def place(
    candidate: Candidate, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Place]:
    """An empty storage."""
    if candidate.factory:
        yield FactoryPlace(candidate.factory, str(tmp_path))
        return
    from backends import BACKENDS

    backend = BACKENDS[candidate.name]
    with backend.database(request) as database:
        reason = backend.differences(database.server).get(request.function.__name__)
        if reason:
            request.applymarker(pytest.mark.xfail(reason=reason))
        yield EndpointPlace(database.endpoint(), database)


@pytest.fixture
def make_one(place: Place) -> Iterator[MakeLog]:
    """Makes one log; those that it makes need not have their conversations in common."""
    logs: List[EventLog] = []

    def make_one(
        record_exp: Optional[float] = None, *, keep_users: bool = True
    ) -> EventLog:
        log = place.make(record_exp, keep_users=keep_users)
        logs.append(log)
        log.open()
        return log

    yield make_one
    for log in logs:
        log.close()


@pytest.fixture
def make_log(make_one: MakeLog) -> MakeLog:
    """Makes logs of one storage."""
    return make_one


@pytest.fixture
def log(make_one: MakeLog) -> EventLog:
    """An open log without ``record_exp``, in which nothing is."""
    return make_one()


@pytest.fixture
def without_users(make_one: MakeLog) -> EventLog:
    """A log that keeps no users."""
    log = make_one(keep_users=False)
    assert not log.keeps_users
    return log


@pytest.fixture
def start_worker(place: Place) -> Iterator[Callable[[], Worker]]:
    """Starts processes that have a log of the storage open."""
    with contextlib.ExitStack() as workers:

        def start_worker() -> Worker:
            worker = Worker(place)
            workers.callback(worker.kill)
            return worker

        yield start_worker


@pytest.fixture
def meter(place: Place) -> Iterator[Any]:
    """Counts what logs ask of the database; see ``servers.meters``."""
    with place.database.meter() as meter:
        yield meter


@pytest.fixture
def proxy(place: Place) -> Iterator[Any]:
    """A proxy before the server; see ``servers.proxy``."""
    from servers.proxy import TcpProxy

    server = place.database.server
    with TcpProxy(server.host, server.port) as proxy:
        yield proxy
