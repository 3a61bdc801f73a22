"""The statements of a log in Oracle, and the block that appends."""

# Statements are made of names alone; values are bound.
# ruff: noqa: S608

from __future__ import annotations

import hashlib
from typing import Any, Dict, List, Optional

import sqlalchemy as sa

from rasa_trackers.event_log import START
from rasa_trackers.sql.log import EXPIRED
from rasa_trackers.sql.oracle.failures import NUMBERS_BEHIND
from rasa_trackers.sql.schema import Tables
from rasa_trackers.sql.statements import Statements

#: Numbers drawn at the most to get past the conversation's last id. Each instance of a
#: cluster has a range of numbers of its own, as large as the sequence's cache.
LARGEST_GAP = 20_000

#: Oracle's clock in seconds since the epoch. EXTRACT gives the seconds with their
#: fraction, and the difference does not depend on the session's time zone.
_AGE = "SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'"
NOW = (
    f"(EXTRACT(DAY FROM ({_AGE})) * 86400 + EXTRACT(HOUR FROM ({_AGE})) * 3600"
    f" + EXTRACT(MINUTE FROM ({_AGE})) * 60 + EXTRACT(SECOND FROM ({_AGE})))"
)


class OracleStatements(Statements):
    """Statements that also take and give back the lock of a conversation."""

    def __init__(self, tables: Tables, **options: Any) -> None:
        super().__init__(tables, **options)
        events = tables.events
        self.lock = sa.insert(events).values(
            id=sa.bindparam("lock_id", type_=sa.Integer),
            sender_id=sa.bindparam("sender_id", type_=sa.String),
            type_name=sa.bindparam("type_name", "lock", type_=sa.String),
        )
        self.unlock = sa.delete(events).where(
            events.c.id == sa.bindparam("lock_id", type_=sa.Integer)
        )
        self.draw = sa.select(events.c.id.default.next_value())
        # Inline: otherwise SQLAlchemy asks for the id of a single row.
        self.insert_events = (
            sa.insert(events)
            .values(
                {
                    name: _bound(column, name)
                    for name, column in events.c.items()
                    if name != "id"
                }
            )
            .inline()
        )

    def _newest_id(self) -> Any:
        events = self._tables.events
        return sa.select(sa.func.max(events.c.id)).where(
            events.c.sender_id == sa.bindparam("sender_id"), events.c.id > START
        )


class AppendBlock:
    """The anonymous block that appends events if the log still ends at a position.

    It gives the id of the last event in ``:new_id``; NULL if the log ends elsewhere,
    and ``EXPIRED`` if it has expired.
    """

    def __init__(
        self, tables: Tables, dialect: Any, *, record_exp: Optional[float]
    ) -> None:
        """Write the parts that are the same for every block.

        Args:
            tables: The tables to use.
            dialect: SQLAlchemy's dialect, which knows when to quote a name.
            record_exp: Seconds after its last append that a conversation expires.
        """
        preparer = dialect.identifier_preparer
        self._columns = tables.events.c
        self._events = preparer.format_table(tables.events)
        self._expiry = preparer.format_table(tables.expiry)
        self._sequence = preparer.format_sequence(tables.events.c.id.default)
        self._record_exp = record_exp
        self._whole: Dict[int, Any] = {}
        self._comparison: Any = None

    def whole(self, number: int) -> Any:
        """An append of so many events, from the lock to the commit."""
        if number not in self._whole:
            self._whole[number] = sa.text(self.whole_text(number)).bindparams(
                sa.bindparam("lock_id", type_=sa.Integer),
                *self._parameters(),
                *(
                    _bound(column, f"{name}_{index}")
                    for index in range(number)
                    for name, column in self._columns.items()
                    if name not in ("id", "sender_id")
                ),
            )
        return self._whole[number]

    def comparison(self) -> Any:
        """The part before the events are inserted, in a transaction that has the lock.

        ``:new_id`` is a number that the ids of the events will be greater than.
        """
        if self._comparison is None:
            text = _block([*self._newest(), *self._if_log_ends_there([])])
            self._comparison = sa.text(text).bindparams(*self._parameters())
        return self._comparison

    def whole_text(self, number: int) -> str:
        """The text of :meth:`whole`."""
        columns = [column.name for column in self._columns]
        inserts = [
            f"INSERT INTO {self._events} ({', '.join(columns)}) VALUES ("
            + ", ".join(
                [
                    "drawn" if index == 0 else f"{self._sequence}.NEXTVAL",
                    ":sender_id",
                    *(f":{name}_{index}" for name in columns[2:]),
                ]
            )
            + ");"
            for index in range(number)
        ]
        return _block(
            [
                (
                    f"INSERT INTO {self._events} (id, sender_id, type_name)"
                    " VALUES (:lock_id, :sender_id, 'lock');"
                ),
                *self._newest(),
                *self._expiry_check(),
                *self._if_log_ends_there([*inserts, *self._renewal()]),
                f"DELETE FROM {self._events} WHERE id = :lock_id;",
                "COMMIT;",
            ]
        )

    def _parameters(self) -> List[Any]:
        return [
            sa.bindparam("sender_id", type_=sa.String),
            sa.bindparam("after_id", type_=sa.Integer),
            sa.outparam("new_id", sa.Integer),
        ]

    def _newest(self) -> List[str]:
        return [
            (
                f"SELECT MAX(id) INTO newest FROM {self._events}"
                " WHERE sender_id = :sender_id AND id > 0;"
            )
        ]

    def _expiry_check(self) -> List[str]:
        """Let an expired log end at no position."""
        if self._record_exp is None:
            return []
        return [
            (
                f"SELECT COUNT(*) INTO too_late FROM {self._expiry}"
                f" WHERE sender_id = :sender_id AND expires_at <= {NOW}"
                f" AND last_id >= NVL(newest, {START});"
            ),
            "IF too_late > 0 THEN",
            f"SELECT {EXPIRED} INTO newest FROM dual;",
            f"SELECT {EXPIRED} INTO :new_id FROM dual;",
            "END IF;",
        ]

    def _if_log_ends_there(self, then: List[str]) -> List[str]:
        """Compare, and draw a number that is great enough, before ``then``."""
        return [
            f"IF NVL(newest, {START}) = :after_id THEN",
            # Each instance of a cluster numbers from a range of its own.
            f"FOR attempt IN 1..{LARGEST_GAP} LOOP",
            f"SELECT {self._sequence}.NEXTVAL INTO drawn FROM dual;",
            "EXIT WHEN drawn > :after_id;",
            "END LOOP;",
            "IF drawn <= :after_id THEN",
            f"RAISE_APPLICATION_ERROR({NUMBERS_BEHIND[3:]}, 'the sequence is behind');",
            "END IF;",
            *then,
            f"SELECT {self._sequence}.CURRVAL INTO :new_id FROM dual;",
            "END IF;",
        ]

    def _renewal(self) -> List[str]:
        if self._record_exp is None:
            return []
        return [
            f"DELETE FROM {self._expiry} WHERE sender_id = :sender_id;",
            (
                f"INSERT INTO {self._expiry} (sender_id, expires_at, last_id) VALUES"
                f" (:sender_id, {NOW} + {self._record_exp!r}, "
                f"{self._sequence}.CURRVAL);"
            ),
        ]


def lock_id(sender_id: str) -> int:
    """The id of the row that stands for a conversation while somebody writes to it.

    Negative, so that the sequence never gives it, and of 31 bits, which any column of
    numbers holds. Two conversations with one id would only wait for each other.
    """
    digest = hashlib.blake2b(
        sender_id.encode("utf-8", "surrogatepass"),
        digest_size=8,
        person=b"rasa_trackers",
    ).digest()
    return -1 - int.from_bytes(digest, "big") % (2**31 - 2)


def _block(lines: List[str]) -> str:
    return "\n".join(
        [
            "DECLARE",
            "newest NUMBER;",
            "drawn NUMBER;",
            "too_late NUMBER;",
            "BEGIN",
            *lines,
            "EXCEPTION WHEN OTHERS THEN",
            "ROLLBACK;",
            "RAISE;",
            "END;",
        ]
    )


def _bound(column: Any, name: str) -> Any:
    """A bind variable for a column.

    For a CLOB it is plain text. The type Text would make SQLAlchemy create a CLOB in
    the server for each value, which the driver fills in two round trips or more.
    """
    is_clob = isinstance(column.type, sa.Text)
    return sa.bindparam(name, type_=sa.String() if is_clob else column.type)
