"""Random events of Rasa, for hypothesis."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st
from rasa.shared.core.events import (
    ActionExecuted,
    ActionReverted,
    AllSlotsReset,
    BotUttered,
    ConversationPaused,
    FollowupAction,
    Restarted,
    SessionStarted,
    SlotSet,
    UserUtteranceReverted,
    UserUttered,
)

try:
    from rasa.shared.core.events import ActiveLoop
except ImportError:  # Rasa 1
    from rasa.core.events import Form as ActiveLoop

#: Tied and backward on purpose: no order may come from them.
timestamps = st.sampled_from([1.0, 2.0, 2.0, 1753011122.123457])
texts = st.text(max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2)
    ),
    max_leaves=4,
)
_ids = itertools.count()


def unique_metadata():
    """Every event is another one, also where its timestamp is the same."""
    return {"number": next(_ids)}


@st.composite
def events(draw):
    timestamp, metadata = draw(timestamps), unique_metadata()
    make = draw(
        st.sampled_from(
            [
                lambda: UserUttered(
                    draw(texts),
                    {"name": draw(texts)},
                    timestamp=timestamp,
                    metadata=metadata,
                ),
                lambda: BotUttered(
                    draw(texts), {"custom": draw(json_values)}, metadata, timestamp
                ),
                lambda: SlotSet("anything", draw(json_values), timestamp, metadata),
                lambda: SlotSet("name", draw(texts), timestamp, metadata),
                lambda: ActionExecuted(
                    "action_session_start", timestamp=timestamp, metadata=metadata
                ),
                lambda: ActionExecuted(
                    draw(texts) or "action_listen",
                    timestamp=timestamp,
                    metadata=metadata,
                ),
                lambda: SessionStarted(timestamp, metadata),
                lambda: Restarted(timestamp, metadata),
                lambda: AllSlotsReset(timestamp, metadata),
                lambda: UserUtteranceReverted(timestamp, metadata),
                lambda: ActionReverted(timestamp, metadata),
                lambda: ConversationPaused(timestamp, metadata),
                lambda: FollowupAction(draw(texts), timestamp, metadata),
                lambda: ActiveLoop("some_form", timestamp, metadata),
            ]
        )
    )
    return make()
