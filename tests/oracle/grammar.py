"""What Oracle rejects, by patterns and by a grammar of its SQL."""

from __future__ import annotations

import functools
import re
import sys

import pytest

from rasa_trackers.sql import reading

#: What Oracle rejects, or 11.2 does.
REJECTED = {
    r"FROM (\w+|\(.*\)) AS ": "AS before the alias of a table",
    r"SELECT\s+EXISTS": "EXISTS as a value",
    r"(?<!:)\bLIMIT\b": "LIMIT",
    r"\bOFFSET\b(?!.*\bFETCH FIRST\b)": "OFFSET without FETCH",
    r"\b(true|false)\b": "a boolean (before 23)",
    r"SELECT (?!.*\bFROM\b)": "SELECT without FROM (before 23)",
    r"\bIF (NOT )?EXISTS\b": "IF EXISTS (before 23)",
    r"\bON CONFLICT\b": "ON CONFLICT",
    r"VALUES\s*\([^)]*\)\s*,\s*\(": "several rows in VALUES (before 23)",
    r"\bIN\s*\((?!\s*SELECT)": "a list in IN, which may hold 1,000 items",
    r"\bRETURNING\b": "RETURNING, which an executemany has none of in 1.4",
    r"(DISTINCT|GROUP BY|ORDER BY)[^)]*\bdata\b": "a CLOB that is compared",
    r"\bdata\b\s*(=|<|>|LIKE)": "a CLOB that is compared",
    r"''": "an empty text, which is NULL",
}


#: Words that may not name a bind variable: ORA-01745.
RESERVED_WORDS = """
access add all alter and any as asc audit between by char check cluster column
comment compress connect create current date decimal default delete desc distinct drop
else exclusive exists file float for from grant group having identified immediate in
increment index initial insert integer intersect into is level like lock long maxextents
minus mode modify noaudit nocompress not nowait null number of offline on online option
or order pctfree prior public raw rename resource revoke row rowid rownum rows select
session set share size smallint start successful synonym sysdate table then to trigger
uid union unique update user validate values varchar varchar2 view whenever where with
"""


RESERVED = set(RESERVED_WORDS.split())


def complaints(sql):
    found = [
        reason
        for pattern, reason in REJECTED.items()
        if re.search(pattern, " ".join(sql.split()), re.IGNORECASE)
    ]
    found += [
        f"bind variable :{name}"
        for name in re.findall(r"(?<!\d):(\w+)", sql)
        if name.lower() in RESERVED
    ]
    found += [
        f"more than 30 characters: {name}"
        for name in re.findall(r"[A-Za-z_]\w*", sql)
        if len(name) > 30
    ]
    return found


def looked_at(sql):
    """The text without what the lint below mistakes for something else."""
    # A list that is kept short.
    assert reading._READ_BATCH < 1000
    sql = re.sub(r"IN \((__\[POSTCOMPILE_|:)sender_ids[^()]*\)", "", sql)
    # A column that is a query of its own.
    return re.sub(r"\(SELECT users.user_id [^()]*\) AS user_id", "user_id", sql)


@functools.lru_cache(maxsize=None)
def syntax_errors(sql):
    """What the grammar of SQLFluff's Oracle dialect has against a statement or block.

    It knows PL/SQL's blocks, but lets some semicolons be missing, which
    ``h2_driver`` insists on.
    """
    if sys.version_info < (3, 10):
        pytest.skip("no SQLFluff that knows PL/SQL for this Python")
    from sqlfluff.core import FluffConfig, Linter

    linter = Linter(config=FluffConfig(overrides={"dialect": "oracle"}))
    is_block = re.match("DECLARE|BEGIN", sql)
    # As a script, in which a slash ends a block.
    parsed = linter.parse_string(f"{sql}\n/\n" if is_block else f"{sql};\n")
    found = [str(violation) for violation in parsed.violations]
    if found:
        return found  # and there may be no tree
    unknown = [segment.raw for segment in parsed.tree.recursive_crawl("unparsable")]
    kind = "begin_end_block" if is_block else "statement"
    if not unknown and not any(parsed.tree.recursive_crawl(kind)):
        found.append(f"no {kind}")
    return found + unknown
