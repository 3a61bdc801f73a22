"""What a backend says about its database, for an operator.

A backend may have a module ``health`` beside its log::

    def facts(log) -> Iterator[Fact]: ...          # for ``rasa-trackers check``
    def traces(log, sender_ids) -> Iterator[Dict[str, Dict[str, int]]]: ...
    def count_events(log) -> Iterator[int]: ...

They are called in a thread, with a log that need not be open, and raise the driver's
errors. ``facts`` creates and changes nothing. ``traces`` gives what is stored of each
conversation: numbers by the names of places. What an iterator gives follows an answer of
the server, and adds up.
"""

from __future__ import annotations

from typing import NamedTuple

#: How good a fact is.
OK, WARNING, ERROR = "ok", "warning", "error"


class Fact(NamedTuple):
    """One thing that is known about a database."""

    #: What it is about, such as "version" or "TLS".
    name: str
    #: What is the case.
    value: str
    level: str = OK
    #: How to mend it, in a sentence; "" where nothing is wrong.
    remedy: str = ""
