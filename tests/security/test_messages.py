"""What others write into a database or to a server is not in errors and log lines."""

from __future__ import annotations

import json
import traceback

import pytest
from rasa.shared.core.events import SlotSet
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.exceptions import RasaException

from conversations import session_start, tracker, turn
from rasa_api import backend_log
from rasa_trackers.codec import DECODER, UndecodableEvent
from rasa_trackers.event_log import START, Entry


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_rows_of_postgresql_are_in_no_error(store, caplog):
    """PostgreSQL shows in DETAIL the row that a constraint refuses."""
    log = backend_log(store)
    with log.engine.connect() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE events ADD CONSTRAINT short CHECK (length(sender_id) < 10)"
        )
    words = "my secret words"
    with pytest.raises(RasaException, match="violates check constraint") as refused:
        await store.save(tracker("sender-of-theirs", [*session_start(), *turn(words)]))
    error = refused.value
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    for text in (shown, caplog.text):
        assert words not in text
        assert "Failing row" not in text


def test_event_type_forges_no_line():
    with pytest.raises(UndecodableEvent) as raised:
        DECODER.decode(json.dumps({"event": "holo\nERROR all is lost", "timestamp": 1}))
    assert "\n" not in str(raised.value)
    assert "holo" in str(raised.value)


def test_event_type_floods_no_log():
    with pytest.raises(UndecodableEvent) as raised:
        DECODER.decode(json.dumps({"event": "x" * 5_000_000}))
    assert len(str(raised.value)) < 200


def test_text_of_a_damaged_event_is_not_shown():
    reminder = {"event": "reminder", "date_time": "my secret words", "timestamp": 1}
    with pytest.raises(UndecodableEvent) as raised:
        DECODER.decode(json.dumps(reminder))
    assert "secret" not in str(raised.value)
    assert "reminder" in str(raised.value)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_text_of_an_event_that_cannot_be_applied_is_not_shown(
    make_store, monkeypatch, caplog
):
    update = DialogueStateTracker.update

    def fails(self, event, *args, **kwargs):
        if isinstance(event, SlotSet):
            raise ValueError(f"cannot set {event.value!r}")  # noqa: TRY004
        return update(self, event, *args, **kwargs)

    store = make_store()
    await store.save(
        tracker("ada", [*session_start(), SlotSet("x", "my secret words")])
    )
    monkeypatch.setattr(DialogueStateTracker, "update", fails)
    caplog.clear()
    assert await store.retrieve("ada")
    (record,) = [each for each in caplog.records if "applied" in each.getMessage()]
    assert "ValueError" in record.getMessage()
    assert "secret" not in caplog.text


async def test_damaged_event_forges_no_line_in_the_log(store, caplog):
    data = json.dumps({"event": "holo\nERROR all is lost"})
    await store.save(tracker("ada", session_start()))
    log = backend_log(store)
    end = log.read_back("ada").events[-1].position
    assert log.append("ada", [Entry(data, "holo", 1.0, None, None)], end) > START
    await store.retrieve("ada")
    (record,) = [each for each in caplog.records if "skipped" in each.getMessage()]
    assert "\n" not in record.getMessage()
