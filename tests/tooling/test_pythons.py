"""Which Rasa is tested on which Python, and how it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

import pythons
from pythons import Choice, Generation, Outcome, advice, choose, newest

RASA = Generation("Rasa 3.6", "rasa==3.6.21", ("3.8", "3.9", "3.10"))


@pytest.mark.parametrize(
    ("found", "fetchable", "taken"),
    [
        (["3.8", "3.9", "3.10"], [], ("3.8", "3.10")),
        (["3.10", "3.11"], [], ("3.10",)),
        (["3.10"], ["3.8", "3.9", "3.10"], ("3.8", "3.10")),
        (["3.8"], ["3.9"], ("3.8", "3.9")),
        ([], ["3.9"], ("3.9",)),
        (["2.7", "3.7", "3.11"], ["3.12"], ()),
        ([], [], ()),
    ],
)
def test_the_oldest_and_the_newest_that_can_be_had_are_taken(found, fetchable, taken):
    assert choose(RASA, found, fetchable).pythons == taken


def test_every_python_is_taken_or_left_out_for_a_reason():
    chosen = choose(RASA, ["3.8", "3.9", "3.10"])
    assert chosen == Choice(RASA, ("3.8", "3.10"), between=("3.9",), missing=())
    chosen = choose(RASA, ["3.10"], ["3.9"])
    assert chosen == Choice(RASA, ("3.9", "3.10"), between=(), missing=("3.8",))


def test_a_line_says_what_is_tested_and_why_the_rest_is_not():
    assert str(choose(RASA, ["3.8", "3.9", "3.10"])) == (
        "Rasa 3.6 on Python 3.8 and 3.10; not on 3.9: see `nox -s matrix`"
    )
    assert str(choose(RASA, ["3.10"])) == (
        "Rasa 3.6 on Python 3.10; not on 3.8 and 3.9: not installed, no download"
    )
    assert str(choose(RASA, [])) == f"NOT TESTED: {advice(RASA)}"


def test_the_advice_is_one_sentence_that_names_what_to_install():
    sentence = advice(RASA)
    assert "Rasa 3.6 needs Python 3.8 to 3.10" in sentence
    assert "`uv python install 3.10`" in sentence
    assert sentence.count(". ") == 0
    assert "needs Python 3.7," in advice(Generation("Rasa 1", "rasa", ("3.7",)))


@pytest.mark.parametrize(
    ("found", "fetchable", "taken"),
    [
        (["3.8", "3.9"], ["3.10"], "3.9"),
        (["3.11"], ["3.8", "3.10"], "3.10"),
        (["3.11"], [], ""),
    ],
)
def test_one_python_is_an_installed_one_before_a_newer_download(
    found, fetchable, taken
):
    assert newest(RASA, found, fetchable) == taken


def test_pyenv_offers_every_python_of_the_table():
    checkout = Path(__file__).parents[2]
    listed = (checkout / ".python-version").read_text("utf-8").split()
    all_of_them = (*pythons.OLDER, *pythons.GENERATIONS)
    needed = {one for generation in all_of_them for one in generation.pythons}
    assert needed <= set(listed)


REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="2"
 skipped="3" tests="1210" time="61.7" hostname="h">
<testcase name="a"><skipped type="pytest.skip" message="for H2 only">x</skipped>
</testcase><testcase name="b"><skipped type="pytest.skip" message="no client"/>
</testcase><testcase name="c"><skipped type="pytest.skip" message="no client"/>
</testcase></testsuite></testsuites>"""


def test_an_outcome_is_one_line_with_the_reasons_of_what_was_skipped():
    failed = Outcome.of_junit("Rasa 3.6", "3.8", False, REPORT)
    assert str(failed) == (
        "Rasa 3.6 on Python 3.8: 3 FAILED, 1,204 passed, 3 skipped "
        "(2: no client; 1: for H2 only); 62 s"
    )
    passed = failed._replace(succeeded=True, failed=0, skipped=())
    assert str(passed) == "Rasa 3.6 on Python 3.8: 1,204 passed; 62 s"


def test_an_outcome_without_tests_is_a_failure():
    outcome = Outcome.of_junit("Rasa 3.6", "3.8", False, "")
    assert str(outcome) == "Rasa 3.6 on Python 3.8: FAILED, 0 passed; 0 s"
