"""Several conversations in one message, where the backend can.

A round trip costs 0.2 ms of this process alone, a commit of PostgreSQL waits for the
disk, and most conversations are short.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Sequence

from rasa_trackers.cli.abilities import ability
from rasa_trackers.cli.places import Place
from rasa_trackers.errors import is_store_error, is_unavailable
from rasa_trackers.event_log import Entry, EventLog, Page, User
from rasa_trackers.retries import DeadlineLog

#: Events of a conversation that is read with others; a longer one is read alone.
_MOST_EVENTS = 250


class Beginning(NamedTuple):
    """A conversation that is to be written where there is none yet."""

    sender_id: str
    entries: Sequence[Entry]
    user: Optional[User]


class Bulk:
    """Reads and begins several conversations of one store."""

    def __init__(self, place: Place, own_log: EventLog) -> None:
        """Find out whether the backend can.

        Args:
            place: The store.
            own_log: Its log, without deadline.
        """
        self._own_log = own_log
        self._module: Optional[Any] = None
        if place.rasas_own is None:
            self._module = ability(place.store, "bulk")

    def read(self, log: DeadlineLog, sender_ids: Sequence[str]) -> Dict[str, Page]:
        """Whole conversations, those that could be read together."""
        pages: Dict[str, Page] = self._together("read", log, sender_ids, _MOST_EVENTS)
        return {
            sender_id: page
            for sender_id, page in pages.items()
            if page.complete and page.events
        }

    def begin(
        self, log: DeadlineLog, beginnings: Sequence[Beginning]
    ) -> Dict[str, int]:
        """Write conversations that are not there yet, as ``append`` after ``START``.

        Returns:
            The position of the last event of each conversation that was written. Of any
            other conversation nothing was written, or an earlier attempt has written it.
        """
        return self._together("begin", log, beginnings)

    def _together(
        self, name: str, log: DeadlineLog, items: Sequence[Any], *more: Any
    ) -> Dict[str, Any]:
        """Call a function of the backend's module; nothing where it is refused.

        A server refuses a message as a whole. A call for each conversation shows which
        of them is meant.
        """
        if self._module is None or len(items) < 2:
            return {}
        function = getattr(self._module, name)
        try:
            found: Dict[str, Any] = log.attempt(
                lambda: function(self._own_log, items, *more)
            )
        except Exception as error:
            if is_unavailable(error) or not is_store_error(error):
                raise
            return {}
        return found
