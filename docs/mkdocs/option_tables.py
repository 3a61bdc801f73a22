"""Writes the tables of options into the pages, from the code's own declarations.

``PYTHONPATH=. python docs/mkdocs/option_tables.py`` needs the drivers, and no Rasa.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterable, List

from rasa_trackers.backend import backend_of
from rasa_trackers.store_options import COMMON, Option

PAGES = Path(__file__).parents[1]

#: The page of each store.
STORES = {
    "SQLTrackerStore": "sql.md",
    "RedisTrackerStore": "redis.md",
    "MongoTrackerStore": "mongodb.md",
    "OracleTrackerStore": "oracle.md",
    "InMemoryTrackerStore": "memory.md",
}


#: As in "Port of the server; 6379 unless given." and in a last sentence.
_UNLESS_GIVEN = re.compile(
    r"; ((?:as )?`[^`]+`|[^;.]+) unless given"
    r"|(?<=\.) ((?:as )?`[^`]+`|[^;.]+) unless given\."
)


def table(options: Iterable[Option]) -> str:
    """A row for each option."""
    rows = []
    for option in options:
        default, meaning = _default(option.default), option.meaning
        # Where the code's default is only that there is none, the sentence has it.
        found = _UNLESS_GIVEN.search(meaning)
        if found and not default:
            default = found[1] or found[2]
            meaning = f"{meaning[: found.start()]}{meaning[found.end() :]}"
        rows.append(f"| `{option.name}` | {default} | {meaning} |")
    return "\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows])


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def tables(store: str) -> str:
    """The table of a store's own options, and that of the options of all stores."""
    return "\n\n".join(
        (
            table(backend_of(store).options),
            "Every store has these options too:",
            table(COMMON),
        )
    )


def write(store: str, page: Path) -> None:
    """Put the tables of a store between their markers."""
    pattern = re.compile(
        rf"(<!-- options: {store} -->\n).*(<!-- /options -->)", re.DOTALL
    )
    text = page.read_text(encoding="utf-8")
    after, found = pattern.subn(
        lambda mark: f"{mark[1]}\n{tables(store)}\n\n{mark[2]}", text
    )
    if not found:
        raise ValueError(
            f"{page} has no <!-- options: {store} --> ... <!-- /options -->"
        )
    page.write_text(after, encoding="utf-8")


def stale() -> List[str]:
    """The pages whose tables are not those of the code."""
    return [
        page
        for store, page in STORES.items()
        if f"<!-- options: {store} -->\n\n{tables(store)}\n\n<!-- /options -->"
        not in (PAGES / page).read_text(encoding="utf-8")
    ]


if __name__ == "__main__":
    for one, its_page in STORES.items():
        write(one, PAGES / its_page)
