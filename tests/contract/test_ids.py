"""Which texts are sender ids and user ids, and that each is one of its own."""

from __future__ import annotations

import pytest

from contract.logs import add, all_sender_ids, entries, of_user, refusal, stored
from rasa_trackers.event_log import START, User

#: Texts that a database, a query or a file system may take for one another.
ALIKE = [
    *("ada", "Ada", "ADA", "ada ", " ada", "ada\t", "ada\n", "ada\r", "ada\u200b"),
    *("i", "I", "\u0131", "\u0130", "e", "é", "e\u0301", "ss", "ß", "a", "\uff41", "K"),
    *("\u212a", " ", "  ", "\t", "ab", "a%", "a_", "a*", "a?", "[ab]", "{a}", "{a}b"),
    *("a:b", "a/b", "../a", "a.b", "$a", ".", "..", "/", "a'b", "a''b", 'a"b', "a\\b"),
    *("a\\", "a\\\\b", "1", "01", "1.0", "1e0", "null", "NULL", "None", "true", "NaN"),
    *("\U0001f600", "\U0001f601", "?", "\x7f", "\x80", "\x01", "\ufffd", "\ufffe"),
    *("🇩🇪", "🇪🇩", "-", "--", ";", "con", "aux.txt", "%00", "%20", "+", "\\u0000", "b"),
]

#: Pairs of which a database need not be able to store the first one. What it may be taken
#: for stands beside it.
DIFFICULT = [
    ("\0", " "),
    ("a\0", "a"),
    ("a\0b", "a\0c"),
    ("a\ud800", "a"),
    ("a\ud800", "a\ufffd"),
    ("a\ud800", "a?"),
    ("\ud83d\ude00", "\U0001f600"),
    ("\udc80", "\x80"),
    ("", " "),
    ("", "None"),
]


def shown(pair):
    return ascii("|".join(pair))


def is_kept(log, sender_id, name, user=None):
    """Whether an event was stored; otherwise it was refused for good."""
    failure = refusal(log, lambda: log.append(sender_id, entries(name), START, user))
    assert failure is None or not failure.transient
    return failure is None


def test_sender_ids_that_differ_name_logs_of_their_own(log):
    for sender_id in ALIKE:
        assert log.append(sender_id, entries(sender_id), START) is not None, sender_id
    assert [stored(log, sender_id) for sender_id in ALIKE] == [[one] for one in ALIKE]
    assert all_sender_ids(log) == sorted(ALIKE)


def test_deleted_sender_id_is_no_other_one(log):
    for sender_id in ALIKE:
        log.append(sender_id, entries(sender_id), START)
    left = sorted(ALIKE)
    for sender_id in ALIKE[::3]:
        assert log.delete(sender_id) is True
        left.remove(sender_id)
        assert all_sender_ids(log) == left


@pytest.mark.parametrize("pair", DIFFICULT, ids=shown)
def test_sender_id_is_stored_as_it_is_or_refused_for_good(log, pair):
    kept = [one for one in pair if is_kept(log, one, ascii(one))]
    assert all_sender_ids(log) == sorted(kept)
    for sender_id in kept:
        assert stored(log, sender_id) == [ascii(sender_id)]
    for sender_id in kept:
        assert log.delete(sender_id) is True
    assert all_sender_ids(log) == []


@pytest.mark.parametrize("sender_id", ["a\0", "a\ud800", ""], ids=ascii)
@pytest.mark.parametrize("method", ["read_back", "delete", "replace"])
def test_other_methods_refuse_a_sender_id_for_good_as_well(log, sender_id, method):
    """Unless the database can store it; then it is unknown."""
    add(log, "a", "a")
    more = (entries("x"), START + 7) if method == "replace" else ()
    failure = refusal(log, lambda: getattr(log, method)(sender_id, *more))
    assert failure is None or not failure.transient
    assert all_sender_ids(log) == ["a"]


@pytest.mark.parametrize("character", ["x", "ü"])
def test_sender_ids_of_the_greatest_length(log, character):
    check_longest_sender_ids(log, character)


def test_sender_ids_of_the_greatest_length_beyond_the_basic_plane(log):
    check_longest_sender_ids(log, "😀")


def check_longest_sender_ids(log, character):
    length = log.max_sender_id or 5000
    first = (length - 1) * character + "a"
    second = (length - 1) * character + "b"
    add(log, first, "a")
    add(log, second, "b")
    assert stored(log, first) == ["a"]
    assert stored(log, second) == ["b"]
    assert all_sender_ids(log) == [first, second]


def test_max_sender_id_is_a_number_of_characters_or_none(log):
    assert log.max_sender_id is None or log.max_sender_id >= 1


def test_user_ids_that_differ_name_users_of_their_own(log):
    for user_id in ALIKE:
        log.append(f"of {user_id}", entries("a"), START, User(user_id, 1.0))
    for user_id in ALIKE:
        assert of_user(log, user_id) == [f"of {user_id}"]
        assert log.read_back(f"of {user_id}").user_id == user_id


@pytest.mark.parametrize("pair", DIFFICULT, ids=shown)
def test_user_id_is_stored_as_it_is_or_refused_for_good(log, pair):
    for sender_id, user_id in zip("ab", pair):
        if is_kept(log, sender_id, "x", User(user_id, 1.0)):
            assert log.read_back(sender_id).user_id == user_id
            assert of_user(log, user_id) == [sender_id]
        else:
            assert stored(log, sender_id) == []


@pytest.mark.parametrize("character", ["x", "ü"])
def test_user_ids_of_the_greatest_length(log, character):
    check_longest_user_ids(log, character)


def test_user_ids_of_the_greatest_length_beyond_the_basic_plane(log):
    check_longest_user_ids(log, "😀")


def check_longest_user_ids(log, character):
    length = log.max_sender_id or 5000
    first = (length - 1) * character + "a"
    second = (length - 1) * character + "b"
    log.append("ada", entries("a"), START, User(first, 1.0))
    log.append("grace", entries("a"), START, User(second, 1.0))
    assert of_user(log, first) == ["ada"]
    assert of_user(log, second) == ["grace"]


def test_a_user_id_may_be_a_sender_id(log):
    log.append("ada", entries("a"), START, User("ada", 1.0))
    log.append("grace", entries("a"), START, User("ada", 2.0))
    assert of_user(log, "ada") == ["ada", "grace"]
    log.delete("ada")
    assert of_user(log, "ada") == ["grace"]
