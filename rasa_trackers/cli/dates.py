"""Expiry dates of conversations, which go along to another store."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from rasa_trackers.cli.abilities import ability
from rasa_trackers.cli.places import Place
from rasa_trackers.event_log import EventLog
from rasa_trackers.retries import DeadlineLog


class Dates:
    """The expiry dates of one store; none where its backend does not tell them."""

    def __init__(self, place: Place, own_log: EventLog) -> None:
        """Find out who tells them.

        Args:
            place: The store.
            own_log: Its log, without deadline.
        """
        self._own_log = own_log
        self._module: Optional[Any] = None
        if place.rasas_own is None:
            self._module = ability(place.store, "dates")

    def expires_at(
        self, log: DeadlineLog, sender_ids: Sequence[str]
    ) -> Dict[str, float]:
        """When conversations expire, those that do; in seconds since the epoch."""
        if not sender_ids:
            return {}
        if self._module is not None:
            module = self._module
            return log.attempt(lambda: module.expires_at(self._own_log, sender_ids))
        tell = getattr(self._own_log, "expires_at", None)
        return {} if tell is None else log.attempt(lambda: tell(sender_ids))

    def set_expires_at(
        self, log: DeadlineLog, sender_id: str, end: int, expires_at: float
    ) -> None:
        """Let a conversation expire then, if it still ends at ``end``."""
        if self._module is not None:
            module = self._module
            log.attempt(
                lambda: module.set_expires_at(self._own_log, sender_id, end, expires_at)
            )
            return
        tell = getattr(self._own_log, "set_expires_at", None)
        if tell is not None:
            log.attempt(lambda: tell(sender_id, end, expires_at))
