"""What an entry of the registry says."""

from __future__ import annotations

import abc
import contextlib
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ContextManager,
    Dict,
    FrozenSet,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from servers.meters import Meter, bytes_on_the_way

if TYPE_CHECKING:
    import pytest

#: The tracker_store section of an endpoints.yml.
Endpoint = Dict[str, Any]

#: Brings a fault about that lasts so many seconds, and gives how often it came about;
#: ``None`` is once.
Fault = Callable[[float], Optional[int]]


class Database(NamedTuple):
    """An empty database of a test's own."""

    backend: Backend
    #: The server that has it; its kind is the backend's matter.
    server: Any
    #: The name by which the server knows it.
    name: str

    def endpoint(self, port: Optional[int] = None) -> Endpoint:
        """See ``Backend.endpoint``."""
        return self.backend.endpoint(self.server, self.name, port)

    def meter(self) -> ContextManager[Meter]:
        """See ``Backend.meter``."""
        return self.backend.meter(self)

    def texts(self) -> Dict[str, List[str]]:
        """See ``Backend.texts``."""
        return self.backend.texts(self.server, self.name)


class Backend(abc.ABC):
    """A kind of database, as the suites see it.

    Drivers and servers are imported by the methods, so that the tests of one backend do
    not need the drivers of the others.
    """

    #: Its name in the names of tests and on command lines.
    name: str
    #: Its name in reports.
    label: str = ""
    #: The suites that it takes part in: contract, stores, writers, faults, survival,
    #: benchmarks.
    suites: FrozenSet[str] = frozenset(("contract", "stores"))
    #: Whether a second log of the same endpoint has the same conversations.
    durable = True
    #: Whether what a server of `make_server` has acknowledged outlives its crash.
    outlives_crash = True
    #: Whether one server answers at one port, so that a proxy can stand before it.
    has_port = True
    #: The pytest fixture that gives a server for all tests.
    fixture: str = ""
    #: The profile in docker/docker-compose.yml that has a server.
    profile: Optional[str] = None
    #: Bytes that are in each request that appends, and in no other one.
    append: bytes = b""
    #: Bytes that only the append sends which begins a conversation.
    begin: bytes = b""
    #: Folders with modules that stand in for a driver.
    modules: Tuple[str, ...] = ()

    @abc.abstractmethod
    def make_server(self) -> Any:
        """A server of the caller's own, as durable as it can be; not started yet."""

    def server_for_all(self, request: pytest.FixtureRequest) -> Any:
        """The server that the tests share."""
        return request.getfixturevalue(self.fixture)

    @abc.abstractmethod
    def create(self, server: Any, others: int = 0) -> str:
        """Make an empty database.

        Args:
            server: Where.
            others: How many databases were made there before that are still needed.
        """

    @abc.abstractmethod
    def drop(self, server: Any, name: str) -> None:
        """Remove a database."""

    @abc.abstractmethod
    def endpoint(self, server: Any, name: str, port: Optional[int] = None) -> Endpoint:
        """What a store is configured with.

        Args:
            server: The server.
            name: The database.
            port: Of a proxy, instead of the server's own.
        """

    @contextlib.contextmanager
    def database(self, request: pytest.FixtureRequest) -> Iterator[Database]:
        """An empty database in the server that the tests share."""
        server = self.server_for_all(request)
        name = self.create(server)
        yield Database(self, server, name)
        self.drop(server, name)

    def meter(self, database: Database) -> ContextManager[Meter]:
        """Count what is asked of a database; only for a backend `is_metered`."""
        return bytes_on_the_way(
            (database.server.host, database.server.port), database.endpoint
        )

    @property
    def is_metered(self) -> bool:
        """Whether `meter` can count."""
        return self.has_port

    def texts(self, server: Any, name: str) -> Dict[str, List[str]]:
        """The texts of all stored events by sender id, as the driver reads them."""
        raise NotImplementedError(f"{self.name} is not looked into")

    def differences(self, server: Any) -> Dict[str, str]:
        """Tests of the contract that a stand-in for a server fails, and why."""
        return {}

    def server_versions(self, server: Any) -> Dict[str, str]:
        """The version of the server, by its name; empty if it is the driver's."""
        return {}

    def driver_versions(self) -> Dict[str, str]:
        """The version of the driver, by its name."""
        return {}

    def settle(self, server: Any, names: Sequence[str]) -> None:  # noqa: B027 - most are
        """Bring filled databases into the state that they are in after some time."""

    def own_faults(self, target: Any) -> Dict[str, Fault]:
        """What only goes wrong here.

        Args:
            target: A ``survival.stores.Target``.
        """
        return {}

    def calm(self, target: Any) -> None:  # noqa: B027 - most faults end by themselves
        """End what `own_faults` may have left."""

    def small_pool(self, endpoint: Endpoint) -> Tuple[Endpoint, Dict[str, str]]:
        """An endpoint and environment variables for few connections."""
        return endpoint, {}


ALL_SUITES = frozenset(
    ("contract", "stores", "writers", "faults", "survival", "benchmarks")
)
