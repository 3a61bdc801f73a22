"""Parsers of JSON: the fastest one, and one that lets other threads run.

Of the time to decode a session JSON takes most. Rasa's web server brings ``ujson``, which
takes 0.45 of the time of ``json`` on Python 3.10 (99 events of 148 bytes: 87 µs instead
of 199) and 0.8 of it on Python 3.14. It gives the same value for everything that ``json``
reads; ``tests/stores/test_parsing.py`` compares them. ``ujson`` also reads a few texts
that ``json`` refuses, such as ``01`` or a line break in a string. Nothing writes such
texts but a person who changes a row by hand.

``orjson`` is faster still, but makes floats of big integers and refuses what Rasa may
have stored: lone surrogates, NaN and numbers beyond the range of a float.
"""

from __future__ import annotations

import json
import json.scanner
import re
from typing import Any, Callable, Optional

from rasa_trackers.computing import LONG_CHARACTERS, pause

#: The versions of ``ujson`` that were compared, from the first to before the second.
#: Before 5.4 it drops lone surrogates (CVE-2022-31116).
_COMPARED = ((5, 4), (6, 0))


def parser() -> Callable[[str], Any]:
    """A function that reads a JSON text.

    It raises ``ValueError`` for what is not JSON, and ``ValueError`` or
    ``RecursionError`` for what is nested too deeply for it.
    """
    return _ujson_loads() or json.loads


def _ujson_loads() -> Optional[Callable[[str], Any]]:
    try:
        import ujson
    except ImportError:
        return None
    numbers = re.match(r"(\d+)\.(\d+)", getattr(ujson, "__version__", ""))
    first, end = _COMPARED
    is_compared = numbers and first <= tuple(map(int, numbers.groups())) < end
    return ujson.loads if is_compared else None


#: Values of a long text between two pauses: about 1 ms.
_VALUES = 1000


class _PausingDecoder(json.JSONDecoder):
    """Reads JSON in Python, as ``json`` does where its scanner in C is missing.

    The scanner in C lets no other thread run: 120 ms for 10 MB of numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        # Typeshed does not know what ``json.decoder`` gives its scanners.
        these: Any = self
        for name in ("parse_string", "parse_int", "parse_float"):
            setattr(these, name, _with_pauses(getattr(these, name)))
        scanner: Any = json.scanner
        these.scan_once = scanner.py_make_scanner(self)


def _with_pauses(parse: Callable[..., Any]) -> Callable[..., Any]:
    parsed = 0

    def parse_and_pause(*args: Any) -> Any:
        nonlocal parsed
        parsed += 1
        if parsed % _VALUES == 0:
            pause()
        return parse(*args)

    return parse_and_pause


_decode_json_with_pauses = _PausingDecoder().raw_decode


def load_json(data: str) -> Any:
    """As ``json.loads``, and other threads run while a long text is read.

    Raises:
        ValueError: for text that is damaged, and ``RecursionError``.
    """
    if len(data) <= LONG_CHARACTERS:  # 12 ms
        return json.loads(data)
    try:
        value, end = _decode_json_with_pauses(data)
        if end == len(data):
            return value
    except (ValueError, RecursionError):
        # Python's own stack is less deep. What is wrong, the scanner in C says.
        pass
    return json.loads(data)
