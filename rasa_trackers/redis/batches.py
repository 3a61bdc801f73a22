"""Cutting long sequences, so that one message to the server stays small."""

from __future__ import annotations

import itertools
from typing import Iterable, Iterator, List, Optional, TypeVar

T = TypeVar("T")

#: Conversations that one message asks about.
BATCH = 500


def in_batches(
    items: Iterable[T], sizes: Optional[Iterable[int]] = None, most: int = 0
) -> Iterator[List[T]]:
    """Lists of at most ``BATCH`` items.

    Args:
        items: What to cut.
        sizes: The size of each item.
        most: The sum of sizes that a list may have, unless it has one item.
    """
    batch: List[T] = []
    total = 0
    for item, size in zip(items, itertools.repeat(0) if sizes is None else sizes):
        if batch and (len(batch) == BATCH or total + size > most):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch
