"""From a section of ``endpoints.yml`` to an event log, for our stores and Rasa's own."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from rasa_trackers.backend import Backend, MadeLog, backend_of
from rasa_trackers.cli.endpoints import Section, read_section
from rasa_trackers.cli.errors import CommandError
from rasa_trackers.store_options import COMMON, checked

#: Rasa's own stores: their ``type`` and the backend of this package that shares their
#: options.
_RASAS_OWN = {
    "sql": "SQLTrackerStore",
    "redis": "RedisTrackerStore",
    "mongod": "MongoTrackerStore",
}
#: How the tables show Rasa's own stores.
_RASAS_NAMES = {"sql": "SQL", "redis": "redis", "mongod": "mongod"}

_OURS = (
    "InMemoryTrackerStore",
    "MongoTrackerStore",
    "OracleTrackerStore",
    "RedisTrackerStore",
    "SQLTrackerStore",
)

#: What to install for a driver that is missing, by the store.
_EXTRAS = {
    "MongoTrackerStore": "mongo",
    "OracleTrackerStore": "oracle",
    "RedisTrackerStore": "redis",
    "SQLTrackerStore": "postgresql",
}


class Place(NamedTuple):
    """A store that is not reached yet."""

    #: The file that names it.
    path: str
    #: ``type`` of the section, as the tables show it.
    type_name: str
    #: The name of the backend: the tracker store class.
    store: str
    #: The checked options.
    values: Dict[str, Any]
    #: Makes the log.
    make: Callable[[], MadeLog]
    #: ``sql``, ``redis`` or ``mongod`` for a store of Rasa's own.
    rasas_own: Optional[str] = None


#: Options that say who connects and how, and not where conversations are.
_NOT_WHERE = frozenset(
    {
        "username",
        "password",
        "login_db",
        "query",
        "auth_source",
        "client_options",
        "create_tables",
        "alter_tables",
        *(option.name for option in COMMON),
    }
)


def refuse_same_place(source: Place, target: Place) -> None:
    """Refuse to copy where the target would get in the way of the source.

    Raises:
        CommandError: for a store and itself, and for two stores in one place that cannot
            both be there.
    """
    one, other = _where(source), _where(target)
    if one != other:
        return
    if source.rasas_own == target.rasas_own or source.store == "SQLTrackerStore":
        raise CommandError(
            f"{source.path} and {target.path} name the same store, so there is nothing to "
            f"copy."
            + (
                " Rasa's own store and this package's share their tables."
                if source.rasas_own != target.rasas_own
                else ""
            )
        )
    if source.store == "MongoTrackerStore":
        raise CommandError(
            f"{source.path} and {target.path} name the same collection, where Rasa's own "
            f"store would find documents of rasa_trackers. Let one of them have another "
            f"'collection' or 'db'."
        )


def _where(place: Place) -> Any:
    return place.store, {
        name: value for name, value in place.values.items() if name not in _NOT_WHERE
    }


def place_of(path: Path) -> Place:
    """The store that an ``endpoints.yml`` names.

    Raises:
        CommandError: for a store that the command line cannot reach.
        StoreError: for an option that makes no sense.
    """
    section = read_section(path)
    kind = section.type.lower()
    if kind in _RASAS_OWN:
        return _rasas_place(section, kind)
    if not section.type or section.type.endswith("InMemoryTrackerStore"):
        raise CommandError(
            f"The tracker_store in {path} keeps conversations in the memory of Rasa's "
            f"process, which no other process can reach."
        )
    if kind == "dynamo":
        raise CommandError(
            f"The tracker_store in {path} has the type dynamo, which this command line "
            f"does not know. It knows the stores of rasa_trackers, SQL, redis and mongod."
        )
    store, backend = _backend(section)
    values = checked(backend.store, backend.options, section.options)

    def make() -> MadeLog:
        return backend.make_log(values, True)

    return Place(section.path, section.type, store, values, make)


def _rasas_place(section: Section, kind: str) -> Place:
    store = _RASAS_OWN[kind]
    backend = _import_backend(section, store)
    known = {"host", *(option.name for option in backend.options)}
    # Rasa's own stores drop unknown options.
    options = {
        name: value
        for name, value in section.options.items()
        if name in known or name in ("record_exp", "timeout", "startup_timeout")
    }
    values = checked(store, backend.options, options)

    def make() -> MadeLog:
        from rasa_trackers.cli.rasas_formats import make_log

        return make_log(kind, backend, values)

    return Place(section.path, _RASAS_NAMES[kind], store, values, make, kind)


def _backend(section: Section) -> Tuple[str, Backend]:
    module, _, name = section.type.rpartition(".")
    if module.split(".")[0] == "rasa_trackers":
        if name not in _OURS:
            near = difflib.get_close_matches(name, _OURS, n=1, cutoff=0.0)
            raise CommandError(
                f"There is no {section.type}, which {section.path} names. Did you mean "
                f"rasa_trackers.{near[0]}?"
            )
        return name, _import_backend(section, name)
    return name, _of_another_package(section, module, name)


def _import_backend(section: Section, store: str) -> Backend:
    try:
        return backend_of(store)
    except ImportError as error:
        extra = _EXTRAS.get(store)
        hint = f": pip install 'rasa-trackers[cli,{extra}]'" if extra else ""
        raise CommandError(
            f"The driver for the tracker_store in {section.path} is not installed "
            f"({error}). Install it in the environment of this command{hint}."
        ) from None


def _of_another_package(section: Section, module: str, name: str) -> Backend:
    """The backend of a tracker store that others have written with this package."""
    try:
        store = getattr(importlib.import_module(module), name) if module else None
    except (ImportError, AttributeError, ValueError) as error:
        raise CommandError(
            f"The type {section.type}, which {section.path} names, cannot be loaded: "
            f"{error}."
        ) from None
    backend = getattr(store, "backend", None)
    if not isinstance(backend, Backend):
        raise CommandError(
            f"The type {section.type}, which {section.path} names, is not a store that "
            f"this command line knows: one of rasa_trackers, SQL, redis or mongod."
        )
    return backend
