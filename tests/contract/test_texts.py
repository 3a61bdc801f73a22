"""The functions of the contract's module, which all backends share."""

from __future__ import annotations

import math

import pytest

from contract.logs import text
from rasa_trackers.event_log import Conversation, conversation_order, timestamp_of


@pytest.mark.parametrize("timestamp", [0.0, 1.0, -5.0, 1_700_000_000.123456])
def test_timestamp_of_an_event(timestamp):
    assert timestamp_of(text("a", timestamp)) == timestamp


@pytest.mark.parametrize("data", ['{"timestamp": 5}', '{"timestamp": "5"}'])
def test_timestamp_that_is_a_number_in_another_form(data):
    assert timestamp_of(data) == 5.0


@pytest.mark.parametrize(
    "data",
    [
        *("", "damaged", "null", "[]", "{}", "5", '"text"', "[" * 100_000),
        *(f'{{"timestamp": {value}}}' for value in ("null", "true", '"x"', "{}")),
        '{"timestamp": 1' + 400 * "0" + "}",
    ],
    ids=lambda data: data[:30],
)
def test_text_without_a_timestamp_is_before_any_time(data):
    assert timestamp_of(data) == -math.inf


def test_conversations_are_in_order_of_their_beginning_then_sender_id():
    expected = [
        Conversation("z", -1.0, []),
        Conversation("a", None, []),
        Conversation("b", 0.0, []),
        Conversation("B", 0.5, []),
        Conversation("a", 0.5, []),
    ]
    backwards = expected[::-1]
    assert sorted(backwards, key=conversation_order) == expected
