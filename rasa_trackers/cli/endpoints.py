"""Reads the section ``tracker_store`` of an ``endpoints.yml``, as Rasa reads it."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

from rasa_trackers.cli.errors import CommandError

logger = logging.getLogger(__name__)

#: The file that a command reads unless another one is named.
DEFAULT_FILE = "endpoints.yml"

#: What Rasa's loader keeps to itself (``EndpointConfig``, 3.6.21 and Pro 3.21).
_NOT_FOR_STORES = frozenset(
    {"params", "headers", "basic_auth", "token", "token_name", "cafile"}
)


class Section(NamedTuple):
    """The section ``tracker_store`` of a file."""

    #: The file, as messages show it.
    path: str
    #: ``type``, or the empty text.
    type: str
    #: Everything else.
    options: Dict[str, Any]


def read_section(path: Path) -> Section:
    """The section ``tracker_store`` of a file, environment variables filled in.

    Raises:
        CommandError: for a file that cannot be read or has no such section.
    """
    content = _content(path)
    section = content.get("tracker_store") if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise CommandError(
            f"{path} has no section tracker_store. Name the endpoints.yml of your "
            f"assistant."
        )
    options = {str(name): value for name, value in section.items()}
    # Rasa prefers `store_type` where both are given.
    type_name = options.pop("type", None)
    type_name = options.pop("store_type", type_name)
    if type_name is not None and not isinstance(type_name, str):
        raise CommandError(f"The 'type' of the tracker_store in {path} is not a text.")
    return Section(
        str(path),
        type_name or "",
        {name: options[name] for name in options if name not in _NOT_FOR_STORES},
    )


def _content(path: Path) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CommandError(
            f"There is no file {path}. Name the endpoints.yml of your assistant."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {_reason(error)}.") from None
    try:
        return _parser(path).load(text)
    except YAMLError as error:
        # The text around the place is not shown: a password may stand there.
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise CommandError(f"{path} is not valid YAML{place}: {problem}.") from None
    except (RecursionError, ValueError):
        raise CommandError(f"{path} is not valid YAML: it cannot be parsed.") from None


def _parser(path: Path) -> Any:
    """A parser that fills in ``${NAME}``, also in the middle of a text.

    As ``replace_environment_variables`` in ``rasa.shared.utils.io`` (3.6.21): what is
    filled in is always text, also where it reads like a number.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import SafeConstructor
    from ruamel.yaml.resolver import VersionedResolver

    class Constructor(SafeConstructor):
        pass

    class Resolver(VersionedResolver):
        pass

    def fill_in(constructor: Any, node: Any) -> str:
        return _filled_in(path, constructor.construct_scalar(node), node)

    # Rasa's own pattern: it begins with any character, which None stands for.
    variables = re.compile(r"^(.*)\$\{(.*)\}(.*)$")
    Resolver.add_implicit_resolver("!env_var", variables, None)
    Constructor.add_constructor("!env_var", fill_in)
    parser: Any = YAML(typ="safe", pure=True)
    parser.Constructor = Constructor
    parser.Resolver = Resolver
    # The version that Rasa reads: `off` and `yes` are texts there.
    parser.version = (1, 2)
    return parser


def _filled_in(path: Path, value: str, node: Any) -> str:
    expanded = os.path.expandvars(value)
    missing = [
        word for word in expanded.split() if word.startswith("$") and word in value
    ]
    if missing:
        line = node.start_mark.line + 1
        names = ", ".join(re.findall(r"\$\{?(\w+)", " ".join(missing))) or "a variable"
        raise CommandError(
            f"{path}, line {line}, needs environment variables that are not set: "
            f"{names}. Set them as for Rasa."
        )
    unset = [
        name for name in re.findall(r"\$\{(\w+)\}", value) if name not in os.environ
    ]
    if unset:
        # In the middle of a word, Rasa lets it stand.
        logger.warning(
            "%s, line %d: the environment variable %s is not set, so its name stays in "
            "the text, as in Rasa.",
            path,
            node.start_mark.line + 1,
            ", ".join(unset),
        )
    return expanded


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")


def default_path(given: Optional[str]) -> Path:
    """The file that a command reads."""
    return Path(given or DEFAULT_FILE)
