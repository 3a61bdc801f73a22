"""Tracker stores for Rasa that append instead of rewriting.

Name one of them by its dotted path in ``endpoints.yml``::

    tracker_store:
      type: rasa_trackers.SQLTrackerStore
      dialect: postgresql
      url: postgres

A class is imported when it is first asked for, so that a store needs only its own
driver, and importing this package needs neither a driver nor Rasa.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any, List

from rasa_trackers.errors import store_error

if TYPE_CHECKING:
    from rasa_trackers.memory.store import InMemoryTrackerStore
    from rasa_trackers.mongo.store import MongoTrackerStore
    from rasa_trackers.redis.store import RedisTrackerStore
    from rasa_trackers.sql.store import OracleTrackerStore, SQLTrackerStore

__version__ = "0.1.0"

__all__ = [
    "InMemoryTrackerStore",
    "MongoTrackerStore",
    "OracleTrackerStore",
    "RedisTrackerStore",
    "SQLTrackerStore",
]

_MODULES = {
    "InMemoryTrackerStore": "rasa_trackers.memory.store",
    "MongoTrackerStore": "rasa_trackers.mongo.store",
    "OracleTrackerStore": "rasa_trackers.sql.store",
    "RedisTrackerStore": "rasa_trackers.redis.store",
    "SQLTrackerStore": "rasa_trackers.sql.store",
}


def __getattr__(name: str) -> Any:
    return store_in(__name__, name)


def store_in(package: str, name: str) -> Any:
    """The tracker store class of that name, for ``__getattr__`` of a package (PEP 562).

    Raises:
        RasaException: for a misspelt store and for a store whose driver is not
            installed. Rasa's loader takes an ``ImportError`` or a missing name for
            "use the InMemoryTrackerStore" (``rasa.core.tracker_store``, 3.6.21), and
            every conversation would be lost at the next restart.
        AttributeError: for a name that is no class's.
    """
    if name in _MODULES:
        try:
            return getattr(importlib.import_module(_MODULES[name]), name)
        except (ImportError, AttributeError) as error:
            raise store_error(
                f"rasa_trackers.{name} cannot be loaded: {error}. Install what it "
                f"needs in the Python environment that runs Rasa."
            ) from error
    by_lower = {known.lower(): known for known in _MODULES}
    near = difflib.get_close_matches(
        name.lower().replace("_", ""),
        by_lower,
        n=1,
        # No module has such a name, and Python itself asks for others.
        cutoff=0.0 if name[:1].isupper() else 0.8,
    )
    if near:
        raise store_error(
            f"There is no rasa_trackers.{name}. Did you mean "
            f"'type: rasa_trackers.{by_lower[near[0]]}' in endpoints.yml? "
            f"Known stores: {', '.join(sorted(_MODULES))}."
        )
    raise AttributeError(f"module {package!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted([*globals(), *_MODULES])
