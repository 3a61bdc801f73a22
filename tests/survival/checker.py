"""Compares what writers have been told with what is stored."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import DefaultDict, Dict, Iterable, List, Mapping, NamedTuple, Optional

from survival.journal import Save


class Findings(NamedTuple):
    """What must not be; each is a list of texts that say where."""

    #: Acknowledged, and not there.
    lost: List[str]
    #: There more than once.
    duplicated: List[str]
    #: Behind one of the same lane and conversation that was to come later.
    reordered: List[str]
    #: Saves of which a part is there.
    torn: List[str]
    #: Nobody wrote them, or not to this conversation.
    alien: List[str]

    def __bool__(self) -> bool:
        return any(self)


#: Seconds within which a save is acknowledged, whatever goes wrong, where a spool takes it.
LATEST = 3.0

#: Names of the stored events of each conversation, in order; `None` has no name.
Stored = Mapping[str, Iterable[Optional[str]]]


def check(saves: Iterable[Save], stored: Stored) -> Findings:
    """Find what is wrong with what is stored.

    Args:
        saves: What the journals of all writers tell.
        stored: What is stored.
    """
    saves = list(saves)
    found = Findings([], [], [], [], [])
    times = _look(saves, stored, found)
    for save in saves:
        for name in save.events:
            if times[name] > 1:
                found.duplicated.append(
                    f"{name} in {save.conversation}, {times[name]} times"
                )
            elif not times[name] and save.acknowledged and not save.waits:
                found.lost.append(f"{name} in {save.conversation}")
        there = sum(times[name] > 0 for name in save.events)
        if 0 < there < len(save.events) and (save.waits or not save.acknowledged):
            where = f"{save.writer}.{save.lane}.{save.turn} in {save.conversation}"
            found.torn.append(f"{where}: {there} of {len(save.events)}")
    return found


def _look(saves: List[Save], stored: Stored, found: Findings) -> Dict[str, int]:
    """How often each event is there; finds what is alien or out of order."""
    written = {name: save for save in saves for name in save.events}
    rank = {name: number for number, name in enumerate(_in_order(saves))}
    times: Dict[str, int] = Counter()
    for conversation, names in stored.items():
        latest: DefaultDict[object, int] = defaultdict(lambda: -1)
        for name in names:
            save = written.get(name or "")
            if name is None or save is None or save.conversation != conversation:
                found.alien.append(f"{name} in {conversation}")
                continue
            times[name] += 1
            if times[name] > 1:
                continue  # its place is that of the first one
            lane = save.writer, save.lane
            if rank[name] < latest[lane]:
                found.reordered.append(f"{name} in {conversation}")
            latest[lane] = max(latest[lane], rank[name])
    return times


def _in_order(saves: Iterable[Save]) -> Iterable[str]:
    """All events, those of one lane in the order in which it wrote them."""
    for save in sorted(saves, key=lambda save: (save.writer, save.lane, save.turn)):
        yield from save.events


def late(saves: Iterable[Save]) -> List[str]:
    """The saves that were acknowledged later than ``LATEST``."""
    return [
        f"{save.events[0]} in {save.conversation}, after {save.seconds:.1f} seconds"
        for save in saves
        if save.acknowledged and save.seconds > LATEST
    ]
