"""What the user's code did, as a replay: equal to the ordinary one where the code has the cascade's own gate."""

from __future__ import annotations

import contextlib
import json

import httpx
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cascade_eval import agreement, costs, errors, playback, replay, traffic, verdicts
from cascade_eval.cascade import Cascade, Leaf, Route, Signal, Tier

RULES = replay.Rules(agreement.parse("exact"), costs.Prices())
ESTIMATED = (
    "escalation",
    "disagreement",
    "cost",
    "cost per request",
    "savings",
    "coverage",
    "audited",
    "unanswered",
    "timeouts",
    "refusals",
    "latency p50",
    "latency p95",
    "quality",
    "retention",
)
QUICK = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
CLIENT = httpx.Client(timeout=None, verify=False)
URL = "https://models.example/v1/chat/completions"


def said(row):
    """Return what a model says: its answer, and how sure it is."""
    return json.dumps([row["answer"], row.get("confidence")])


def ask(client, model, **headers):
    return client.post(URL, json={"model": model, "messages": []}, headers=headers)


def answer_one(cascade, client, language):
    """Do what the decision rule says, as a user would write it."""
    start = next((route.start for route in cascade.routes if language in route.when["language"]), cascade.tiers[0].name)
    for tier in cascade.tiers[cascade.position(start) :]:
        try:
            reply = ask(client, tier.model).raise_for_status()
        except httpx.HTTPError:
            continue
        message = reply.json()["choices"][0]["message"]
        if message["refusal"] is not None:
            continue
        answer, confidence = json.loads(message["content"])
        if tier.gate is None or (confidence is not None and confidence >= tier.gate.threshold):
            return answer
    return None


def play_every_case(cascade, cases):
    """Run the hand-written cascade on every case; both replays, the played one first."""
    recorded = traffic.from_records(cases)
    with playback.play(recorded, cascade=cascade, content=said) as played:
        for case in cases:
            with played.case(case["case_id"]):
                answer_one(cascade, CLIENT, case.get("language"))
    return played, replay.run(cascade, recorded.read(), RULES)


def assert_equal(found, expected):
    for name in ("start", "settled", "served", "cached", "failed", "cost", "cost_known", "latency"):
        np.testing.assert_array_equal(getattr(found.decisions, name), getattr(expected.decisions, name), name)
    for name in ESTIMATED:
        one, other = found.estimate(name), expected.estimate(name)
        # Of gates that had nothing to read only a replay that asks gates can speak.
        if other.reason is None or "gate" not in other.reason:
            for part in ("value", "low", "high", "count", "nobs", "reason", "estimated"):
                # As text: an unbounded interval is not a number, and not equal to itself.
                assert repr(getattr(one, part)) == repr(getattr(other, part)), (name, part)


OUTCOME = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["ok", "ok", "ok", "ok", "timeout", "error", "refused"]),
        "answer": st.sampled_from(["a", "b", None]),
        "confidence": st.sampled_from([0.1, 0.5, 0.5000001, 0.9, None]),
        "latency_s": st.sampled_from([0.25, 1.0, 1.5, 8.0, None]),
        "cost_usd": st.sampled_from([0.001, 0.5, None]),
        "score": st.sampled_from([0.0, 1.0, None]),
    }
)


@st.composite
def recordings(draw):
    tiers = draw(st.integers(2, 3))
    models = ["mini", "medium", "flagship"][-tiers:]
    made = [
        Tier(f"tier of {model}", model, Leaf(Signal("confidence"), threshold=0.5), draw(st.sampled_from([None, 2.0])))
        for model in models[:-1]
    ]
    made.append(Tier("top", "flagship", None, draw(st.sampled_from([None, 2.0]))))
    routes = [Route({"language": ("de",)}, draw(st.sampled_from([tier.name for tier in made])))]
    cascade = Cascade("generated", tuple(made), tuple(routes[: draw(st.integers(0, 1))]))
    cases = [
        {
            "case_id": f"case {number}",
            "language": draw(st.sampled_from(["de", "en"])),
            "cached": draw(st.sampled_from([False, False, False, True])),
            "models": {model: draw(OUTCOME) for model in models},
        }
        for number in range(draw(st.integers(1, 6)))
    ]
    return cascade, cases


@settings(max_examples=60, deadline=None, phases=QUICK)
@given(recordings())
def test_the_same_gate_gives_the_same_replay(drawn):
    """Code with the cascade's own gate, played, and an ordinary replay agree on every case and in every estimate."""
    played, expected = play_every_case(*drawn)
    assert_equal(played.replay, expected)


TWO = Cascade("two", (Tier("mini", "mini", Leaf(Signal("confidence"), threshold=0.5)), Tier("top", "flagship")))


def case(number, confidence=0.9, *, mini=None, flagship=None, **columns):
    return {
        "case_id": f"c{number}",
        **columns,
        "models": {
            "mini": {"answer": "a", "confidence": confidence, "cost_usd": 0.001, "latency_s": 0.5, **(mini or {})},
            "flagship": {"answer": "a", "cost_usd": 0.01, "latency_s": 2.0, **(flagship or {})},
        },
    }


def played_as(orders, cases=None, **options):
    """Play calls by case: ``{"c1": ["mini", "flagship"]}``; failures are passed over."""
    cases = cases or [case(number) for number in range(1, 4)]
    options = {"tiers": ["mini", "flagship"]} | options
    with playback.play(cases, **options) as played:
        for name, models in orders.items():
            with played.case(name):
                for model in models:
                    ask(CLIENT, model)
    return played


def test_an_answer_that_was_never_asked_for_is_compared_all_the_same():
    """A case that was kept is compared with the flagship's recorded answer, although the code did not ask for it."""
    played = played_as({"c1": ["mini"]}, [case(1, flagship={"answer": "b"})])
    found = played.replay
    assert (found.disagreement.count, found.disagreement.nobs) == (1, 1)
    assert found.cost.value == pytest.approx(0.1)
    assert [one.model for one in played.calls] == ["mini"]


@pytest.mark.parametrize(
    ("models", "escalated", "dollars"),
    [
        (["mini"], 0, 0.001),
        (["mini", "flagship"], 1, 0.011),
        (["flagship"], 1, 0.01),
        (["flagship", "mini"], 1, 0.011),
    ],
)
def test_who_was_asked_says_who_settled(models, escalated, dollars):
    """The flagship settles what it was asked, in whatever order, and without a route that is an escalation."""
    found = played_as({"c1": models}).replay
    assert (found.escalation.count, found.escalation.nobs) == (escalated, 1)
    assert found.cost_per_request.value == pytest.approx(dollars)


def test_a_route_of_the_cascade_is_no_escalation():
    """Where the cascade's own route begins at the flagship, asking it alone is neither kept nor escalated."""
    cascade = Cascade("routed", TWO.tiers, (Route({"language": ("de",)}, "top"),))
    cases = [case(1, language="de"), case(2, language="en")]
    found = played_as({"c1": ["flagship"], "c2": ["mini"]}, cases, tiers=None, cascade=cascade).replay
    assert (found.escalation.count, found.escalation.nobs) == (0, 1)


def test_what_was_served_goes_before_who_was_asked():
    """Code that asks the flagship and gives mini's answer says so, by the answer or by the model, and is judged by it."""
    cases = [case(1, mini={"answer": "m"}), case(2, mini={"answer": "m"}), case(3, mini={"answer": "m"})]
    played = played_as({f"c{n}": ["mini", "flagship"] for n in (1, 2, 3)}, cases)
    played.served("c1", "m")
    played.served("c2", model="mini")
    found = played.replay
    assert (found.escalation.count, found.disagreement.count, found.disagreement.nobs) == (1, 2, 2)
    assert found.cost_per_request.value == pytest.approx(0.011)
    with pytest.raises(
        errors.UsageError, match=r"case 'c3' was not answered by 'z'\. Asked were mini: 'm', flagship: 'a'"
    ):
        played.served("c3", "z")


def test_a_hedged_tier_needs_to_know_what_was_served():
    """Where the next tier is asked in any case, calls say nothing of who settled, and nothing is guessed."""
    cascade = Cascade("hedged", (Tier("mini", "mini", TWO.tiers[0].gate, hedged=True), Tier("top", "flagship")))
    cases = [case(1, 0.9), case(2, 0.1)]
    played = played_as({"c1": ["mini", "flagship"], "c2": ["mini", "flagship"]}, cases, tiers=None, cascade=cascade)
    with pytest.raises(errors.UsageError, match=r"'mini' is hedged.*in 2 cases. First: c1"):
        _ = played.replay
    played.served("c1", model="mini")
    played.served("c2", model="flagship")
    expected = replay.run(cascade, traffic.from_records(cases).read(), RULES)
    assert_latency = played.replay.decisions
    np.testing.assert_array_equal(assert_latency.settled, expected.decisions.settled)
    np.testing.assert_array_equal(assert_latency.cost, expected.decisions.cost)
    assert expected.decisions.latency[1] == assert_latency.latency[1] == 2.0


def test_a_case_left_without_an_answer_disagrees():
    """Code that gives up after a failed mini serves nothing, which is not what the flagship would have said."""
    cases = [case(1, mini={"status": "error"})]
    found = played_as({"c1": ["mini"]}, cases).replay
    assert (found.disagreement.count, found.disagreement.nobs) == (1, 1)


@pytest.mark.parametrize(
    ("models", "escalated", "disagreed", "unanswered"), [(["mini"], 0, 1, 0), (["mini", "flagship"], 1, 0, 1)]
)
def test_code_that_breaks_off_answered_nobody(models, escalated, disagreed, unanswered):
    """An exception that leaves a case's block, caught further out or not, counts as no answer, whoever was asked before."""
    with playback.play([case(1)], tiers=["mini", "flagship"]) as played:
        for broken in (True, False):
            with contextlib.suppress(ValueError), played.case("c1"):
                for model in models if broken else []:
                    ask(CLIENT, model)
                if broken:
                    raise ValueError("the answer could not be read")
            if broken:
                found = played.replay
                assert (found.escalation.count, found.disagreement.count or 0) == (escalated, disagreed)
                assert found.estimate("unanswered").count == unanswered
        # Taken up again and ended well, it was answered.
        assert played.replay.estimate("unanswered").count == (played.replay.disagreement.count or 0) == 0


def test_what_was_served_after_all_goes_before_an_exception():
    """Code that catches its own failure outside the block can say whose answer it gave."""
    with playback.play([case(1)], tiers=["mini", "flagship"]) as played:
        with contextlib.suppress(ValueError), played.case("c1"):
            ask(CLIENT, "mini")
            raise ValueError("the gate could not be asked")
        played.served("c1", model="mini")
    assert played.replay.disagreement.count == 0


def test_a_threshold_chosen_on_these_cases_proves_nothing_here_either():
    """As in a suite, disagreement is not measured on the data whose agreement chose the threshold."""
    recorded = traffic.from_records([case(number) for number in range(80)])
    for chosen_on, kept in ((recorded.sha256(), False), ("0" * 64, True)):
        gate = Leaf(Signal("confidence"), 0.8, chosen_on=chosen_on)
        chosen = Cascade("current", (Tier("mini", "mini", gate), Tier("flagship", "flagship")))
        with playback.play(recorded, cascade=chosen) as played:
            for number in range(80):
                with played.case(f"c{number}"):
                    ask(CLIENT, "mini")
        if kept:
            assert played.replay.disagreement <= 0.1
        else:
            with pytest.raises(verdicts.Inconclusive, match="was chosen on this data"):
                assert played.replay.disagreement <= 0.1


def test_a_case_without_any_call_has_no_path():
    """A case that was begun and asked nobody lacks a path: coverage says so, and nothing can pass on it."""
    found = played_as({"c1": ["mini"], "c2": []}).replay
    assert (found.coverage.count, found.coverage.nobs) == (1, 2)
    with pytest.raises(verdicts.Inconclusive):
        assert found.escalation <= 0.9


def test_cases_not_run_are_listed_and_not_judged():
    """The replay is of the cases that were run; `missing` names the others."""
    played = played_as({"c2": ["mini"]})
    assert len(played.replay) == 1
    assert played.missing == ["c1", "c3"]


def test_nothing_run_is_no_pass():
    """A playback in which no case was run has no replay to compare."""
    played = played_as({})
    with pytest.raises(errors.UsageError, match="no case was run: nothing was measured"):
        _ = played.replay


def test_without_tiers_there_is_no_replay():
    """Who the flagship is has to be said; it is not guessed from what was recorded."""
    played = played_as({"c1": ["mini"]}, tiers=None)
    assert [one.tier for one in played.calls] == [None]
    with pytest.raises(errors.UsageError, match="what are the tiers of this code"):
        _ = played.replay


def test_a_retry_of_a_failed_call_is_part_of_it():
    """What was recorded of a failed call includes its retries, so asking again gets the same and costs nothing more."""
    cases = [case(1, mini={"status": "error"})]
    played = played_as({"c1": ["mini", "mini", "mini", "flagship"]}, cases)
    assert [(one.model, one.status) for one in played.calls] == [("mini", "error"), ("flagship", "ok")]
    assert played.replay.cost_per_request.value == pytest.approx(0.011)


def test_repeats_replay_in_order_and_are_each_paid():
    """The same question asked again gets what was recorded as its repeat, at the cost of that."""
    rows = [
        {
            "case_id": "c1",
            "model": "mini",
            "run": run,
            "answer": f"answer {run}",
            "cost_usd": 10.0**-run,
            "latency_s": 1.0,
        }
        for run in range(3)
    ] + [{"case_id": "c1", "model": "flagship", "run": 0, "answer": "answer 0", "cost_usd": 1.0, "latency_s": 1.0}]
    got = []
    with (  # noqa: PT012  leaving the block is what is tested
        pytest.raises(playback.Unmatched, match="'c1' asked 'mini' 4 times; records has 3 answers"),
        playback.play(rows, tiers=["mini", "flagship"]) as played,
        played.case("c1"),
    ):
        for _ in range(4):
            got.append(ask(CLIENT, "mini").json()["choices"][0]["message"]["content"])
            if len(got) == 3:
                assert played.replay.cost_per_request.value == pytest.approx(1.11)
    assert got == ["answer 0", "answer 1", "answer 2"]


def test_a_judge_by_plain_http_is_paid():
    """A scorer recorded as a model of its own is a call of the case: its cost and its time are the case's."""
    cases = [case(1)]
    cases[0]["models"]["judge"] = {"score": 0.7, "cost_usd": 0.002, "latency_s": 0.25}
    adapter = playback.Adapter("/score", "judge", lambda row: {"score": row["score"], "of": row["case_id"]})
    with playback.play(cases, tiers=["mini", "flagship"], adapters=[adapter]) as played, played.case("c1"):
        ask(CLIENT, "mini")
        reply = CLIENT.post("http://scorer.internal/score", json={"answer": "a"}).json()
    assert reply == {"score": 0.7, "of": "c1"}
    assert played.replay.cost_per_request.value == pytest.approx(0.003)
    assert played.replay.latency("p50").value == pytest.approx(0.75, rel=0.01)


def test_a_scorer_of_a_recorded_column_is_free():
    """A column recorded with mini's answer can be read by HTTP as a gate reads it: at no cost, as often as wanted."""
    adapter = playback.Adapter("/confidence", "mini", lambda row: row["confidence"], charged=False)
    with playback.play([case(1)], tiers=["mini", "flagship"], adapters=[adapter]) as played, played.case("c1"):
        assert [CLIENT.post("http://scorer.internal/confidence").json() for _ in range(2)] == [0.9, 0.9]
        ask(CLIENT, "mini")
    assert played.replay.cost_per_request.value == pytest.approx(0.001)


def test_an_unknown_cost_is_not_zero():
    """Where a call has neither cost nor price, what its case cost is unknown, and no budget passes."""
    cases = [case(1, mini={"cost_usd": None})]
    found = played_as({"c1": ["mini"]}, cases).replay
    assert found.cost.value is None
    with pytest.raises(verdicts.Inconclusive):
        assert found.cost <= 1.0


def test_tokens_are_charged_at_the_prices_given():
    """Without recorded dollars a call costs its tokens at the price of the suite."""
    tokens = {"cost_usd": None, "input_tokens": 1000, "output_tokens": 100}
    cases = [case(1, mini=tokens, flagship=tokens)]
    prices = {name: {"input": price, "output": price} for name, price in (("mini", "$1.00"), ("flagship", "$10.00"))}
    played = played_as({"c1": ["mini"]}, cases, prices=prices)
    assert played.replay.cost.value == pytest.approx(0.1)
    assert played.calls[0].cost_usd == pytest.approx(0.0011)


def test_cohorts_of_the_traffic_slice_what_was_played():
    """A playback has the columns of its cases, so that budgets hold cohort by cohort."""
    cases = [case(1, language="de"), case(2, language="en"), case(3, language="en")]
    found = played_as({"c1": ["mini", "flagship"], "c2": ["mini"], "c3": ["mini"]}, cases).replay
    assert {tuple(one.cohort.values()): one.escalation.count for one in found.cohorts("language")} == {
        ("de",): 1,
        ("en",): 0,
    }


def test_a_tier_nobody_recorded_is_refused_at_once():
    """A misspelt tier would leave every case without a known path, and be told only when a budget is asserted."""
    recorded = [{"case_id": "c1", "models": {"mini": {"answer": "a"}, "flagship": {"answer": "a"}}}]
    with (
        pytest.raises(errors.UsageError, match=r"no answers of the tier 'mimi'\. Did you mean 'mini'\?"),
        playback.play(recorded, tiers=["mimi", "flagship"]),
    ):
        pass
