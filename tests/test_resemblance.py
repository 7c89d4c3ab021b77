"""What is alike in some cases: counted as a loop counts it, added up in any order, and refused from where it is said to."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, fields
from types import SimpleNamespace

import numpy as np
import pytest
from fail_closed_cases import CASES, OVERALL, every, judge, outcomes, text
from hypothesis import given, settings
from hypothesis import strategies as st
from small_replays import RULES, case

from cascade_eval import agreement, costs, replay, traffic
from cascade_eval.errors import DataError
from cascade_eval.suite import resemblance
from cascade_eval.suite.resemblance import Likeness, Resemblance

NUMBER = np.arange(CASES)

untimed = settings(deadline=None)


def columns(cases, rules=RULES):
    return replay.Columns(traffic.from_records(cases).read(), rules)


@pytest.mark.parametrize(
    ("compared", "agree", "timed", "tied", "varied", "copied"),
    [
        (20, 20, 20, 20, 1, True),
        (0, 0, 20, 20, 1, True),
        (20, 20, 19, 19, 1, False),
        (20, 20, 20, 19, 1, False),
        (20, 19, 20, 20, 1, False),
        (20, 20, 20, 20, 0, False),
    ],
)
def test_a_copy_has_all_times_and_all_answers_of_the_other(compared, agree, timed, tied, varied, copied):
    """From twenty equal times that are not one and the same, and without a single answer that differs."""
    likeness = Likeness(compared=compared, agree=agree, timed=timed, tied=tied, varied=varied)
    assert likeness.copied is copied


seconds = st.sampled_from([None, 0.0, 1.0, 1.0, 2.5])
drawn = st.lists(
    st.fixed_dictionaries(
        {
            "agrees": st.booleans(),
            "mini": st.fixed_dictionaries({"latency_s": seconds, "score": st.sampled_from([None, 0.25, 0.5])}),
            "flagship": st.fixed_dictionaries(
                {
                    "latency_s": seconds,
                    "input_tokens": st.sampled_from([None, 0, 7]),
                    "cost_usd": st.sampled_from([None, 0.0, 0.5]),
                    "status": st.sampled_from(["ok", "error"]),
                }
            ),
        }
    ),
    min_size=1,
    max_size=8,
)


def slow_likeness(cases):
    """Look at one case after the other."""
    ended = [each for each in cases if each["flagship"]["status"] == "ok"]
    times = [(each["mini"]["latency_s"], each["flagship"]["latency_s"]) for each in cases]
    timed = [(mine, theirs) for mine, theirs in times if mine is not None and theirs is not None]
    return Likeness(
        silent=0,
        compared=len(ended),
        agree=sum(each["agrees"] for each in ended),
        timed=len(timed),
        tied=sum(mine == theirs for mine, theirs in timed),
        varied=sum(mine != timed[0][0] for mine, _ in timed),
    )


def slow_idle(cases):
    """Count the flagship's calls that ended well, one after the other; tokens matter where no cost is known."""
    found = Counter()
    for each in (each["flagship"] for each in cases if each["flagship"]["status"] == "ok"):
        for name, asked in (("latency_s", True), ("cost_usd", True), ("input_tokens", each["cost_usd"] is None)):
            if asked and each[name] is not None:
                found["flagship", name, "known"] += 1
                found["flagship", name, "zero"] += each[name] == 0
    return found


@untimed
@given(drawn)
def test_what_is_alike_is_what_a_loop_finds(cases):
    """Equal times, agreeing answers and zeros are counted over whole columns as they are one by one."""
    made = columns([case(n, 0.5, **each) for n, each in enumerate(cases)])
    assert resemblance._likeness(made, "mini", "flagship") == slow_likeness(cases)
    assert +resemblance._idle(made, ["flagship"]) == +slow_idle(cases)


@untimed
@given(drawn)
def test_scores_are_looked_at_where_they_are_compared(cases):
    """The least and the greatest of those that are known; nothing where none is, or where the rule compares answers."""
    made = [case(n, 0.5, **each) for n, each in enumerate(cases)]
    within = columns(made, replay.Rules(agreement.parse("within 0.1"), costs.Prices()))
    known = [each["mini"]["score"] for each in cases if each["mini"]["score"] is not None]
    expected = (min(known), max(known)) if known else (np.inf, -np.inf)
    assert resemblance._scores(within, ["mini", "flagship"]) == expected
    assert resemblance._scores(columns(made), ["mini", "flagship"]) == (np.inf, -np.inf)


likenesses = st.builds(Likeness, *[st.integers(0, 99)] * len(fields(Likeness)))
resemblances = st.builds(
    Resemblance,
    st.dictionaries(st.sampled_from([("a", "z"), ("b", "z")]), likenesses),
    st.frozensets(st.sampled_from("xyz")),
    st.dictionaries(st.sampled_from([("a", "latency_s", "zero"), ("a", "latency_s", "known")]), st.integers(1, 9)).map(
        Counter
    ),
    st.tuples(st.floats(-9, 9), st.floats(-9, 9)) | st.just((np.inf, -np.inf)),
)


@untimed
@given(st.lists(resemblances, min_size=2, max_size=4))
def test_what_is_alike_adds_up(parts):
    """Every count of every pair is the sum over the parts, and the scores are the ends of all of them."""
    total = sum(parts[1:], parts[0])
    pairs = {pair for part in parts for pair in part.pairs}
    assert total.pairs.keys() == pairs
    for pair in pairs:
        own = [astuple(part.pairs[pair]) for part in parts if pair in part.pairs]
        assert astuple(total.pairs[pair]) == tuple(map(sum, zip(*own, strict=True)))
    assert total.fields == frozenset().union(*(part.fields for part in parts))
    assert total.idle == sum((part.idle for part in parts), Counter())
    assert total.scores == (min(part.scores[0] for part in parts), max(part.scores[1] for part in parts))


@pytest.mark.parametrize(
    ("tolerance", "kept", "greatest", "refused"),
    [
        (0.5, 20, 0.5, True),
        (0.5, 19, 0.5, False),
        (0.5, 20, 0.6, False),
        (0.4, 20, 0.3, False),
        (5, 20, 5.0, True),
    ],
)
def test_a_tolerance_is_refused_from_where_it_covers_every_score(tmp_path, tolerance, kept, greatest, refused):
    """Half of the usual scale and more, as wide as all known scores lie apart, and twenty of them compared."""
    scores = np.where(NUMBER % 2 == 0, 0.0, greatest)
    known = [float(score) if number < kept else None for number, score in enumerate(scores)]
    graded = {"mini.score": known, "flagship.score": known}
    written = text(OVERALL, more=f"agreement: within {tolerance}\n")
    if refused:
        with pytest.raises(DataError, match=rf"'within {tolerance:g}' holds of any two scores"):
            judge(tmp_path, graded, written)
    else:
        assert outcomes(judge(tmp_path, graded, written)) == {("disagreement",): "not measured"}


@pytest.mark.parametrize(("compared", "said"), [(99, False), (100, True)])
def test_a_hundred_answers_that_all_agree_are_pointed_out(tmp_path, compared, said):
    """Fewer may well all agree."""
    some = {"mini.answer": ["yes"] * CASES, "flagship.answer": ["yes"] * compared + [None] * (CASES - compared)}
    notes = " ".join(judge(tmp_path, some, text(OVERALL)).record["notes"])
    assert (f"agree in all {compared} compared cases" in notes) is said


def test_one_pair_that_is_compared_is_enough():
    """A second model that nobody compares does not excuse a tolerance that covers every score of the first."""
    pairs = {("mini", "flagship"): Likeness(compared=20), ("small", "flagship"): Likeness(compared=1)}
    counted = SimpleNamespace(resemblance=Resemblance(pairs, scores=(0.0, 1.0)))
    suite = SimpleNamespace(agreement_rule=agreement.parse("within 5"), lines=None, name="s.cascade.yaml")
    assert len(list(resemblance._tolerant(suite, counted))) == 1


def test_a_promise_of_another_column_promises_nothing_of_this_one(tmp_path):
    """That 'region=FR' is promised something does not cover the cases of 'language=FR' beside 'language=fr'."""
    two = {
        "language": lambda t: every(t["language"], NUMBER % 6 == 1, "FR"),
        "region": lambda t: every(t["language"], NUMBER % 2 == 0, "FR"),
    }
    lines = "  disagreement: {language=fr: at most 10%, region=FR: at most 10%}\n"
    with pytest.raises(DataError, match="'language=fr' leaves out the cases of 'language=FR'"):
        judge(tmp_path, two, text(lines, cohorts="[language, region]"))
