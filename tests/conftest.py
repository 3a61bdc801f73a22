from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import hypothesis
import pytest
from rasa.shared.core.domain import Domain
from rasa.utils.endpoints import EndpointConfig

import rasa_trackers
from backends import BACKENDS, Backend, Endpoint
from rasa_api import TrackerStore, backend_log, unwrapped
from rasa_trackers import rasa_versions, shared_logs
from writers import Writers


def pytest_configure() -> None:
    sources = Path(__file__).parents[1] / "rasa_trackers"
    if Path(rasa_trackers.__file__).parent == sources and "CI" in os.environ:
        raise pytest.UsageError(
            "rasa_trackers comes from the sources, not from the wheel; "
            "use `nox -s tests`"
        )


# A machine that has much to do is no failure of what is tested on it.
hypothesis.settings.register_profile("without deadline", deadline=None)
hypothesis.settings.load_profile("without deadline")

pytest_plugins = [
    "alone",
    "hanging",
    "mongo_fixtures",
    "redis_fixtures",
    "servers.fixtures",
]

#: Only Rasa Pro knows of users.
_RASA_PRO_ONLY = [
    "test_rasa_pro.py",
    "test_users.py",
    "test_mongo_users.py",
    "test_redis_users.py",
]
collect_ignore = [] if rasa_versions.KNOWS_USERS else list(_RASA_PRO_ONLY)
# Rasa Pro imports without a licence, but neither trains nor runs.
if rasa_versions.KNOWS_USERS and "RASA_LICENSE" not in os.environ:
    collect_ignore.append("test_end_to_end.py")

#: Makes a store as Rasa does; options are added to the endpoint.
MakeStore = Callable[..., TrackerStore]


# Rasa Pro's LiteLLM else looks for a newer list of prices at each import.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("POSTGRESQL_", "SQL_TRACKER_STORE_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_conversations_of_other_tests() -> None:
    shared_logs._shared.clear()


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn, or those that ``parametrize(..., indirect=True)`` names."""
    return BACKENDS[request.param]


@pytest.fixture
def endpoint(backend: Backend, request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    with backend.database(request) as endpoint:
        yield endpoint


@pytest.fixture
def domain() -> Domain:
    return Domain.from_yaml(
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
    stores: List[Any] = []

    def load(
        endpoint: Endpoint, domain: Any = None, broker: Any = None
    ) -> TrackerStore:
        # As that of another process, which shares nothing with this one.
        shared_logs._shared.clear()
        store = unwrapped(
            TrackerStore.create(EndpointConfig(**endpoint), domain, broker)
        )
        stores.append(store)
        module = type(store).__module__
        if endpoint["type"].startswith("rasa_trackers."):
            assert module.startswith("rasa_trackers."), f"Rasa fell back to {module}"
        return store

    yield load
    for store in stores:
        if hasattr(store, "_shared"):
            store._shared.threads._pool.shutdown()  # and see what runs to its end
            engine = getattr(backend_log(store), "_engine", None)
            if engine is not None and hasattr(engine.pool, "checkedout"):
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
    writers = Writers()
    yield writers
    writers.end()


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Awaits until a condition holds; fails after 15 seconds."""

    async def eventually(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 15
        while not await condition():
            assert time.monotonic() < deadline, "did not come about"
            await asyncio.sleep(0.05)

    return eventually
