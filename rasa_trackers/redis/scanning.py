"""All conversations of a store: their sender ids, and how many are recent."""

from __future__ import annotations

import json
import math
from typing import Iterator, List, Sequence, Set, Tuple

from rasa_trackers.event_log import timestamp_of
from rasa_trackers.redis.batches import in_batches
from rasa_trackers.redis.keys import Keys, Namespace, may_be_another_prefixs
from rasa_trackers.redis.legacy import legacy_events
from rasa_trackers.redis.lists import text_of_event
from rasa_trackers.redis.scripts import FIND_RASA_1
from rasa_trackers.redis.transport import Transport

#: Bytes of legacy values that one reply holds, unless it is one value.
MOST_BYTES = 10_000_000

#: A conversation and one of its keys.
_Place = Tuple[Keys, bytes]


class Scanner:
    """Finds conversations by their keys."""

    def __init__(self, transport: Transport, namespace: Namespace) -> None:
        """Scan for the conversations of one store.

        Args:
            transport: How to reach the server.
            namespace: The names of the keys.
        """
        self._transport = transport
        self._namespace = namespace

    def sender_ids(self) -> Iterator[Sequence[str]]:
        """As :meth:`EventLog.sender_ids`."""
        # SCAN may name a key twice, and a conversation may have two keys.
        seen: Set[str] = set()
        for pattern in self._namespace.patterns():
            for keys in self._transport.scan(pattern):
                found = dict.fromkeys(self._senders_of(keys))
                yield [sender_id for sender_id in found if sender_id not in seen]
                seen.update(found)

    def _senders_of(self, keys: List[bytes]) -> List[str]:
        """The sender ids of those keys that are conversations."""
        senders: List[str] = []
        doubtful: List[Keys] = []
        maybe_rasa_1: List[str] = []
        for key in keys:
            sender_id = self._namespace.sender_of_log(key)
            if sender_id is not None:
                senders.append(sender_id)
                continue
            sender_id = self._namespace.sender_of_legacy(key)
            if sender_id is not None:
                legacy = self._namespace.of(sender_id)
                if may_be_another_prefixs(legacy):
                    doubtful.append(legacy)
                else:
                    senders.append(sender_id)
                continue
            sender_id = self._namespace.sender_of_rasa_1(key)
            if sender_id is not None:
                maybe_rasa_1.append(sender_id)
        return senders + self._proven(doubtful) + self._rasa_1s(maybe_rasa_1)

    def _proven(self, doubtful: List[Keys]) -> List[str]:
        """Those sender ids whose legacy value is theirs."""
        places = self._with_sizes([(keys, keys.legacy) for keys in doubtful])
        return [
            keys.sender_id
            for keys, text in self._legacy_values(places)
            if legacy_events(text, keys) is not None
        ]

    def _rasa_1s(self, sender_ids: List[str]) -> List[str]:
        """Those sender ids that are keys of conversations of Rasa 1."""
        if not sender_ids:
            return []
        pairs: List[object] = []
        for sender_id in sender_ids:
            pairs += [sender_id, f'"name": {json.dumps(sender_id)}}}']
        numbers = self._transport.evaluate(FIND_RASA_1, (), *pairs)
        return [sender_ids[number] for number in numbers]

    def count_conversations(self, after_timestamp: float) -> Iterator[int]:
        """As :meth:`EventLog.count_conversations`."""
        for sender_ids in self.sender_ids():
            yield 0
            for batch in in_batches(sender_ids):
                newest = self._newest_timestamps(batch)
                yield sum(timestamp >= after_timestamp for timestamp in newest)

    def _newest_timestamps(self, sender_ids: List[str]) -> List[float]:
        """When the last event of each conversation was."""
        all_keys = [self._namespace.of(sender_id) for sender_id in sender_ids]
        events = self._transport.execute_all(
            [("LINDEX", keys.log, -1) for keys in all_keys]
        )
        newest = {
            keys: timestamp_of(text_of_event(event)) if event else -math.inf
            for keys, event in zip(all_keys, events)
        }
        # Legacy values are read in place: counting migrates nothing.
        places = self._with_sizes([(keys, keys.legacy) for keys in all_keys])
        known = {keys for keys, event in zip(all_keys, events) if event}
        known.update(keys for (keys, _), _ in places)
        # The user may have no right to read keys that are not Rasa's.
        rasa_1s = [keys for keys in all_keys if keys.rasa_1 and keys not in known]
        places += self._with_sizes([(keys, keys.rasa_1) for keys in rasa_1s])
        for keys, text in self._legacy_values(places):
            legacy = legacy_events(text, keys)
            if legacy:
                newest[keys] = max(newest[keys], timestamp_of(legacy[-1]))
        return list(newest.values())

    def _with_sizes(self, places: List[_Place]) -> List[Tuple[_Place, int]]:
        """Those keys that hold text, each with its length in bytes."""
        sizes = self._transport.execute_all([("STRLEN", key) for _, key in places])
        return [(place, size) for place, size in zip(places, sizes) if size]

    def _legacy_values(
        self, places: List[Tuple[_Place, int]]
    ) -> Iterator[Tuple[Keys, bytes]]:
        """The texts at those keys."""
        for batch in in_batches(
            [place for place, _ in places], [size for _, size in places], MOST_BYTES
        ):
            texts = self._transport.execute_all([("GET", key) for _, key in batch])
            for (keys, _), text in zip(batch, texts):
                if text:
                    yield keys, text
