"""Random histories, with Rasa's own functions as the oracle."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rasa.shared.core.domain import Domain
from rasa.shared.core.trackers import (
    DialogueStateTracker,
    get_trackers_for_conversation_sessions,
)

from conversations import as_dicts
from random_events import _ids, events

batches = st.lists(events(), max_size=12)


class History(RuleBasedStateMachine):
    """Rasa's use of a store, next to a plain list of what was said."""

    def __init__(self, store, other, domain: Domain) -> None:
        super().__init__()
        self.store, self.other, self.domain = store, other, domain
        self.loop = asyncio.new_event_loop()
        self.sender_id = f"conversation-{next(_ids)}"
        self.expected: list = []

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def add(self, tracker, new):
        for event in new:
            tracker.update(event)
            self.expected.append(event.as_dict())

    def teardown(self):
        self.loop.close()

    @rule(new=batches, full=st.booleans())
    def turn(self, new, full):
        retrieve = self.store.retrieve_full_tracker if full else self.store.retrieve
        tracker = self.run(retrieve(self.sender_id)) or DialogueStateTracker(
            self.sender_id, self.domain.slots
        )
        self.add(tracker, new)
        self.run(self.store.save(tracker))

    @rule(first=batches, second=batches)
    def two_saves_of_one_tracker(self, first, second):
        tracker = self.run(
            self.store.get_or_create_tracker(self.sender_id, append_action_listen=False)
        )
        self.add(tracker, first)
        self.run(self.store.save(tracker))
        self.add(tracker, second)
        self.run(self.store.save(tracker))
        self.run(self.store.save(tracker))

    @rule(new=batches)
    def fresh_tracker_after_a_failed_read(self, new):
        tracker = DialogueStateTracker(self.sender_id, self.domain.slots)
        self.add(tracker, new)
        self.run(self.store.save(tracker))

    @rule(new=batches)
    def another_store_in_between(self, new):
        tracker = self.run(self.other.retrieve(self.sender_id)) or DialogueStateTracker(
            self.sender_id, self.domain.slots
        )
        self.add(tracker, new)
        self.run(self.other.save(tracker))

    @precondition(lambda self: self.expected)
    @rule(mine=batches, theirs=batches)
    def another_store_while_a_tracker_is_held(self, mine, theirs):
        my_tracker = self.run(self.store.retrieve(self.sender_id))
        their_tracker = self.run(self.other.retrieve(self.sender_id))
        self.add(their_tracker, theirs)
        self.run(self.other.save(their_tracker))
        self.add(my_tracker, mine)
        self.run(self.store.save(my_tracker))

    @rule(new=batches, bound=st.integers(min_value=12, max_value=30))
    def bounded_tracker(self, new, bound):
        self.store.max_event_history = bound
        try:
            tracker = self.run(
                self.store.retrieve(self.sender_id)
            ) or self.store.init_tracker(self.sender_id)
            self.add(tracker, new)
            self.run(self.store.save(tracker))
        finally:
            self.store.max_event_history = None

    @precondition(lambda self: self.expected)
    @rule(new=batches)
    def copied_tracker(self, new):
        tracker = self.run(self.store.retrieve_full_tracker(self.sender_id))
        copied = DialogueStateTracker.from_events(
            self.sender_id, list(tracker.events), self.domain.slots
        )
        self.add(copied, new)
        self.run(self.store.save(copied))

    @invariant()
    def full_history_is_what_was_said(self):
        full = self.run(self.store.retrieve_full_tracker(self.sender_id))
        if not self.expected:
            assert full is None
            return
        assert as_dicts(full) == self.expected
        expected = get_trackers_for_conversation_sessions(full)[-1]
        retrieved = self.run(self.store.retrieve(self.sender_id))
        assert as_dicts(retrieved) == as_dicts(expected)
        assert retrieved.current_state() == expected.current_state()
        assert retrieved.active_loop == expected.active_loop


def test_any_history_comes_back_in_order(make_store, backend, domain):
    # Kept over the examples, each of which has a conversation of its own.
    store = make_store()
    other = make_store() if backend.durable else store
    run_state_machine_as_test(
        lambda: History(store, other, domain),
        settings=settings(
            max_examples=40,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
