"""What a backend hands to a tracker store and to the command line, without Rasa."""

from __future__ import annotations

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


class Backend(NamedTuple):
    """A kind of database: its options in ``endpoints.yml`` and how to make its log."""

    #: Name of the tracker store class, as messages show it.
    store: str
    #: The options beside those that all stores have (``store_options.COMMON``).
    options: Tuple[Option, ...]
    #: Makes the log. Gets the checked value of each option by its name, those of
    #: ``store_options.COMMON`` among them, and whether the log is to keep users.
    make_log: Callable[[Mapping[str, Any], bool], MadeLog]
