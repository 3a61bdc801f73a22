"""People who order pizzas from a real `rasa run` while its database goes away."""

from __future__ import annotations

import threading
import time
from typing import Callable, Iterator, List, NamedTuple, Sequence, Tuple

from rasa_server import RasaServer


class Answer(NamedTuple):
    """What came back for one message."""

    text: str
    #: Seconds that it took.
    seconds: float
    #: When the message was sent, by the monotonic clock.
    sent_at: float
    #: Whether it was the right answer, for which the conversation has to be known.
    is_right: bool


class Person(threading.Thread):
    """Orders a pizza, and then asks again and again what it was."""

    def __init__(self, rasa: RasaServer, name: str, size: str, topping: str) -> None:
        super().__init__(name=name, daemon=True)
        self.answers: List[Answer] = []
        self._rasa = rasa
        self._over = threading.Event()
        self._pause = 0.0
        self._dialogue = self._messages(size, topping)

    @staticmethod
    def _messages(size: str, topping: str) -> Iterator[Tuple[str, str]]:
        """Messages, no two of them equal, and their right answers."""
        yield "hello", "Hello! I take orders for pizza."
        yield "a pizza", "Small, medium or large?"
        yield size, f"A {size} pizza. With which topping?"
        yield topping, f"One {size} pizza with {topping} is on its way."
        number = 0
        while True:
            number += 1
            yield (
                f"What did I order? ({number})",
                f"You ordered a {size} pizza with {topping}.",
            )

    def say_next(self) -> Answer:
        """Say the next message, and wait for the answer."""
        text, right = next(self._dialogue)
        sent_at = time.monotonic()
        try:
            answers = self._rasa.say(self.name, text)
        except OSError:  # of requests: an error 500, no connection
            answers = []
        seconds = time.monotonic() - sent_at
        answer = Answer(text, seconds, sent_at, answers == [right])
        self.answers.append(answer)
        return answer

    def begin(self, pause: float) -> None:
        """Go on talking, a message every `pause` seconds or when an answer has come."""
        self._pause = pause
        self.start()

    def run(self) -> None:
        while not self._over.is_set():
            answer = self.say_next()
            self._over.wait(max(0.0, self._pause - answer.seconds))

    def end(self) -> None:
        """Say nothing new, and wait for the last answer."""
        self._over.set()
        self.join()

    def texts_of(self, rasa: RasaServer) -> List[str]:
        """What Rasa has stored that this person has said."""
        events = rasa.events(self.name)
        return [event["text"] for event in events if event["event"] == "user"]


class Outage(NamedTuple):
    """What came of an outage."""

    #: All answers to messages that were sent in it.
    answers: List[Answer]
    #: Seconds that it lasted.
    seconds: float


def people(rasa: RasaServer, prefix: str = "") -> List[Person]:
    """Three people with different wishes."""
    return [
        Person(rasa, f"{prefix}anna", "large", "olives"),
        Person(rasa, f"{prefix}bob", "small", "tuna"),
        Person(rasa, f"{prefix}carla", "medium", "basil"),
    ]


def live_through(
    those: Sequence[Person],
    go_away: Callable[[], object],
    come_back: Callable[[], object],
    *,
    seconds: float,
    pause: float,
) -> Outage:
    """Let the database go away when everybody has begun to order.

    Args:
        those: Who orders; they go on for a moment after the outage.
        go_away: Lets the database go away.
        come_back: Brings it back.
        seconds: How long it is away.
        pause: Seconds between two messages of a person.
    """
    for person in those:
        person.say_next()
        person.say_next()
    go_away()
    began = time.monotonic()
    try:
        for person in those:
            person.begin(pause)
        time.sleep(seconds)
    finally:
        ended = time.monotonic()
        come_back()
    time.sleep(pause)
    for person in those:
        person.end()
    answers = [
        answer
        for person in those
        for answer in person.answers
        if began <= answer.sent_at < ended
    ]
    return Outage(sorted(answers, key=lambda answer: answer.sent_at), ended - began)
