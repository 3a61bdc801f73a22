"""The errors of the command line."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot do what it is asked to do; the text is one line.

    The text says how to mend that, and never shows a password.
    """
