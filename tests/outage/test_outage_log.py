"""An outage, step by step, as a tracker store's calls meet it."""

from __future__ import annotations

import logging
import stat
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterator, List, Optional

import pytest

from outage.flaky import (
    READ_ONLY,
    REFUSED,
    UP,
    Connection,
    FakeProbe,
    Gone,
    entry,
    texts,
)
from rasa_trackers import retries
from rasa_trackers.appending import append_once
from rasa_trackers.errors import is_unavailable, store_unavailable
from rasa_trackers.event_log import START, Failure, Page
from rasa_trackers.memory.log import MemoryEventLog
from rasa_trackers.outage import availability, draining
from rasa_trackers.outage.log import OutageLog
from rasa_trackers.outage.spool import Spool
from rasa_trackers.paging import FIRST_PAGE, end_of, pages_newest_first
from rasa_trackers.retries import Deadline, DeadlineLog
from rasa_trackers.threads import Threads, _watchdog

#: Long enough for any machine; no call here waits for anything.
TIMEOUT = 120.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_PATIENCE", 0.0)
    monkeypatch.setattr(availability, "_PROBE_INTERVAL", 0.3)


@pytest.fixture
def database() -> Connection:
    return Connection(MemoryEventLog())


@pytest.fixture
def open_log(database: Connection) -> Iterator[Callable[..., OutageLog]]:
    logs: List[OutageLog] = []

    def open_log(
        path: Optional[Path] = None,
        *,
        spool: bool = True,
        max_bytes: int = 1_000_000,
        opened: bool = True,
        database: Connection = database,
    ) -> OutageLog:
        log = OutageLog(
            database,
            probe=FakeProbe(database),
            spool=Spool(path, max_bytes) if spool else None,
            recent_bytes=1_000_000,
            reads_newer=True,
            record_exp=None,
            timeout=TIMEOUT,
        )
        logs.append(log)
        if opened:
            log.open()
        return log

    yield open_log
    for log in logs:
        log.close()


#: The thread that shares copies of recent conversations.
COPYING = "rasa_trackers-copies"


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.005)


def is_stored(log: OutageLog) -> Callable[[], bool]:
    return lambda: not log.is_away and not log.spool.sender_ids()


def test_conversation_goes_on_and_is_stored_afterwards(database, open_log, caplog):
    caplog.set_level(logging.WARNING)
    log = open_log()
    end = log.append("ada", [entry("a")], START)
    database.state = REFUSED
    for text in "bcd":
        end = log.append("ada", [entry(text)], end)
        assert end is not None
    assert texts(log, "ada") == ["a", "b", "c", "d"]
    database.state = UP
    until(is_stored(log))
    until(lambda: " is back after " in caplog.text)
    assert texts(database, "ada") == ["a", "b", "c", "d"]
    assert log.append("ada", [entry("e")], end) is not None
    assert texts(database, "ada") == ["a", "b", "c", "d", "e"]
    began, over = (record.message for record in caplog.records)
    assert "The database is away since" in began
    assert "3 events of 1 conversations" in over


def test_conversation_that_is_half_stored_goes_on_in_the_next_outage(
    database, open_log
):
    """Messages come while what waits is being stored, and then it is away again."""
    log = open_log()
    end = log.append("ada", [entry("a")], START)
    database.state = REFUSED
    end = log.append("ada", [entry("b")], end)
    append = database.database.append

    def append_and_go(sender_id, entries, *arguments):
        position = append(sender_id, entries, *arguments)
        database.database.append = append
        log.spool.append("ada", [entry("c")], end, None, None)
        database.state = REFUSED
        return position

    database.database.append = append_and_go
    database.state = UP
    until(lambda: texts(database.database, "ada") == ["a", "b"])
    until(lambda: log.is_away)
    assert texts(log, "ada") == ["a", "b", "c"]
    database.state = UP
    until(is_stored(log))
    assert texts(database, "ada") == ["a", "b", "c"]


@pytest.mark.parametrize("is_away", [True, False])
def test_call_that_meets_an_outage_pauses_briefly(database, monkeypatch, is_away):
    """An outage is known after 0.3 seconds, and a longer pause would outlast that."""
    pauses: List[float] = []
    monkeypatch.setattr(retries, "time", SimpleNamespace(**vars(time)))
    monkeypatch.setattr(retries.time, "sleep", pauses.append)
    monkeypatch.setattr(
        Connection, "classify", lambda *_: Failure(True, "", away=is_away)
    )
    calls = iter([REFUSED] * 8)
    read_back = database.read_back

    def fail_first(*arguments: Any) -> Page:
        database.state = next(calls, UP)
        return read_back(*arguments)

    monkeypatch.setattr(database, "read_back", fail_first)
    DeadlineLog(database, Deadline(TIMEOUT)).read_back("ada")
    assert len(pauses) == 8
    assert (max(pauses) <= 0.1) == is_away


def test_late_request_is_found_behind_what_was_stored_first(database, open_log):
    """Two processes share a spool. A request that was given up arrives all the same.

    It arrives before the first process stores its own event, and what it brought was
    put into the spool only afterwards.
    """
    log = open_log()
    end = log.append("ada", [entry("a")], START)
    database.state = REFUSED
    mine = log.append("ada", [entry("mine")], end)
    append = database.database.append

    def arrive_late(sender_id, entries, *arguments):
        database.database.append = append
        assert append("ada", [entry("late")], end) is not None
        position = append(sender_id, entries, *arguments)
        assert position is None
        # The other process keeps what it has had no answer for.
        log.spool.append("ada", [entry("late")], mine, None, None)
        return position

    database.database.append = arrive_late
    database.state = UP
    until(is_stored(log))
    assert texts(database, "ada") == ["a", "late", "mine"]


def test_session_goes_on_from_its_beginning_after_a_save_was_compared(
    database, open_log
):
    """The comparison reads the newest events alone."""
    log = open_log()
    said = [str(number) for number in range(2 * FIRST_PAGE)]
    end = log.append("ada", [entry(text) for text in said], START)
    database.database.append("ada", [entry("other's")], end)
    save_once(log, "mine", end)
    database.state = REFUSED
    assert texts(log, "ada") == [*said, "other's", "mine"]


def test_hand_over_compares_from_the_earliest_attempt_on(database, open_log):
    """A process that names an earlier end may have been carried out there."""
    log = open_log()
    database.append("ada", [entry("a")], START)
    first = texts(log, "ada") and log.read_back("ada").events[-1].position
    second = log.append("ada", [entry("late")], first)
    database.state = REFUSED
    log._recent.forget("ada")
    assert log.append("ada", [entry("mine")], second) is not None
    deadline = DeadlineLog(log, Deadline(TIMEOUT))
    # The other process has had no answer for its attempt, which was carried out.
    append_once(
        *(deadline, "ada", [entry("late")], first),
        user=None,
        user_of_new_log=None,
        is_uncertain=True,
    )
    database.state = UP
    until(is_stored(log))
    assert texts(database, "ada") == ["a", "late", "mine"]


def save_once(log: OutageLog, text: str, after: int) -> None:
    """Append an event as a save does that knows where the log ends."""
    append_once(
        *(DeadlineLog(log, Deadline(TIMEOUT)), "ada", [entry(text)], after),
        user=None,
        user_of_new_log=None,
        is_uncertain=False,
    )


def lose_the_next_answer(
    database: Connection, meanwhile: Callable[[], object]
) -> List[Any]:
    """Let the next append be carried out, and the database go away before it answers."""
    append, done = database.database.append, []

    def append_and_go(*arguments: Any) -> None:
        database.database.append = append
        done.append(append(*arguments))
        meanwhile()
        database.state = READ_ONLY
        raise Gone(READ_ONLY)

    database.database.append = append_and_go
    return done


def test_attempt_that_others_here_have_read_already_is_stored_once(database, open_log):
    """Another call of this process has read what the lost answer was about."""
    log = open_log()
    end = log.append("ada", [entry("a")], START)
    done = lose_the_next_answer(database, meanwhile=lambda: log.read_back("ada"))
    save_once(log, "mine", end)
    database.state = UP
    until(is_stored(log))
    assert done[0] is not None
    assert texts(database, "ada") == ["a", "mine"]


def test_what_was_stored_in_another_order_is_stored_once(database, open_log, tmp_path):
    """A hand-over was carried out behind a late attempt, and its process has died."""
    log = open_log(tmp_path / "spool")
    end = log.append("ada", [entry("a")], START)
    database.append("ada", [entry("late"), entry("mine")], end)
    waiting = [entry("mine"), entry("late")]
    log.spool.append("ada", waiting, end, None, Page([], True))
    assert texts(log, "ada") == ["a", "late", "mine"]
    assert texts(database, "ada") == ["a", "late", "mine"]


def test_event_that_was_saved_twice_is_stored_twice(database, open_log, tmp_path):
    """Custom code may hand out one event again and again."""
    log = open_log(tmp_path / "spool")
    end = log.append("ada", [entry("a")], START)
    database.append("ada", [entry("again")], end)
    waiting = [entry("again"), entry("again")]
    log.spool.append("ada", waiting, end, None, Page([], True))
    assert texts(log, "ada") == ["a", "again", "again"]


def test_attempt_that_the_copy_does_not_reach_is_stored_once(database, open_log):
    """The copy has only what others have appended after it."""
    log = open_log()
    end = log.append("ada", [entry("a")], START)

    def others_go_on() -> None:
        last = end_of(database.database.read_back("ada").events)
        MemoryEventLog.append(database.database, "ada", [entry("other")], last)
        log._recent.forget("ada")
        log.read_back("ada", limit=1)

    def gone(*_: object) -> None:
        raise Gone(READ_ONLY)

    done = lose_the_next_answer(database, meanwhile=others_go_on)
    read_back = database.read_back
    database.read_back = lambda *arguments: (
        read_back(*arguments) if database.state == UP else gone()
    )
    save_once(log, "mine", end)
    database.state = UP
    until(is_stored(log))
    assert done[0] is not None
    assert texts(database, "ada") == ["a", "mine", "other"]


def test_without_a_spool_a_read_only_database_is_read_at_once(
    database, open_log, caplog
):
    caplog.set_level(logging.WARNING)
    log = open_log(spool=False)
    end = log.append("ada", [entry("a")], START)
    database.state = READ_ONLY
    for _ in range(3):
        with pytest.raises(Exception, match="is away since") as raised:
            log.append("ada", [entry("b")], end)
        assert is_unavailable(raised.value)
        assert texts(log, "ada") == ["a"]
        time.sleep(0.5)  # probes succeed, but nobody can write yet
    database.state = UP
    assert log.append("ada", [entry("b")], end) is not None
    assert not log.is_away
    assert len(caplog.records) == 2


def test_unknown_conversation_of_a_read_only_database_is_read_at_once(
    database, open_log
):
    database.database.append("ada", [entry("a")], START)
    log = open_log()
    database.state = READ_ONLY
    assert log.append("grace", [entry("b")], START) is not None
    assert texts(log, "ada") == ["a"]


def test_nothing_is_erased_or_listed_in_an_outage(database, open_log):
    log = open_log()
    end = log.append("ada", [entry("a")], START)
    database.state = REFUSED
    log.append("ada", [entry("b")], end)
    for call in (
        lambda: log.delete("ada"),
        lambda: log.replace("ada", [], end),
        lambda: list(log.sender_ids()),
        lambda: list(log.count_conversations(0.0)),
        lambda: log.conversations_of("u"),
    ):
        with pytest.raises(Exception, match="is away since") as raised:
            call()
        assert is_unavailable(raised.value)


def test_delete_erases_what_waits(database, open_log, tmp_path):
    path = tmp_path / "spool"
    log = open_log(path)
    database.state = REFUSED
    log.append("ada", [entry("secret")], START)
    another = Connection(database.database)  # of a process that finds the database up
    other = open_log(path, opened=False, database=another)
    assert other.delete("ada")
    database.state = UP
    until(is_stored(log))
    assert texts(log, "ada") == []
    assert b"secret" not in everything_in(tmp_path)


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_empty_spool_holds_no_personal_data(database, open_log, tmp_path):
    path = tmp_path / "spool"
    log = open_log(path)
    end = log.append("ada", [entry("older")], START)
    database.state = REFUSED
    for number in range(50):
        end = log.append("ada", [entry(f"secret-{number}")], end)
    until(lambda: log.spool.copy("ada"))
    assert b"secret-49" in everything_in(tmp_path)
    assert b"older" in everything_in(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    database.state = UP
    until(is_stored(log))
    until(lambda: b"older" not in everything_in(tmp_path))
    assert b"secret" not in everything_in(tmp_path)
    assert b"ada" not in everything_in(tmp_path)


def test_copies_that_a_killed_process_has_left_are_erased(database, open_log, tmp_path):
    path = tmp_path / "spool"
    log = open_log(path)
    log.append("ada", [entry("older")], START)
    database.state = REFUSED
    log.append("grace", [], START)  # begins the outage, and leaves nothing
    until(lambda: log.spool.copy("ada"))
    log.close()
    database.state = UP
    open_log(path)
    until(lambda: b"older" not in everything_in(tmp_path))


def test_copies_outlive_a_drain_that_an_outage_overtakes(database, open_log, tmp_path):
    """The drain of the start finds that all is well, and is slow to say so."""
    log = open_log(tmp_path / "spool")
    log.append("ada", [entry("a")], START)
    until(lambda: not log._draining._is_draining)
    erase_copies = log.spool.erase_copies

    def erase_late() -> None:
        database.state = REFUSED
        log.read_back("ada")
        until(lambda: log.spool.copy("ada"))
        erase_copies()

    log.spool.erase_copies = erase_late
    log._draining.drain_in_background()
    until(lambda: not log._draining._is_draining)
    assert log.is_away
    assert log.spool.copy("ada")


@pytest.mark.parametrize("step", ["_report", "take_totals"])
def test_what_comes_when_all_seems_to_be_stored_is_stored(database, open_log, step):
    """By a call that took the database for away, and was slow to keep its event."""
    log = open_log()
    database.state = REFUSED
    log.append("ada", [entry("a")], START)
    drain = log._draining
    finish = getattr(drain, step)

    def finish_late() -> Any:
        setattr(drain, step, finish)
        log.spool.append("grace", [entry("late")], START, None, Page([], True))
        drain.drain_in_background()
        return finish()

    setattr(drain, step, finish_late)
    database.state = UP
    if step == "_report":  # of the thread, which works while there is no outage
        until(is_stored(log))
        until(lambda: not log._parts.is_away_or_ending)
        drain.drain_in_background()
    until(lambda: texts(database.database, "grace") == ["late"])
    assert texts(database.database, "ada") == ["a"]


def test_what_is_locked_is_tried_again_until_the_log_is_closed(
    database, open_log, monkeypatch
):
    monkeypatch.setattr(draining, "_INTERVAL", 0.01)
    log = open_log()
    handover = log._draining._handover
    hand_over_all, tried = handover.hand_over_all, []

    def refuse(sender_ids: List[str]) -> None:
        tried.append(sender_ids)
        raise store_unavailable("locked")

    handover.hand_over_all = refuse
    log.spool.append("ada", [entry("a")], START, None, Page([], True))
    log._draining.drain_in_background()
    until(lambda: len(tried) > 1)
    handover.hand_over_all = hand_over_all
    until(is_stored(log))
    handover.hand_over_all = refuse
    log.spool.append("ada", [entry("b")], START, None, Page([], True))
    log._draining.drain_in_background()
    log.close()
    until(lambda: not log._draining._is_draining)


def test_part_that_stores_nothing_keeps_no_other_part_waiting(database, open_log):
    log = open_log()
    database.part_of = lambda sender_id: sender_id[:1]
    for sender_id in ("ada", "bob"):
        log.spool.append(sender_id, [entry("x")], START, None, Page([], True))
    tried: List[List[str]] = []

    def refuse_the_first(sender_ids: List[str]) -> None:
        tried.append(sender_ids)
        if sender_ids == ["ada"]:
            raise store_unavailable("locked")

    log._draining._handover.hand_over_all = refuse_the_first
    with pytest.raises(Exception, match="locked"):
        log._draining.hand_over_all()
    assert tried == [["ada"], ["bob"]]


def test_copies_that_are_shared_too_late_are_erased(database, open_log, tmp_path):
    """The outage ends while a copy is being written to the file."""
    log = open_log(tmp_path / "spool")
    until(lambda: not log._draining._is_draining)
    log.append("ada", [entry("secret")], START)
    keep_copy, go = log.spool.keep_copy, threading.Event()

    def keep_late(*arguments: Any) -> None:
        go.wait(TIMEOUT)
        keep_copy(*arguments)

    log.spool.keep_copy = keep_late
    database.state = REFUSED
    log.append("grace", [entry("x")], START)
    database.state = UP
    until(is_stored(log))
    until(lambda: not log._parts.is_away_or_ending)
    go.set()
    threads = [each for each in threading.enumerate() if each.name == COPYING]
    for thread in threads:
        thread.join(TIMEOUT)
    assert log.spool.copy("ada") is None


def test_conversation_that_is_locked_is_no_outage_of_the_others(database, open_log):
    database.classify = lambda error: (
        Failure(True, "Look at the locks.", away=isinstance(error, Gone))
        if isinstance(error, (Gone, TimeoutError))
        else None
    )
    log = open_log()
    database.state = REFUSED
    log.append("ada", [entry("x")], START)
    log.append("bob", [entry("y")], START)
    append = database.database.append

    def locked(sender_id: str, *arguments: Any) -> Any:
        if sender_id == "ada":
            raise TimeoutError("locked")
        return append(sender_id, *arguments)

    log._draining._handover._timeout = 0.1
    log._draining._handover._threads._timeout = 0.1
    database.database.append = locked
    database.state = UP
    until(lambda: not log.is_away)
    until(lambda: texts(database.database, "bob") == ["y"])
    database.database.append = append
    until(is_stored(log))


@pytest.mark.parametrize("step", ["read", "hand-over"])
def test_what_is_erased_stays_in_no_copy(database, open_log, step):
    """A read, or a hand-over, of the same process is under way meanwhile."""
    log = open_log()
    end = log.append("ada", [entry("secret")], START)
    target = database.database
    if step == "read":
        delete, read_back = target.delete, target.read_back
        has_read, erased = threading.Event(), threading.Event()

        def read_and_wait(*arguments: Any) -> Page:
            page = read_back(*arguments)
            has_read.set()
            erased.wait(TIMEOUT)
            return page

        target.read_back = read_and_wait
        reader = threading.Thread(target=log.read_back, args=("ada", 100))
        reader.start()
        has_read.wait(TIMEOUT)
        target.read_back = read_back
        assert log.delete("ada")
        erased.set()
        reader.join()
        assert target.delete == delete
    else:
        log.spool.append("ada", [entry("more")], end, None, log._recent.get("ada"))
        append, started, go = target.append, threading.Event(), threading.Event()

        def append_late(*arguments: Any) -> Any:
            started.set()
            go.wait(TIMEOUT)
            return append(*arguments)

        target.append = append_late
        log._draining.drain_in_background()
        started.wait(TIMEOUT)
        eraser = threading.Thread(target=log.delete, args=("ada",))
        eraser.start()
        time.sleep(0.1)
        go.set()
        eraser.join()
    assert texts(target, "ada") == []
    database.state = REFUSED
    log.append("grace", [entry("x")], START)
    assert texts(log, "ada") == []


def test_read_only_database_is_read_page_by_page(database, open_log):
    end = START
    for number in range(3 * FIRST_PAGE):
        end = database.database.append("ada", [entry(str(number))], end)
    log = open_log()
    database.state = READ_ONLY
    log.append("grace", [entry("x")], START)
    for _ in range(2):
        pages = list(pages_newest_first(log, "ada"))
        assert sum(len(page.events) for page in pages) == 3 * FIRST_PAGE


def test_standby_that_lags_behind_is_not_asked(database, open_log):
    log = open_log()
    end = log.append("ada", [entry("a")], START)
    before = database.database.read_back("ada")
    log.append("ada", [entry("b")], end)
    database.state = READ_ONLY
    log.append("grace", [entry("x")], START)
    database.database.read_back = lambda *_: before
    assert texts(log, "ada") == ["a", "b"]


@pytest.mark.parametrize("name", ["drain", "probe", "copies"])
def test_thread_that_cannot_be_started_is_started_later(
    database, open_log, tmp_path, monkeypatch, name
):
    log = open_log(tmp_path / "spool")
    until(lambda: not log._draining._is_draining)
    start, refused = threading.Thread.start, []

    def start_or_not(thread: threading.Thread) -> None:
        if thread.name == f"rasa_trackers-{name}" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    database.state = REFUSED
    end = log.append("ada", [entry("a")], START)
    if name == "drain":
        database.state = UP
        until(is_stored(log))
        log._draining.drain_in_background()
        log.spool.append("ada", [entry("b")], START, None, Page([], True))
        log._draining.drain_in_background()
    elif name == "probe":
        assert not log._parts.whole._is_probing
        log._parts.whole.suspect()
        database.state = UP
    else:
        database.state = UP
    until(is_stored(log))
    assert end is not None
    assert refused


def test_error_that_nobody_knows_is_told_once(database, open_log, caplog):
    """A driver that lacks a package, say. It is not tried again in silence."""
    log = open_log()
    log.spool.append("ada", [entry("x")], START, None, Page([], True))

    def fail(*_: Any) -> None:
        raise RuntimeError("a package is missing")

    database.database.append = fail
    log._draining.drain_in_background()
    until(lambda: not log._draining._is_draining)
    assert caplog.text.count("cannot be stored: a package is missing") == 1


def test_closing_in_a_drain_refuses_nothing(database, open_log, tmp_path, caplog):
    path = tmp_path / "spool"
    spool = Spool(path, 1_000_000)
    for number in range(40):
        spool.append(str(number), [entry("x")], START, None, Page([], True))
    spool.close()
    append = database.database.append

    def append_slowly(*arguments: Any) -> Any:
        time.sleep(0.02)
        return append(*arguments)

    database.database.append = append_slowly
    log = open_log(path)
    until(lambda: texts(database.database, "0") == ["x"])
    log.close()
    until(lambda: not log._draining._is_draining)
    assert "cannot be stored" not in caplog.text


def test_process_that_was_killed_goes_on_without_the_database(
    database, open_log, tmp_path
):
    path = tmp_path / "spool"
    log = open_log(path)
    end = log.append("ada", [entry("a")], START)
    log.append("grace", [entry("x")], START)
    database.state = REFUSED
    end = log.append("ada", [entry("b")], end)
    until(lambda: log.spool.copy("grace"))
    log.close()
    again = open_log(path, opened=False)
    with pytest.raises(Exception, match="refused"):
        again.open()
    assert again.begin_without_database(Exception("refused"))
    assert texts(again, "ada") == ["a", "b"]
    assert texts(again, "grace") == ["x"]
    assert again.append("ada", [entry("c")], end) is not None
    database.state = UP
    until(is_stored(again))
    assert texts(database, "ada") == ["a", "b", "c"]


def test_memory_is_no_reason_to_start_without_the_database(database, open_log):
    log = open_log(opened=False)
    assert not log.begin_without_database(Exception("refused"))
    assert not log.is_away


def test_full_spool_is_an_error_and_drops_nothing(database, open_log):
    log = open_log(max_bytes=50_000)
    database.state = REFUSED
    kept: List[str] = []
    end: Optional[int] = START

    def fill():
        nonlocal end
        while True:
            text = f"{len(kept)}-{'x' * 1000}"
            end = log.append("ada", [entry(text)], end)
            kept.append(text)

    with pytest.raises(Exception, match="'spool_bytes'") as raised:
        fill()
    assert not is_unavailable(raised.value)
    assert len(kept) > 5
    database.state = UP
    until(is_stored(log))
    assert texts(database, "ada") == kept


def test_call_that_begins_again_stores_each_event_once(database, open_log):
    """The first attempt is carried out, and its thread waits for the answer."""
    log = open_log()
    end = log.append("ada", [entry("a")], START)
    threads = Threads(log, timeout=TIMEOUT, workers=2)
    threads.watch(log)
    append, answered = database.database.append, threading.Event()
    calls: List[int] = []

    def answer_late(*arguments):
        position = append(*arguments)
        calls.append(position)
        if len(calls) == 1:
            assert answered.wait(TIMEOUT)
        return position

    def save(bound):
        return append_once(
            bound,
            "ada",
            [entry("b")],
            end,
            user=None,
            user_of_new_log=None,
            is_uncertain=False,
        )

    database.database.append = answer_late
    saving = threading.Thread(target=threads.run_blocking, args=(save,))
    saving.start()
    until(lambda: calls)
    until(lambda: [call for call in _watchdog._calls if call.threads is threads])
    for call in _watchdog._calls:
        call.log.deadline._answered_at -= 1  # it has been silent for long
    log.on_outage()
    saving.join(TIMEOUT)
    answered.set()
    threads.close(then=lambda: None).join()
    assert texts(database, "ada") == ["a", "b"]


class Cluster(Connection):
    """Nodes by the first letters of sender ids, each of which may be away alone."""

    def __init__(self, database: MemoryEventLog) -> None:
        super().__init__(database)
        self.away = ""

    def part_of(self, sender_id: str) -> str:
        return sender_id[:1]

    def _call(self, method, *arguments, writes=False):
        is_away = self.away and arguments and arguments[0][:1] == self.away
        self.state = REFUSED if is_away else UP
        return super()._call(method, *arguments, writes=writes)


class ProbeOfCluster(FakeProbe):
    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._cluster = cluster

    def read(self, sender_id: str = "") -> None:
        if self._cluster.away:
            raise store_unavailable("The node is away.")


def test_part_that_is_away_is_no_outage_of_the_others(caplog):
    caplog.set_level(logging.WARNING)
    cluster = Cluster(MemoryEventLog())

    log = OutageLog(
        cluster,
        probe=ProbeOfCluster(cluster),
        spool=Spool(None, 1_000_000),
        recent_bytes=1_000_000,
        reads_newer=True,
        record_exp=None,
        timeout=TIMEOUT,
    )
    log.open()
    ends = {name: log.append(name, [entry("a")], START) for name in ("ada", "bob")}
    cluster.away = "a"
    for text in "bc":
        for name in ("ada", "bob"):
            ends[name] = log.append(name, [entry(text)], ends[name])
    assert log.spool.sender_ids() == {"ada"}
    assert texts(cluster.database, "bob") == texts(log, "ada") == ["a", "b", "c"]
    with pytest.raises(Exception, match="node a is away"):
        list(log.sender_ids())
    cluster.away = ""
    until(is_stored(log))
    until(lambda: " is back after " in caplog.text)
    assert texts(cluster.database, "ada") == ["a", "b", "c"]
    assert len(caplog.records) == 2
    log.close()


def test_closing_stores_what_only_memory_has(database, open_log, caplog):
    log = open_log()
    database.state = REFUSED
    end = log.append("ada", [entry("a")], START)
    log._parts.whole.close()  # so that no probe ends the outage
    log._parts.whole.is_away = False
    database.state = UP
    log.close()
    assert end is not None
    assert texts(database, "ada") == ["a"]
    assert "is lost" not in caplog.text


def test_closing_in_an_outage_says_what_is_lost(database, open_log, caplog):
    log = open_log()
    database.state = REFUSED
    log.append("ada", [entry("a")], START)
    log.close()
    assert "What was said in 1 conversations" in caplog.text


def test_what_another_process_has_erased_is_not_stored(database, open_log, tmp_path):
    """It is erased while this process waits for the database."""
    path = tmp_path / "spool"
    log = open_log(path)
    end = log.append("ada", [entry("a")], START)
    database.state = REFUSED
    log.append("ada", [entry("secret")], end)
    spool, append = Spool(path, 1_000_000), database.database.append

    def erase_first(*arguments):
        database.database.append = append
        database.database.delete("ada")
        spool.erase("ada")
        return append(*arguments)

    database.database.append = erase_first
    database.state = UP
    until(is_stored(log))
    assert texts(database, "ada") == []
    spool.close()


def test_spool_goes_on_when_its_disk_has_space_again(tmp_path):
    spool = Spool(tmp_path / "spool", 10_000_000)
    page = Page([], complete=True)
    pages = "PRAGMA max_page_count="
    spool._connection.execute(f"{pages}1").fetchall()
    with pytest.raises(Exception, match="cannot be used") as raised:
        spool.append("ada", [entry("x" * 1_000_000)], START, None, page)
    assert not is_unavailable(raised.value)
    assert not spool.waits("ada")
    spool._connection.execute(f"{pages}{2**30}").fetchall()
    assert spool.append("ada", [entry("a")], START, None, page) is not None
    assert spool.waits("ada")
    spool.close()
