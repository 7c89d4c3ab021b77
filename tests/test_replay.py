"""What becomes of a case, clause by clause, with numbers worked out by hand."""

from __future__ import annotations

import pytest
import small_replays

from cascade_eval import agreement, bounds, costs, counts, metrics, replay, traffic
from cascade_eval.cascade import All, AnyOf, Cascade, Leaf, Route, Signal, Tier

RULES = replay.Rules(agreement.parse("same label"), costs.Prices())
SURE = Leaf(Signal("confidence"), threshold=0.8)
JUDGE = Leaf(Signal("judge", {"model": "critic"}), threshold=0.5)
TWIN = Leaf(Signal("agreement", {"model": "twin"}), threshold=1.0)
SAMPLES = Leaf(Signal("self_consistency"), threshold=0.6)


def call(answer="a", *, sure=None, cost=None, takes=None, status="ok", **more):
    """One recorded call: cost in nano-dollars, time in seconds."""
    row = {"answer": answer, "status": status, "confidence": sure, "latency_s": takes} | more
    return row | ({} if cost is None else {"cost_usd": cost / 1e9})


def follow(tiers, models, *, routes=(), **case):
    """Replay one case; return (settled by, served, nano-dollars, seconds)."""
    return followed(tiers, [{"case_id": "one", "models": models, **case}], routes=routes)[0]


def followed(tiers, records, *, routes=()):
    found = run(tiers, records, routes=routes).decisions
    settled = [None if at < 0 else tiers[at].name for at in found.settled.tolist()]
    cost = [int(nano) if known else None for nano, known in zip(found.cost, found.cost_known, strict=True)]
    seconds = [None if second != second else second for second in found.latency.tolist()]  # noqa: PLR0124  NaN
    below = {
        counts.AGREE: "agrees",
        counts.DISAGREE: "disagrees",
        counts.UNKNOWN: "unaudited",
        counts.UNSAMPLED: "not drawn",
    }
    at_top = {counts.ANSWERED: "answered", counts.UNANSWERED: "unanswered", counts.MISSING: "not recorded"}
    served = [
        None if name is None else (at_top if name == tiers[-1].name else below)[code]
        for name, code in zip(settled, found.served.tolist(), strict=True)
    ]
    return list(zip(settled, served, cost, seconds, strict=True))


def run(tiers, records, *, routes=(), **context):
    batch = traffic.from_records(records).read()
    known = metrics.Context(tuple(tier.name for tier in tiers), **context)
    return replay.run(Cascade("by hand", tuple(tiers), tuple(routes)), batch, RULES, context=known)


def mini(gate=SURE, **more):
    return Tier("mini", "mini", gate, **more)


def middle(gate=SURE, **more):
    return Tier("middle", "middle", gate, **more)


TOP = Tier("top", "flagship")
FLAGSHIP = call("a", cost=100, takes=2.0)


@pytest.mark.parametrize(
    ("cheap", "expected"),
    [
        pytest.param(call(sure=0.9, cost=10, takes=1.0), ("mini", "agrees", 10, 1.0), id="surer"),
        pytest.param(call(sure=0.8, cost=10, takes=1.0), ("mini", "agrees", 10, 1.0), id="equality settles"),
        pytest.param(call(sure=0.79, cost=10, takes=1.0), ("top", "answered", 110, 3.0), id="less sure"),
        pytest.param(call(sure=None, cost=10, takes=1.0), ("top", "answered", 110, 3.0), id="no signal"),
        pytest.param(call("b", sure=0.9, cost=10, takes=1.0), ("mini", "disagrees", 10, 1.0), id="another answer"),
        pytest.param(call(None, sure=0.9, cost=10, takes=1.0), ("mini", "disagrees", 10, 1.0), id="null answer"),
        pytest.param(call(sure=0.9, cost=10, takes=1.0, status="error"), ("top", "answered", 110, 3.0), id="error"),
        pytest.param(call(sure=0.9, cost=10, takes=1.0, status="refused"), ("top", "answered", 110, 3.0), id="refused"),
        pytest.param(call(sure=0.9, cost=10, takes=1.0, status="timeout"), ("top", "answered", 110, 3.0), id="timeout"),
        pytest.param(call(sure=0.9, takes=1.0), ("mini", "agrees", None, 1.0), id="cost not recorded"),
        pytest.param(call(sure=0.9, cost=10), ("mini", "agrees", 10, None), id="time not recorded"),
    ],
)
def test_a_cheap_tier_settles_or_escalates(cheap, expected):
    """It settles at the threshold and above; everything else, paid and waited for, goes on to the flagship."""
    records = [
        {"case_id": "one", "models": {"mini": cheap, "flagship": FLAGSHIP}},
        {"case_id": "other", "models": {"mini": call(sure=0.1, cost=1, takes=0.0), "flagship": FLAGSHIP}},
    ]
    assert followed([mini(), TOP], records)[0] == expected


@pytest.mark.parametrize(
    ("flagship", "expected"),
    [
        pytest.param(call("a", cost=100, takes=2.0), ("mini", "agrees", 10, 1.0), id="the same answer"),
        pytest.param(call(None, cost=100, takes=2.0), ("mini", "unaudited", 10, 1.0), id="null answer"),
        pytest.param(call("a", cost=100, takes=2.0, status="error"), ("mini", "unaudited", 10, 1.0), id="failed"),
        pytest.param(call("b", cost=100, takes=9.0), ("mini", "disagrees", 10, 1.0), id="slow, still the reference"),
        pytest.param(None, ("mini", "unaudited", 10, 1.0), id="no row"),
    ],
)
def test_an_unescalated_case_is_compared_where_the_flagship_can_be_read(flagship, expected):
    """Without a usable answer of the flagship nothing is known, which is not agreement."""
    models = {"mini": call("a", sure=0.9, cost=10, takes=1.0), "flagship": flagship}
    assert follow_among([mini(), Tier("top", "flagship", timeout=5.0)], models) == expected


@pytest.mark.parametrize(
    ("flagship", "expected"),
    [
        pytest.param(call("a", cost=100, takes=2.0), ("top", "answered", 110, 3.0), id="answered"),
        pytest.param(call("a", cost=100, takes=5.0), ("top", "answered", 110, 6.0), id="just in time"),
        pytest.param(call("a", cost=100, takes=9.0), ("top", "unanswered", 110, 6.0), id="too slow, waited 5 s"),
        pytest.param(call("a", cost=100, status="timeout"), ("top", "unanswered", 110, 6.0), id="timeout, waited 5 s"),
        pytest.param(call("a", cost=100, takes=2.0, status="refused"), ("top", "unanswered", 110, 3.0), id="refused"),
        pytest.param(None, ("top", "not recorded", None, None), id="no row"),
    ],
)
def test_what_reaches_the_flagship_is_settled_by_it(flagship, expected):
    """A flagship that fails leaves the case unanswered; a row that is missing leaves escalation known, not its cost."""
    models = {"mini": call("a", sure=0.1, cost=10, takes=1.0), "flagship": flagship}
    assert follow_among([mini(), Tier("top", "flagship", timeout=5.0)], models) == expected


def follow_among(tiers, models):
    """Follow one case beside another that has every row, so that a missing row is not a missing model."""
    full = {"mini": call("a", sure=0.1, cost=1, takes=0.0), "flagship": call("a", cost=1, takes=0.0)}
    models = {name: row for name, row in models.items() if row is not None}
    return followed(tiers, [{"case_id": "one", "models": models}, {"case_id": "other", "models": full}])[0]


@pytest.mark.parametrize(
    ("timeout", "takes", "status", "expected"),
    [
        pytest.param(5.0, 5.0, "ok", ("mini", "agrees", 10, 5.0), id="exactly the timeout"),
        pytest.param(5.0, 8.0, "ok", ("top", "answered", 110, 7.0), id="slower: capped"),
        pytest.param(5.0, 8.0, "timeout", ("top", "answered", 110, 7.0), id="recorded and slower: capped"),
        pytest.param(5.0, 3.0, "timeout", ("top", "answered", 110, 5.0), id="recorded, gave up earlier"),
        pytest.param(5.0, None, "timeout", ("top", "answered", 110, 7.0), id="recorded without a time"),
        pytest.param(None, None, "timeout", ("top", "answered", 110, None), id="no timeout and no time"),
        pytest.param(5.0, 8.0, "refused", ("top", "answered", 110, 7.0), id="refused too late"),
    ],
)
def test_a_timeout_is_paid_and_waited_for_no_longer_than_the_tier_says(timeout, takes, status, expected):
    """The call costs what it cost; the wait is capped at the tier's timeout."""
    cheap = call("a", sure=0.9, cost=10, takes=takes, status=status)
    assert follow([mini(timeout=timeout), TOP], {"mini": cheap, "flagship": FLAGSHIP}) == expected


def test_a_missing_cheap_row_leaves_the_path_unknown():
    """Nothing is known of such a case, not even that it escalated; it counts against coverage."""
    full = {"mini": call(sure=0.9, cost=10, takes=1.0), "flagship": FLAGSHIP}
    records = [{"case_id": "a", "models": {"flagship": FLAGSHIP}}, {"case_id": "b", "models": full}]
    assert [one[:3] for one in followed([mini(), TOP], records)] == [(None, None, None), ("mini", "agrees", 10)]
    replayed = run([mini(), TOP], records, coverage=0.5)
    assert (replayed.coverage.count, replayed.coverage.nobs) == (1, 2)
    assert (replayed.escalation.count, replayed.escalation.nobs) == (0, 1)


def test_a_signal_column_that_does_not_exist_leaves_every_path_unknown():
    """A gate that cannot be read has decided nothing, in whatever order it names its signals."""
    missing = Leaf(Signal("margin"), threshold=0.5)
    for gate in (missing, All((SURE, missing)), AnyOf((SURE, missing))):
        replayed = run([mini(gate), TOP], [{"case_id": "a", "models": {"mini": call(sure=0.9), "flagship": FLAGSHIP}}])
        assert replayed.decisions.settled.tolist() == [replay.UNRESOLVED]
        assert replayed.escalation.blocked


# Judges, second models, samples


@pytest.mark.parametrize(
    ("gate", "sure", "word", "expected"),
    [
        pytest.param(All((SURE, JUDGE)), 0.9, "PASS", ("mini", "agrees", 10 + 30, 1.5), id="all: judge reached"),
        pytest.param(All((SURE, JUDGE)), 0.1, "PASS", ("top", "answered", 10 + 100, 3.0), id="all: not reached"),
        pytest.param(All((JUDGE, SURE)), 0.1, "PASS", ("top", "answered", 140, 3.5), id="all: judge first"),
        pytest.param(AnyOf((SURE, JUDGE)), 0.9, "FAIL", ("mini", "agrees", 10, 1.0), id="any: not reached"),
        pytest.param(AnyOf((SURE, JUDGE)), 0.1, "PASS", ("mini", "agrees", 40, 1.5), id="any: judge settles"),
        pytest.param(AnyOf((SURE, JUDGE)), 0.1, "FAIL", ("top", "answered", 140, 3.5), id="any: judge escalates"),
        pytest.param(AnyOf((SURE, JUDGE)), 0.1, "well", ("top", "answered", 140, 3.5), id="any: judge says neither"),
        pytest.param(All((SURE, AnyOf((JUDGE, SURE)))), 0.9, "FAIL", ("mini", "agrees", 40, 1.5), id="nested"),
        pytest.param(All((JUDGE, JUDGE)), 0.9, "PASS", ("mini", "agrees", 40, 1.5), id="asked twice, paid once"),
    ],
)
def test_a_judge_costs_money_and_time_where_it_is_reached(gate, sure, word, expected):
    """Gates are read in written order and stop when decided; `judged` need not be recorded."""
    models = {
        "mini": call("a", sure=sure, cost=10, takes=1.0),
        "critic": {"answer": word, "cost_usd": 30e-9, "latency_s": 0.5},
        "flagship": FLAGSHIP,
    }
    assert follow([mini(gate), TOP], models) == expected


def test_a_judge_is_not_asked_about_a_call_that_failed():
    """A failed call escalates before its gate is read: 10 + 100, and 1 + 2 seconds."""
    models = {
        "mini": call("a", sure=0.9, cost=10, takes=1.0, status="error"),
        "critic": {"answer": "PASS", "cost_usd": 30e-9, "latency_s": 0.5},
        "flagship": FLAGSHIP,
    }
    assert follow([mini(JUDGE), TOP], models) == ("top", "answered", 110, 3.0)


def test_one_judge_of_two_tiers_is_paid_once():
    """Mini 10, judge 30, middle 50, flagship 100; 1 + .5 + 1 + 2 seconds: the second gate asks nobody new."""
    models = {
        "mini": call("a", cost=10, takes=1.0),
        "middle": call("a", cost=50, takes=1.0),
        "critic": {"answer": "FAIL", "cost_usd": 30e-9, "latency_s": 0.5},
        "flagship": FLAGSHIP,
    }
    assert follow([mini(JUDGE), middle(JUDGE), TOP], models) == ("top", "answered", 190, 4.5)


def test_a_second_model_that_is_also_the_next_tier_is_called_once():
    """Mini asks middle whether it agrees; it does not, so middle serves what it has already said: 1 + 1 + 0 seconds."""
    ask = Leaf(Signal("agreement", {"model": "middle"}), threshold=1.0)
    models = {
        "mini": call("a", cost=10, takes=1.0),
        "middle": call("b", sure=0.9, cost=50, takes=1.0),
        "flagship": call("b", cost=100, takes=2.0),
    }
    assert follow([mini(ask), middle(), TOP], models) == ("middle", "agrees", 60, 2.0)


def test_a_second_model_and_samples_are_paid():
    """Samples cost money and no time of their own; a twin costs both: 10 + 7 + 20 and 1 + .25 seconds."""
    models = {
        "mini": call("a", cost=10, takes=1.0, samples=["a", "a", "b"], samples_cost_usd=7e-9),
        "twin": {"answer": "A.", "cost_usd": 20e-9, "latency_s": 0.25},
        "flagship": FLAGSHIP,
    }
    assert follow([mini(All((SAMPLES, TWIN))), TOP], models) == ("mini", "agrees", 37, 1.25)


# Hedging


@pytest.mark.parametrize(
    ("sure", "middle_takes", "expected"),
    [
        pytest.param((0.9, 0.9), 3.0, ("mini", "agrees", 10 + 50, 1.0), id="settled: the hedge is paid, not awaited"),
        pytest.param((0.1, 0.9), 3.0, ("middle", "agrees", 10 + 50, 3.0), id="escalated: the maximum"),
        pytest.param((0.1, 0.9), 0.5, ("middle", "agrees", 10 + 50, 1.0), id="the hedge was ready first"),
        pytest.param((0.1, 0.1), 3.0, ("top", "answered", 160, 3.0 + 2.0), id="then the flagship, started last"),
    ],
)
def test_a_hedged_tier_starts_the_next_at_once(sure, middle_takes, expected):
    """Both are paid either way; the case waits for the slower one only when it escalates."""
    models = {
        "mini": call("a", sure=sure[0], cost=10, takes=1.0),
        "middle": call("a", sure=sure[1], cost=50, takes=middle_takes),
        "flagship": FLAGSHIP,
    }
    assert follow([mini(hedged=True), middle(), TOP], models) == expected


@pytest.mark.parametrize(
    ("sure", "expected"),
    [
        pytest.param((0.9, 0.1), ("mini", "agrees", 160, 1.0), id="settled first: all three are paid"),
        pytest.param((0.1, 0.9), ("middle", "agrees", 160, 1.5), id="settled second"),
        pytest.param((0.1, 0.1), ("top", "answered", 160, 2.0), id="all started together"),
    ],
)
def test_a_hedge_starts_its_own_hedge(sure, expected):
    """A hedged tier that a hedge started starts its own next one, too: seconds are max, never sums."""
    models = {
        "mini": call("a", sure=sure[0], cost=10, takes=1.0),
        "middle": call("a", sure=sure[1], cost=50, takes=1.5),
        "flagship": FLAGSHIP,
    }
    assert follow([mini(hedged=True), middle(hedged=True), TOP], models) == expected


def test_a_gate_of_a_hedged_tier_takes_its_own_time():
    """Mini 1 s and its judge .5 s run beside middle's 1.25 s: ready at max(1.5, 1.25), then the flagship's 2 s."""
    models = {
        "mini": call("a", cost=10, takes=1.0),
        "critic": {"answer": "FAIL", "cost_usd": 30e-9, "latency_s": 0.5},
        "middle": call("a", sure=0.1, cost=50, takes=1.25),
        "flagship": FLAGSHIP,
    }
    assert follow([mini(JUDGE, hedged=True), middle(), TOP], models) == ("top", "answered", 190, 3.5)


def test_a_hedge_that_was_not_recorded_leaves_the_cost_unknown_and_nothing_else():
    """The case settled before the hedge mattered."""
    full = {"mini": call("a", sure=0.9, cost=10, takes=1.0), "flagship": FLAGSHIP}
    records = [
        {"case_id": "a", "models": full},
        {"case_id": "b", "models": full | {"middle": call("a", sure=0.9, cost=50, takes=1.0)}},
    ]
    found = followed([mini(hedged=True), middle(), TOP], records)
    assert found == [("mini", "agrees", None, 1.0), ("mini", "agrees", 60, 1.0)]


# Routes, caches, three tiers


def test_routes_decide_before_any_call():
    """The first route that matches in all its columns; a routed case is on neither side of escalation."""
    models = {"mini": call(sure=0.9, cost=10, takes=1.0), "flagship": FLAGSHIP}
    routes = [Route({"task": ("code",), "user": ("free",)}, "mini"), Route({"task": ("code", "legal")}, "top")]
    tasks = [("code", "free"), ("code", "paid"), ("legal", None), ("chat", "paid")]
    records = [
        {"case_id": str(i), "task": task, "user": user, "models": models} for i, (task, user) in enumerate(tasks)
    ]
    found = followed([mini(), TOP], records, routes=routes)
    assert [one[:3] for one in found] == [
        ("mini", "agrees", 10),
        *[("top", "answered", 100)] * 2,
        ("mini", "agrees", 10),
    ]
    replayed = run([mini(), TOP], records, routes=routes)
    assert (replayed.escalation.count, replayed.escalation.nobs) == (0, 2)
    assert replayed.cost.value == pytest.approx((10 + 100 + 100 + 10) / 400)


def test_what_a_cache_answered_is_in_no_ratio():
    """A cached request costs nothing and is no decision: of three cases two count."""
    models = {"mini": call(sure=0.9, cost=10, takes=1.0), "flagship": FLAGSHIP}
    unsure = models | {"mini": call(sure=0.1, cost=10, takes=1.0)}
    records = [
        {"case_id": "a", "cached": True, "models": unsure},
        {"case_id": "b", "cached": False, "models": unsure},
        {"case_id": "c", "cached": None, "models": models},
    ]
    replayed = run([mini(), TOP], records)
    for name, count, nobs in (("escalation", 1, 2), ("disagreement", 0, 1), ("coverage", 2, 2), ("timeouts", 0, 2)):
        assert (replayed.estimate(name).count, replayed.estimate(name).nobs) == (count, nobs), name
    assert replayed.cost.value == pytest.approx((110 + 10) / 200)
    assert replayed.counts()["states"][0, -1] == 1


def test_escalation_from_each_tier_counts_who_reached_it():
    """Of 5 cases 3 leave mini; of these 1 leaves middle; one more was routed to middle and leaves it: 2 of 4."""
    first, second = [0.9, 0.9, 0.1, 0.1, 0.1, 0.9], [0.9, 0.9, 0.9, 0.9, 0.1, 0.1]
    records = [
        {
            "case_id": str(i),
            "vip": "yes" if i == 5 else "no",
            "models": {"mini": call(sure=one), "middle": call(sure=other), "flagship": call()},
        }
        for i, (one, other) in enumerate(zip(first, second, strict=True))
    ]
    replayed = run([mini(), middle(), TOP], records, routes=[Route({"vip": ("yes",)}, "middle")])
    found = [replayed.escalation_from("mini"), replayed.escalation_from("middle"), replayed.escalation]
    assert [(one.count, one.nobs) for one in found] == [(3, 5), (2, 4), (2, 6)]


# Quality


def test_an_unanswered_case_is_worth_nothing_also_to_always_flagship():
    """Served 0 + .6 + .8 + 0, always-flagship 0 + .9 + .8 + 0: a slow or failed answer of the flagship is worth 0."""
    slow = call("a", takes=9.0, score=0.9)
    scores = [
        (call(sure=0.1, score=0.5), slow),
        (call(sure=0.9, score=0.6), call("a", takes=1.0, score=0.9)),
        (call(sure=0.1, score=0.5), call("a", takes=1.0, score=0.8)),
        (call(sure=0.1, score=0.5), call(None, takes=1.0, status="refused")),
    ]
    records = [
        {"case_id": str(i), "models": {"mini": cheap, "flagship": flagship}}
        for i, (cheap, flagship) in enumerate(scores)
    ]
    replayed = run([mini(), Tier("top", "flagship", timeout=5.0)], records)
    assert (replayed.quality.value, replayed.quality.nobs) == (pytest.approx(1.4 / 4), 4)
    assert (replayed.retention.value, replayed.retention.nobs) == (pytest.approx(1.4 / 1.7), 4)
    assert (replayed.unanswered.count, replayed.unanswered.nobs) == (2, 4)
    alone = run([Tier("top", "flagship", timeout=5.0)], records)
    assert alone.retention.value == 1.0


# Audits, weights, clusters


def settled(i, *, wrong=False, **case):
    models = {"mini": call("a", sure=0.9), "flagship": call("b" if wrong else "a")}
    return {"case_id": f"case {i}", "models": models, **case}


def test_an_audit_weighs_each_drawn_case_by_its_chance():
    """Drawn: 2 of chance 1/4, one wrong, and 4 of chance 1, one wrong: (4 + 1) / (2 * 4 + 4) = 5/12; 6 not drawn."""
    drawn = [settled(0, wrong=True, audit_probability=0.25), settled(1, audit_probability=0.25)]
    drawn += [settled(2, wrong=True, audit_probability=1.0)]
    drawn += [settled(i, audit_probability=1.0) for i in range(3, 6)]
    replayed = run([mini(), TOP], [*drawn, *(settled(i, audit_probability=None) for i in range(6, 12))])
    found = replayed.disagreement
    assert (found.count, found.nobs, found.value) == (2, 6, pytest.approx(5 / 12))
    # v = 6/5 * spread / 12²: squared weights times squared distances from 5/12.
    spread = 16 * (7 / 12) ** 2 + 16 * (5 / 12) ** 2 + (7 / 12) ** 2 + 3 * (5 / 12) ** 2
    size = min((5 / 12) * (7 / 12) / (6 / 5 * spread / 144), 144 / (2 * 16 + 4))
    assert found.effective == pytest.approx(size)
    assert [found.low, found.high] == pytest.approx([float(b) for b in bounds.rate(size * 5 / 12, size)])
    assert (replayed.audited.count, replayed.audited.nobs) == (6, 6)


@pytest.mark.parametrize(("wrong", "kept"), [(0, 29), (3, 60), (5, 100), (8, 160)])
def test_one_stratum_is_clopper_pearson(wrong, kept):
    """An audit that draws every case by the same chance gives the exact bounds of the plain count."""
    records = [settled(i, wrong=i < wrong, audit_probability=0.25, weight=2.0) for i in range(kept)]
    records += [settled(kept + i, audit_probability=None, weight=2.0) for i in range(3 * kept)]
    found = run([mini(), TOP], records).disagreement
    low, high = bounds.rate(wrong, kept)
    assert (found.count, found.nobs) == (wrong, kept)
    assert [found.low, found.high] == pytest.approx([float(low), float(high)])


def test_five_strata_are_weighed_as_korn_and_graubard_do():
    """Shares (.5, .2, .15, .1, .05), 60 drawn of each, (2, 3, 2, 1, 20) wrong: 5.0%, not the pool's 9.3%."""
    # With as many drawn of each, a case weighs its stratum's share.
    strata = zip((0.5, 0.2, 0.15, 0.1, 0.05), (2, 3, 2, 1, 20), strict=True)
    records = [
        settled(f"{share} {i}", wrong=i < wrong, weight=share, stratum=str(share))
        for share, wrong in strata
        for i in range(60)
    ]
    found = run([mini(), TOP], records).disagreement
    assert (found.count, found.nobs, found.value) == (28, 300, pytest.approx(0.05))
    assert found.effective == pytest.approx(184.62, abs=0.005)
    assert [found.low, found.high] == pytest.approx([0.0266, 0.0851], abs=5e-5)


def test_clusters_are_worth_fewer_cases_than_rows():
    """20 conversations of 10 cases, one of them all wrong: 10/200 rows, but worth at most 20 cases."""
    records = [settled(i, wrong=i < 10, cluster=f"talk {i // 10}") for i in range(200)]
    clustered = run([mini(), TOP], records).disagreement
    rows = run([mini(), TOP], [{**record, "cluster": None} for record in records]).disagreement
    assert (clustered.count, clustered.nobs, clustered.value) == (10, 200, 0.05)
    # v = 20/19 * (9.5² + 19 * .5²) / 200²; P(1-P)/v = 19, below Kish's 20.
    assert clustered.effective == pytest.approx(0.05 * 0.95 / (20 / 19 * (9.5**2 + 19 * 0.5**2) / 200**2))
    assert clustered.effective == pytest.approx(19.0)
    assert clustered.high > rows.high > 0.05
    assert clustered.low < rows.low < 0.05


def test_kish_guards_clusters_that_happen_to_agree():
    """No disagreement at all: no variance, yet no more than (sum W)² / sum W² = 40² / (20² + 20) conversations."""
    records = [settled(i, cluster="long talk" if i < 20 else f"talk {i}") for i in range(40)]
    found = run([mini(), TOP], records).disagreement
    assert found.effective == pytest.approx(40**2 / (20**2 + 20))
    assert found.high == pytest.approx(1 - 0.05 ** (1 / found.effective), rel=1e-6)


def test_unknown_comparisons_count_against_either_claim():
    """Two of 200 unaudited: PASS is judged on 5 of 200, FAIL on 3 of 200, and 3 of 198 is shown."""
    records = [settled(i, wrong=i < 3) for i in range(198)]
    lost = {"mini": call("a", sure=0.9), "flagship": call(None, status="error")}
    records += [{"case_id": f"lost {i}", "models": lost} for i in range(2)]
    found = run([mini(), TOP], records).disagreement
    assert (found.count, found.nobs, found.value) == (3, 198, 3 / 198)
    assert (found.basis.low, found.basis.high) == ((3.0, 200.0), (5.0, 200.0))
    one_more = run([mini(), TOP], [*records, {"case_id": "lost 2", "models": lost}]).disagreement
    assert one_more.blocked
    assert "audited is 198 of 201" in one_more.reason


def test_cohorts_of_a_column_nobody_read_are_refused():
    """A misspelt column would make one cohort without a name of all cases, which every assertion on cohorts holds of."""
    whole = small_replays.replayed([small_replays.case(1, 0.9), small_replays.case(2, 0.2)])
    with pytest.raises(KeyError, match="no column 'langage' was read"):
        whole.cohorts("langage")
