"""Users: stored, changed and erased with the events of their conversations."""

from __future__ import annotations

import pytest

from contract.logs import add, entries, numbered, of_user, stored, text
from rasa_trackers.event_log import START, Conversation, User


@pytest.mark.parametrize("count", [1, 8, 3000])
def test_user_is_stored_with_the_events(log, count):
    added = numbered(count)
    log.append("ada", added, START, User("u", 5.0))
    assert log.read_back("ada").user_id == "u"
    assert log.conversations_of("u") == [
        Conversation("ada", 5.0, [entry.data for entry in added])
    ]


def test_every_page_names_the_user(log):
    log.append("ada", numbered(10), START, User("u", 5.0))
    last = log.read_back("ada").events[-1].position
    assert log.read_back("ada", 1).user_id == "u"
    assert log.read_back("ada", 1, last).user_id == "u"


def test_conversation_without_a_user(log):
    log.append("ada", entries("a"), START)
    assert log.read_back("ada").user_id is None
    assert log.conversations_of("ada") == []
    assert log.conversations_of("") == []


def test_append_without_a_user_leaves_it_as_it_is(log):
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    log.append("ada", entries("b"), position)
    assert log.conversations_of("u") == [
        Conversation("ada", 5.0, [text("a"), text("b")])
    ]


@pytest.mark.parametrize("added", [[], ["b"]], ids=["nothing", "events"])
def test_append_gives_a_conversation_its_first_user(log, added):
    position = log.append("ada", entries("a"), START)
    log.append("ada", entries(*added), position, User("u", 5.0))
    assert log.read_back("ada").user_id == "u"
    assert log.conversations_of("u") == [
        Conversation("ada", 5.0, [text(name) for name in ["a", *added]])
    ]


@pytest.mark.parametrize("added", [[], ["b"]], ids=["nothing", "events"])
def test_append_gives_a_conversation_another_user(log, added):
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    log.append("ada", entries(*added), position, User("v", 5.0))
    assert log.read_back("ada").user_id == "v"
    assert of_user(log, "u") == []
    assert of_user(log, "v") == ["ada"]


@pytest.mark.parametrize("added", [[], ["b"]], ids=["nothing", "events"])
@pytest.mark.parametrize("user_id", ["u", "v"])
def test_append_leaves_conversation_started_as_it_is(log, added, user_id):
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    log.append("ada", entries(*added), position, User(user_id, 7.0))
    (found,) = log.conversations_of(user_id)
    assert found.conversation_started == 5.0


@pytest.mark.parametrize("added", [[], ["b"]], ids=["nothing", "events"])
def test_append_stores_conversation_started_where_it_was_unknown(log, added):
    position = log.append("ada", entries("a"), START, User("u", None))
    assert log.conversations_of("u")[0].conversation_started is None
    log.append("ada", entries(*added), position, User("u", 5.0))
    assert log.conversations_of("u")[0].conversation_started == 5.0


def test_append_keeps_conversation_started_that_the_caller_does_not_know(log):
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    log.append("ada", entries("b"), position, User("v", None))
    assert log.conversations_of("v")[0].conversation_started == 5.0


def test_conversation_that_started_at_the_epoch(log):
    position = log.append("ada", entries("a"), START, User("u", 0.0))
    log.append("ada", entries("b"), position, User("u", 5.0))
    assert log.conversations_of("u")[0].conversation_started == 0.0


def test_conversation_started_is_exact(log):
    log.append("ada", entries("a"), START, User("u", 1_700_000_000.123456))
    assert log.conversations_of("u")[0].conversation_started == 1_700_000_000.123456


@pytest.mark.parametrize("added", [[], ["b"]], ids=["nothing", "events"])
def test_append_that_is_refused_leaves_the_user_as_it_is(log, added):
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    for after in (START, position + 1):
        assert log.append("ada", entries(*added), after, User("v", 6.0)) is None
    assert of_user(log, "u") == ["ada"]
    assert of_user(log, "v") == []


def test_append_of_nothing_to_an_empty_log_stores_no_user(log):
    log.append("ada", [], START, User("u", 5.0))
    assert of_user(log, "u") == []
    log.append("ada", entries("a"), START)
    assert log.read_back("ada").user_id is None


def test_delete_erases_the_user(log):
    log.append("ada", entries("a"), START, User("u", 5.0))
    log.append("grace", entries("a"), START, User("u", 6.0))
    log.delete("ada")
    assert of_user(log, "u") == ["grace"]


def test_conversation_that_begins_again_has_no_user(log):
    log.append("ada", entries("a"), START, User("u", 5.0))
    log.delete("ada")
    log.append("ada", entries("b"), START)
    assert log.read_back("ada").user_id is None
    assert of_user(log, "u") == []


def test_conversation_that_begins_again_has_its_own_beginning(log):
    log.append("ada", entries("a"), START, User("u", 5.0))
    log.delete("ada")
    log.append("ada", entries("b"), START, User("u", 7.0))
    assert log.conversations_of("u") == [Conversation("ada", 7.0, [text("b")])]


def test_replace_without_a_user_leaves_it_as_it_is(log):
    position = log.append("ada", entries("a", "b"), START, User("u", 5.0))
    log.replace("ada", entries("x"), position)
    assert log.read_back("ada").user_id == "u"
    assert log.conversations_of("u") == [Conversation("ada", 5.0, [text("x")])]


def test_replace_with_a_user_stores_both(log):
    position = log.append("ada", entries("a", "b"), START, User("u", 5.0))
    log.replace("ada", entries("x"), position, User("v", 6.0))
    assert of_user(log, "u") == []
    assert log.conversations_of("v") == [Conversation("ada", 6.0, [text("x")])]


def test_replace_gives_a_conversation_its_first_user(log):
    position = log.append("ada", entries("a"), START)
    log.replace("ada", entries("x"), position, User("u", 5.0))
    assert log.read_back("ada").user_id == "u"
    assert log.conversations_of("u") == [Conversation("ada", 5.0, [text("x")])]


def test_replace_of_an_empty_log_stores_the_user(log):
    log.replace("ada", entries("a"), START, User("u", 5.0))
    assert log.conversations_of("u") == [Conversation("ada", 5.0, [text("a")])]


def test_replace_that_is_refused_leaves_the_user_as_it_is(log):
    position = log.append("ada", entries("a", "b"), START, User("u", 5.0))
    assert log.replace("ada", entries("x"), position + 1, User("v", 6.0)) is None
    assert log.replace("ada", [], position + 1) is None
    assert of_user(log, "u") == ["ada"]
    assert of_user(log, "v") == []


@pytest.mark.parametrize("user", [None, User("u", 5.0)])
def test_replace_by_nothing_erases_the_user(log, user):
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    log.replace("ada", [], position, user)
    assert of_user(log, "u") == []
    log.append("ada", entries("b"), START)
    assert log.read_back("ada").user_id is None


def test_replace_of_an_empty_log_by_nothing_stores_no_user(log):
    log.replace("ada", [], START, User("u", 5.0))
    assert of_user(log, "u") == []


# The conversations of a user


def test_conversations_come_in_the_order_of_their_beginnings(log):
    for sender_id, began in [("a", 3.0), ("b", 2.0), ("y", 0.5)]:
        log.append(sender_id, entries("x"), START, User("u", began))
    assert of_user(log, "u") == ["y", "b", "a"]


def test_conversations_of_one_beginning_come_in_the_order_of_their_sender_ids(log):
    for sender_id in ["é", "b", "Z", "a", "10", "9"]:
        log.append(sender_id, entries("x"), START, User("u", 2.0))
    assert of_user(log, "u") == ["10", "9", "Z", "a", "b", "é"]


def test_sender_ids_are_in_the_order_of_code_points(log):
    """The order is that of code points, and not of UTF-16."""
    for sender_id in ["😀", "\uffee"]:
        log.append(sender_id, entries("x"), START, User("u", 2.0))
    assert of_user(log, "u") == ["\uffee", "😀"]


def test_conversations_of_an_unknown_beginning_come_at_the_epoch(log):
    for sender_id, began in [("b", None), ("a", 0.0), ("d", -1.0), ("c", 0.5)]:
        log.append(sender_id, entries("x"), START, User("u", began))
    assert of_user(log, "u") == ["d", "a", "b", "c"]


def test_conversations_are_those_of_one_user_alone(log):
    log.append("ada", entries("a"), START, User("u", 1.0))
    log.append("grace", entries("a"), START, User("v", 1.0))
    log.append("nobodys", entries("a"), START)
    assert of_user(log, "u") == ["ada"]
    assert of_user(log, "w") == []


def test_conversations_have_all_their_events(log):
    log.append("ada", entries("a", "b"), START, User("u", 1.0))
    add(log, "ada", "c")
    log.append("grace", numbered(1000), START, User("u", 2.0))
    ada, grace = log.conversations_of("u")
    assert ada.events == [text("a"), text("b"), text("c")]
    assert grace.events == [entry.data for entry in numbered(1000)]


def test_limit_and_skip(log):
    expected = list("abcdef")
    for began, sender_id in enumerate(expected):
        log.append(sender_id, entries("x"), START, User("u", float(began)))
    for skip in range(8):
        assert of_user(log, "u", None, skip) == expected[skip:]
        for limit in range(1, 8):
            found = of_user(log, "u", limit, skip)
            assert found == expected[skip : skip + limit]


# Logs that keep no users


def test_log_without_users_ignores_the_user(without_users):
    log = without_users
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    assert log.append("ada", [], position, User("u", 5.0)) == position
    assert log.replace("ada", entries("x"), position, User("u", 5.0)) is not None
    assert stored(log, "ada") == ["x"]
    assert log.read_back("ada").user_id is None
    assert log.conversations_of("u") == []


def test_log_without_users_finds_no_user_that_another_log_has_stored(
    make_log, without_users
):
    make_log().append("ada", entries("a"), START, User("u", 5.0))
    assert without_users.read_back("ada").user_id is None
    assert without_users.conversations_of("u") == []


@pytest.mark.parametrize("added", [[], ["b"]], ids=["nothing", "events"])
def test_log_without_users_leaves_a_stored_user_as_it_is(
    make_log, without_users, added
):
    log = make_log()
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    assert without_users.append("ada", entries(*added), position, User("v", 6.0))
    assert log.read_back("ada").user_id == "u"
    assert of_user(log, "u") == ["ada"]
    assert of_user(log, "v") == []


def test_log_without_users_replaces_events_and_leaves_the_user(make_log, without_users):
    log = make_log()
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    without_users.replace("ada", entries("x"), position, User("v", 6.0))
    assert log.conversations_of("u") == [Conversation("ada", 5.0, [text("x")])]


def test_log_without_users_erases_the_user_by_delete(make_log, without_users):
    log = make_log()
    log.append("ada", entries("a"), START, User("u", 5.0))
    assert without_users.delete("ada") is True
    assert of_user(log, "u") == []
    log.append("ada", entries("b"), START)
    assert log.read_back("ada").user_id is None
    assert of_user(log, "u") == []


def test_log_without_users_erases_the_user_by_replace(make_log, without_users):
    log = make_log()
    position = log.append("ada", entries("a"), START, User("u", 5.0))
    assert without_users.replace("ada", [], position) == START
    assert of_user(log, "u") == []
    log.append("ada", entries("b"), START)
    assert log.read_back("ada").user_id is None
