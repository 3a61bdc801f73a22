"""Pages of long conversations: what they hold, what they cost, what is damaged."""

from __future__ import annotations

import bson
import pytest

from mongo_store.entries import end, entries, names, numbered, texts
from rasa_trackers.event_log import PAGE_SLACK, START, Page


def appended(log, count, by=90, sender_id="ada"):
    position = START
    for begin in range(0, count, by):
        events = numbered(min(by, count - begin), begin)
        position = log.append(sender_id, events, position)
        assert position
    return position


@pytest.mark.parametrize("by", [1000, 90])
def test_pages_hold_what_was_appended(log, by):
    appended(log, 1000, by)
    everything = log.read_back("ada").events
    assert names(Page(everything, True)) == [str(number) for number in range(1000)]
    positions = [event.position for event in everything]
    assert positions == list(range(positions[0], positions[0] + 1000))
    for limit in (1, 7, 49, 50, 150, 400, 2000, None):
        for index in (1000, 999, 880, 500, 241, 1, 0):
            before = positions[index] if index < 1000 else None
            page = log.read_back("ada", limit, before)
            older = everything[:index]
            count = len(page.events)
            assert page.events == older[index - count :]
            assert min(limit or 1000, index) <= count
            assert count <= (limit or 1000) + PAGE_SLACK
            assert page.complete == (count == index)


@pytest.mark.parametrize("by", [4000, 110])
def test_page_costs_the_same_however_far_back_it_lies(watched, commands, by):
    appended(watched, 4000, by)
    first = end(watched) - 3999
    received = {}
    for before in (first + 500, first + 2000, first + 3500):
        commands.clear()
        assert len(watched.read_back("ada", 10, before).events) >= 10
        assert commands.names == ["find", "find"]
        received[before] = commands.bytes_received()
    assert max(received.values()) < 2 * min(received.values()) < 200_000


def test_last_page_is_one_round_trip(watched, commands):
    appended(watched, 1000)
    for limit in (1, 10, 120):
        commands.clear()
        watched.read_back("ada", limit)
        assert commands.names == ["find"]


def test_append_is_one_round_trip_and_costs_the_same_in_a_long_log(watched, commands):
    position = appended(watched, 1000)
    commands.clear()
    watched.append("ada", entries("x"), position)
    assert commands.names == ["update"]


def test_append_that_closes_a_bucket_asks_no_more_of_a_long_log(watched, commands):
    costs = []
    for sender_id, count in (("short", 240), ("long", 4000)):
        position = appended(watched, count, 110, sender_id)
        commands.clear()
        for _ in range(3):
            position = watched.append(sender_id, numbered(110), position)
        costs.append((len(commands.names), commands.bytes_received()))
    (few, little), (many, much) = costs
    assert many <= few + 1
    assert much < little + 10_000


def test_complete_page_of_exactly_as_many_as_asked_for(log):
    appended(log, 300, 300)
    assert log.read_back("ada", 300).complete
    assert not log.read_back("ada", 30).complete
    assert log.read_back("ada", 10, end(log) - 289).complete


# Writers that died


def test_bucket_that_a_dead_writer_has_left_is_not_read(log, collection):
    position = appended(log, 200, 200)
    first = position - 199
    # The first ones died before an append, the last one after that of another.
    for offset in (0, 1, 50, 119, 300):
        collection.insert_one(
            {
                "sender_id": "ada",
                "bucket": first + offset,
                "log": [{"data": "left"}] * 130,
            }
        )
    for begin in range(200, 650, 90):
        position = log.append("ada", numbered(90, begin), position)
    everything = log.read_back("ada").events
    assert names(Page(everything, True)) == [str(number) for number in range(650)]
    for index in range(1, 650, 37):
        page = log.read_back("ada", 5, everything[index].position)
        assert len(page.events) >= min(5, index)
        assert page.events == everything[index - len(page.events) : index]


def test_writer_that_died_right_after_its_append(log, collection):
    """Its closed buckets are not marked as part of the conversation."""
    appended(log, 1000, 1000)
    expected = log.read_back("ada").events
    closed = {"bucket": {"$exists": True}}
    assert collection.count_documents({**closed, "base": None}) == 0
    collection.update_many(closed, {"$unset": {"base": ""}})
    for _ in range(2):
        for index in range(1, 1000, 71):
            page = log.read_back("ada", 5, expected[index].position)
            assert len(page.events) >= min(5, index)
            assert page.events == expected[index - len(page.events) : index]
        log.append("ada", numbered(300), end(log))
        expected = log.read_back("ada").events


# Damage


def damaged(log, collection, change, newest=1):
    appended(log, 1000, 1000)
    closed = collection.find({"bucket": {"$exists": True}}, sort=[("bucket", -1)])
    collection.update_one({"_id": list(closed)[newest]["_id"]}, change)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("marked", [True, False])
def test_bucket_whose_previous_is_itself_ends_a_read(log, collection, caplog, marked):
    appended(log, 1000, 1000)
    for document in list(collection.find({"bucket": {"$exists": True}})):
        change = {"$set": {"previous": document["_id"]}}
        if not marked:
            change["$unset"] = {"base": ""}
        collection.update_one({"_id": document["_id"]}, change)
    page = log.read_back("ada")
    assert page.complete
    assert names(page)[-1] == "999"
    assert (len(page.events) == 1000) is marked
    assert ("a part of conversation 'ada' is missing" in caplog.text) is not marked
    log.read_back("ada", 5, page.events[0].position)
    log.read_back("ada", 5, end(log) - 500)


@pytest.mark.parametrize(
    "change",
    [
        {"$inc": {"bucket": 5}},
        {"$inc": {"bucket": -5}},
        {"$set": {"bucket": "x"}},
        {"$set": {"log": "x"}},
        {"$unset": {"log": ""}},
        {"$push": {"log": {"data": "{}"}}},
        {"$pop": {"log": 1}},
    ],
)
def test_bucket_whose_number_is_wrong_gives_no_event_a_wrong_position(
    log, collection, caplog, change
):
    damaged(log, collection, change)
    positions = {number: end(log) - 999 + number for number in range(1000)}
    page = log.read_back("ada")
    assert page.complete
    assert "a part of conversation 'ada' is missing" in caplog.text
    assert 120 <= len(page.events) < 1000
    for event, name in zip(page.events, names(page)):
        assert event.position == positions[int(name)]


@pytest.mark.parametrize("change", [{"first": -5}, {"last": 5}, {"first": 1}])
@pytest.mark.parametrize("limit", [None, 200, 10])
def test_open_bucket_whose_numbers_are_wrong_is_an_error(
    log, collection, change, limit
):
    appended(log, 1000, 1000)
    collection.update_one({"_id": "open:ada"}, {"$inc": change})
    wrong = pytest.raises(bson.errors.InvalidBSON, match="'open:ada'")
    if limit == 10 and "last" not in change:
        return  # the numbers agree with what such a page reads
    if "last" in change and limit == 10:
        return
    with wrong:
        log.read_back("ada", limit)


def test_bucket_that_somebody_has_removed_is_reported(log, collection, caplog):
    position = appended(log, 1000, 1000)
    (newest, *_) = collection.find({"bucket": {"$exists": True}}, sort=[("bucket", -1)])
    collection.delete_one({"_id": newest["_id"]})
    page = log.read_back("ada")
    assert page.complete
    assert 0 < len(page.events) < 1000
    assert "a part of conversation 'ada' is missing" in caplog.text
    assert log.append("ada", entries("a"), position) == position + 1


# Others at the same time


def test_conversation_that_is_replaced_while_it_is_read(make_log, commands):
    log, other = make_log(listener=commands), make_log()
    position = appended(log, 1000, 1000)
    commands.clear()
    commands.before["find", 2] = lambda: other.replace("ada", entries("new"), position)
    page = log.read_back("ada")
    assert (names(page), page.complete) == (["new"], True)


def test_conversation_that_is_erased_while_it_is_read(make_log, commands):
    log, other = make_log(listener=commands), make_log()
    appended(log, 1000, 1000)
    commands.clear()
    commands.before["find", 2] = lambda: other.delete("ada")
    assert log.read_back("ada") == Page([], True)


def test_text_of_events_is_kept(log):
    events = numbered(500)
    log.append("ada", events, START)
    assert [event.data for event in log.read_back("ada").events] == texts(events)
