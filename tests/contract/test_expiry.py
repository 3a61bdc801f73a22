"""Expiry: what begins a life, what leaves it as it is, and what is left after it."""

from __future__ import annotations

import pytest

from contract.logs import (
    add,
    all_sender_ids,
    count,
    end_of,
    entries,
    names,
    of_user,
    stored,
)
from contract.waiting import live, wait_until
from rasa_trackers.event_log import START, Page, User

#: Seconds of a life whose end is waited for.
SHORT = 0.4
#: Seconds of a life that does not end while a test runs.
LONG = 3600.0


def wait_for_end(log, *sender_ids):
    for sender_id in sender_ids:
        wait_until(lambda one=sender_id: not stored(log, one), f"end of {sender_id}")


def later(log, name):
    """Wait until a conversation that begins now, with a life of `log`, has expired."""
    log.append(name, entries("x"), START)
    wait_for_end(log, name)


@pytest.fixture
def expired(make_one):
    """A log whose conversations of "ada" and of the user "u" have just expired.

    Nobody has looked at "ada" since. A log may erase what has expired when it is read.
    """
    log = make_one(SHORT)
    log.append("ada", entries("a", "b"), START, User("u", 5.0))
    later(log, "another")
    return log


def test_expired_conversation_is_an_empty_log(expired):
    assert expired.read_back("ada") == Page([], True, None)
    assert expired.read_back("ada", 1) == Page([], True, None)
    assert expired.read_back("ada", 1, 1_000_000) == Page([], True, None)


def test_expired_conversation_is_in_no_list(expired):
    assert all_sender_ids(expired) == []


def test_expired_conversation_is_not_counted(expired):
    assert count(expired) == 0


def test_expired_conversation_is_nobodys(expired):
    assert of_user(expired, "u") == []


def test_expired_conversation_begins_again_without_its_events_and_user(make_one):
    def story(life):
        log = make_one(life.seconds)
        sender_id = f"again {life.seconds}"
        log.append(sender_id, entries("a"), START, User("u", 5.0))
        wait_for_end(log, sender_id)
        life.begins()
        assert log.append(sender_id, entries("b"), START) is not None
        page = log.read_back(sender_id)
        life.check(page.events)
        assert names(page) == ["b"]
        assert page.complete
        assert page.user_id is None
        assert of_user(log, "u") == []

    live(story)


def test_append_of_nothing_to_an_expired_conversation_gives_start(expired):
    assert expired.append("ada", [], START, User("u", 5.0)) == START
    assert all_sender_ids(expired) == []
    assert of_user(expired, "u") == []


def test_append_of_nothing_after_the_end_of_an_expired_conversation(make_one):
    log = make_one(SHORT)
    position = log.append("ada", entries("a"), START)
    wait_for_end(log, "ada")
    assert log.append("ada", [], position) is None


def test_replace_of_an_expired_conversation_after_its_old_end(make_one):
    log = make_one(SHORT)
    position = log.append("ada", entries("a"), START)
    wait_for_end(log, "ada")
    assert log.replace("ada", entries("x"), position) is None
    assert log.replace("ada", [], START) == START


def test_delete_of_an_expired_conversation_gives_false(expired):
    assert expired.delete("ada") is False


def test_delete_of_an_expired_conversation_erases_the_rest(make_log):
    expiring, keeping = make_log(SHORT), make_log()
    expiring.append("ada", entries("a"), START, User("u", 5.0))
    wait_for_end(expiring, "ada")
    expiring.delete("ada")
    assert stored(keeping, "ada") == []
    assert of_user(keeping, "u") == []
    assert all_sender_ids(keeping) == []


def test_purge_erases_what_has_expired(make_log):
    expiring, keeping = make_log(SHORT), make_log()
    for number in range(5):
        expiring.append(str(number), entries("a"), START, User("u", 5.0))
    wait_for_end(expiring, *"01234")

    def is_erased():
        while expiring.purge_expired():
            pass
        return not all_sender_ids(keeping) and not of_user(keeping, "u")

    wait_until(is_erased, "erasure")


def test_purge_counts_what_it_erases_and_ends_with_zero(expired):
    numbers = []
    while not numbers or numbers[-1]:
        numbers.append(expired.purge_expired())
    assert all(number >= 0 for number in numbers)
    # A database that erases by itself may have been quicker.
    assert sum(numbers) <= 2


def test_purge_erases_many_conversations_by_and_by(make_one):
    log = make_one(SHORT)
    expected = [str(number) for number in range(120)]
    for sender_id in expected:
        log.append(sender_id, entries("a"), START)
    wait_for_end(log, *expected)
    numbers = []
    while not numbers or numbers[-1]:
        numbers.append(log.purge_expired())
    assert sum(numbers) <= 120
    assert all_sender_ids(log) == []


def test_purge_leaves_what_lives(make_log):
    short, long, keeping = make_log(SHORT), make_log(LONG), make_log()
    long.append("long", entries("a"), START, User("u", 5.0))
    keeping.append("permanent", entries("a"), START, User("u", 6.0))
    later(short, "short")
    for log in (short, long, keeping):
        while log.purge_expired():
            pass
    assert all_sender_ids(short) == ["long", "permanent"]
    assert of_user(long, "u") == ["long", "permanent"]


def test_log_without_record_exp_keeps_conversations(make_log):
    make_log().append("ada", entries("a"), START)
    expiring = make_log(SHORT)
    later(expiring, "other")
    assert all_sender_ids(expiring) == ["ada"]
    assert stored(expiring, "ada") == ["a"]


@pytest.mark.parametrize("added", [["x"], []], ids=["events", "nothing"])
def test_each_append_begins_the_life_anew(make_one, added):
    def story(life):
        log = make_one(life.seconds)
        left, kept = f"left {life.seconds}", f"kept {life.seconds}"
        life.begins()
        end = log.append(kept, entries("a"), START, User("u", 5.0))
        log.append(left, entries("a"), START)
        while stored(log, left):
            end = life.renewed_by(log, kept, entries(*added), end)
        life.check(stored(log, kept)[:1] == ["a"])
        life.check(of_user(log, "u") == [kept])
        life.check(all_sender_ids(log) == [kept])
        log.delete(kept)

    live(story)


def test_append_begins_the_life_of_all_its_events_anew(make_one):
    """Events that were appended long ago and are stored apart expire, too."""

    def story(life):
        log = make_one(life.seconds)
        left, kept = f"left {life.seconds}", f"kept {life.seconds}"
        end = START
        for number in range(4):
            added = entries(str(number)) * 400
            end = life.renewed_by(log, kept, added, end)
        log.append(left, entries("a"), START)
        while stored(log, left):
            end = life.renewed_by(log, kept, entries("x"), end)
        page = log.read_back(kept)
        life.check(page.events)
        assert len([name for name in names(page) if name != "x"]) == 1600

    live(story)


def test_a_conversation_expires_after_its_last_append(make_one):
    log = make_one(SHORT)
    position = log.append("ada", entries("a"), START)
    log.append("ada", entries("b"), position)
    wait_for_end(log, "ada")


def test_append_gives_a_permanent_conversation_a_life(make_log):
    keeping, expiring = make_log(), make_log(SHORT)
    position = keeping.append("ada", entries("a"), START)
    expiring.append("ada", entries("b"), position)
    wait_for_end(expiring, "ada")


def test_append_of_nothing_gives_a_permanent_conversation_a_life(make_log):
    keeping, expiring = make_log(), make_log(SHORT)
    position = keeping.append("ada", entries("a"), START)
    expiring.append("ada", [], position)
    wait_for_end(expiring, "ada")


@pytest.mark.parametrize("added", [["b"], []], ids=["events", "nothing"])
def test_append_without_record_exp_makes_a_conversation_permanent(make_log, added):
    def story(life):
        expiring, keeping = make_log(life.seconds), make_log()
        kept = f"kept {life.seconds}"
        life.begins()
        position = expiring.append(kept, entries("a"), START, User("u", 5.0))
        appended = keeping.append(kept, entries(*added), position)
        life.check(appended is not None)
        later(expiring, f"left {life.seconds}")
        while expiring.purge_expired():
            pass
        assert stored(expiring, kept) == ["a", *added]
        assert of_user(expiring, "u") == [kept]
        assert all_sender_ids(expiring) == [kept]

    live(story)


def test_append_by_a_log_with_another_record_exp_sets_its_own(make_log):
    long, short = make_log(LONG), make_log(SHORT)
    position = long.append("ada", entries("a"), START)
    short.append("ada", entries("b"), position)
    wait_for_end(long, "ada")


def test_append_that_is_refused_renews_nothing(make_one):
    log = make_one(SHORT)
    position = log.append("ada", entries("a"), START)

    def is_gone():
        assert log.append("ada", entries("x"), position + 1) is None
        assert log.append("ada", [], position + 1) is None
        return not stored(log, "ada")

    wait_until(is_gone, "end of ada")


@pytest.mark.parametrize("record_exp", [LONG, None], ids=["record_exp", "none"])
def test_replace_leaves_the_end_of_a_life_as_it_is(make_log, record_exp):
    def story(life):
        expiring, replacing = make_log(life.seconds), make_log(record_exp)
        sender_id = f"replaced {life.seconds}"
        life.begins()
        position = expiring.append(sender_id, entries("a"), START)
        replaced = replacing.replace(sender_id, entries("x"), position)
        life.check(replaced is not None)
        found = stored(expiring, sender_id)
        life.check(found)
        assert found == ["x"]
        wait_for_end(expiring, sender_id)

    live(story)


def test_replace_does_not_renew_a_life(make_one):
    """It is repeated for as long as the conversation lives, and that ends."""
    log = make_one(SHORT)
    position = log.append("ada", entries("a"), START)

    def is_gone():
        nonlocal position
        position = log.replace("ada", entries("x"), position)
        return position is None

    wait_until(is_gone, "end of ada")
    assert stored(log, "ada") == []


@pytest.mark.parametrize("life", [SHORT, None], ids=["record_exp", "none"])
def test_replace_leaves_a_permanent_conversation_permanent(make_log, life):
    keeping, replacing, expiring = make_log(), make_log(life), make_log(SHORT)
    position = keeping.append("ada", entries("a"), START)
    replacing.replace("ada", entries("x"), position)
    later(expiring, "other")
    assert stored(expiring, "ada") == ["x"]


def test_replace_of_an_empty_log_begins_a_life(make_one):
    log = make_one(SHORT)
    log.replace("ada", entries("a"), START)
    wait_for_end(log, "ada")


def test_replace_of_an_expired_conversation_begins_a_life(make_one):
    def story(life):
        log = make_one(life.seconds)
        sender_id = f"again {life.seconds}"
        log.append(sender_id, entries("a"), START)
        wait_for_end(log, sender_id)
        life.begins()
        assert log.replace(sender_id, entries("b"), START) is not None
        found = stored(log, sender_id)
        life.check(found)
        assert found == ["b"]
        wait_for_end(log, sender_id)

    live(story)


def test_replace_of_an_empty_log_without_record_exp_is_permanent(make_log):
    keeping, expiring = make_log(), make_log(SHORT)
    keeping.replace("ada", entries("a"), START)
    later(expiring, "other")
    assert stored(expiring, "ada") == ["a"]


def test_replaced_conversation_lives_on_by_appends(make_log):
    def story(life):
        log = make_log(life.seconds)
        left, kept = f"left {life.seconds}", f"kept {life.seconds}"
        life.begins()
        end = log.append(kept, entries("a"), START)
        end = log.replace(kept, entries("x"), end)
        life.check(end is not None)
        log.append(left, entries("a"), START)
        while stored(log, left):
            end = life.renewed_by(log, kept, [], end)
        life.check(stored(log, kept) == ["x"])

    live(story)


def test_delete_erases_the_end_of_a_life(make_log):
    def story(life):
        expiring, keeping = make_log(life.seconds), make_log()
        sender_id = f"again {life.seconds}"
        expiring.append(sender_id, entries("a"), START)
        keeping.delete(sender_id)
        keeping.replace(sender_id, entries("b"), START)
        later(expiring, f"left {life.seconds}")
        assert stored(expiring, sender_id) == ["b"]

    live(story)


def test_user_that_an_append_of_nothing_stores_expires_with_the_conversation(make_one):
    log = make_one(SHORT)
    position = log.append("ada", entries("a"), START)
    log.append("ada", [], position, User("u", 5.0))
    wait_for_end(log, "ada")
    assert of_user(log, "u") == []


def test_conversation_of_a_user_lives_on_while_another_one_ends(make_log):
    short, long = make_log(SHORT), make_log(LONG)
    long.append("long", entries("a"), START, User("u", 5.0))
    short.append("short", entries("a"), START, User("u", 6.0))
    wait_for_end(short, "short")
    while short.purge_expired():
        pass
    assert of_user(short, "u") == ["long"]
    assert end_of(long, "long") > START
    assert add(long, "long", "b") > START
