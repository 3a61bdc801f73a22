"""Conversations in Redis and Valkey: one server, Sentinel, or a cluster.

``options`` declares the options, ``urls`` reads the option ``url``, ``connection`` makes a
client. ``log`` is the event log; ``transport`` carries its calls to the server, where the
scripts in ``lua/`` run. ``keys`` names what is stored, ``lists`` reads it. ``user_index``
and ``user_conversations`` serve Rasa Pro's users, ``scanning`` finds all conversations,
``legacy`` moves what Rasa's own stores have left. ``failures`` says what errors mean.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    import rasa_trackers

    return rasa_trackers.store_in(__name__, name)
