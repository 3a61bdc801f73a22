"""The conversations of a user, in the form in which Rasa Pro asks for them."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Sequence

from rasa_trackers import rasa_versions
from rasa_trackers.computing import in_slices
from rasa_trackers.event_log import Conversation
from rasa_trackers.parsing import load_json
from rasa_trackers.rasa_versions import TrackerStore
from rasa_trackers.retries import DeadlineLog

logger = logging.getLogger(__name__)


def serialized_trackers(
    log: DeadlineLog, store: TrackerStore, user_id: str, limit: int, skip: int
) -> List[Dict[str, Any]]:
    """The conversations of a user as dictionaries.

    Args:
        log: The log.
        store: Finds the id of a conversation's current session.
        user_id: The user.
        limit: How many conversations at most; 0 for all of them.
        skip: How many to leave out at the beginning.
    """
    conversations = log.conversations_of(user_id, limit or None, skip)
    serialized = []
    for conversation in conversations:
        events = in_slices(log.deadline, conversation.events, _parsed, len)
        if len(events) < len(conversation.events):
            _warn_of_damage(log, conversation, len(conversation.events) - len(events))
        serialized.append(
            {
                "sender_id": conversation.sender_id,
                "events": events,
                "user_id": user_id,
                "conversation_started_timestamp": conversation.conversation_started,
                "current_session_id": rasa_versions.current_session_id(store, events),
            }
        )
    return serialized


def _parsed(texts: Sequence[str]) -> List[Dict[str, Any]]:
    """The events of stored texts, without those that are damaged."""
    events = []
    for text in texts:
        try:
            event = load_json(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def _warn_of_damage(log: DeadlineLog, conversation: Conversation, damaged: int) -> None:
    logger.warning(
        "%s: %d of the events of conversation %r are damaged and were skipped. They stay "
        "stored: restore them from a backup, or delete them.",
        log.name,
        damaged,
        conversation.sender_id,
    )
