"""Torture: that its checker sees what is wrong, and a short run of each store.

`nox -s torture` runs it for longer.
"""

from __future__ import annotations

import importlib
import itertools
import sys

import pytest

from survival import journal
from survival.checker import LATEST, check, late
from survival.journal import Journal, Save, event_name
from survival.plan import Plan
from survival.run import CLOCK_JUMP, SAVES_CUT_OFF, WRITER_KILLED, run
from survival.stores import STORES, Target, driver_of


def save(turn, events=2, *, conversation="ada", acknowledged=True, lane=0):
    names = [event_name(0, lane, turn, number) for number in range(events)]
    return Save(0, lane, turn, conversation, names, acknowledged)


FIRST, SECOND = save(0), save(1)
ONE, TWO, THREE, FOUR = *FIRST.events, *SECOND.events


def found(saves, **stored):
    """What the checker finds, without what is empty."""
    findings = check(saves, stored)
    assert bool(findings) == any(findings)
    return {name: where for name, where in findings._asdict().items() if where}


def test_all_is_well():
    assert found([FIRST, SECOND], ada=[ONE, TWO, THREE, FOUR]) == {}


def test_lost_event_is_found():
    assert found([FIRST, SECOND], ada=[ONE, TWO, FOUR]) == {"lost": [f"{THREE} in ada"]}


def test_lost_conversation_is_found():
    assert found([save(0, 1)]) == {"lost": [f"{ONE} in ada"]}


def test_duplicated_event_is_found():
    assert found([FIRST, SECOND], ada=[ONE, TWO, THREE, FOUR, TWO]) == {
        "duplicated": [f"{TWO} in ada, 2 times"]
    }


def test_duplicate_of_what_was_not_acknowledged_is_found():
    assert "duplicated" in found(
        [save(0, 2, acknowledged=False)], ada=[ONE, TWO, ONE, TWO]
    )


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (2, 3, 0, 1), (1, 0, 2, 3)])
def test_reordered_event_is_found(order):
    names = [ONE, TWO, THREE, FOUR]
    findings = found([FIRST, SECOND], ada=[names[number] for number in order])
    assert list(findings) == ["reordered"]


def test_order_of_different_lanes_is_free():
    other = save(0, lane=1)
    for events in itertools.permutations((FIRST.events, other.events)):
        assert found([FIRST, other], ada=itertools.chain(*events)) == {}


def test_alien_event_is_found():
    assert found([FIRST], ada=[ONE, "9.9.9.9", TWO]) == {"alien": ["9.9.9.9 in ada"]}


def test_event_without_a_name_is_alien():
    assert found([FIRST], ada=[ONE, TWO, None]) == {"alien": ["None in ada"]}


def test_event_in_another_conversation_is_alien_there_and_lost_here():
    assert found([FIRST], ada=[ONE], bob=[TWO]) == {
        "alien": [f"{TWO} in bob"],
        "lost": [f"{TWO} in ada"],
    }


def test_unacknowledged_save_may_be_there_or_not():
    unsure = save(1, acknowledged=False)
    assert found([FIRST, unsure], ada=[ONE, TWO, THREE, FOUR]) == {}
    assert found([FIRST, unsure], ada=[ONE, TWO]) == {}


def test_what_waited_in_the_memory_of_a_killed_writer_may_be_there_or_not(tmp_path):
    path = tmp_path / "journal"
    life = Journal(path)
    life.intend(0, 0, "ada", FIRST.events)
    life.acknowledge(0, 0, waits=True)
    life.stored_all()
    life.intend(0, 1, "ada", SECOND.events)
    life.acknowledge(0, 1, waits=True)
    next_life = Journal(path)
    next_life.stored_all()  # of its own
    saves = journal.read(path, 0)
    assert [save.waits for save in saves] == [False, True]
    assert found(saves, ada=[ONE, TWO, THREE, FOUR]) == {}
    assert found(saves, ada=[ONE, TWO]) == {}
    assert list(found(saves, ada=[ONE, TWO, THREE])) == ["torn"]
    assert list(found(saves, ada=[THREE, FOUR])) == ["lost"]


def test_part_of_a_save_is_found():
    unsure = save(1, acknowledged=False)
    assert found([FIRST, unsure], ada=[ONE, TWO, THREE]) == {
        "torn": ["0.0.1 in ada: 1 of 2"]
    }


def test_late_answer_is_found():
    slow, failed = save(0), save(1, acknowledged=False)
    slow.seconds = failed.seconds = LATEST + 0.1
    assert late([save(2), slow, failed]) == [f"{ONE} in ada, after 3.1 seconds"]


def test_journal_goes_on_after_a_death_in_the_midst_of_a_line(tmp_path):
    path = tmp_path / "journal"
    first = Journal(path)
    first.intend(0, 0, "ada", FIRST.events)
    first.acknowledge(0, 0)
    first.intend(0, 1, "ada", SECOND.events)
    path.write_bytes(path.read_bytes() + b'{"intends": [0, 2], "conver')
    second = Journal(path)
    second.fail(0, 1, ValueError("no"))
    assert journal.read(path, 0) == [
        FIRST,
        Save(0, 0, 1, "ada", SECOND.events, errors=["ValueError: no"]),
    ]


def test_same_seed_plans_the_same():
    def planned(seed):
        plan = Plan("redis", seed, 10)
        turns = [
            plan.turn(writer, lane, number)
            for writer in range(2)
            for lane in range(2)
            for number in range(50)
        ]
        return turns, list(itertools.islice(plan.faults(["a", "b", "c"]), 30))

    assert planned(1) == planned(1)
    assert planned(1) != planned(2)


@pytest.mark.parametrize("name", STORES)
def test_all_that_was_acknowledged_survives(name):
    with Target(name) as target:
        outcome = run(Plan.quick(name), target)
    assert outcome.wrong == {}, outcome.errors[:10]
    # Otherwise the run has shown nothing.
    assert outcome.acknowledged
    happened = {kind for kind, count in outcome.faults.items() if count}
    assert {"file", "memory", "off"} == set(outcome.slowest)
    assert {WRITER_KILLED, SAVES_CUT_OFF, CLOCK_JUMP} < happened
    assert set(target.faults) - happened <= MAY_MISS


#: Faults that wait for something, which may not come while they do.
MAY_MISS = {"request lost", "answer lost", "request late", "write cut short"}


def test_stand_in_for_a_driver_leaves_with_its_store():
    before = sys.modules.get("cx_Oracle")
    with driver_of(Target("oracle")):
        assert importlib.import_module("cx_Oracle").__name__ == "servers.h2_driver"
    assert sys.modules.get("cx_Oracle") is before
