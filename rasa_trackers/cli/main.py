"""The program ``rasa-trackers``: its commands, and how it ends."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import warnings
from typing import Any, Dict, List, Optional, Tuple

try:
    import click
except ImportError:
    sys.exit(
        "rasa-trackers needs packages that are not installed. Install them: "
        "pip install 'rasa-trackers[cli]'"
    )

import rasa_trackers
from rasa_trackers.cli.errors import CommandError
from rasa_trackers.cli.output import visible
from rasa_trackers.errors import is_store_error

#: The exit status of a program that Ctrl-C has ended.
_INTERRUPTED = 128 + signal.SIGINT

#: The commands: their modules and what ``--help`` says of them.
COMMANDS: Dict[str, Tuple[str, str]] = {
    "check": ("check", "Whether the store is healthy, and how to mend it."),
    "copy": ("copy", "Copy conversations from one store to another."),
    "delete": ("delete", "Erase conversations, and prove it."),
    "expire": ("expire", "Erase conversations that have been quiet for long."),
    "export": ("export", "Write conversations to a file or a pipe."),
    "import": ("import_", "Read conversations from a file or a pipe."),
    "list": ("list_", "List conversations."),
    "schema": ("schema", "The DDL for an administrator."),
    "show": ("show", "Show a conversation as a person would read it."),
    "spool": ("spool", "What waits for the database."),
    "stats": ("stats", "Conversations and events over time."),
}


class _Commands(click.Group):
    """Imports the module of a command when the command runs."""

    def list_commands(self, ctx: click.Context) -> List[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(
            f"rasa_trackers.cli.commands.{COMMANDS[cmd_name][0]}"
        )
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context, args: List[str]) -> Any:
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(error.message + hint, ctx) from None

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        # Without importing them: a driver takes 0.2 s.
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
    epilog="Stores are named by the endpoints.yml that Rasa reads.",
)
@click.version_option(rasa_trackers.__version__, prog_name="rasa-trackers")
def cli() -> None:
    """What an operator does with the conversations of a Rasa assistant."""


def main() -> None:
    """Run the program and end it with its exit status."""
    if not sys.warnoptions:
        # Drivers warn of old Pythons and of each other.
        warnings.simplefilter("ignore")
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[_Log()])
    status = run(sys.argv[1:])
    # Threads that still wait for a server must not keep the program from ending.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 1
    os._exit(status)


def run(arguments: List[str]) -> int:
    """Run a command line; gives the exit status."""
    if not arguments and "_RASA_TRACKERS_COMPLETE" not in os.environ:
        click.echo(
            cli.get_help(click.Context(cli, info_name="rasa-trackers")), err=True
        )
        return 2
    try:
        result = cli.main(arguments, prog_name="rasa-trackers", standalone_mode=False)
    except click.exceptions.Exit as done:
        return int(done.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = f" See: {context.command_path} --help" if context else ""
        return _failed(f"{error.format_message()}{where}", error.exit_code)
    except (click.Abort, KeyboardInterrupt) as interruption:
        # click hides what a command says of its interruption behind its own error.
        said = str(interruption) or str(interruption.__cause__ or "")
        return _failed(said or "Interrupted.", _INTERRUPTED)
    except BrokenPipeError:
        # Who reads the output has enough of it, as in ``| head``.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - until the end
        return 1
    except Exception as error:
        if os.environ.get("RASA_TRACKERS_TRACEBACK") and not _is_told(error):
            raise
        return _failed(_said(error), 1)
    return result if isinstance(result, int) else 0


def _is_told(error: Exception) -> bool:
    """Whether the text of an error is for the operator, and without any password."""
    return isinstance(error, CommandError) or is_store_error(error)


def _said(error: Exception) -> str:
    if _is_told(error):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory."
    # Neither its text nor a traceback: a password may stand there.
    return (
        f"This is a mistake in rasa-trackers ({type(error).__name__}). Set "
        f"RASA_TRACKERS_TRACEBACK=1 to see where, and report it."
    )


def _failed(text: str, status: int) -> int:
    line = visible(" ".join(text.split()))
    with contextlib.suppress(OSError):
        click.echo(f"rasa-trackers: {line}", err=True)
    return status


class _Log(logging.Handler):
    """Warnings of the package on standard error, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            click.echo(
                f"rasa-trackers: {visible(' '.join(record.getMessage().split()))}",
                err=True,
            )
        except Exception:  # noqa: BLE001 - as all handlers do
            self.handleError(record)
