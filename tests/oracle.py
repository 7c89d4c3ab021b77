"""The decision rule, one case at a time, as slowly and plainly as it can be said.

Cases are dictionaries: `{"case_id": …, "language": …, "weight": …, "models": {"mini": {"answer": …, …}}}`. Nothing
here is shared with the package but the nouns of a cascade, so that the columnar code can be compared with it.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

from cascade_eval.cascade import All, Leaf


class UnreadableError(Exception):
    """The path of the case cannot be known from what was recorded."""


@dataclass(frozen=True)
class Outcome:
    """What happened to one case; tiers are positions."""

    start: int
    settled: int | None
    served: str  # agree disagree unknown | answered unanswered missing | unresolved cached
    cost: int | None = None
    latency: float | None = None
    paid: frozenset[str] = frozenset()
    timeouts: int = 0
    refusals: int = 0
    sampled: bool = True
    reads: tuple[tuple[int, int, bool], ...] = ()  # (tier, leaf, whether the value was missing)


@dataclass(frozen=True)
class Recorded:
    """What was recorded: the cases, which columns exist, and which of them hold float32."""

    cases: list[dict]
    columns: frozenset[tuple[str | None, str]]
    single: frozenset[tuple[str, str]] = frozenset()

    def __repr__(self):
        columns = sorted(str(name) if model is None else f"{model}.{name}" for model, name in self.columns)
        return f"Recorded({self.cases}, columns={' '.join(columns)}, single={sorted(self.single)})"

    def has(self, model, name):
        return (model, name) in self.columns

    def cell(self, case, model, name):
        """One cell, None where null, NaN or not there."""
        row = case["models"].get(model) or {}
        value = row.get(name)
        return None if isinstance(value, float) and math.isnan(value) else value


def decide(cascade, recorded, case):
    """Follow one case through the cascade."""
    if case.get("cached"):
        return Outcome(0, None, "cached")
    start = start_of(cascade, case)
    walk = Walk(cascade, recorded, case)
    try:
        return walk.go(start)
    except UnreadableError:
        return Outcome(start, None, "unresolved", reads=tuple(walk.reads))


def start_of(cascade, case):
    """Find the first route whose every column matches, else start at the first tier."""
    for route in cascade.routes:
        if all(member(case, (column,))[0] in allowed for column, allowed in route.when.items()):
            return cascade.position(route.start)
    return 0


@dataclass
class Walk:
    """One case on its way: which calls have been made, when each was answered, and what time it is."""

    cascade: object
    recorded: Recorded
    case: dict
    arrives: dict = field(default_factory=dict)
    ready: float | None = 0.0
    timeouts: int = 0
    refusals: int = 0
    reads: list = field(default_factory=list)

    def go(self, start):
        tiers = self.cascade.tiers
        begun = 0.0
        for position in range(start, len(tiers)):
            tier = tiers[position]
            self.begin(position, begun)
            self.wait(tier.model)
            ended = self.ended(tier)
            self.timeouts += ended == "timeout"
            self.refusals += ended == "refused"
            if position == len(tiers) - 1:
                return self.outcome(start, position, {"ok": "answered", "missing": "missing"}.get(ended, "unanswered"))
            if ended == "missing":
                raise UnreadableError
            if ended == "ok" and self.reads_and_settles(position, tier):
                return self.outcome(start, position, self.compared(tier))
            if not tier.hedged:
                begun = self.ready
        raise AssertionError

    def begin(self, position, moment):
        """Call a tier unless that was done; a hedged one starts the next at once, and that one its own next."""
        tier = self.cascade.tiers[position]
        self.arrives.setdefault(tier.model, added(moment, self.seconds(tier)))
        if tier.hedged:
            self.begin(position + 1, moment)

    def seconds(self, tier):
        """How long a tier is waited for: as recorded, and no longer than its timeout."""
        latency = self.recorded.cell(self.case, tier.model, "latency_s")
        if tier.timeout is None or self.ended(tier) != "timeout":
            return latency
        return tier.timeout if latency is None else min(latency, tier.timeout)

    def wait(self, model):
        """Let time pass until a call that was made is answered."""
        known = self.ready is not None and self.arrives[model] is not None
        self.ready = max(self.ready, self.arrives[model]) if known else None

    def ended(self, tier):
        """How the tier's call ended; slower than the tier's timeout is a timeout, whatever it ended with."""
        if tier.model not in self.case["models"]:
            return "missing"
        latency = self.recorded.cell(self.case, tier.model, "latency_s")
        if tier.timeout is not None and latency is not None and latency > tier.timeout:
            return "timeout"
        return status(self.case, tier.model)

    def reads_and_settles(self, position, tier):
        """Read the tier's gate, which takes every column it names."""
        numbered = number(tier.gate, itertools.count())
        for _, leaf in leaves_of(numbered):
            if not self.readable(leaf.signal, tier.model):
                raise UnreadableError
        return self.settles(numbered, position, tier)

    def readable(self, signal, model):
        other = signal.options.get("model")
        if signal.name == "judge":
            return self.recorded.has(other, "score") or self.recorded.has(other, "answer")
        if signal.name == "agreement":
            return self.recorded.has(model, "answer") and self.recorded.has(other, "answer")
        return self.recorded.has(model, "samples" if signal.name == "self_consistency" else signal.name)

    def settles(self, gate, position, tier):
        """Read a gate in written order, stopping when it is decided."""
        kind, inner = gate
        if kind == "all":
            return all(self.settles(one, position, tier) for one in inner)
        if kind == "any":
            return any(self.settles(one, position, tier) for one in inner)
        return self.leaf_settles(kind, inner, position, tier)

    def leaf_settles(self, place, leaf, position, tier):
        self.ask(leaf.signal, tier)
        value = self.value(leaf.signal, tier)
        self.reads.append((position, place, value is None))
        if value is None:
            return False
        threshold = leaf.threshold
        if (tier.model, leaf.signal.name) in self.recorded.single:
            threshold = as_float32(threshold)
        return value >= threshold if leaf.surer == "higher" else value <= threshold

    def ask(self, signal, tier):
        """Make the calls a signal needs, each once a case; samples cost money and no time."""
        if signal.name == "self_consistency":
            self.arrives.setdefault(f"{tier.model} samples", 0.0)
        elif signal.name in {"judge", "agreement"}:
            other = signal.options["model"]
            self.arrives.setdefault(other, added(self.ready, self.recorded.cell(self.case, other, "latency_s")))
            self.wait(other)

    def value(self, signal, tier):
        if signal.name == "judge":
            return self.judged(signal.options["model"], tier)
        if signal.name == "agreement":
            return self.same_as(signal.options["model"], tier)
        if signal.name == "self_consistency":
            return self.modal_share(tier)
        return self.recorded.cell(self.case, tier.model, signal.name)

    def judged(self, judge, tier):
        if judge not in self.case["models"] or status(self.case, judge) != "ok":
            return None
        if self.recorded.cell(self.case, judge, "judged") not in {None, tier.model}:
            return None
        score = self.recorded.cell(self.case, judge, "score")
        return (
            {"PASS": 1.0, "FAIL": 0.0}.get(self.recorded.cell(self.case, judge, "answer")) if score is None else score
        )

    def same_as(self, other, tier):
        mine, theirs = (self.recorded.cell(self.case, model, "answer") for model in (tier.model, other))
        if mine is None or theirs is None or status(self.case, other) != "ok":
            return None
        return float(folded(mine) == folded(theirs))

    def modal_share(self, tier):
        samples = self.recorded.cell(self.case, tier.model, "samples")
        if samples is None or len(samples) < 2:
            return None
        answers = Counter(folded(sample) for sample in samples if sample is not None)
        return max(answers.values(), default=0) / len(samples)

    def compared(self, tier):
        """Ask whether the flagship agrees with an answer that a cheaper tier settled on."""
        flagship = self.cascade.flagship.model
        reference = self.recorded.cell(self.case, flagship, "answer")
        if flagship not in self.case["models"] or status(self.case, flagship) != "ok" or reference is None:
            return "unknown"
        answer = self.recorded.cell(self.case, tier.model, "answer")
        return "agree" if answer is not None and folded(answer) == folded(reference) else "disagree"

    def outcome(self, start, settled, served):
        costs = [cost_of(self.recorded, self.case, call) for call in self.arrives]
        sampled = not self.recorded.has(None, "audit_probability") or self.case.get("audit_probability") is not None
        return Outcome(
            start,
            settled,
            served,
            None if None in costs else sum(costs),
            self.ready,
            frozenset(self.arrives),
            self.timeouts,
            self.refusals,
            sampled,
            tuple(self.reads),
        )


def number(gate, numbers):
    """Give numbers to the leaves of a gate in written order: ("all" or "any", gates) or (number, leaf)."""
    if isinstance(gate, Leaf):
        return next(numbers), gate
    return "all" if isinstance(gate, All) else "any", [number(inner, numbers) for inner in gate.gates]


def leaves_of(gate):
    kind, inner = gate
    return [(kind, inner)] if isinstance(kind, int) else [leaf for one in inner for leaf in leaves_of(one)]


def status(case, model):
    return case["models"][model].get("status") or "ok"


def folded(answer):
    """Enough folding for the answers our cases hold."""
    return answer.casefold().strip(" .")


def as_float32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def added(one, other):
    return None if one is None or other is None else one + other


def cost_of(recorded, case, call):
    """Nano-dollars of one call, None where unknown; a case without samples asked for none."""
    model, _, samples = call.partition(" ")
    if model not in case["models"]:
        return None
    dollars = recorded.cell(case, model, "samples_cost_usd" if samples else "cost_usd")
    if dollars is None:
        none_asked = samples and recorded.has(model, "samples") and not recorded.cell(case, model, "samples")
        return 0 if none_asked else None
    return round(dollars * 1e9)


def quality(cascade, recorded, case, outcome):
    """Score of what was served, None where unknown; nothing served is worth 0."""
    if outcome.settled is None:
        return None
    model = cascade.tiers[outcome.settled].model
    if model not in case["models"]:
        return None
    score = recorded.cell(case, model, "score")
    if outcome.served != "unanswered":
        return score
    return 0.0 if score is not None or status(case, model) != "ok" else None


def always_flagship(cascade):
    """Make a cascade of the same flagship with nothing before it."""
    return type(cascade)("always-flagship", (cascade.flagship,))


@dataclass
class Counts:
    """What one cohort's cases add up to; weights as exact fractions."""

    raw: Counter = field(default_factory=Counter)
    weighted: Counter = field(default_factory=Counter)
    outcomes: list[tuple[dict, Outcome]] = field(default_factory=list)

    def add(self, name, weight, amount=1):
        self.raw[name] += amount
        self.weighted[name] += Fraction(weight) * Fraction(amount)


def member(case, family):
    return tuple("(none)" if case.get(column) is None else str(case[column]) for column in family)


def tally(cascade, recorded, family=()):
    """Add up every case to the counts of its cohort."""
    found = {}
    for case in recorded.cases:
        counts = found.setdefault(member(case, family), Counts())
        count(counts, cascade, recorded, case)
    return found


def count(counts, cascade, recorded, case):
    outcome = decide(cascade, recorded, case)
    counts.outcomes.append((case, outcome))
    weight = weight_of(case)
    last = len(cascade.tiers) - 1
    counts.add("rows", weight)
    if outcome.served == "cached":
        counts.add("cached", weight)
        return
    counts.add("cases", weight)
    counts.add(f"started at {outcome.start}", weight)
    for position, place, missing in outcome.reads:
        counts.add(f"read {position}.{place}", weight)
        counts.add(f"null {position}.{place}", weight, int(missing))
    if outcome.settled is None:
        counts.add("unresolved", weight)
        return
    counts.add("resolved", weight)
    counts.add(f"settled by {outcome.settled}", weight)
    counts.add(outcome.served, weight)
    counts.add("timed out", weight, int(outcome.timeouts > 0))
    counts.add("refused", weight, int(outcome.refusals > 0))
    if outcome.start < last:
        counts.add("decided", weight)
        counts.add("escalated", weight, int(outcome.settled == last))
    for position in range(outcome.start, min(outcome.settled, last - 1) + 1):
        counts.add(f"reached {position}", weight)
        counts.add(f"left {position}", weight, int(outcome.settled > position))
    if outcome.settled < last:
        audit(counts, case, outcome, weight)
    money(counts, cascade, recorded, case, outcome, weight)
    grades(counts, cascade, recorded, case, outcome, weight)


def weight_of(case):
    """How many cases this one stands for."""
    weight = case.get("weight")
    return 1 if weight is None else weight


def audit_weight(case):
    """How many unescalated cases a drawn one stands for."""
    chance = case.get("audit_probability")
    return Fraction(weight_of(case)) / Fraction(1 if chance is None else chance)


def audit(counts, case, outcome, weight):
    """Unescalated cases; where an audit was declared, only sampled cases count, by the inverse of their chance."""
    counts.add("unescalated", weight)
    if not outcome.sampled:
        counts.add("not sampled", weight)
        return
    counts.add("sampled", audit_weight(case))
    counts.add(f"sampled {outcome.served}", audit_weight(case))


def money(counts, cascade, recorded, case, outcome, weight):
    """Add what was paid and, where it is known, what asking the flagship at once would have cost."""
    if outcome.cost is not None:
        counts.add("cost known", weight)
        counts.add("cost", weight, outcome.cost)
        reference = flagship_cost(cascade, recorded, case, outcome)
        known = "missing" if reference is None else "paired"
        counts.add(f"cost {known}", weight)
        counts.add(f"cost of {known}", weight, outcome.cost)
        counts.add("flagship cost of paired", weight, reference or 0)
    if outcome.latency is None:
        counts.add("latency unknown", weight)
    else:
        counts.add("latency known", weight)
        counts.add("latency", weight, Fraction(outcome.latency))


def flagship_cost(cascade, recorded, case, outcome):
    """Return the recorded cost; a case that an audit drew stands for as many as its chance says."""
    reference = cost_of(recorded, case, cascade.flagship.model)
    if outcome.settled == len(cascade.tiers) - 1 or not recorded.has(None, "audit_probability"):
        return reference
    if not outcome.sampled:
        return 0
    return None if reference is None else round(Fraction(reference) / Fraction(case["audit_probability"]))


def grades(counts, cascade, recorded, case, outcome, weight):
    graded = recorded.has(None, "expected") or any(recorded.has(tier.model, "score") for tier in cascade.tiers)
    if not graded:  # Where nothing can be graded an unanswered case is not worth nothing: it is not graded either.
        return
    served = quality(cascade, recorded, case, outcome)
    alone = always_flagship(cascade)
    reference = quality(alone, recorded, case, decide(alone, recorded, case))
    if served is not None:
        counts.add("quality known", weight)
        counts.add("quality", weight, Fraction(served))
    if served is not None and reference is not None:
        counts.add("qualities known", weight)
        counts.add("quality of both", weight, Fraction(served))
        counts.add("flagship quality of both", weight, Fraction(reference))


def effective(units):
    """Plain counts (x, n) that weighted cases are worth.

    Units are (weight, weight with the property): one for each case, or the totals of each cluster. The variance of
    the weighted rate is linearised; Kish's size guards against one that happens to be small.
    """
    total = sum(weight for weight, _ in units)
    rate = sum(hit for _, hit in units) / total
    size = total**2 / sum(weight**2 for weight, _ in units)
    if len(units) > 1:
        spread = sum((hit - rate * weight) ** 2 for weight, hit in units)
        variance = Fraction(len(units), len(units) - 1) * spread / total**2
        if variance:
            size = min(size, rate * (1 - rate) / variance)
    return rate * size, size


def worth(cases, *, clustered):
    """Plain counts of cases (case, weight, hit): exact where all weigh the same and stand alone."""
    weights = [Fraction(weight) for _, weight, _ in cases]
    if not clustered:
        if len(set(weights)) == 1:
            return sum(hit for *_, hit in cases), len(cases)
        return effective([(weight, weight * hit) for weight, (*_, hit) in zip(weights, cases, strict=True)])
    totals = {}
    for weight, (case, _, hit) in zip(weights, cases, strict=True):
        unit = totals.setdefault(cluster_of(case), [0, 0])
        unit[0] += weight
        unit[1] += weight * hit
    return effective(list(totals.values()))


def cluster_of(case):
    """Name its cluster; without one a case stands alone."""
    return ("alone", case["case_id"]) if case.get("cluster") is None else ("cluster", case["cluster"])
