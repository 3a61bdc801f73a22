"""An open store: its log, and calls to it that wait no longer than a deadline."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, TypeVar

from rasa_trackers.backend import MadeLog
from rasa_trackers.cli.bulk import Bulk
from rasa_trackers.cli.dates import Dates
from rasa_trackers.cli.errors import CommandError
from rasa_trackers.cli.places import Place, place_of
from rasa_trackers.errors import is_store_error
from rasa_trackers.event_log import EventLog, Page
from rasa_trackers.paging import pages_of_one_state, read_one_state
from rasa_trackers.retries import DeadlineLog
from rasa_trackers.store_options import redact
from rasa_trackers.threads import Threads

T = TypeVar("T")

#: Events that one read of a whole conversation asks for.
_WHOLE_PAGE = 5_000


class Store:
    """A store that commands read and write."""

    def __init__(self, place: Place, made: MadeLog) -> None:
        """Connect to nothing yet.

        Args:
            place: Where the store is.
            made: Its log.
        """
        self.place = place
        self.log: EventLog = made.log
        self.name = made.log.name
        self.where = made.place
        self.workers = made.workers
        self.secrets = made.secrets
        self.dates = Dates(place, made.log)
        self.bulk = Bulk(place, made.log)
        self._threads = Threads(
            made.log,
            timeout=place.values["timeout"],
            workers=made.workers,
            secrets=made.secrets,
        )

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """``function(log, *args)`` with retries, until the option ``timeout``.

        Raises:
            StoreError: when the server refuses.
            StoreUnavailable: when the server is silent for too long.
        """
        return self._threads.run_blocking(function, *args)

    def open(self) -> None:
        """Reach the server and create what is missing."""
        self._threads.run_blocking(_open, timeout=self.place.values["startup_timeout"])

    def sender_ids(self) -> List[str]:
        """The sender ids of all conversations."""
        return [
            sender_id
            for batch in self.call(_batches_of_sender_ids)
            for sender_id in batch
        ]

    def whole(self, sender_id: str) -> Page:
        """A whole conversation."""
        return self.call(whole, sender_id)

    def redacted(self, text: str) -> str:
        """A text without passwords."""
        return redact(text, self.secrets)

    def close(self) -> None:
        """Give up the connections, when the calls under way are done."""
        self._threads.close(then=self.log.close).join(5)


def _open(log: DeadlineLog) -> None:
    log.open()


def _batches_of_sender_ids(log: DeadlineLog) -> List[Any]:
    return list(log.sender_ids())


def whole(log: EventLog, sender_id: str) -> Page:
    """A whole conversation, of which no event is missing or doubled.

    A long conversation is read in pages. Events that are appended meanwhile are left out.
    """
    pages = read_one_state(
        *(log, sender_id),
        lambda: list(pages_of_one_state(log, sender_id, _WHOLE_PAGE)),
    )
    if len(pages) == 1:
        return pages[0]
    events = [event for page in reversed(pages) for event in page.events]
    return Page(events, complete=True, user_id=pages[0].user_id)


@contextlib.contextmanager
def opened(
    path: Optional[Path], *, place: Optional[Place] = None, must_exist: bool = False
) -> Iterator[Store]:
    """The store that an ``endpoints.yml`` names, for as long as the context lasts.

    Args:
        path: The file.
        place: What the file says, if that is known already.
        must_exist: Whether a database in a file must be there already.

    Raises:
        CommandError: for a store that the command line cannot reach.
        StoreError: when the server refuses or is away.
    """
    place = place or place_of(path or Path())
    if must_exist:
        require_file(place)
    store = made(place)
    try:
        store.open()
        yield store
    finally:
        store.close()


def require_file(place: Place) -> None:
    """Refuse a SQLite file that is not there: to open it would create it."""
    values = place.values
    if place.store != "SQLTrackerStore" or "://" in (values["url"] or ""):
        return
    if values["dialect"].startswith("sqlite") and not Path(values["db"] or "").exists():
        raise CommandError(
            f"There is no database {values['db']}, which {place.path} names. A relative "
            f"path begins at the folder in which this command runs."
        )


def made(place: Place) -> Store:
    """A store that is not open yet."""
    try:
        return Store(place, place.make())
    except Exception as error:
        if not is_store_error(error):
            raise
        secrets = [
            str(value)
            for name, value in place.values.items()
            if "password" in name and value
        ]
        raise CommandError(redact(str(error), secrets)) from None
