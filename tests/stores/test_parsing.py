"""The fast parser of JSON, next to Python's own."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rasa_trackers import parsing

# All characters, lone surrogates and NUL among them.
characters = st.text(st.characters(exclude_categories=()), max_size=8)
numbers = (
    st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.floats(width=32)
    | st.sampled_from([2**63, 2**64, -(2**63) - 1, 2**53 + 1, 5e-324, -0.0, 1e308])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | characters,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(characters, inner, max_size=4)
    ),
    max_leaves=20,
)
#: A number as JSON has it, of any length and with any exponent.
numerals = st.from_regex(
    r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?", fullmatch=True
)
spaces = st.text(" \t\n\r", max_size=3)


@st.composite
def texts(draw):
    """JSON as Python's json writes it, in each of its ways, or as others do."""
    return draw(
        st.one_of(
            values.map(json.dumps),
            st.builds(
                json.dumps,
                values,
                ensure_ascii=st.booleans(),
                indent=st.none() | st.integers(0, 2),
                separators=st.sampled_from([(",", ":"), (" , ", " : ")]),
            ),
            numerals,
            st.builds("{}[{},{}]{}".format, spaces, numerals, numerals, spaces),
            # One key more than once, and all escapes.
            st.builds('{{"a":{},"a":{}}}'.format, numerals, numerals),
            st.sampled_from(
                [
                    r'"\"\\\/\b\f\n\r\t\u0000\u007f\ud83d\ude00\udc00\ud800x\ud83d"',
                    "[NaN, Infinity, -Infinity]",
                    "[1e400, -1e400, 1e-400]",
                    '{"": {}, " ": []}',
                ]
            ),
        )
    )


def read_by(parse, text):
    """What a parser makes of a text, in a form that tells NaN, -0.0, 1 and 1.0 apart."""
    try:
        return repr(parse(text))
    except (ValueError, RecursionError):
        return None


@given(texts())
@example("1" * 400)
@example("1" * 400 + ".5")
@example("[" * 900 + "]" * 900)
def test_fast_parser_reads_what_json_reads(text):
    expected = read_by(json.loads, text)
    if expected is not None:
        assert read_by(parsing.parser(), text) == expected


@given(values.map(json.dumps), st.integers(min_value=1))
def test_fast_parser_refuses_a_text_that_is_cut(text, length):
    # A cut number is a number, but all that is stored is an object.
    text = f'{{"value": {text}}}'
    cut = text[: length % len(text)]
    assert read_by(parsing.parser(), cut) is None


@pytest.mark.parametrize("depth", [1_100, 5_000, 100_000])
def test_fast_parser_refuses_what_is_too_deep_for_it(depth):
    with pytest.raises((ValueError, RecursionError)):
        parsing.parser()("[" * depth + "]" * depth)


def test_fast_parser_is_that_of_rasas_web_server():
    import ujson

    assert parsing.parser() is ujson.loads


@pytest.mark.parametrize("version", ["2.0.3", "5.3.0", "6.0.0", "dev", ""])
def test_version_that_was_not_compared_is_not_taken(monkeypatch, version):
    import ujson

    monkeypatch.setattr(ujson, "__version__", version)
    assert parsing.parser() is json.loads


def test_without_a_fast_parser_json_is_taken(monkeypatch):
    monkeypatch.setitem(sys.modules, "ujson", None)
    assert parsing.parser() is json.loads
