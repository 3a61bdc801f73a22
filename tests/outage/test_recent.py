"""A read of a long session asks for its newest events, and takes the others from a copy."""

from __future__ import annotations

import itertools
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outage.flaky import REFUSED, UP, Connection, FakeProbe, entry
from rasa_trackers.event_log import START, Entry, Page, Stored, User
from rasa_trackers.memory.log import MemoryEventLog
from rasa_trackers.outage import availability, recent
from rasa_trackers.outage import log as outage_log
from rasa_trackers.outage.log import OutageLog
from rasa_trackers.outage.recent import RecentConversations
from rasa_trackers.outage.spool import Spool, Waiting
from rasa_trackers.paging import end_of, pages_newest_first, texts_of
from servers.process import wait_until


class GappyLog(MemoryEventLog):
    """Positions with gaps, as in a table that holds other conversations, too."""

    def __init__(self) -> None:
        super().__init__()
        self.gaps = itertools.cycle([3])

    def _numbered(self, entries: Sequence[Entry]) -> List[Stored]:
        numbered = []
        for each in entries:
            self._position += next(self.gaps)
            numbered.append(Stored(self._position, each.data))
        return numbered


class Reads(Connection):
    """Notes what is asked of the database."""

    def __init__(self, database: MemoryEventLog) -> None:
        super().__init__(database)
        self.asked: List[Tuple[Optional[int], Optional[int]]] = []

    def read_back(self, sender_id, limit=None, before=None):
        self.asked.append((limit, before))
        return super().read_back(sender_id, limit, before)


@pytest.fixture(autouse=True)
def _short_sessions_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_log, "FIRST_PAGE", 2)
    monkeypatch.setattr(outage_log, "NEWER", 3)
    monkeypatch.setattr(recent, "_WORTH_IT", 3)
    monkeypatch.setattr(availability, "_PATIENCE", 0.0)
    monkeypatch.setattr(availability, "_PROBE_INTERVAL", 0.01)


def make(database: MemoryEventLog, **options: Any) -> OutageLog:
    connection = Reads(database)
    settings = {"recent_bytes": 1_000_000, "reads_newer": True, **options}
    log = OutageLog(
        connection,
        probe=FakeProbe(connection),
        spool=Spool(None, 1_000_000),
        record_exp=None,
        timeout=120.0,
        **settings,
    )
    log.open()
    return log


@pytest.fixture
def database() -> MemoryEventLog:
    return GappyLog()


@pytest.fixture
def log(database: MemoryEventLog) -> Iterator[OutageLog]:
    log = make(database)
    yield log
    log.close()


def fill(log: OutageLog, count: int = 10) -> int:
    end = START
    for number in range(0, count, 2):
        end = log.append("ada", [entry(str(number)), entry(str(number + 1))], end)
    log.read_back("ada", count + 1)
    log._log.asked.clear()
    return end


def stored(*numbers: int) -> List[Stored]:
    return [Stored(number, f"event {number}") for number in numbers]


def asked(log: OutageLog) -> List[Any]:
    """What was asked of the database since then."""
    taken, log._log.asked = log._log.asked, []
    return taken


def test_long_session_is_read_from_where_the_copy_ends(log, database):
    end = fill(log)
    database.append("ada", [entry("other's")], end)
    page = log.read_back("ada", 20)
    assert asked(log) == [(3, None)]
    stored = database.read_back("ada", 20)
    assert texts_of(page.events) == texts_of(stored.events)
    assert page.events[-1] == stored.events[-1]
    assert page.complete


def test_pages_before_it_come_from_the_copy(log, database):
    fill(log)
    pages = list(pages_newest_first(log, "ada", 4))
    assert asked(log) == [(3, None)]
    assert len(pages) > 1
    found = [event for page in reversed(pages) for event in page.events]
    assert texts_of(found) == texts_of(database.read_back("ada").events)


def test_session_of_many_pages_is_read_once(log, database):
    """The pages of the second read begin elsewhere than those of the first."""
    end = START
    for number in range(40):
        end = database.append("ada", [entry(str(number))], end)
    stored = database.read_back("ada").events
    for limit in (3, 7, 7):
        asked(log)
        pages = list(pages_newest_first(log, "ada", limit))
        found = [event for page in reversed(pages) for event in page.events]
        assert found == stored
    assert asked(log) == [(3, None)]


def test_page_that_overlaps_a_copy_of_another_state_drops_it(copies):
    copies.note_page("ada", Page(stored(5, 6), False), None)
    others = [Stored(3, "event 3"), Stored(5, "changed")]
    copies.note_page("ada", Page(others, True), 6)
    assert copies.get("ada") is None


def test_few_newer_events_continue_a_copy(copies):
    """A save reads a few events of the session to compare them."""
    copies.note_page("ada", Page(stored(*range(1, 51)), True, "ann"), None)
    copies.note_page("ada", Page(stored(49, 50, 51), False, "bob"), None)
    assert copies.get("ada") == Page(stored(*range(1, 52)), True, "bob")


@pytest.mark.parametrize(
    "page",
    [
        Page(stored(51), False),  # what is between them is not known
        Page([Stored(49, "changed"), *stored(50, 51)], False),
        Page(stored(50, 51), True),
    ],
    ids=["gap", "another text", "all of the log"],
)
def test_other_pages_take_the_place_of_a_copy(copies, page):
    copies.note_page("ada", Page(stored(*range(1, 51)), True), None)
    copies.note_page("ada", page, None)
    assert copies.get("ada") == page


def test_uncertain_copy_is_not_continued(copies):
    """Others may have erased what was known, before what waited was stored."""
    known = Page(stored(1, 2, 3), True)
    waiting = Waiting(3, [entry("b"), entry("c")], None, 0, known)
    copies.note_hand_over("ada", waiting, 60)
    page = Page([Stored(60, entry("c").data), Stored(61, "d")], False)
    copies.note_page("ada", page, None)
    assert copies.get("ada") == page


def test_newer_events_tell_positions_that_were_guessed(copies):
    copies.note_append("ada", [entry("x")], 0, 1, None)
    copies.note_append("ada", [entry(text) for text in "abc"], 1, 13, None)
    b, c = (entry(text).data for text in "bc")
    newest = [Stored(9, b), Stored(13, c), Stored(14, "d")]
    copies.note_page("ada", Page(newest, False), None)
    positions = [event.position for event in copies.get("ada").events]
    assert positions == [1, 8, 9, 13, 14]


@pytest.mark.parametrize("erased_after", [False, True])
@pytest.mark.parametrize("others", [0, 3])
def test_page_of_before_an_erasure_is_not_kept(
    copies, erased_after, others, monkeypatch
):
    monkeypatch.setattr(recent, "_MOST_ERASED", 2)
    if not erased_after:
        copies.forget("ada")
    before = copies.erasures
    if erased_after:
        copies.forget("ada")
        for number in range(others):
            copies.forget(str(number))
    copies.note_page("ada", Page(stored(1, 2), True), None, before)
    assert (copies.get("ada") is None) == erased_after


def test_page_before_the_beginning_of_a_complete_copy_drops_it(copies):
    copies.note_page("ada", Page(stored(5, 6, 7), True), None)
    copies.note_page("ada", Page(stored(4, 5, 6), True), 7)
    assert copies.get("ada") is None


def test_page_that_overlaps_a_copy_tells_positions_that_were_guessed(copies):
    copies.note_page("ada", Page(stored(5, 6), False), None)
    copies.note_append("ada", [entry(text) for text in "abc"], 6, 13, None)
    a, b, c = (entry(text).data for text in "abc")
    page = Page([*stored(3, 5, 6), Stored(9, a), Stored(10, b)], True)
    copies.note_page("ada", page, 13)
    assert copies.get("ada") == Page([*page.events, Stored(13, c)], True)


def test_older_page_of_a_copy_that_has_it_changes_nothing(copies):
    copies.note_page("ada", Page(stored(5, 6, 7), True), None)
    copies.note_page("ada", Page(stored(6), False), 7)
    copies.note_page("ada", Page([], True), 5)
    assert copies.get("ada") == Page(stored(5, 6, 7), True)


def test_more_than_is_asked_for_is_read_as_before(log, database):
    end = fill(log)
    for number in range(5):
        end = database.append("ada", [entry(f"other's {number}")], end)
    assert log.read_back("ada", 20) == database.read_back("ada", 20)
    assert asked(log) == [(3, None), (20, None)]


@pytest.mark.parametrize("change", ["replaced", "erased", "begun anew"])
def test_what_another_process_has_rewritten_is_read_anew(log, database, change):
    end = fill(log)
    new = [entry(f"new {number}") for number in range(10)]
    if change == "replaced":
        database.replace("ada", new, end)
    else:
        database.delete("ada")
        if change == "begun anew":
            database.append("ada", new, START)
    for _ in range(2):
        assert log.read_back("ada", 20) == database.read_back("ada", 20)


def test_event_that_was_changed_by_hand_among_the_newest_is_seen(log, database):
    fill(log)
    stored = database._conversations["ada"].events
    stored[-2] = stored[-2]._replace(data=entry("by hand").data)
    assert texts_of(log.read_back("ada", 20).events) == texts_of(stored)


def test_reads_alone_do_not_let_a_copy_grow(log):
    fill(log)
    log.read_back("ada", 20)
    before = log._recent._bytes
    for _ in range(5):
        log.read_back("ada", 20)
    assert log._recent._bytes == before


def test_without_the_option_all_is_read(database):
    log = make(database, reads_newer=False)
    fill(log)
    log.read_back("ada", 20)
    assert asked(log) == [(20, None)]
    log.close()


def test_copy_of_a_conversation_that_began_in_an_outage_is_not_trusted(log, database):
    """The copy has what was said in the outage; the log may have had more before."""
    database.append("ada", [entry(f"before {number}") for number in range(9)], START)
    log._log.state = REFUSED
    end = START
    for number in range(4):
        end = log.append("ada", [entry(f"away {number}")], end)
    log._log.state = UP
    wait_until(lambda: not log.is_away and not log.spool.sender_ids(), "its end", 120)
    assert log.read_back("ada", 20) == database.read_back("ada", 20)


@pytest.fixture
def copies() -> RecentConversations:
    return RecentConversations(1_000_000, None)


def test_guessed_position_ends_no_page(copies):
    """The number may be the position of the event after it."""
    copies.note_append("ada", [entry(text) for text in "abc"], 0, 13, None)
    assert copies.older("ada", 5, 11) is None
    assert len(copies.older("ada", 5, 13).events) == 2


def test_page_is_not_taken_from_a_copy_of_what_was_handed_over(copies):
    waiting = Waiting(0, [entry("a"), entry("b")], None, 0, Page([], True))
    copies.note_hand_over("ada", waiting, 8)
    assert copies.older("ada", 5, 8) is None
    copies.note_page("ada", Page(stored(5), True), 7)
    assert copies.older("ada", 5, 8) is None


def test_copy_of_a_conversation_that_was_rewritten_is_dropped(copies):
    """Older events were asked for, and are not there any more."""
    copies.note_page("ada", Page(stored(5, 6), False), None)
    copies.note_page("ada", Page([], True), 5)
    assert copies.get("ada") is None


def test_nothing_is_asked_twice_where_the_copy_is_too_short(log, database):
    fill(log)
    log._recent.forget("ada")
    log.read_back("ada", 5)
    asked(log)
    log.read_back("ada", 8)
    assert asked(log) == [(8, None)]


def test_positions_of_a_long_append_are_learned(log):
    log.append("ada", [entry(str(number)) for number in range(300)], START)
    log.read_back("ada", 5)
    log.read_back("ada", 10)
    asked(log)
    log.read_back("ada", 10)
    assert asked(log) == [(3, None)]


def test_number_of_another_event_does_not_continue_a_copy(copies):
    """The copy begins with a guess, which is the position of the event after it."""
    copies.note_append("ada", [entry(text) for text in "abc"], 0, 13, None)
    copies.note_page("ada", Page(stored(7), True), 11)
    assert len(copies.get("ada").events) == 3


def test_guessed_positions_ascend_after_others_were_learned(copies):
    copies.note_append("ada", [entry("first")], 0, 5, None)
    copies.note_append("ada", [entry(text) for text in "abcd"], 5, 20, None)
    page = Page([Stored(10, entry("c").data), Stored(20, entry("d").data)], False)
    copies.note_page("ada", page, None)
    events = copies.get("ada").events
    assert [event.position for event in events] == [5, 8, 9, 10, 20]


def test_copy_that_others_have_made_uncertain_meanwhile_is_not_joined(copies):
    waiting = Waiting(0, [entry("a"), entry("b")], None, 0, Page([], True))
    copies.note_hand_over("ada", waiting, 8)
    page = copies.get("ada")
    assert copies.join("ada", page, 5, copies.erasures) is None


#: By whom, and how many events or what; the pages that are read afterwards.
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["mine", "others"]), st.integers(1, 4)),
        st.tuples(st.sampled_from(["mine", "others"]), st.integers(1, 4)),
        st.tuples(st.just("replace"), st.integers(0, 5)),
        st.tuples(st.just("user"), st.integers(0, 1)),
        st.tuples(st.sampled_from(["delete", "erased by others"]), st.just(0)),
    ),
    min_size=5,
    max_size=30,
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    changes=CHANGES,
    limits=st.lists(st.integers(1, 12), min_size=30, max_size=30),
    gaps=st.lists(st.integers(1, 4), min_size=1, max_size=20),
)
def test_reads_give_what_the_log_has(
    changes: List[Tuple[str, int]], limits: List[int], gaps: List[int]
) -> None:
    database = GappyLog()
    database.gaps = itertools.cycle(gaps)
    log = make(database)
    count = 0
    for (what, number), limit in zip(changes, limits):
        end = end_of(database.read_back("ada").events)
        new = [entry(str(count + index)) for index in range(number)]
        count += number
        if what == "mine":
            log.append("ada", new, end)
        elif what == "others":
            database.append("ada", new, end)
        elif what == "replace":
            database.replace("ada", new, end)
        elif what == "user":
            database.append("ada", [], end, User(f"user {number}", None))
        elif what == "delete":
            log.delete("ada")
        else:
            database.delete("ada")
        in_log = database.read_back("ada")
        found = []
        for page in pages_newest_first(log, "ada", limit):
            found = page.events + found
            assert page.complete == (len(found) == len(in_log.events))
            assert page.user_id == (in_log.user_id if page.events else None)
        assert texts_of(found) == texts_of(in_log.events)
        copy = log._recent.get("ada")
        positions = [event.position for event in copy.events] if copy else []
        assert positions == sorted(set(positions))
    log.close()
