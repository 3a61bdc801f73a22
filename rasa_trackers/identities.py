"""Checks of sender ids and user ids, which channels choose."""

from __future__ import annotations

import logging
from typing import Any, Optional

from rasa_trackers import rasa_versions
from rasa_trackers.errors import store_error
from rasa_trackers.event_log import EventLog
from rasa_trackers.rasa_versions import DialogueStateTracker

logger = logging.getLogger(__name__)


def checked_sender_id(log: EventLog, sender_id: Any) -> str:
    """A sender id that may be stored.

    Raises:
        RasaException: for one that is not text, or too long for the database.
    """
    sender_id = text_of_sender_id(sender_id)
    longest = log.max_sender_id
    if longest is not None and len(sender_id) > longest:
        raise store_error(
            f"The conversation {sender_id[:40]!r}... cannot be stored: its sender id has "
            f"{len(sender_id)} characters, and {log.name} holds up to {longest}. Let the "
            f"channel use shorter ids, a hash for example."
        )
    return str(sender_id)


def text_of_sender_id(sender_id: Any) -> str:
    """A sender id to look up. One that is too long is an unknown conversation.

    Raises:
        RasaException: for one that is not text.
    """
    if not isinstance(sender_id, str):
        raise store_error(
            f"There is no such conversation, and none can be stored: the sender id is a "
            f"{type(sender_id).__name__}, not text. Correct the channel."
        )
    return sender_id


def storable_user_id(log: EventLog, tracker: DialogueStateTracker) -> Optional[str]:
    """The user whose conversation it is, if the database can store the user id.

    Otherwise the conversation is stored without its user, and no message is lost.
    """
    user_id = rasa_versions.user_id_of(tracker)
    if isinstance(user_id, int) and not isinstance(user_id, bool):
        user_id = str(user_id)
    if user_id is None:
        return None
    longest = log.max_sender_id
    if not isinstance(user_id, str):
        reason = f"is a {type(user_id).__name__}, not text"
    elif longest is not None and len(user_id) > longest:
        reason = f"has {len(user_id)} characters, of {longest} at most"
    elif "\0" in user_id or any("\ud800" <= each <= "\udfff" for each in user_id):
        reason = "has characters that databases cannot store"
    else:
        return user_id
    logger.warning(
        "%s: conversation %r is stored without its user, because the user id %s. Let the "
        "channel use others.",
        log.name,
        tracker.sender_id,
        reason,
    )
    return None
