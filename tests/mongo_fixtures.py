"""What a MongoDB store has written, and Rasa's own store beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

import pytest

from backends import Endpoint

if TYPE_CHECKING:
    from rasa.shared.core.domain import Domain


@pytest.fixture
def collection(endpoint: Endpoint) -> Iterator[Any]:
    import pymongo

    with pymongo.MongoClient(endpoint["url"]) as client:
        yield client[endpoint["db"]]["conversations"]


@pytest.fixture
def rasas(endpoint: Endpoint, domain: Domain) -> Iterator[Any]:
    """Rasa's own store on the same collection."""
    from rasa_api import MongoTrackerStore as RasasOwnStore

    store = RasasOwnStore(domain, host=endpoint["url"], db=endpoint["db"])
    yield store
    store.client.close()
