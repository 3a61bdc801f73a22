"""Conversations as lines of JSON, in files and pipes, plain or compressed.

One conversation is one line::

    {"sender_id": "ada", "user_id": "u", "expires_at": null, "events": [{...}, "..."]}

An event is its JSON object. A stored text that is not an object in Rasa's way of writing
JSON is a string, so that an import gives it back byte for byte.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import os
import sys
from pathlib import Path
from typing import IO, Any, Iterator, List, Optional, cast

from rasa_trackers.cli.errors import CommandError
from rasa_trackers.cli.reading import Whole

#: The name of a pipe: standard input or output.
PIPE = "-"

#: Characters of one line; JSON of one conversation must fit into memory.
_LONGEST_LINE = 2**30


def to_line(conversation: Whole) -> str:
    """A conversation as one line, with its end."""
    head = json.dumps(
        {
            "sender_id": conversation.sender_id,
            "user_id": conversation.user_id,
            "expires_at": conversation.expires_at,
        }
    )
    events = ", ".join(map(_event_in_line, conversation.events))
    return f'{head[:-1]}, "events": [{events}]}}\n'


def _event_in_line(data: str) -> str:
    try:
        event = json.loads(data)
        is_object = isinstance(event, dict) and json.dumps(event) == data
    except (ValueError, RecursionError):
        is_object = False
    return data if is_object else json.dumps(data)


def from_line(line: str, number: int, name: str) -> Whole:
    """The conversation of a line.

    Args:
        line: The line.
        number: Its number, for messages.
        name: The name of the file, for messages.

    Raises:
        CommandError: for a line that is none.
    """
    try:
        value = json.loads(line)
        sender_id, events = value["sender_id"], value["events"]
        user_id, expires_at = value.get("user_id"), value.get("expires_at")
        _require(
            isinstance(sender_id, str)
            and isinstance(events, list)
            and isinstance(user_id, (str, type(None)))
            and (
                expires_at is None
                or (type(expires_at) in (int, float) and math.isfinite(expires_at))
            )
        )
        texts = [_text_of(event) for event in events]
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
    ):
        raise CommandError(
            f"Line {number} of {name} is not a conversation as `export` writes it: "
            f'{{"sender_id": "...", "events": [...]}}. The lines before it were '
            f"imported; correct the line and run the command again."
        ) from None
    return Whole(sender_id, texts, user_id, 0, expires_at)


def _require(is_right: bool) -> None:
    if not is_right:
        raise TypeError


def _text_of(event: Any) -> str:
    if isinstance(event, str):
        return event
    if isinstance(event, dict):
        return json.dumps(event)
    raise TypeError


@contextlib.contextmanager
def writing(name: str) -> Iterator[IO[str]]:
    """A file to write; it appears under its name only when it is complete.

    Args:
        name: The file, compressed if its name ends in ``.gz`` or ``.zst``; or ``-``.
    """
    if name == PIPE:
        # ASCII whatever the locale.
        sys.stdout.flush()
        stream = io.TextIOWrapper(
            os.fdopen(os.dup(sys.stdout.fileno()), "wb"), encoding="ascii", newline="\n"
        )
        with stream:
            yield stream
        return
    with private_file(name) as raw, _compressing(raw, name) as text:
        yield text


@contextlib.contextmanager
def private_file(name: str) -> Iterator[IO[bytes]]:
    """A file that only its owner reads; it appears under its name when it is complete."""
    path = Path(name)
    partial = path.with_name(f"{path.name}.part")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
        partial.replace(path)
    except OSError as error:
        raise CommandError(f"{name} cannot be written: {error.strerror}.") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def _compressing(raw: IO[bytes], name: str) -> Iterator[IO[str]]:
    with contextlib.ExitStack() as stack:
        binary: Any = raw
        if name.endswith(".gz"):
            binary = stack.enter_context(
                gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6)
            )
        elif name.endswith(".zst"):
            compressor = _zstandard().ZstdCompressor(level=3)
            binary = stack.enter_context(compressor.stream_writer(raw, closefd=False))
        unclosed = _Unclosed(binary)
        text = io.TextIOWrapper(
            cast("IO[bytes]", io.BufferedWriter(unclosed, 1 << 18)),
            encoding="ascii",
            newline="\n",
        )
        try:
            yield text
            text.flush()
        finally:
            # What an interrupted export has not written yet goes nowhere.
            unclosed.stream = None
            text.close()


class _Unclosed(io.RawIOBase):
    """Writes to a stream, which others close."""

    def __init__(self, stream: Any) -> None:
        #: Where it goes; ``None`` to drop it.
        self.stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.stream is not None:
            self.stream.write(bytes(data))
        return len(data)


@contextlib.contextmanager
def reading(name: str) -> Iterator[Iterator[str]]:
    """The lines of a file or of a pipe."""
    try:
        with contextlib.ExitStack() as stack:
            binary: Any = sys.stdin.buffer
            if name != PIPE:
                binary = stack.enter_context(Path(name).open("rb"))
            if name.endswith(".gz"):
                binary = stack.enter_context(gzip.open(binary))
            elif name.endswith(".zst"):
                decompressor = _zstandard().ZstdDecompressor()
                binary = stack.enter_context(
                    decompressor.stream_reader(binary, read_across_frames=True)
                )
            yield _lines(binary, name)
    except (EOFError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"{name} cannot be read: {reason.rstrip('.')}.") from None


def _lines(binary: Any, name: str) -> Iterator[str]:
    zstd_error: Any = ()
    if name.endswith(".zst"):
        zstd_error = _zstandard().ZstdError
    rest: List[bytes] = []
    try:
        while True:
            block = binary.read(1 << 18)
            if block and b"\n" not in block:
                rest.append(block)
                if sum(map(len, rest)) > _LONGEST_LINE:
                    raise CommandError(f"{name} has a line of more than 1 GB.")
                continue
            *complete, last = b"".join([*rest, block]).split(b"\n")
            for line in complete:
                yield _decoded(line, name)
            rest = [last]
            if not block:
                break
    except zstd_error as error:
        raise CommandError(f"{name} cannot be read: {error}.") from None
    if rest and rest[0]:
        yield _decoded(rest[0], name)


def _decoded(line: bytes, name: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError(f"{name} is not text in UTF-8.") from None


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise CommandError(
            "Files in .zst need the package zstandard: pip install 'rasa-trackers[cli]'"
        ) from None
    return zstandard


def size_of(name: str) -> Optional[int]:
    """The bytes of a file; ``None`` for a pipe."""
    return None if name == PIPE else Path(name).stat().st_size
