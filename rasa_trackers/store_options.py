"""The options of a tracker store in ``endpoints.yml``: declaration and checks.

Each option is declared once, as an :class:`Option`: its check, its default, and the
sentence that the tables of the documentation show. YAML gives values of any type, and
values from environment variables (``${DB_PORT}``) are always text, so each check takes
both.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence
from urllib.parse import quote, quote_plus

from rasa_trackers.errors import store_error

#: Seconds that any call to a server may take, unless ``timeout`` says otherwise.
DEFAULT_TIMEOUT = 10.0


class Option(NamedTuple):
    """One option of a store."""

    name: str
    #: Gives the checked value: ``check(name, value)``. ``value`` is what stands in
    #: ``endpoints.yml``, or the default.
    check: Callable[[str, Any], Any]
    #: What stands in for an option that is missing, before the check.
    default: Any
    #: What the option means, in a sentence or two, for the documentation.
    meaning: str


def checked(
    store: str, declared: Sequence[Option], given: Mapping[str, Any]
) -> Dict[str, Any]:
    """The value of each option of a store.

    Args:
        store: Name of the tracker store class, for messages.
        declared: The store's own options, ``url`` among them.
        given: What stands in ``endpoints.yml``. ``host`` is another name of ``url``.

    Returns:
        The checked values by the options' names, those of ``COMMON`` among them and
        without ``host``.

    Raises:
        StoreError: for an option that is unknown, with the nearest known one, and for a
            value that makes no sense. Rasa's own stores drop unknown options, and a
            misspelt ``pasword`` shows as something else there.
    """
    options = {option.name: option for option in (*declared, *COMMON)}
    unknown = [name for name in given if name not in (*options, "host")]
    if unknown:
        raise _unknown_options(store, unknown, sorted([*options, "host"]))
    named = {**given, "url": _url_or_host(given.get("url"), given.get("host"))}
    values = {
        option.name: option.check(option.name, named.get(option.name, option.default))
        for option in options.values()
    }
    values["startup_timeout"] = values["startup_timeout"] or values["timeout"]
    return values


def changed(declared: Sequence[Option], values: Mapping[str, Any]) -> List[str]:
    """The names of the options that differ from their defaults.

    Args:
        declared: The store's own options.
        values: What :func:`checked` has given.
    """
    defaults = {
        option.name: option.check(option.name, option.default)
        for option in (*declared, *COMMON)
    }
    defaults["startup_timeout"] = values["timeout"]
    return sorted(name for name in defaults if values[name] != defaults[name])


def _unknown_options(
    store: str, unknown: Sequence[str], known: Sequence[str]
) -> Exception:
    complaints = []
    for option in unknown:
        near = difflib.get_close_matches(str(option), known, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        complaints.append(f"'{option}'{hint}")
    return store_error(
        f"{store} has no option {', '.join(complaints)}. Correct the tracker_store "
        f"section of endpoints.yml. Known options: {', '.join(known)}."
    )


def _url_or_host(url: Any, host: Any) -> Optional[str]:
    """``url``, or ``host``, the name under which Rasa 3 passes it."""
    for name, value in (("url", url), ("host", host)):
        if value is not None and not isinstance(value, str):
            raise store_error(
                f"The option '{name}' of the tracker store must be text, not a "
                f"{type(value).__name__}. Put it in quotes in endpoints.yml."
            )
        _check_characters(name, value or "")
    if url and host and url != host:
        raise store_error(
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
    raise store_error(
        f"The option '{name}' of the tracker store must be text, not a "
        f"{type(value).__name__}. Correct it in endpoints.yml."
    )


def _check_characters(name: str, value: str) -> None:
    if re.search("[\0\ud800-\udfff]", value):
        # The value may be a password. A driver's own error would not name the option.
        raise store_error(
            f"The option '{name}' of the tracker store has a NUL or half a surrogate "
            f"pair in it, which no server takes. Correct it in endpoints.yml."
        )


def port_number(name: str, value: Any) -> Optional[int]:
    """An optional TCP port: a whole number from 1 to 65535."""
    if value is None or value == "":
        return None
    number = _whole_number(value)
    if number is None or not 1 <= number <= 65535:
        raise store_error(
            f"The option '{name}' of the tracker store must be a whole number from 1 to "
            f"65535, not {value!r}. Correct it in endpoints.yml."
        )
    return number


def whole_number(name: str, value: Any, minimum: int) -> Optional[int]:
    """An optional whole number of at least ``minimum``."""
    if value is None or value == "":
        return None
    number = _whole_number(value)
    if number is None or number < minimum:
        raise store_error(
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


def seconds(name: str, value: Any) -> Optional[float]:
    """An optional length of time in seconds, greater than zero."""
    if value is None or value == "":
        return None
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
    if not 0 < number < math.inf:
        raise store_error(
            f"The option '{name}' of the tracker store must be a number of seconds "
            f"greater than 0, not {value!r}. Correct it in endpoints.yml."
        )
    return number


def timeout(name: str, value: Any) -> float:
    """Seconds to wait for a server; ``DEFAULT_TIMEOUT`` unless given."""
    return seconds(name, value) or DEFAULT_TIMEOUT


def flag(name: str, value: Any) -> bool:
    """A truth value; ``None`` is false."""
    words: Dict[Any, bool] = {"true": True, "false": False, "": False}
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise store_error(
        f"The option '{name}' of the tracker store must be true or false, not "
        f"{value!r}. Correct it in endpoints.yml."
    )


def mapping(name: str, value: Any) -> Dict[str, Any]:
    """An optional dictionary with text keys."""
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        for each in (*value, *value.values()):
            if isinstance(each, str):
                _check_characters(name, each)
        return dict(value)
    raise store_error(
        f"The option '{name}' of the tracker store must be a mapping of names to "
        f"values, not {type(value).__name__}. Correct it in endpoints.yml."
    )


def spool_place(name: str, value: Any) -> str:
    """``memory``, ``off``, or the path of a file.

    YAML 1.1 reads ``off`` as a truth value.
    """
    if value is False:
        return "off"
    if value is None or value is True or value == "":
        return "memory"
    place = text(name, value)
    if place in ("memory", "off"):
        return str(place)
    if not Path(str(place)).is_absolute():
        raise store_error(
            f"The option '{name}' of the tracker store must be memory, off, or the "
            f"absolute path of a file, not '{place}'. Correct it in endpoints.yml."
        )
    return str(place)


def byte_count(name: str, value: Any) -> Optional[int]:
    """An optional number of bytes."""
    return whole_number(name, value, 0)


def at_least(minimum: int) -> Callable[[str, Any], Optional[int]]:
    """The check of an optional whole number that is not below a minimum."""

    def check(name: str, value: Any) -> Optional[int]:
        return whole_number(name, value, minimum)

    return check


#: The options that every store has, beside ``url`` (or ``host``).
COMMON = (
    Option(
        "record_exp",
        seconds,
        None,
        "Seconds after its last message that a conversation is erased; never unless "
        "given.",
    ),
    Option(
        "timeout",
        timeout,
        DEFAULT_TIMEOUT,
        "Seconds that the server may stay silent in any call.",
    ),
    Option(
        "startup_timeout",
        seconds,
        None,
        "Seconds to wait at the start for a server that is not up yet; as `timeout` "
        "unless given.",
    ),
    Option(
        "retrieve_events_from_previous_conversation_sessions",
        flag,
        False,
        "Whether a tracker has the events of all sessions instead of the last one.",
    ),
    Option(
        "spool",
        spool_place,
        "memory",
        "Where messages are kept while the database is away: `memory`, the absolute path "
        "of a file, or `off`.",
    ),
    Option(
        "spool_bytes",
        byte_count,
        100_000_000,
        "Bytes that the spool may take. A full spool is an error; nothing that waits is "
        "dropped.",
    ),
    Option(
        "recent_bytes",
        byte_count,
        50_000_000,
        "Bytes of memory for copies of recent conversations, which go on while the "
        "database is away.",
    ),
    Option(
        "read_newer",
        flag,
        True,
        "Whether a read of a long session asks for its newest 30 events alone, and takes "
        "the older ones from the copy of this process. Set it to false where rows are "
        "changed by hand, and the assistant must see that at once.",
    ),
    Option(
        "max_event_bytes",
        at_least(1000),
        None,
        "Bytes that a stored event may take; any number unless given. The longest "
        "texts of a longer event are cut; where that does not help, the save is an error.",
    ),
    Option(
        "max_session_events",
        at_least(100),
        None,
        "Events that a tracker has of a session; any number unless given. Of a longer "
        "session a tracker has the newest events; all events stay stored.",
    ),
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
