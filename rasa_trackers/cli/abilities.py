"""What a backend can do beside its log, in modules that stand beside the log.

A backend may have a module ``health`` (see ``rasa_trackers.health``), ``dates`` (expiry
dates) and ``bulk`` (several conversations in one message). Each function of theirs gets
the backend's own log as its first argument.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Optional

_PACKAGES = {
    "MongoTrackerStore": "rasa_trackers.mongo",
    "OracleTrackerStore": "rasa_trackers.sql",
    "RedisTrackerStore": "rasa_trackers.redis",
    "SQLTrackerStore": "rasa_trackers.sql",
}


def ability(store: str, name: str) -> Optional[ModuleType]:
    """A module of a backend; ``None`` where it has none.

    Args:
        store: The name of the backend's tracker store class.
        name: The name of the module.
    """
    package = _PACKAGES.get(store)
    if package is None or importlib.util.find_spec(f"{package}.{name}") is None:
        return None
    return importlib.import_module(f"{package}.{name}")
