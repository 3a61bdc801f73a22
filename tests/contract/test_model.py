"""Random sequences of operations, compared with a model in plain Python."""

from __future__ import annotations

import itertools
import uuid
from typing import Dict, List, NamedTuple, Optional, Tuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from contract.logs import all_sender_ids, count, text
from rasa_trackers.event_log import (
    PAGE_SLACK,
    START,
    Conversation,
    Entry,
    EventLog,
    User,
    conversation_order,
)

SENDER_IDS = st.sampled_from(["ada", "grace", "Ada"])
USER_IDS = st.sampled_from(["u", "v"])
USERS = st.none() | st.builds(
    User, USER_IDS, st.none() | st.sampled_from([0.0, 1.0, 2.0, 3.0])
)
COUNTS = st.sampled_from([0, 1, 1, 2, 3, 8, 40, 300])
#: Which position an operation names.
AFTERS = st.sampled_from(["end", "end", "end", "end", "start", "older", "later"])


class Known(NamedTuple):
    """What the model knows of one conversation."""

    events: List[Tuple[int, str]]
    user: Optional[User]


NOTHING = Known([], None)


class Comparison(RuleBasedStateMachine):
    """Does the same to a log and to a model, and compares what they say."""

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self.log = log
        self.known: Dict[str, Known] = {}
        self.highest: Dict[str, int] = {}
        self.clock = itertools.count(1)
        # The log may be that of the example before; its positions then go on.
        self.prefix = uuid.uuid4().hex

    def name(self, sender_id: str) -> str:
        return f"{self.prefix} {sender_id}"

    def teardown(self) -> None:
        for sender_id in self.known:
            self.log.delete(sender_id)

    def entries(self, count: int) -> List[Entry]:
        now = float(next(self.clock))
        return [
            Entry(text(str(number), now), "slot", now, None, str(number))
            for number in range(count)
        ]

    def after(self, sender_id: str, which: str) -> int:
        positions = [START, *(each[0] for each in self.known_of(sender_id).events)]
        chosen = {
            "end": positions[-1],
            "start": START,
            "older": positions[len(positions) // 2],
            "later": positions[-1] + 1,
        }
        return chosen[which]

    def known_of(self, sender_id: str) -> Known:
        return self.known.get(sender_id, NOTHING)

    def end_of(self, sender_id: str) -> int:
        events = self.known_of(sender_id).events
        return events[-1][0] if events else START

    @rule(sender_id=SENDER_IDS, count=COUNTS, which=AFTERS, user=USERS)
    def append(
        self, sender_id: str, count: int, which: str, user: Optional[User]
    ) -> None:
        sender_id, after = self.name(sender_id), self.after(self.name(sender_id), which)
        added = self.entries(count)
        end, known = self.end_of(sender_id), self.known_of(sender_id)
        position = self.log.append(sender_id, added, after, user)
        if after != end:
            assert position is None
            return
        if not added:
            assert position == end
        if not added and not known.events:
            return
        if user is None:
            user = known.user
        elif known.user is not None and known.user.conversation_started is not None:
            user = User(user.user_id, known.user.conversation_started)
        self.known[sender_id] = Known(
            known.events + self.numbered(sender_id, added, position), user
        )

    @rule(sender_id=SENDER_IDS, count=COUNTS, which=AFTERS, user=USERS)
    def replace(
        self, sender_id: str, count: int, which: str, user: Optional[User]
    ) -> None:
        sender_id, after = self.name(sender_id), self.after(self.name(sender_id), which)
        added = self.entries(count)
        position = self.log.replace(sender_id, added, after, user)
        if after != self.end_of(sender_id):
            assert position is None
        elif not added:
            assert position == START
            self.known.pop(sender_id, None)
        else:
            user = user or self.known_of(sender_id).user
            events = self.numbered(sender_id, added, position)
            self.known[sender_id] = Known(events, user)

    def numbered(
        self, sender_id: str, added: List[Entry], position: Optional[int]
    ) -> List[Tuple[int, str]]:
        """The events that were just added, with the positions that the log says."""
        if not added:
            return []
        events = self.log.read_back(sender_id, len(added)).events[-len(added) :]
        positions = [event.position for event in events]
        assert [event.data for event in events] == [entry.data for entry in added]
        assert positions[-1] == position
        assert positions == sorted(set(positions))
        assert positions[0] > self.highest.get(sender_id, START)
        self.highest[sender_id] = positions[-1]
        return [(event.position, event.data) for event in events]

    @rule(sender_id=SENDER_IDS)
    def delete(self, sender_id: str) -> None:
        sender_id = self.name(sender_id)
        assert self.log.delete(sender_id) is (sender_id in self.known)
        self.known.pop(sender_id, None)

    @rule(
        sender_id=SENDER_IDS,
        limit=st.none() | st.sampled_from([1, 2, 3, 10, 100]),
        before=st.none() | st.integers(0, 400),
    )
    def read_back(
        self, sender_id: str, limit: Optional[int], before: Optional[int]
    ) -> None:
        sender_id = self.name(sender_id)
        events, user = self.known_of(sender_id)
        if before is not None:
            older = events[:before]
            before = events[before][0] if before < len(events) else None
            events = older if before is not None else events
        page = self.log.read_back(sender_id, limit, before)
        found = [tuple(event) for event in page.events]
        assert found == (events[-len(found) :] if found else [])
        assert len(found) >= min(len(events), limit or len(events))
        assert limit is None or len(found) <= limit + PAGE_SLACK
        assert page.complete == (len(found) == len(events))
        assert page.user_id == (user.user_id if user and found else None)

    @rule()
    def sender_ids(self) -> None:
        assert all_sender_ids(self.log) == sorted(self.known)

    @rule(
        user_id=USER_IDS,
        limit=st.none() | st.integers(1, 4),
        skip=st.integers(0, 3),
    )
    def conversations_of(self, user_id: str, limit: Optional[int], skip: int) -> None:
        expected = sorted(
            (
                Conversation(
                    sender_id, user.conversation_started, [data for _, data in events]
                )
                for sender_id, (events, user) in self.known.items()
                if user is not None and user.user_id == user_id
            ),
            key=conversation_order,
        )
        found = self.log.conversations_of(user_id, limit, skip)
        assert found == expected[skip:][:limit]

    @rule(after=st.integers(0, 30))
    def count(self, after: int) -> None:
        # Timestamps ascend along these logs, so that the newest event decides.
        expected = sum(
            f'"timestamp": {float(now)},' in events[-1][1]
            for events, _ in self.known.values()
            for now in range(after, 200)
        )
        assert count(self.log, float(after)) == expected

    @rule(sender_id=SENDER_IDS)
    def confirm(self, sender_id: str) -> None:
        self.log.confirm(self.name(sender_id))

    @rule()
    def purge(self) -> None:
        assert self.log.purge_expired() == 0

    @rule()
    def open(self) -> None:
        self.log.open()


def test_random_operations_give_what_a_model_gives(log):
    run_state_machine_as_test(
        lambda: Comparison(log),
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
