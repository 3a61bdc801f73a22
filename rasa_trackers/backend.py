"""What a backend hands to a tracker store and to the command line, without Rasa."""

from __future__ import annotations

import importlib
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence, Tuple

from rasa_trackers.event_log import EventLog
from rasa_trackers.store_options import Option


class MadeLog(NamedTuple):
    """An event log that is not open yet, and how a store is to use it."""

    log: EventLog
    #: Calls that the log takes at one time: threads of the store.
    workers: int
    #: Passwords that a driver's error could show.
    secrets: Sequence[Optional[str]] = ()
    #: Whether another log of the same place has the same conversations: not where they
    #: are in the memory of the log.
    outlives_process: bool = True
    #: Where the conversations are: server, database, and names of tables or keys, without
    #: passwords. Equal for all logs of one place, if their options name it alike.
    place: str = ""


class Backend(NamedTuple):
    """A kind of database: its options in ``endpoints.yml`` and how to make its log."""

    #: Name of the tracker store class, as messages show it.
    store: str
    #: The options beside those that all stores have (``store_options.COMMON``).
    options: Tuple[Option, ...]
    #: Makes the log. Gets the checked value of each option by its name, those of
    #: ``store_options.COMMON`` among them, and whether the log is to keep users.
    make_log: Callable[[Mapping[str, Any], bool], MadeLog]
    #: What the names of the environment variables that ``make_log`` reads begin with.
    environment: Tuple[str, ...] = ()


#: Where the backends are, by the names of their tracker store classes. A module is
#: imported when its store is asked for, so that a store needs only its own driver.
_PLACES = {
    "InMemoryTrackerStore": ("rasa_trackers.memory.options", "MEMORY"),
    "MongoTrackerStore": ("rasa_trackers.mongo.options", "MONGO"),
    "OracleTrackerStore": ("rasa_trackers.sql.options", "ORACLE"),
    "RedisTrackerStore": ("rasa_trackers.redis.options", "REDIS"),
    "SQLTrackerStore": ("rasa_trackers.sql.options", "SQL"),
}


def backend_of(store: str) -> Backend:
    """The backend of a tracker store class of this package, by the class's name.

    Raises:
        ImportError: when the driver is not installed.
        KeyError: for an unknown name.
    """
    module, name = _PLACES[store]
    found: Backend = getattr(importlib.import_module(module), name)
    return found
