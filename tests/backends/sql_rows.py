"""What several SQL databases have in common."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Tuple

#: The sender id and the text of each event, in order.
SELECT = "SELECT sender_id, data FROM events ORDER BY id"


def grouped(rows: Iterable[Tuple[str, Any]]) -> Dict[str, List[str]]:
    """The texts by their sender ids."""
    found: Dict[str, List[str]] = {}
    for sender_id, text in rows:
        found.setdefault(sender_id, []).append(text)
    return found
