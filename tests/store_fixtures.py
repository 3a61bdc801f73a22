"""pytest plugin: stores as Rasa loads them.

Rasa is imported by the fixture that first needs it: loading it takes seconds, and the
tests of event logs run where it is not installed.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Iterator, List

import pytest

from backends import BACKENDS, Backend, Endpoint, names_for

if TYPE_CHECKING:
    from rasa.shared.core.domain import Domain

    from rasa_api import TrackerStore
    from writers import Writers

#: Makes a store as Rasa does; options are added to the endpoint.
MakeStore = Callable[..., "TrackerStore"]


@pytest.fixture(autouse=True)
def _no_logs_of_other_tests() -> None:
    shared_logs = sys.modules.get("rasa_trackers.shared_logs")
    if shared_logs is not None:
        shared_logs._shared.clear()


@pytest.fixture(params=names_for("stores"))
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn, or those that ``parametrize(..., indirect=True)`` names."""
    return BACKENDS[request.param]


@pytest.fixture
def endpoint(backend: Backend, request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    with backend.database(request) as database:
        yield database.endpoint()


@pytest.fixture
def domain() -> Domain:
    from older_rasa import domain_of

    return domain_of(
        """
        intents: [greet, inform]
        slots:
          name: {type: text, mappings: [{type: custom}]}
          count: {type: float, initial_value: 1, mappings: [{type: custom}]}
          anything: {type: any, mappings: [{type: custom}]}
        actions: [utter_greet, action_custom]
        forms: {some_form: {required_slots: [name]}}
        responses: {utter_greet: [{text: hi}]}
        """
    )


@pytest.fixture
def load() -> Iterator[Callable[..., TrackerStore]]:
    """Loads stores as Rasa does, and sees that none leaves anything behind."""
    from rasa.utils.endpoints import EndpointConfig

    from older_rasa import awaited
    from rasa_api import TrackerStore, backend_log, unwrapped
    from rasa_trackers import shared_logs

    stores: List[Any] = []

    def load(
        endpoint: Endpoint, domain: Any = None, broker: Any = None
    ) -> TrackerStore:
        # As the store of another process: it does not share the log of one before.
        shared_logs._shared.clear()
        store = unwrapped(
            TrackerStore.create(EndpointConfig(**endpoint), domain, broker)
        )
        stores.append(store)
        module = type(store).__module__
        if endpoint["type"].startswith("rasa_trackers."):
            assert module.startswith("rasa_trackers."), f"Rasa fell back to {module}"
        return awaited(store)

    yield load
    for store in stores:
        if hasattr(store, "_shared"):
            store._shared.threads._pool.shutdown()  # and see what runs to its end
            engine = getattr(backend_log(store), "engine", None)
            if engine is not None and hasattr(engine.pool, "checkedout"):
                # A hand-over has threads of its own.
                end = time.monotonic() + 60
                while engine.pool.checkedout() and time.monotonic() < end:
                    time.sleep(0.01)
                assert engine.pool.checkedout() == 0
        if hasattr(store, "close"):
            store.close()
        elif hasattr(store, "engine"):
            store.engine.dispose()


@pytest.fixture
def make_store(
    load: Callable[..., TrackerStore], endpoint: Endpoint, domain: Domain
) -> MakeStore:
    def make_store(broker: Any = None, **options: Any) -> TrackerStore:
        return load({**endpoint, **options}, domain, broker)

    return make_store


@pytest.fixture
def store(make_store: MakeStore) -> TrackerStore:
    return make_store()


@pytest.fixture(scope="session")
def writers() -> Iterator[Writers]:
    """Processes that write at the same time."""
    from writers import Writers

    writers = Writers()
    yield writers
    writers.end()
