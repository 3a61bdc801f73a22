"""A store in the Rasa of this interpreter, driven by lines of JSON.

For tests that move conversations between generations of Rasa, each of which needs a
Python environment of its own. Runs with whatever Rasa there is, on Python 3.7 and later.
"""

import asyncio
import datetime as dt
import json
import sys
import traceback
from typing import Any, Dict, List

import rasa
from rasa.utils.endpoints import EndpointConfig

from rasa_trackers import rasa_versions
from rasa_trackers.rasa_versions import Domain, TrackerStore

events = sys.modules[rasa_versions.Event.__module__]

#: What answers begin with: Rasa and its dependencies print as they like.
ANSWER = "answer: "

DOMAIN = {
    "intents": ["order"],
    "slots": {"size": {"type": "text"}, "topping": {"type": "text"}},
    "forms": {"order_form": {"required_slots": ["size"]}},
    "responses": {"utter_greet": [{"text": "hi"}]},
    "actions": ["utter_greet"],
}


def domain() -> Domain:
    """A domain with two slots, in the form that this Rasa reads."""
    form = json.loads(json.dumps(DOMAIN))
    major = int(rasa.__version__.split(".")[0])
    if major == 1:
        form["forms"] = ["order_form"]
    elif major > 2:
        for slot in form["slots"].values():
            slot["mappings"] = [{"type": "custom"}]
    else:
        form["forms"]["order_form"] = {
            "required_slots": {"size": [{"type": "from_text"}]}
        }
    return Domain.from_dict(form)


def made(*names: str, **arguments: Any) -> List[Any]:
    """An event of the first class that this Rasa has, if it has one."""
    for name in names:
        if hasattr(events, name):
            return [getattr(events, name)(**arguments)]
    return []


def session_start() -> List[Any]:
    return [
        *made("ActionExecuted", action_name="action_session_start"),
        *made("SessionStarted"),
        *made("ActionExecuted", action_name="action_listen"),
    ]


def message(text: str) -> List[Any]:
    parse_data = {
        "intent": {"name": "order", "confidence": 0.5},
        "entities": [{"entity": "size", "value": "large", "start": 0, "end": 5}],
        "text": text,
    }
    return made(
        "UserUttered",
        text=text,
        intent=parse_data["intent"],
        entities=parse_data["entities"],
        parse_data=parse_data,
        input_channel="rest",
        message_id=f"id of {text}",
        metadata={"from": "ü\0"},
    )


def answer(text: str) -> List[Any]:
    """One event of each kind that a turn may have, but none that takes something back."""
    form = "order_form"
    return [
        *made("DefinePrevUserUtteredFeaturization", use_text_for_featurization=False),
        *made("EntitiesAdded", entities=[{"entity": "size", "value": "large"}]),
        *made("ActionExecuted", action_name=form, policy="policy", confidence=0.5),
        *made("ActiveLoop", "Form", name=form),
        *made("LoopInterrupted", is_interrupted=True),
        # Rasa 1 has it under another name.
        *(
            []
            if hasattr(events, "LoopInterrupted")
            else made("FormValidation", validate=False)
        ),
        *made("ActionExecutionRejected", action_name=form, confidence=0.5),
        *made("SlotSet", key="size", value=text),
        *made("SlotSet", key="topping", value=["any", {"nested": None}, 2.5]),
        *made("ActiveLoop", "Form", name=None),
        *made(
            "ReminderScheduled",
            intent="order",
            trigger_date_time=dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc),
        ),
        *made("ReminderCancelled"),
        *made("FollowupAction", name="utter_greet"),
        *made("ActionExecuted", action_name="utter_greet"),
        *made("BotUttered", text="hi", data={"buttons": None}, metadata={"a": [1]}),
        *made("AgentUttered", text="from a person"),
        *made("StoryExported"),
        *made("ConversationPaused"),
        *made("ConversationResumed"),
        *made("ActionExecuted", action_name="action_listen"),
    ]


class Worker:
    """What the lines ask for."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._store: Any = None

    def open(self, endpoint: Dict[str, Any]) -> str:
        """Load a store as Rasa does, with the domain that it sets afterwards."""
        self.close()
        store = TrackerStore.create(EndpointConfig(**endpoint))
        while isinstance(getattr(store, "_tracker_store", None), TrackerStore):
            store = store._tracker_store
        store.domain = domain()
        self._store = store
        return type(store).__module__

    def talk(self, sender_id: str, texts: List[str], is_new: bool) -> List[Any]:
        """Messages as Rasa handles them: a read, a save, actions, another save."""
        added: List[Any] = []
        for text in texts:
            tracker = self._call("get_or_create_tracker", sender_id, None, False)
            start = len(tracker.events)
            parts = [session_start() if is_new else [], message(text), answer(text)]
            for part in parts:
                for event in part:
                    tracker.update(event)
                if part:
                    self._call("save", tracker)
            is_new = False
            added += list(tracker.events)[start:]
        return [event.as_dict() for event in added]

    def read(self, sender_id: str) -> Dict[str, Any]:
        last = self._call("retrieve", sender_id)
        everything = self._call("retrieve_full_tracker", sender_id)
        return {
            "last": last and [event.as_dict() for event in last.events],
            "all": everything and [event.as_dict() for event in everything.events],
            "slots": last and last.current_slot_values(),
            "exists": self._call("exists", sender_id),
            "keys": sorted(self._call("keys")),
        }

    def erase(self, sender_id: str) -> None:
        self._call("delete", sender_id)

    def known(self) -> List[str]:
        """The names of the event types that this Rasa reads."""
        return sorted(rasa_versions.event_classes())

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _call(self, name: str, *args: Any) -> Any:
        method = getattr(self._store, name)
        if not rasa_versions.IS_ASYNC:
            return method(*args)
        return self._loop.run_until_complete(method(*args))


def main() -> None:
    worker = Worker()
    for line in sys.stdin:
        name, args = json.loads(line)
        try:
            said = {"result": getattr(worker, name)(*args)}
        except Exception as error:  # noqa: BLE001 - the test shows it
            traceback.print_exc()
            said = {"error": f"{type(error).__name__}: {error}"}
        print(ANSWER + json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
