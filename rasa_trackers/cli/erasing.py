"""Erasing conversations: a count, a question, the erasure, and the proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import click

from rasa_trackers.cli.errors import CommandError
from rasa_trackers.cli.inspection import left, traces
from rasa_trackers.cli.output import count, note
from rasa_trackers.cli.progress import progress
from rasa_trackers.cli.reading import in_parallel, read
from rasa_trackers.cli.stores import Store
from rasa_trackers.retries import DeadlineLog

#: Conversations of a user that are asked for at a time.
_PAGE = 200
#: Conversations that are named where something is left.
_MOST_NAMED = 10


class Found(NamedTuple):
    """What is to be erased."""

    conversations: int
    events: int
    #: Sender ids without a conversation.
    missing: int


class Erasure:
    """Erases conversations of a store and of its spool file."""

    def __init__(self, store: Store) -> None:
        """Erase nothing yet.

        Args:
            store: The store.

        Raises:
            CommandError: for a spool file that cannot be used.
        """
        self._store = store
        self._spool = _spool_of(store)

    def conversations_of(self, user_id: str) -> List[str]:
        """The sender ids of a user's conversations."""
        found: List[str] = []
        while True:
            page = self._store.call(_ids_of_user, user_id, len(found))
            found += page
            if len(page) < _PAGE:
                break
        return list(dict.fromkeys([*found, *self._waiting_of(user_id)]))

    def _waiting_of(self, user_id: str) -> List[str]:
        """Conversations of a user that wait, of which the database may know nothing."""
        if self._spool is None:
            return []
        waiting = {each: self._spool.waiting(each) for each in self._spool.sender_ids()}
        return sorted(
            sender_id
            for sender_id, each in waiting.items()
            if each is not None and each.page().user_id == user_id
        )

    def count(self, sender_ids: Sequence[str]) -> Found:
        """What is stored of conversations."""
        numbers = [
            len(self._store.call(read, sender_id).events) for sender_id in sender_ids
        ]
        existing = sum(number > 0 for number in numbers)
        return Found(existing, sum(numbers), len(numbers) - existing)

    def erase(
        self,
        sender_ids: Sequence[str],
        found: Found,
        *,
        dry_run: bool,
        yes: bool,
        ends: Optional[Mapping[str, int]] = None,
    ) -> None:
        """Erase conversations, after a question, and prove it.

        Args:
            sender_ids: The conversations. What is left of one that has no events is
                erased too.
            found: What is stored of them.
            dry_run: Whether to erase nothing.
            yes: Whether not to ask.
            ends: Where each conversation ended when it was chosen. One that has gone on
                since then stays.

        Raises:
            CommandError: when anything is left.
        """
        if dry_run:
            click.echo("Nothing was erased: --dry-run.")
            return
        if not sender_ids:
            return
        if not yes:
            _ask(f"Erase {count(found.conversations, 'conversation')} for good?")
        erased: List[str] = []
        kept = 0
        try:
            with progress("Erasing", len(sender_ids)) as shown:
                for chunk in in_parallel(
                    lambda chunk: self._erase_chunk(chunk, ends), _chunks(sender_ids)
                ):
                    for sender_id, is_gone in chunk.items():
                        shown.advance()
                        if not is_gone:
                            kept += 1
                            continue
                        erased.append(sender_id)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted after {count(len(erased), 'conversation')}, which are "
                f"erased. Run the same command again to go on."
            ) from None
        self._prove(erased)
        click.echo(
            f"{count(len(erased), 'conversation')} erased. Looked again: nothing is left "
            f"of {'it' if len(erased) == 1 else 'them'} in {self._store.name}"
            + (f" and in the spool {self._spool.name}." if self._spool else ".")
        )
        if kept:
            note(f"{count(kept, 'conversation')} went on meanwhile and stayed.")

    def _erase_chunk(
        self, sender_ids: Sequence[str], ends: Optional[Mapping[str, int]]
    ) -> Dict[str, bool]:
        waiting = set()
        for sender_id in sender_ids if self._spool is not None else ():
            if ends is None:
                # First: what waits would be stored again afterwards.
                self._spool.erase(sender_id)
            elif self._spool.waits(sender_id):
                waiting.add(sender_id)  # it goes on
        chosen = [each for each in sender_ids if each not in waiting]
        gone = self._store.call(_erase_all, chosen, ends)
        return {each: gone.get(each, False) for each in sender_ids}

    def _prove(self, sender_ids: Sequence[str]) -> None:
        remains = []
        stored = traces(self._store, sender_ids)
        for sender_id in sender_ids:
            found = stored.get(sender_id, {})
            if self._spool is not None and self._spool.waits(sender_id):
                found["the spool"] = 1
            if any(found.values()):
                remains.append(f"{sender_id!r} ({', '.join(left(found))})")
        if remains:
            raise CommandError(
                f"Something is left of {count(len(remains), 'conversation')}: "
                f"{'; '.join(remains[:_MOST_NAMED])}. An assistant may have written "
                f"meanwhile; run the command again."
            )


def _ask(question: str) -> None:
    try:
        is_wanted = click.confirm(question, err=True)
    except click.Abort:
        raise CommandError(
            "Nothing was erased. To erase without a question: --yes."
        ) from None
    if not is_wanted:
        raise CommandError("Nothing was erased.")


def _chunks(sender_ids: Sequence[str]) -> List[Sequence[str]]:
    return [sender_ids[begin : begin + 20] for begin in range(0, len(sender_ids), 20)]


def _ids_of_user(log: DeadlineLog, user_id: str, skip: int) -> List[str]:
    return [each.sender_id for each in log.conversations_of(user_id, _PAGE, skip)]


def _erase_all(
    log: DeadlineLog, sender_ids: Sequence[str], ends: Optional[Mapping[str, int]]
) -> Dict[str, bool]:
    return {sender_id: _erase(log, sender_id, ends) for sender_id in sender_ids}


def _erase(log: DeadlineLog, sender_id: str, ends: Optional[Mapping[str, int]]) -> bool:
    """Erase a conversation, unless it has gone on; gives whether it is gone."""
    if ends is None:
        log.delete(sender_id)
        return True
    if log.replace(sender_id, [], ends[sender_id]) is not None:
        return True
    return not read(log, sender_id).events


def _spool_of(store: Store) -> Any:
    """The spool file of a store; ``None`` if there is none."""
    place = store.place.values.get("spool", "off")
    if place in ("off", "memory") or not Path(place).exists():
        return None
    from rasa_trackers.outage.spool import Spool

    spool = Spool(Path(place), store.place.values["spool_bytes"])
    spool.claim(store.where)
    return spool
