from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.core import InvalidInputError, ShopfloorError, UnknownNameError
from shopfloor.datasets.format.record import EpisodeRecord
from shopfloor.datasets.listing.select import MAX_BYTES, nearest_ids, parse_where

RECORD = EpisodeRecord(
    file="episodes/ep-00000007-0351d6e578cdb39e.h5",
    group="demo_0",
    sha256="a" * 64,
    bytes=1000,
    episode_id="0351d6e578cdb39e" * 4,
    index=7,
    cell="shopfloor/PickToTray-v0",
    seed=17,
    variation="nominal",
    intervention="none",
    policy_digest="expert",
    purpose="train",
    instruction="Put the red cube into the tray.",
    steps=51,
    outcome="failure",
    reason="dropped",
    terminated=True,
    expert_steps=3,
    label_steps=0,
    weight=0.5,
)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("outcome == 'failure' and steps > 50", True),
        ("outcome == 'failure' and steps > 51", False),
        ("outcome != 'failure' or reason == 'dropped'", True),
        ("not outcome == 'failure'", False),
        ("10 < steps <= 51", True),
        ("10 < steps < 51", False),
        ("seed in (17, 18)", True),
        ("seed not in [17, 18]", False),
        ("seed in ()", False),
        ("'red' in instruction", True),
        ("'blue' in instruction", False),
        ("reason in ('timeout', 'dropped')", True),
        ("terminated", True),
        ("not terminated", False),
        ("terminated == False", False),
        ("weight == .5", True),
        ("expert_steps >= 1 and (label_steps == 0 and weight < 1.0)", True),
        ("seed > -1", True),
        ("steps == 51.0", True),
        ("variation < 'o'", True),
        ("expert_steps < label_steps", False),
        ("cell == 'PickToTray'", True),
        ("cell == 'PickToTray-v0'", True),
        ("'shopfloor/PickToTray-v0' == cell", True),
        ("cell != 'PickToTray'", False),
        ("cell == 'PickToTray-v1'", False),
        ("cell == 'shopfloor/PickToTray-v1'", False),
        ("cell == 'Tray'", False),
        ("cell in ('Kitting', 'PickToTray')", True),
        ("cell not in ('Kitting', 'PickToTray')", False),
        ("'Tray' in cell", True),
        ("\n steps > 50\n and seed == 17 ", True),
        ("True", True),
    ],
)
def test_expressions(text, chosen):
    assert parse_where(text)(RECORD) is chosen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("outcome = 'failure'", "cannot be read"),
        ("outcome ==", "cannot be read"),
        ("steps > 'many'", "compares a number with a text"),
        ("outcome == 3", "compares a text with a number"),
        ("terminated > False", "which truth value is larger"),
        ("terminated == 1", "compares a truth value with a number"),
        ("steps", "'steps' is a number; expected a comparison"),
        ("outcome and steps > 3", "'outcome' is a text"),
        ("not seed", "is a number"),
        ("steps in 3", "looks for a number in a number"),
        ("steps in ('a', 'b')", "looks for a number in a list of text"),
        ("steps in ('a', 1)", "mixes number and text"),
        ("steps == (1, 2)", "compares a number with a list of number"),
        ("(1, 2) == (1, 2)", "compares a list"),
        ("(1, 2)", "list of number; expected a comparison"),
        ("steps is 3", "uses 'is'"),
        ("steps + 1 > 3", r"'steps \+ 1' is not known here"),
        ("9**9**9 > 3", "is not known here"),
        ("len(instruction) > 3", "is not known here"),
        ("__import__('os').system('true')", "is not known here"),
        ("instruction.__class__ == 'x'", "is not known here"),
        ("instruction[0] == 'P'", "is not known here"),
        ("f'{steps}' == '51'", "is not known here"),
        ("(lambda: True)()", "is not known here"),
        ("[seed for seed in (1, 2)] == 1", "is not known here"),
        ("seed == 1 if terminated else seed == 2", "is not known here"),
        ("(seed := 3) == 3", "is not known here"),
        ("seed in (steps, 3)", "'steps' is not known here"),
        ("seed == ~3", "is not known here"),
        ("seed == --3", "is not known here"),
        ("seed == 3j", "is not known here"),
        ("outcome == b'x'", "is not known here"),
        ("outcome == None", "is not known here"),
        ("'a' == 'a' == 3", "compares a text with a number"),
        ("steps > 1; steps > 2", "cannot be read"),
        ("outcome == 'a\0b'", "cannot be read"),
        ("not " * 60 + "terminated", "nested deeper than 40"),
        ("not " * 900 + "terminated", "nested"),
        ("(" * 300 + "terminated" + ")" * 300, "cannot be read"),
        ("seed == " + "-" * 4000 + "1", "cannot be read|not known"),
        ("steps > 0 or " * 400 + "terminated", "more than 4096 bytes"),
        ("seed == " + "9" * 4500, "more than 4096 bytes"),
    ],
)
def test_what_is_no_expression_is_refused_with_a_reason(text, message):
    with pytest.raises(InvalidInputError, match=message):
        parse_where(text)


def test_an_unknown_field_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'outcome'.*quotes"):
        parse_where("outcom == 'failure'")


def test_a_text_without_quotes_says_so():
    with pytest.raises(UnknownNameError, match="Texts need quotes"):
        parse_where("outcome == failure")


def test_every_field_of_a_record_can_be_asked_for():
    for field in dataclasses.fields(EpisodeRecord):
        value = getattr(RECORD, field.name)
        assert parse_where(f"{field.name} == {value!r}")(RECORD)


@given(
    st.text(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                "steps",
                "cell",
                "==",
                "<",
                "in",
                "not",
                "and",
                "or",
                "(",
                ")",
                "[",
                ",",
                "'a'",
                "3",
                "True",
                "-",
            ]
        ),
        max_size=12,
    ).map(" ".join)
)
def test_any_text_gives_a_test_or_a_clear_error(text):
    try:
        test = parse_where(text)
    except ShopfloorError:
        return
    assert test(RECORD) in (True, False)


def test_the_longest_expression_works():
    text = "seed == 17" + " and seed == 17" * 270
    assert len(text) <= MAX_BYTES
    assert parse_where(text)(RECORD)


def test_near_ids():
    known = ["aa" * 32, "ab" * 32, "cc" * 32]
    assert nearest_ids("ab", known) == ["ab" * 32]
    assert nearest_ids("ab" * 31 + "ax", known) == ["ab" * 32]
    assert nearest_ids("", known) == []
