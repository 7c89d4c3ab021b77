"""Two cascades on the same cases: flips counted by hand, and the published paired figures."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_replays import case, gate, replayed, three, two

from cascade_eval import baseline, bounds, replay
from cascade_eval.cascade import Cascade, Route, Tier


def flips(found, *family, member=0, **options):
    return baseline.flips(found.counts(*family), family, member, **options)


def test_the_published_paired_figures_come_out():
    """b=28, c=12 of 1,000: +1.6 points, exact p .0166, mid-p .0115, one-sided .0083, Tango .0038 to .0295."""
    both = [case(i, 0.9, agrees=False) for i in range(10)]
    worse = [case(f"w{i}", 0.4, agrees=False) for i in range(28)]
    better = [case(f"b{i}", 0.9, agrees=True, mini={"answer": "b"}, case={"kind": "better"}) for i in range(12)]
    same = [case(f"s{i}", 0.9) for i in range(950)]
    # The candidate keeps from 0.3 on and sends "better" to the flagship; the baseline keeps from 0.5 on.
    route = (Route({"kind": ("better",)}, "top"),)
    candidate = Cascade("small", two(0.3).tiers, route)
    found = flips(replayed([*both, *worse, *better, *same], candidate, baseline=two(0.5)), confidence=0.975)
    assert (found["nobs"], found["worse"], found["better"]) == (1000, 28, 12)
    assert found["difference"] == pytest.approx(0.016)
    assert [round(found[name], 4) for name in ("p_exact", "mid_p", "p_regression")] == [0.0166, 0.0115, 0.0083]
    assert [round(found[name], 4) for name in ("low", "high")] == [0.0038, 0.0295]
    assert found["cohort"] == {}


#   confidence, agrees | kept by the baseline (0.5 on), by the candidate (0.3 on)
HAND = [
    case(0, 0.9, agrees=True, case={"language": "de"}),  # agrees both times
    case(1, 0.9, agrees=False, case={"language": "de"}),  # disagrees both times
    case(2, 0.4, agrees=False, case={"language": "de"}),  # escalated before, wrong now: worse
    case(3, 0.4, agrees=True, case={"language": "de"}),  # escalated before, right now
    case(4, 0.1, agrees=False, case={"language": "en"}),  # escalated both times
    case(5, 0.4, agrees=False, case={"language": "en"}, flagship={"answer": None}),  # nobody knows
    case(6, 0.4, agrees=False, case={"language": "en"}, flagship={"status": "timeout"}),  # no flagship answer
    case(7, 0.4, agrees=False, case={"language": "en", "cached": True}),  # no decision
]


def test_flips_are_counted_by_hand():
    """Escalation counts as agreement where the flagship answered; unknown and cached cases are in no pair."""
    found = replayed(HAND, two(0.3), baseline=two(0.5))
    assert {name: flips(found)[name] for name in ("nobs", "worse", "better")} == {"nobs": 5, "worse": 1, "better": 0}
    de, en = (flips(found, "language", member=i) for i in (0, 1))
    assert (de["cohort"], de["nobs"], de["worse"]) == ({"language": "de"}, 4, 1)
    assert (en["cohort"], en["nobs"], en["worse"]) == ({"language": "en"}, 1, 0)


def test_going_back_turns_worse_into_better():
    """Candidate and baseline exchanged: the same pairs, and the difference changes its sign."""
    there, back = flips(replayed(HAND, two(0.3), baseline=two(0.5))), flips(replayed(HAND, two(0.5), baseline=two(0.3)))
    assert (there["nobs"], there["worse"], there["better"]) == (back["nobs"], back["better"], back["worse"])
    assert there["difference"] == -back["difference"]
    assert (there["low"], there["high"]) == (pytest.approx(-back["high"]), pytest.approx(-back["low"]))


def test_a_cascade_compared_with_itself_changes_nothing():
    """No flips, a difference of zero, p-values of one."""
    found = flips(replayed(HAND, two(0.3), baseline=two(0.3)))
    assert (found["worse"], found["better"], found["difference"]) == (0, 0, 0)
    assert (found["p_exact"], found["mid_p"], found["p_regression"]) == (1, 1, 1)


def test_nothing_known_for_both_is_no_comparison():
    """Where no case has a known outcome on both sides there is nothing to show, rather than zero of zero."""
    unknown = [case(i, 0.9, flagship={"answer": None}) for i in range(3)]
    assert flips(replayed(unknown, two(0.3), baseline=two(0.5))) is None


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.4, 0.9]), st.booleans(), st.sampled_from(["a", None])), min_size=1),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_flips_are_those_of_a_loop_over_cases(rows, before, now):
    """Pairs, worse and better equal what one counts case by case."""
    cases = [case(i, c, agrees=ok, flagship={"answer": answer}) for i, (c, ok, answer) in enumerate(rows)]

    def serves(confidence, ok, answer, threshold):
        # Without a flagship answer nothing is known of either side.
        return None if answer is None else confidence < threshold or ok

    pairs = [(serves(*row, before), serves(*row, now)) for row in rows]
    known = [pair for pair in pairs if None not in pair]
    found = flips(replayed(cases, two(now), baseline=two(before)))
    if not known:
        assert found is None
        return
    assert found["nobs"] == len(known)
    assert (found["worse"], found["better"]) == (known.count((True, False)), known.count((False, True)))
    assert found["p_exact"] == float(bounds.mcnemar(found["worse"], found["better"]).exact)


def test_a_baseline_with_other_tiers_is_compared_on_what_it_serves():
    """A baseline of one tier, always-flagship, agrees with itself in every case it answered."""
    always = Cascade("always", (Tier("top", "flagship"),))
    found = flips(replayed(HAND, two(0.3), baseline=always))
    assert (found["nobs"], found["worse"], found["better"]) == (5, 2, 0)


def test_a_slice_is_compared_on_its_own_cases():
    """The flips of a cohort's slice are those of that cohort in the whole."""
    found = replayed(HAND, two(0.3), baseline=two(0.5))
    whole = flips(found, "language", member=0)
    assert flips(found.where(language="de")) | {"cohort": {}} == whole | {"cohort": {}}


NOW = dt.datetime(2026, 1, 11, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("created_at", "age"),
    [("2026-01-01T00:00:00+00:00", 10.5), ("2026-01-11T17:30:00+05:30", 0.0), (None, None)],
)
def test_a_baseline_knows_its_age(created_at, age):
    """Evidence says where the baseline comes from and how many days old it is, whatever zone it was written in."""
    found = baseline.Baseline(two(), "git", "git:origin/main", created_at, "c0ffee").record(NOW)
    assert found == {
        "kind": "git",
        "name": "git:origin/main",
        "created_at": created_at,
        "age_days": age,
        "commit": "c0ffee",
    }


def test_the_pairs_know_the_gate_that_moved():
    """Drift and flips come from the same pairs: three more cases are kept, one of them known to be wrong."""
    found = replayed(HAND, two(0.3), baseline=two(0.5))
    drift = found.escalation_drift
    assert (drift.nobs, drift.value) == (7, -4 / 7)
    assert found.flips_to_disagreement.reason.startswith("both cascades' answers can be compared")
    assert gate(0.3).threshold == found.cascade.tiers[0].gate.threshold
    assert isinstance(found.baseline, replay.Replay)


def test_a_candidate_whose_path_is_unknown_is_in_no_pair():
    """What the baseline got wrong is no improvement where the candidate's middle tier was never recorded."""
    wrong = [case(i, 0.4, agrees=False) for i in range(4)]
    for each in wrong[:3]:
        each["models"]["medium"] = {"answer": "a", "confidence": 0.9}
    found = flips(replayed(wrong, three(0.5, 0.5), baseline=two(0.3)))
    assert (found["nobs"], found["worse"], found["better"]) == (3, 0, 3)
