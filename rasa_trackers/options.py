"""Checks of what an operator writes into ``endpoints.yml``.

YAML gives values of any type, and values from environment variables
(``${DB_PORT}``) always as text, so each check takes both.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
import re
from typing import Any, Dict, Mapping, Optional, Sequence
from urllib.parse import quote, quote_plus

from rasa_trackers.rasa_versions import RasaException

#: Seconds that any call to a server may take, unless ``timeout`` says otherwise.
DEFAULT_TIMEOUT = 10.0


def reject_unknown(store: type, unknown: Mapping[str, Any]) -> None:
    """Refuse options that no parameter of a store's constructor takes.

    Raises:
        RasaException: names the option and the nearest known one. Rasa's own stores
            drop such keys, and a misspelt ``pasword`` shows as something else.
    """
    if not unknown:
        return
    known = sorted(
        {
            name
            for name, parameter in inspect.signature(store).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        - {"domain", "event_broker"}
    )
    complaints = []
    for option in unknown:
        near = difflib.get_close_matches(str(option), known, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        complaints.append(f"'{option}'{hint}")
    raise RasaException(
        f"{store.__name__} has no option {', '.join(complaints)}. Correct the "
        f"tracker_store section of endpoints.yml. Known options: {', '.join(known)}."
    )


def url_or_host(url: Any, host: Any) -> Optional[str]:
    """``url``, or ``host``, the name under which Rasa 3 passes it."""
    for name, value in (("url", url), ("host", host)):
        if value is not None and not isinstance(value, str):
            raise RasaException(
                f"The option '{name}' of the tracker store must be text, not a "
                f"{type(value).__name__}. Put it in quotes in endpoints.yml."
            )
        _check_characters(name, value or "")
    if url and host and url != host:
        raise RasaException(
            "The tracker store was given both 'url' and 'host', which are two names "
            "of one option, with different values. Keep one of them in endpoints.yml."
        )
    return url or host or None


def text(name: str, value: Any) -> Optional[str]:
    """An optional text; a number is taken for its digits, as in ``db: 0``."""
    if value is None:
        return None
    if isinstance(value, str):
        _check_characters(name, value)
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise RasaException(
        f"The option '{name}' of the tracker store must be text, not a "
        f"{type(value).__name__}. Correct it in endpoints.yml."
    )


def _check_characters(name: str, value: str) -> None:
    if re.search("[\0\ud800-\udfff]", value):
        # The value may be a password. A driver's own error would not name the option.
        raise RasaException(
            f"The option '{name}' of the tracker store has a NUL or half a surrogate "
            f"pair in it, which no server takes. Correct it in endpoints.yml."
        )


def port_number(value: Any) -> Optional[int]:
    """An optional TCP port.

    Raises:
        RasaException: for what is not a whole number from 1 to 65535.
    """
    if value is None or value == "":
        return None
    number = _whole_number(value)
    if number is None or not 1 <= number <= 65535:
        raise RasaException(
            f"The option 'port' of the tracker store must be a whole number from 1 to "
            f"65535, not {value!r}. Correct it in endpoints.yml."
        )
    return number


def whole_number(name: str, value: Any, minimum: int) -> Optional[int]:
    """An optional whole number of at least ``minimum``."""
    if value is None or value == "":
        return None
    number = _whole_number(value)
    if number is None or number < minimum:
        raise RasaException(
            f"'{name}' of the tracker store must be a whole number of at least "
            f"{minimum}, not {value!r}. Correct it."
        )
    return number


def _whole_number(value: Any) -> Optional[int]:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = int(value)
        return number if float(value) == number else None
    except (ValueError, OverflowError):
        return None


def seconds(name: str, value: Any, default: Optional[float]) -> Optional[float]:
    """An optional length of time in seconds, greater than zero."""
    if value is None or value == "":
        return default
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
    if not 0 < number < math.inf:
        raise RasaException(
            f"The option '{name}' of the tracker store must be a number of seconds "
            f"greater than 0, not {value!r}. Correct it in endpoints.yml."
        )
    return number


def timeout(
    value: Any, name: str = "timeout", default: float = DEFAULT_TIMEOUT
) -> float:
    """Seconds to wait for a server."""
    return seconds(name, value, None) or default


def flag(name: str, value: Any) -> bool:
    """A truth value; ``None`` is false."""
    words: Dict[Any, bool] = {"true": True, "false": False, "": False}
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise RasaException(
        f"The option '{name}' of the tracker store must be true or false, not "
        f"{value!r}. Correct it in endpoints.yml."
    )


def mapping(name: str, value: Any) -> Dict[str, Any]:
    """An optional dictionary with text keys."""
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    raise RasaException(
        f"The option '{name}' of the tracker store must be a mapping of names to "
        f"values, not {type(value).__name__}. Correct it in endpoints.yml."
    )


def redact(message: str, secrets: Sequence[Optional[str]]) -> str:
    """``message`` without the given passwords, also where they stand URL-quoted."""
    for secret in secrets:
        if secret:
            for form in {
                secret,
                quote(secret, safe=""),
                quote_plus(secret),
                quote(secret),
            }:
                message = message.replace(form, "***")
    return message
