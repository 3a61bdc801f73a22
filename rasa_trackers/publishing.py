"""Handing stored events to the event broker."""

from __future__ import annotations

import logging
from typing import List

from rasa_trackers import rasa_versions
from rasa_trackers.rasa_versions import DialogueStateTracker, Event, TrackerStore

logger = logging.getLogger(__name__)


def publish(
    store: TrackerStore, tracker: DialogueStateTracker, events: List[Event]
) -> None:
    """Hand stored events to the store's event broker, in order.

    On the event loop, since brokers use it (``PikaEventBroker.publish``, 3.6.21). A
    broker that fails stops nothing: the events are stored, and the conversation goes on.
    """
    broker = store.event_broker
    if broker is None:
        return
    for message in rasa_versions.broker_messages(store, broker, tracker, events):
        try:
            broker.publish(message)
        except Exception:
            logger.exception(
                "An event of conversation %r is stored, but %s could not publish it. "
                "Check the event_broker section of endpoints.yml; 'rasa export' "
                "publishes stored events again.",
                tracker.sender_id,
                type(broker).__name__,
            )
