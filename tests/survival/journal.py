"""What a writer says it is about to save, and what it was told is saved.

A file of JSON lines, each on the disk before what it announces begins::

    {"intends": [lane, turn], "conversation": "...", "events": ["0.1.17.0", ...]}
    {"acknowledged": [lane, turn], "waits": false, "seconds": 0.01}
    {"failed": [lane, turn], "error": "ConnectionException: ..."}
    {"stored": "all"}
    {"lives": "anew"}

``waits`` says that a spool in memory has it: a kill of the writer may lose it, until a
line says that nothing waits any more.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple


@dataclass
class Save:
    """One turn of a lane, as its journal has it."""

    writer: int
    lane: int
    turn: int
    conversation: str
    #: Names of the events, in order.
    events: Sequence[str]
    acknowledged: bool = False
    #: Whether only the memory of its writer has it, as far as the journal tells.
    waits: bool = False
    #: How long the call took that has acknowledged it.
    seconds: float = 0.0
    #: What the store has told instead, each time.
    errors: List[str] = field(default_factory=list)


def event_name(writer: int, lane: int, turn: int, number: int) -> str:
    """The name of an event, which stands in its metadata and nowhere else."""
    return f"{writer}.{lane}.{turn}.{number}"


class Journal:
    """The journal of a writer; its next life goes on with it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        # What was being written when the writer died is a line of its own.
        self._write("\n")
        self._line(lives="anew")

    def intend(
        self, lane: int, turn: int, conversation: str, events: Sequence[str]
    ) -> None:
        self._line(intends=[lane, turn], conversation=conversation, events=events)

    def acknowledge(
        self, lane: int, turn: int, *, waits: bool = False, seconds: float = 0.0
    ) -> None:
        self._line(acknowledged=[lane, turn], waits=waits, seconds=round(seconds, 3))

    def stored_all(self) -> None:
        """Nothing that this life of the writer has saved waits in its memory."""
        self._line(stored="all")

    def fail(self, lane: int, turn: int, error: BaseException) -> None:
        self._line(failed=[lane, turn], error=f"{type(error).__name__}: {error}")

    def _line(self, **content: Any) -> None:
        self._write(json.dumps(content) + "\n")

    def _write(self, text: str) -> None:
        os.write(self._file, text.encode())
        os.fsync(self._file)


def read(path: Path, writer: int) -> List[Save]:
    """The saves that a journal tells of, in the order in which they began."""
    saves: Dict[Tuple[int, int], Save] = {}
    # What waits in this life of the writer. The next life may find it lost, or stored.
    waiting: List[Save] = []
    for line in _lines(path):
        if "intends" in line:
            lane, turn = line["intends"]
            saves[lane, turn] = Save(
                writer, lane, turn, line["conversation"], line["events"]
            )
        elif "acknowledged" in line:
            save = saves[tuple(line["acknowledged"])]
            save.acknowledged, save.waits = True, line["waits"]
            save.seconds = line["seconds"]
            if save.waits:
                waiting.append(save)
        elif "lives" in line:
            waiting = []
        elif "stored" in line:
            for save in waiting:
                save.waits = False
            waiting = []
        else:
            saves[tuple(line["failed"])].errors.append(line["error"])
    return list(saves.values())


def _lines(path: Path) -> Iterator[Dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue  # torn; what it announces has not begun
        yield content
