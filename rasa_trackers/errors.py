"""The two errors that a tracker store raises.

A backend and everything below it runs where Rasa is not installed, and the command line
must not load Rasa (importing ``rasa.shared.exceptions`` takes 0.4 s). In a process that
runs Rasa the errors are Rasa's own, so that Rasa handles them as its own. Rasa has loaded
them there before it loads a tracker store; therefore each error is chosen when it is
raised, and not when this module is imported.
"""

from __future__ import annotations

import sys
import traceback
from typing import List, Optional, Type


class StoreError(Exception):
    """The store cannot do what it is asked to do; the text says how to mend that.

    ``RasaException`` stands in for it in a process that runs Rasa.
    """


class StoreUnavailable(StoreError):
    """The server could not be reached in time; the same call may work later.

    ``ConnectionException`` stands in for it in a process that runs Rasa.
    """


def store_error(text: str) -> Exception:
    """The error to raise for a mistake, or for what the server refuses for good.

    Args:
        text: What happened and what to do about it, without any password.
    """
    return _rasas_own("RasaException", StoreError)(text)


def store_unavailable(text: str, *, is_away: bool = False) -> Exception:
    """The error to raise for a call that could not be carried out in time.

    Args:
        text: What happened and what to do about it, without any password.
        is_away: Whether the database as a whole is away, so that other calls would fail
            as well.
    """
    error = _rasas_own("ConnectionException", StoreUnavailable)(text)
    error.is_away = is_away  # type: ignore[attr-defined]
    return error


def says_away(error: BaseException) -> bool:
    """Whether an error says that the database as a whole is away."""
    return getattr(error, "is_away", False) is True


def _rasas_own(name: str, ours: Type[Exception]) -> Type[Exception]:
    """Rasa's class of that name, or ``ours`` where no such class is loaded.

    Rasa 1.10 has neither of the two.
    """
    found: Type[Exception] = getattr(
        sys.modules.get("rasa.shared.exceptions"), name, ours
    )
    return found


def sentence(text: str) -> str:
    r"""The text of a driver's error on one line, as whole sentences.

    >>> sentence("connection refused\n\tIs the server running?\n")
    'connection refused. Is the server running?'
    """
    lines = [" ".join(line.split()) for line in text.splitlines()]
    ended = [
        line if line[-1] in ".?!:;," or next_line[:1].islower() else f"{line}."
        for line, next_line in zip(lines, [*lines[1:], "."])
        if line
    ]
    return " ".join(ended)


def is_store_error(error: BaseException) -> bool:
    """Whether an error is one of :func:`store_error` or :func:`store_unavailable`."""
    return isinstance(error, (StoreError, _rasas_own("RasaException", StoreError)))


def is_unavailable(error: BaseException) -> bool:
    """Whether an error is one of :func:`store_unavailable`."""
    kinds = (StoreUnavailable, _rasas_own("ConnectionException", StoreUnavailable))
    return isinstance(error, kinds)


def release_frames(error: BaseException) -> None:
    """Clear the variables of the calls that an error and its causes went through.

    Drivers raise errors that such a variable holds (redis-py's ``response``). That makes
    a cycle, which holds all callers too, and by them the store with its connections,
    until garbage is collected. The traceback keeps its lines.
    """
    seen: List[BaseException] = []
    pending: List[Optional[BaseException]] = [error]
    while pending:
        each = pending.pop()
        if each is not None and not any(each is other for other in seen):
            seen.append(each)
            traceback.clear_frames(each.__traceback__)
            pending += [each.__cause__, each.__context__]
