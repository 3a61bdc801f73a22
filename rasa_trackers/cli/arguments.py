"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, TypeVar

import click

from rasa_trackers.cli.endpoints import DEFAULT_FILE

F = TypeVar("F", bound=Callable[..., Any])


def endpoints_option(command: F) -> F:
    """Add ``--endpoints`` to a command."""
    add: Callable[[F], F] = click.option(
        "--endpoints",
        "-e",
        type=click.Path(path_type=Path),
        default=DEFAULT_FILE,
        show_default=True,
        metavar="FILE",
        help="The endpoints.yml that names the store.",
    )
    return add(command)


def json_option(command: F) -> F:
    """Add ``--json`` to a command."""
    add: Callable[[F], F] = click.option(
        "--json", "as_json", is_flag=True, help="Print JSON."
    )
    return add(command)


def example(*lines: str) -> str:
    """The examples of a command, for its help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
