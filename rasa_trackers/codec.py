"""Events to stored text and back."""

from __future__ import annotations

import contextlib
import json
import secrets
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Type

from rasa_trackers.computing import LONG_CHARACTERS
from rasa_trackers.entries import described, entry_of
from rasa_trackers.errors import store_error
from rasa_trackers.event_log import Entry
from rasa_trackers.parsing import load_json, parser
from rasa_trackers.rasa_versions import Event, event_classes, from_proto_json

#: Gives the form of an event that is made text of.
Serialise = Callable[[Event], Dict[str, Any]]


class UndecodableEvent(Exception):
    """Stored text that the running Rasa cannot turn into an event; says why."""


def encode(event: Event, serialise: Optional[Serialise] = None) -> Entry:
    """The text of an event, with what is stored beside it for queries.

    Args:
        event: The event.
        serialise: Gives the form to store; by default ``Event.as_dict``.

    Raises:
        RasaException: when the event holds something that JSON cannot express.
    """
    as_dict = event.as_dict()
    try:
        # ASCII, so that a lone surrogate or a NUL in a message reaches a database
        # that cannot store either as the escape that it is in JSON.
        data = _dumped(as_dict if serialise is None else serialise(event))
    except (TypeError, ValueError, RecursionError) as error:
        raise store_error(
            f"An event of type '{event.type_name}' cannot be stored, because it holds "
            f"a value that is not JSON: {error}. Let the custom action, channel or "
            f"NLU component that made it use strings, numbers, booleans, lists and "
            f"dictionaries only."
        ) from error
    return described(data, {**as_dict, "event": event.type_name})


def _dumped(form: Dict[str, Any]) -> str:
    text = form.get("text")
    if isinstance(text, str) and len(text) > LONG_CHARACTERS:
        # The encoder in C lets no other thread run: 65 ms for a message of 10 MB, which
        # stands in its event twice.
        return "".join(json.JSONEncoder().iterencode(form))
    return json.dumps(form)


def unreadable(data: str) -> Entry:
    """What goes beside a text that is stored and that this Rasa cannot read."""
    return entry_of(data)


#: Reads the JSON that a text begins with. ``json.loads`` looks for white space before
#: and after it as well, which takes as long again: 2.1 µs an event instead of 1.2.
_decode_json = json.JSONDecoder().raw_decode

#: Reads many texts at once.
_parse_fast = parser()
#: Characters that are decoded at once: 2 ms, during which no other thread runs.
_LONGEST_TEXT = 256 * 1024

#: Stands between texts that are decoded at once. Not known outside of this process: so
#: no damaged texts can make up for each other, one ending within the next.
_BETWEEN = secrets.randbits(48)
_SEPARATOR = f",{_BETWEEN},"

#: Characters of an event type that a message shows.
_LONGEST_NAME = 60


class EventDecoder:
    """Decodes events with each type looked up once.

    ``rasa.shared.core.events.deserialise_events`` searches all subclasses for every
    event: 30 µs of the 32 µs that it takes (Rasa 3.6.21).
    """

    def __init__(self) -> None:
        self._classes: Dict[str, Type[Event]] = event_classes()

    def decode(self, data: str) -> Optional[Event]:
        """The event of a stored text; ``None`` for one that Rasa itself drops.

        Raises:
            UndecodableEvent: for text that is damaged and for an event type that is
                not loaded.
        """
        is_all = False
        # A stored pickle is no text at all.
        if not isinstance(data, str) or len(data) <= LONG_CHARACTERS:
            with contextlib.suppress(TypeError, ValueError, RecursionError):
                parameters, end = _decode_json(data)
                is_all = end == len(data)
        if not is_all:
            parameters = _parsed(data)
        if not isinstance(parameters, dict):
            raise UndecodableEvent("it is not a Rasa event")
        type_name = parameters.get("event")
        make: Callable[[Dict[str, Any]], Optional[Event]] = from_proto_json
        if "event" in parameters:
            event_class = self._class_of(type_name)
            if event_class is None:
                if type_name == "topic":  # of Rasa 0.x, which Rasa drops in silence
                    return None
                raise UndecodableEvent(
                    f"the running Rasa has no event type {_shown(type_name)}"
                )
            # What ``Event.from_parameters`` calls once it has found the class.
            make = event_class._from_parameters  # noqa: SLF001
        try:
            event = make(parameters)
        except Exception as error:
            # Any error at all: the text comes from a database that others write to.
            if "event" not in parameters:
                raise UndecodableEvent("it is not a Rasa event") from error
            raise UndecodableEvent(
                f"Rasa cannot make a {_shown(type_name)} event of it "
                f"({type(error).__name__})"
            ) from error
        if event is None:
            raise UndecodableEvent("it is not a Rasa event")
        return event

    def decode_all(
        self, texts: Sequence[str]
    ) -> Tuple[List[Event], Dict[int, UndecodableEvent]]:
        """The events of stored texts, in order, as :meth:`decode` gives them.

        Returns:
            The events, without those that are damaged or that Rasa itself drops; and
            what is wrong with the damaged ones, by their places in ``texts``.
        """
        events: List[Event] = []
        errors: Dict[int, UndecodableEvent] = {}
        classes = self._classes
        for index, parameters in enumerate(_parsed_at_once(texts)):
            event: Optional[Event]
            try:
                event = classes[parameters["event"]]._from_parameters(parameters)  # noqa: SLF001
            except Exception:  # noqa: BLE001 - what it means is found out now
                event = None
            if event is None:
                try:
                    event = self.decode(texts[index])
                except UndecodableEvent as error:
                    errors[index] = error
            if event is not None:
                events.append(event)
        return events, errors

    def _class_of(self, type_name: Any) -> Optional[Type[Event]]:
        if not isinstance(type_name, str):
            return None
        event_class = self._classes.get(type_name)
        if event_class is None:
            # A custom event type can be imported at any time.
            self._classes = event_classes()
            event_class = self._classes.get(type_name)
        return event_class


#: Shared by all stores: event types are those of the process.
DECODER = EventDecoder()


def _shown(type_name: object) -> str:
    """An event type for messages: others write it, so it may be long or have lines."""
    text = repr(type_name)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


def _parsed(data: str) -> Any:
    try:
        return load_json(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise UndecodableEvent(f"it is not JSON ({error})") from error


def _parsed_at_once(texts: Sequence[str]) -> Sequence[Any]:
    """What the JSON of each text says; ``None`` throughout unless all is well.

    One call for many texts takes two thirds of the time. Keys that recur are one object
    then, which saves memory too.
    """
    nothing: List[Any] = [None] * len(texts)
    if sum(map(len, texts)) > _LONGEST_TEXT:
        return nothing
    try:
        parsed = _parse_fast(f"[{_SEPARATOR.join(texts)}]")
    except (ValueError, RecursionError):
        return nothing
    is_well = parsed[1::2] == [_BETWEEN] * (len(texts) - 1)
    return parsed[::2] if is_well and len(parsed) == 2 * len(texts) - 1 else nothing
