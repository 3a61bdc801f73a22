"""What a MongoDB store has written, and Rasa's own store beside it."""

from __future__ import annotations

from typing import Any, Iterator

import pymongo
import pytest
from rasa.shared.core.domain import Domain

from backends import Endpoint
from rasa_api import MongoTrackerStore as RasasOwnStore


@pytest.fixture
def collection(endpoint: Endpoint) -> Iterator[Any]:
    with pymongo.MongoClient(endpoint["url"]) as client:
        yield client[endpoint["db"]]["conversations"]


@pytest.fixture
def rasas(endpoint: Endpoint, domain: Domain) -> Iterator[Any]:
    """Rasa's own store on the same collection."""
    store = RasasOwnStore(domain, host=endpoint["url"], db=endpoint["db"])
    yield store
    store.client.close()
