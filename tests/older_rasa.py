"""Lets tests that are written for Rasa 3.6 run on the Rasas before 3.2.

Those have plain methods where the tests await coroutines, and Rasa 1 has the classes
under other names. The package itself does not depend on any of this.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from typing import Any

import pytest
import rasa

from rasa_trackers import rasa_versions

RASA = tuple(int(part) for part in rasa.__version__.split(".")[:2])

#: Modules of Rasa 2 and later, by those of Rasa 1.
_MODULES = {
    "rasa.core.domain": "rasa.shared.core.domain",
    "rasa.core.events": "rasa.shared.core.events",
    "rasa.core.trackers": "rasa.shared.core.trackers",
}


def add_newer_names() -> None:
    """Give Rasa 1 the names that the tests import.

    ``rasa_versions`` is loaded before, so that it has found Rasa's own.
    """
    if rasa_versions.trackers.__name__ != "rasa.core.trackers":
        return
    for parent in ("rasa.shared", "rasa.shared.core"):
        sys.modules[parent] = types.ModuleType(parent)
    for older, newer in _MODULES.items():
        sys.modules[newer] = importlib.import_module(older)
    exceptions = types.ModuleType("rasa.shared.exceptions")
    exceptions.RasaException = rasa_versions.RasaException  # type: ignore[attr-defined]
    exceptions.ConnectionException = (  # type: ignore[attr-defined]
        rasa_versions.ConnectionException
    )
    sys.modules["rasa.shared.exceptions"] = exceptions


def domain_of(text: str) -> Any:
    """A domain, from the YAML of Rasa 3."""
    import yaml

    form = yaml.safe_load(text)
    if RASA < (3,):
        for slot in form["slots"].values():
            del slot["mappings"]
        form["slots"]["anything"]["type"] = "any" if RASA >= (2,) else "unfeaturized"
    if RASA < (2,):
        form["forms"] = list(form["forms"])
    elif RASA < (3,):
        form["forms"] = {
            name: {"required_slots": {"name": [{"type": "from_text"}]}}
            for name in form["forms"]
        }
    return rasa_versions.Domain.from_dict(form)


class Awaited:
    """A store whose plain methods can be awaited; all else is the store's own."""

    def __init__(self, store: Any) -> None:
        object.__setattr__(self, "plain", store)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.plain, name)
        method = inspect.unwrap(found) if inspect.ismethod(found) else found
        is_rasas = name in (*rasa_versions._CALLED, "create_tracker")
        if not is_rasas and not inspect.iscoroutinefunction(method):
            return found

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return found(*args, **kwargs)

        return awaited

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.plain, name, value)

    def __repr__(self) -> str:
        return repr(self.plain)


def awaited(store: Any) -> Any:
    """A store as the tests call it: with coroutines."""
    return store if rasa_versions.IS_ASYNC else Awaited(store)


def as_rasa_has_it(store: Any) -> Any:
    """A store as Rasa calls it, for what takes one of Rasa's."""
    return store.plain if isinstance(store, Awaited) else store


#: For tests of what only coroutines can do, such as being cancelled.
needs_coroutines = pytest.mark.skipif(
    not rasa_versions.IS_ASYNC, reason="this Rasa calls plain methods"
)
