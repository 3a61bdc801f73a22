"""Several conversations in one message to Redis."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Sequence, Tuple

from rasa_trackers.event_log import START, Page
from rasa_trackers.redis.legacy import legacy_value
from rasa_trackers.redis.lists import page_of
from rasa_trackers.redis.log import RedisEventLog
from rasa_trackers.redis.scripts import INDEX_ADD, READ_BACK, WRITE, Script
from rasa_trackers.redis.user_index import kept


def read(log: RedisEventLog, sender_ids: Sequence[str], limit: int) -> Dict[str, Page]:
    """The newest events of conversations, as ``read_back`` gives them.

    Those of Rasa's own store are left out, since reading them writes them into a log.
    """
    namespace = log.namespace
    calls = []
    for keys in map(namespace.of, sender_ids):
        arguments = (keys.rasa_1, "", limit, "", "text")
        calls.append(((keys.log, keys.legacy), arguments))
    replies = _evaluate_all(log, READ_BACK, calls)
    return {
        sender_id: page_of(reply, with_user=log.keeps_users)
        for sender_id, reply in zip(sender_ids, replies)
        if reply is not None and legacy_value(reply) is None
    }


def begin(log: RedisEventLog, beginnings: Sequence[Any]) -> Dict[str, int]:
    """Append to conversations without events; gives the ends of those that had none."""
    namespace, life = log.namespace, log._life  # noqa: SLF001 - of the same package
    indexed = _add_to_indexes(log, beginnings)
    written, calls = [], []
    for each in beginnings:
        keys = namespace.of(each.sender_id)
        user = ("", "", "", b"")
        if each.user is not None and log.keeps_users:
            if each.sender_id not in indexed:
                continue
            user_json, started_json = map(json.dumps, each.user)
            user = (user_json, started_json, user_json, indexed[each.sender_id])
        arguments = (
            *(keys.rasa_1, "", "append", START, life, *user, b""),
            *(entry.data for entry in each.entries),
        )
        written.append(each)
        calls.append(((keys.log, keys.legacy), arguments))
    ends = {}
    for each, reply in zip(written, _evaluate_all(log, WRITE, calls)):
        # Anything else than three numbers is for an append of its own to handle.
        if reply is not None and len(reply) == 3:
            ends[each.sender_id] = int(reply[0])
    # Once more, as after each append that gives a conversation a user.
    _add_to_indexes(log, [each for each in written if each.sender_id in ends])
    return ends


def _add_to_indexes(log: RedisEventLog, beginnings: Sequence[Any]) -> Dict[str, bytes]:
    """Note that conversations may be their users'; gives until when it is kept."""
    life = log._life  # noqa: SLF001 - of the same package
    assigned = [
        each for each in beginnings if each.user is not None and log.keeps_users
    ]
    calls = [
        (
            log.namespace.of_user(each.user.user_id),
            (each.sender_id, kept(life)),
        )
        for each in assigned
    ]
    replies = _evaluate_all(log, INDEX_ADD, calls)
    return {
        each.sender_id: reply
        for each, reply in zip(assigned, replies)
        if reply is not None
    }


def _evaluate_all(
    log: RedisEventLog,
    script: Script,
    calls: Sequence[Tuple[Sequence[bytes], Sequence[object]]],
) -> List[Any]:
    """Run a script for several conversations; ``None`` for each that was not run.

    A call for one conversation brings the script to the server.
    """
    return log.transport.execute_all(
        [
            ("EVALSHA", script.sha1, len(keys), *keys, *arguments)
            for keys, arguments in calls
        ]
    )
