"""The format of evidence, as models that refuse what is not of it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

SCHEMA = "cascade-eval/evidence/1"
"""The format this version reads and writes."""


def _text(value: object) -> object:
    """Return an answer as text; a recorded number or JSON answer is shown as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


Text = Annotated[str | None, BeforeValidator(_text, json_schema_input_type=str | None)]
Cohort = dict[str, str]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """Base of every part: no unknown keys, no guessing of types, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Estimate(Record):
    """A number with its bounds. `value` is null where it could not be computed, and `reason` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int | None = None
    nobs: Count | None = None
    method: str
    estimated: Literal[False] | Share = False
    unit: Literal["rate", "ratio", "points", "seconds", "dollars", "days"]
    reason: str | None = None


class Cell(Record):
    """The metrics of all cases of one cohort; no columns in `cohort` means all cases."""

    cohort: Cohort
    cases: Count
    weight: float
    metrics: dict[str, Estimate]


class CohortCell(Cell):
    """A member of the suite's cohorts; `routed` when a route sends it wholly to the flagship."""

    routed: bool = False
    pooled: list[str] | None = None


class Verdict(Record):
    """A budget, judged in one cohort. `low` and `high` are the budget in natural units."""

    metric: str
    cohort: Cohort
    scope: str
    bound: str
    low: float | None = None
    high: float | None = None
    outcome: Literal["pass", "fail", "inconclusive"]
    warned: bool = False
    not_measured: bool
    estimate: Estimate
    p_pass: Share | None = None
    p_fail: Share | None = None
    p_holm: Share | None = None
    family: int
    reason: str
    cases_to_decide: Count | None = None
    smallest_excess: float | None = None
    advice: str | None = None
    file: str | None = None
    line: int | None = None
    test: str | None = None

    @model_validator(mode="after")
    def _fails_closed(self) -> Self:
        if self.not_measured and self.outcome != "inconclusive":
            raise ValueError(f"what was not measured is inconclusive, never '{self.outcome}'")
        if self.outcome == "pass" and self.estimate.value is None:
            raise ValueError("nothing can pass without a value")
        return self


class Threshold(Record):
    """Where a gate cuts its signal; `escalate` is the share asked for instead of a threshold."""

    tier: str
    signal: str
    threshold: float | None = None
    escalate: Share | None = None
    surer: Literal["higher", "lower"]


class SweepPoint(Record):
    """What the cascade would do at other thresholds; a null threshold escalates every case."""

    cohort: Cohort
    thresholds: dict[str, float | None]
    escalation: float | None = None
    disagreement: float | None = None
    cost: float | None = None
    quality: float | None = None
    cases_kept: Count | None = None


class Bin(Record):
    """One bin of a reliability diagram, with exact bounds of its agreement."""

    low: float
    high: float
    nobs: Count
    mean: float | None = None
    agree: float | None = None
    bound_low: float | None = None
    bound_high: float | None = None


class Calibration(Record):
    """How well one gate's value predicts agreement in one cohort."""

    tier: str
    signal: str
    recipe: str | None = None
    cohort: Cohort
    nobs: Count
    brier: float | None = None
    log_loss: float | None = None
    auroc: float | None = None
    debiased_error: float | None = None
    ece: float | None = None
    spiegelhalter_z: float | None = None
    spiegelhalter_p: float | None = None
    note: str | None = None
    bins: list[Bin] = []


class Flip(Record):
    """A case in which candidate and baseline differ in agreeing with the flagship."""

    case_id: str
    baseline_answer: Text = None
    candidate_answer: Text = None
    flagship_answer: Text = None
    direction: Literal["worse", "better"]


class Flips(Record):
    """Candidate against baseline, case by case."""

    cohort: Cohort
    nobs: Count
    worse: Count
    better: Count
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_exact: Share | None = None
    mid_p: Share | None = None
    p_regression: Share | None = None
    cases: list[Flip] = []


class Worst(Record):
    """An unescalated disagreement the gate was sure of."""

    case_id: str
    cohort: Cohort
    tier: str
    value: float | None = None
    answer: Text = None
    flagship_answer: Text = None
    expected: Text = None
    right: Literal["cheap", "flagship", "neither", "both"] | None = None
    input: Text = None


class Funnel(Record):
    """What became of the cases that reached a tier."""

    tier: str
    model: str
    reached: Count
    settled: Count
    escalated: Count
    timeouts: Count = 0
    errors: Count = 0
    refused: Count = 0


class CasePath(Record):
    """Cases that took the same tiers, and what all their calls cost."""

    path: list[str]
    cases: Count
    cost_usd: float | None = None


class Right(Record):
    """Who was right where cheap tier and flagship disagreed."""

    cheap: Count = 0
    flagship: Count = 0
    neither: Count = 0
    both: Count = 0
    unknown: Count = 0


class Baseline(Record):
    """What a cascade was compared with."""

    kind: Literal["cascade", "git", "evidence"]
    name: str
    created_at: str | None = None
    age_days: float | None = None
    commit: str | None = None


class Cascade(Record):
    """One cascade: its definition, complete enough to be replayed, and everything measured about it."""

    name: str
    definition: JsonValue
    flagship: str
    baseline: Baseline | None = None
    thresholds: list[Threshold] = []
    overall: Cell
    cohorts: list[CohortCell]
    verdicts: list[Verdict]
    sweep: list[SweepPoint] = []
    calibration: list[Calibration] = []
    flips: list[Flips] = []
    worst: list[Worst] = []
    funnel: list[Funnel] = []
    paths: list[CasePath] = []
    right: Right = Right()


class Price(Record):
    """Dollars per million tokens of a model, or null where the cost was recorded."""

    model: str
    source: str
    input: float | None = None
    cached_input: float | None = None
    output: float | None = None
    as_of: str | None = None
    share: Share | None = None


class Data(Record):
    """The cases that were judged."""

    path: str
    kind: Literal["golden", "traffic"]
    sha256: str | None = None
    cases: Count
    bad_rows: Count = 0
    cached: Share | None = None
    span: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    description: str | None = None


class Floors(Record):
    """Shares below which nothing counts as measured."""

    coverage: Share
    audited: Share


class Week(Record):
    """One week of one cohort under one cascade; a null rate was not measured, and `reason` says why disagreement was not."""

    cascade: str
    cohort: Cohort
    window: str
    complete: bool
    cases: Count
    decisions: Count
    share: Share | None = None
    escalation: Share | None = None
    escalation_low: Share | None = None
    escalation_high: Share | None = None
    kept: Count
    compared: Count
    disagreed: Count
    disagreement: Share | None = None
    disagreement_low: Share | None = None
    disagreement_high: Share | None = None
    cost_per_request: float | None = None
    latency_p95: float | None = None
    reason: str | None = None


class Weeks(Record):
    """The last weeks; `cut` says what was left out, `notes` what could not be looked at."""

    rows: list[Week]
    cut: list[str] = []
    notes: list[str] = []


class WatchedSequence(Record):
    """A disagreement budget watched in one cohort: natural logarithms of the restarted evidence after each week."""

    cascade: str
    cohort: Cohort
    budget: Share
    alarm_at: float
    windows: list[str]
    log_m: list[float | None]
    alarms: list[str]
    first: str | None = None
    since: str | None = None
    state: Literal["alarm", "within", "open", "not measured"]
    reason: str | None = None

    @model_validator(mode="after")
    def _fails_closed(self) -> Self:
        if len(self.windows) != len(self.log_m):
            raise ValueError(f"{len(self.windows)} weeks with {len(self.log_m)} values of evidence")
        if self.alarms and self.alarms[-1] == self.windows[-1] and self.state != "alarm":
            raise ValueError(f"an alarm stands in the last week, so the state is 'alarm', not '{self.state}'")
        return self


class Movement(Record):
    """One thing the weeks say; an `alarm` that is `standing` holds in the last week."""

    test: str
    cascade: str
    cohort: Cohort
    first: str
    windows: list[str]
    standing: bool
    alarm: bool
    message: str
    evidence: dict[str, float | None] = {}


class AuditRow(Record):
    """What an audit found in one cohort; `outcome` is null where nothing was promised."""

    cohort: Cohort
    unescalated: Count
    sampled: Count
    answered: Count
    disagreed: Count
    estimate: Estimate
    outcome: Literal["pass", "fail", "inconclusive"] | None = None
    not_measured: bool = False
    bound: str | None = None

    @model_validator(mode="after")
    def _fails_closed(self) -> Self:
        if self.outcome == "pass" and (self.not_measured or self.estimate.value is None):
            raise ValueError("nothing can pass without a value")
        return self


class Audit(Record):
    """Unescalated answers the flagship was asked about; the first row is all cases."""

    cascade: str
    rows: list[AuditRow]
    calls: Count
    usd: float | None = None
    saved_usd: float | None = None
    age_days: float
    notes: list[str] = []


class Treatment(Record):
    """What could be done about a cause; `predicted` holds value, low and high by metric."""

    kind: str
    cohorts: list[str]
    message: str
    predicted: dict[str, list[float | None]] = {}
    steps: list[str] = []


class Cause(Record):
    """One thing that is the matter with a cascade, or is suspected to be."""

    name: str
    cohorts: list[str]
    conclusive: bool
    test: str
    message: str
    evidence: list[str] = []
    contradicts: list[str] = []
    treatments: list[Treatment] = []


class Step(Record):
    """One test of the decision tree, and how it ended."""

    name: str
    question: str
    outcome: str
    message: str


class Diagnosis(Record):
    """What is the matter with one cascade, its main cause first."""

    cascade: str
    causes: list[Cause]
    steps: list[Step] = []
    notes: list[str] = []


class Suite(Record):
    """One suite; its last cascade is always-flagship, reported and never judged."""

    suite: str
    data: Data
    confidence: Share
    inconclusive: Literal["fail", "warn"]
    promise: str
    cohorts: list[str]
    agreement: str
    floors: Floors
    notes: list[str] = []
    prices: list[Price] = []
    cascades: list[Cascade]
    weeks: Weeks | None = None
    sequences: list[WatchedSequence] = []
    movements: list[Movement] = []
    audit: Audit | None = None
    findings: list[Diagnosis] = []

    @model_validator(mode="after")
    def _follows_from_its_tests(self) -> Self:
        level = 1 - self.confidence + 1e-9
        for cascade in self.cascades:
            for verdict in cascade.verdicts:
                tested = {"pass": verdict.p_pass, "fail": verdict.p_holm}.get(verdict.outcome)
                if tested is not None and tested > level:
                    raise ValueError(
                        f"'{verdict.metric}' of '{cascade.name}' is a {verdict.outcome} with p = {tested:.3g}, which proves "
                        f"nothing at {self.confidence:.4g}: this was not written by a run"
                    )
        return self


class Selected(Record):
    """Items that ran, of those the suites have."""

    items: Count
    of: Count


class Git(Record):
    """The state of the working tree."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool


class Evidence(Record):
    """What one run measured and judged."""

    schema_: Literal["cascade-eval/evidence/1"] = Field(alias="schema")
    created_at: str
    version: str
    selected: Selected
    git: Git | None = None
    versions: dict[str, str]
    suites: list[Suite]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of what is written."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Evidence.model_json_schema(by_alias=True, mode="serialization"),
        "title": SCHEMA,
    }
