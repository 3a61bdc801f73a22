"""What a call asks of the database: counted, so that no slow machine matters."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest

from contract.logs import count, end_of, entries, numbered
from contract.places import EndpointPlace
from rasa_trackers.event_log import PAGE_SLACK, START, User

LIMIT = 20
SHORT, OLD = 400, 6000
BATCH = 100


class Cost(NamedTuple):
    """Bytes on the way, or steps of a database in the process; and round trips."""

    work: int
    round_trips: int


@pytest.fixture
def metered_log(meter):
    log = EndpointPlace(meter.endpoint).make(None, keep_users=True)
    log.open()
    yield log
    log.close()


@pytest.fixture
def cost(meter):
    """Gives the cost of a call."""

    def cost(call):
        work, round_trips = meter.work(), meter.round_trips()
        call()
        return Cost(meter.work() - work, meter.round_trips() - round_trips)

    return cost


@pytest.fixture
def filled(metered_log):
    """A log with a short conversation, an old one, and others among both."""
    log = metered_log
    ends = {"short": START, "old": START}
    for batch in range(OLD // BATCH):
        log.append(f"other {batch}", numbered(BATCH), START, User("u", 1.0))
        for sender_id, events in (("short", SHORT), ("old", OLD)):
            if batch < events // BATCH:
                added = numbered(BATCH, f"{batch}-")
                ends[sender_id] = log.append(sender_id, added, ends[sender_id])
    # What is only done once: connections, prepared statements, scripts.
    log.read_back("short", LIMIT)
    log.append("warm", numbered(5), log.append("warm", numbered(5), START))
    return log


def most_for_a_page(log, cost):
    """The most that a page of LIMIT events may cost, by the short conversation."""
    whole = cost(lambda: log.read_back("short", LIMIT + PAGE_SLACK))
    return Cost(whole.work * 3 // 2 + 3000, whole.round_trips)


def test_newest_page_of_an_old_log_costs_what_it_costs_in_a_short_one(filled, cost):
    most = most_for_a_page(filled, cost)
    page = cost(lambda: filled.read_back("old", LIMIT))
    assert page.work <= most.work
    assert page.round_trips <= most.round_trips


def test_page_costs_the_same_however_far_back_it_lies(filled, cost):
    most = most_for_a_page(filled, cost)
    events = filled.read_back("old").events
    for index in (1, LIMIT, 100, 150, OLD // 2, OLD // 2 + 50, OLD - 1):
        before = events[index].position
        page = cost(lambda before=before: filled.read_back("old", LIMIT, before))
        assert page.work <= most.work, index
        assert page.round_trips <= most.round_trips, index


def test_append_to_an_old_log_costs_what_it_costs_in_a_short_one(filled, cost):
    ends = {sender_id: end_of(filled, sender_id) for sender_id in ("short", "old")}
    costs = {"short": [], "old": []}
    for number, sender_id in itertools.product(range(5), ends):

        def append(sender_id=sender_id, number=number):
            ends[sender_id] = filled.append(
                sender_id,
                entries(*(f"{number}{each}" for each in "abcde")),
                ends[sender_id],
            )

        costs[sender_id].append(cost(append))
        assert ends[sender_id] is not None
    for old, short in zip(*(sorted(costs[each]) for each in ("old", "short"))):
        assert old.work <= short.work * 3 // 2 + 1000
    assert sum(each.round_trips for each in costs["old"]) <= sum(
        each.round_trips for each in costs["short"]
    )


def test_count_takes_no_round_trip_for_each_conversation(filled, cost):
    assert cost(lambda: count(filled)).round_trips < 20
