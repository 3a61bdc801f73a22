"""Texts in a SQLite file that are no UTF-8.

Python refuses all rows of a result if one has such a text. That must not cost the other
rows: after the first damaged text, the log reads leniently.
"""

from __future__ import annotations

import threading
from typing import Any

import sqlalchemy as sa

#: What Python says of such a text, followed by the text itself.
_UNDECODABLE = "Could not decode to UTF-8"


class DamagedText(Exception):
    """A text is no UTF-8. The text has no place in a message."""

    def __init__(self) -> None:
        super().__init__("a text in it is damaged")


class LenientReading:
    """Turns an engine to reading damaged texts when it meets the first one."""

    def __init__(self, engine: sa.engine.Engine) -> None:
        """Watch the errors and the connections of an engine."""
        self._needed = threading.Event()
        sa.event.listen(engine, "handle_error", self._on_error)
        sa.event.listen(engine, "checkout", self._on_checkout)

    def refuse(self, error: object) -> None:
        """Note an error of the driver.

        Raises:
            DamagedText: if that is what it says.
        """
        if _UNDECODABLE in str(error):
            self._needed.set()
            raise DamagedText from None

    def _on_error(self, context: Any) -> None:
        self.refuse(context.original_exception)

    def _on_checkout(self, connection: Any, _record: Any, _proxy: Any) -> None:
        # A function of Python takes four times as long as str (Python 3.11).
        connection.text_factory = _lenient if self._needed.is_set() else str


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "replace")
