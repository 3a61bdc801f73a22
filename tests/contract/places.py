"""Where the logs of one test are, and how a process makes one of them.

Imported by the tests and by the processes that they start.
"""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from rasa_trackers import store_options
from rasa_trackers.backend import backend_of
from rasa_trackers.event_log import EventLog


class Place(ABC):
    """A storage of one test's own."""

    @abstractmethod
    def make(self, record_exp: Optional[float], *, keep_users: bool) -> EventLog:
        """Make a log that is not open yet."""

    @abstractmethod
    def described(self) -> Dict[str, Any]:
        """What :func:`place_of` makes the same place from, in another process."""


class FactoryPlace(Place):
    """A folder, for the factory that ``--event-log`` names."""

    def __init__(self, factory: str, folder: str) -> None:
        """Find the factory.

        Args:
            factory: ``package.module:name``.
            folder: Where its logs keep what they store.
        """
        self._factory, self._folder = factory, folder
        self._make = factory_of(factory)

    def make(self, record_exp: Optional[float], *, keep_users: bool) -> EventLog:
        options = {} if keep_users else {"keep_users": False}
        return self._make(Path(self._folder), record_exp, **options)

    def described(self) -> Dict[str, Any]:
        return {"factory": self._factory, "folder": self._folder}


class EndpointPlace(Place):
    """A database of a registered backend."""

    def __init__(self, endpoint: Dict[str, Any], database: Any = None) -> None:
        """Remember the endpoint.

        Args:
            endpoint: The tracker_store section of an endpoints.yml.
            database: The ``backends.Database`` that it names, in the tests' process.
        """
        self.endpoint = endpoint
        self.database = database

    def make(self, record_exp: Optional[float], *, keep_users: bool) -> EventLog:
        options = {**self.endpoint, "record_exp": record_exp}
        store = options.pop("type").rpartition(".")[2]
        backend = backend_of(store)
        values = store_options.checked(store, backend.options, options)
        return backend.make_log(values, keep_users).log

    def described(self) -> Dict[str, Any]:
        return {"endpoint": self.endpoint}


def place_of(described: Dict[str, Any]) -> Place:
    """The place that ``described`` means."""
    if "endpoint" in described:
        return EndpointPlace(**described)
    return FactoryPlace(**described)


def factory_of(name: str) -> Callable[..., EventLog]:
    """The factory that is called ``package.module:name``."""
    module, _, attribute = name.partition(":")
    factory: Callable[..., EventLog] = getattr(
        importlib.import_module(module), attribute
    )
    return factory


def takes_keep_users(factory: str) -> bool:
    """Whether a factory makes logs that keep no users."""
    return "keep_users" in inspect.signature(factory_of(factory)).parameters
