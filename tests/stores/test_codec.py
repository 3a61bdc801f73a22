"""Events to text and back, next to Rasa's own functions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasa.shared.core.events import (
    Event,
    SlotSet,
    UserUttered,
    deserialise_events,
)

from conversations import turn
from random_events import events
from rasa_trackers import rasa_versions
from rasa_trackers.codec import EventDecoder, UndecodableEvent, encode


@given(events())
def test_decoding_gives_what_rasa_gives(event):
    text = encode(event).data
    expected = deserialise_events([json.loads(text)])[0]
    decoded = EventDecoder().decode(text)
    assert type(decoded) is type(expected)
    assert decoded.as_dict() == expected.as_dict()


USER = json.dumps(UserUttered("hello").as_dict())
SLOT = json.dumps(SlotSet("name", "Ada").as_dict())


@given(
    st.lists(
        st.one_of(
            events().map(lambda event: encode(event).data),
            st.sampled_from(
                [
                    *("", "{", "null", "[]", "{}", '{"event": "holo"}', "1, 2", "]"),
                    *("[" * 2000, '{"event": "user", "parse_data": 5}', "\ufeff{}"),
                    # One ends within the next, and another one is two.
                    *('{"event": "slot", "name": "a", "value": [1', "2]}"),
                    f"{SLOT}, {SLOT}",
                    f"{SLOT} ",
                    f"{SLOT}]",
                    '{"event": "topic"}',
                    SLOT.replace("Ada", "Ada" * 100_000),
                ]
            ),
        )
    )
)
def test_decoding_many_gives_what_each_gives(texts):
    decoder = EventDecoder()
    decoded, errors = decoder.decode_all(texts)
    expected, reasons = [], {}
    for index, text in enumerate(texts):
        try:
            event = EventDecoder().decode(text)
        except UndecodableEvent as error:
            reasons[index] = str(error)
        else:
            expected += [event] if event else []
    assert [event.as_dict() for event in decoded] == [
        event.as_dict() for event in expected
    ]
    assert {index: str(error) for index, error in errors.items()} == reasons


def test_texts_that_are_only_json_together_are_damaged():
    halves = ['{"event": "slot", "name": "a", "value": [1', "2]}"]
    three = f"{SLOT}, {SLOT}, {SLOT}"
    decoded, errors = EventDecoder().decode_all([USER, *halves, three, SLOT])
    assert [event.type_name for event in decoded] == ["user", "slot"]
    assert list(errors) == [1, 2, 3]
    decoded, errors = EventDecoder().decode_all([USER, f"{SLOT}]"])
    assert [event.type_name for event in decoded] == ["user"]
    assert list(errors) == [1]


@given(events())
def test_text_is_the_events_dictionary_in_ascii(event):
    entry = encode(event)
    assert entry.data.isascii()
    assert json.loads(entry.data) == json.loads(json.dumps(event.as_dict()))
    assert entry.type_name == event.type_name


def test_every_type_name_gives_the_class_that_rasa_finds():
    for type_name, event_class in rasa_versions.event_classes().items():
        assert Event.resolve_by_type(type_name) is event_class


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("null", "not a Rasa event"),
        ("[]", "not a Rasa event"),
        ("{}", "not a Rasa event"),
        ('{"event": null}', "no event type None"),
        ('{"event": ["user"]}', "no event type"),
        ('{"event": "holo"}', "no event type 'holo'"),
        ('{"event": "user", "parse_data": 5}', "cannot make a 'user' event"),
    ],
)
def test_text_that_is_no_event_says_why(text, reason):
    with pytest.raises(UndecodableEvent, match=reason):
        EventDecoder().decode(text)


def test_none_is_not_json():
    with pytest.raises(UndecodableEvent, match="not JSON"):
        EventDecoder().decode(None)


def test_event_of_rasa_0_is_dropped_as_rasa_does():
    assert EventDecoder().decode('{"event": "topic", "topic": "x"}') is None


def test_event_type_that_is_imported_later_is_found():
    decoder = EventDecoder()
    with pytest.raises(UndecodableEvent):
        decoder.decode('{"event": "late"}')

    class Late(Event):  # noqa: PLW1641 - Rasa's events have no hash
        type_name = "late"

        def as_story_string(self):
            return None

        def __eq__(self, other):
            return isinstance(other, Late)

    assert isinstance(decoder.decode('{"event": "late"}'), Late)


def test_encoded_event_says_what_queries_need():
    user, slot = turn()[:2]
    assert encode(user)[1:] == ("user", user.timestamp, "greet", None)
    assert encode(slot)[1:] == ("slot", slot.timestamp, None, "name")
