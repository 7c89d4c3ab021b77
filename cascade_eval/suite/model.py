"""What may be written in a suite: one model per mapping.

The models say which keys exist and what each value looks like; the JSON Schema that editors complete from is
generated from them. What needs more than one part of the file (tier names in routes, cohort columns in budgets) is
checked where the parts come together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, PlainValidator, Tag, WithJsonSchema, model_validator

from cascade_eval import signals
from cascade_eval.cascade import All, AnyOf, Gate, Leaf, Route, Tier
from cascade_eval.suite import phrases
from cascade_eval.suite.mappings import Written
from cascade_eval.suite.nouns import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _phrase(parse: Callable[[Any], Any], pattern: str, description: str, *, examples: tuple[str, ...]) -> Any:
    """Describe a value that `parse` reads from one string, for editors too."""
    schema = {"type": "string", "pattern": pattern, "description": description, "examples": list(examples)}
    return (PlainValidator(parse), WithJsonSchema(schema))


_SIGNAL_SCHEMA = {
    "description": "A recorded numeric column, a built-in signal, or one of them with its options.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": {"type": ["object", "string"]},
        },
    ],
}


class WrittenLeaf(Written):
    """A gate on one signal: settles at or above the threshold, escalates below it."""

    noun: ClassVar[str] = "a gate"
    example: ClassVar[str] = "{signal: logprob, threshold: 0.82}"
    elsewhere: ClassVar[tuple[str, ...]] = ("all", "any")

    signal: Annotated[Any, PlainValidator(phrases.read_signal), WithJsonSchema(_SIGNAL_SCHEMA)]
    threshold: Annotated[
        float | None,
        PlainValidator(phrases.read_threshold),
        WithJsonSchema({"type": "number", "description": "Settles where the value is at least this."}),
    ] = None
    escalate: Annotated[
        float | None,
        *_phrase(
            phrases.read_share,
            rf"^{phrases.NUMBER} ?%$",
            "Share of cases to escalate, instead of a threshold.",
            examples=("30%",),
        ),
    ] = None
    calibrate: Annotated[
        Any,
        *_phrase(
            phrases.read_calibrate,
            r"^(platt|isotonic|hierarchical per .+|.+\.json)$",
            "Compare the signal as a probability of agreement: a recipe fitted out of fold, or a stored calibration.",
            examples=("platt", "isotonic", "hierarchical per language", "calibrations/mini.json"),
        ),
    ] = None
    surer: Literal["higher", "lower"] | None = Field(
        None,
        description="Which direction means surer; where it is not said, the signal's own, and higher once calibrated.",
    )
    name: str | None = Field(None, description="Names this gate within a combined one.")
    chosen_on: Annotated[
        str | None,
        *_phrase(
            phrases.read_sha256,
            r"^(cases-[0-9a-f]{64}|[0-9a-fA-F]{64})$",
            "Sketch of the cases, or sha256 of the data, whose agreement chose the threshold; judged on those it proves nothing.",
            examples=("688a5a8c20f461855118ea5cdf020907964f1d9b67b29608dfa503029aaf02a6",),
        ),
    ] = None

    @model_validator(mode="after")
    def _one_cut(self) -> WrittenLeaf:
        if self.threshold is None and self.escalate is None:
            raise ValueError("a gate needs 'threshold: 0.82' or 'escalate: 30%'.")
        if self.threshold is not None and self.escalate is not None:
            raise ValueError("a gate has either 'threshold' or 'escalate', not both.")
        if self.calibrate is not None and self.escalate is not None:
            raise ValueError(
                "'escalate' cuts the raw signal, so 'calibrate' would do nothing. Remove it, or write a threshold."
            )
        if self.chosen_on is not None and self.escalate is not None:
            raise ValueError(
                "'chosen_on' says which data chose a threshold, and 'escalate' looks at signals alone. Remove it."
            )
        if self.calibrate is not None and self.surer == "lower":
            raise ValueError(
                "a calibrated signal is a probability of agreement, and higher is surer. Remove 'surer: lower'."
            )
        return self

    def gate(self) -> Leaf:
        """Return the gate this says."""
        return Leaf(
            self.signal, self.threshold, self.escalate, self.calibrate, self._surer(), self.name, self.chosen_on
        )

    def _surer(self) -> Literal["higher", "lower"]:
        # Options that are wrong are reported elsewhere; a signal cannot tell its direction from them.
        known = self.calibrate is None and not signals.check(self.signal, None, "")
        return self.surer or (signals.surer(self.signal) if known else "higher")


class WrittenAll(Written):
    """Settles when every gate settles."""

    noun: ClassVar[str] = "an 'all' gate"
    all: Annotated[list[WrittenGate], AfterValidator(phrases.some)] = Field(
        description="Settles when every gate settles; evaluated in written order."
    )

    def gate(self) -> All:
        """Return the gate this says."""
        return All(tuple(gate.gate() for gate in self.all))


class WrittenAny(Written):
    """Settles when one gate settles."""

    noun: ClassVar[str] = "an 'any' gate"
    any: Annotated[list[WrittenGate], AfterValidator(phrases.some)] = Field(
        description="Settles when one gate settles; evaluated in written order."
    )

    def gate(self) -> AnyOf:
        """Return the gate this says."""
        return AnyOf(tuple(gate.gate() for gate in self.any))


def _gate_kind(value: Any) -> str:
    if isinstance(value, dict) and "signal" not in value:
        return "<all>" if "all" in value else "<any>" if "any" in value else "<leaf>"
    return "<leaf>"


WrittenGate = Annotated[
    Annotated[WrittenLeaf, Tag("<leaf>")] | Annotated[WrittenAll, Tag("<all>")] | Annotated[WrittenAny, Tag("<any>")],
    Discriminator(_gate_kind),
]


class WrittenTier(Written):
    """One model in its place."""

    noun: ClassVar[str] = "a tier"
    example: ClassVar[str] = "{tier: mini, model: gpt-4.1-nano, gate: {signal: logprob, threshold: 0.82}}"

    tier: str = Field(description="Its name in the cascade.", min_length=1)
    model: str = Field(description="The recorded model that answers for it.", min_length=1)
    gate: WrittenGate | None = Field(None, description="Settles or escalates; every tier but the last has one.")
    timeout: Annotated[
        float | None,
        *_phrase(
            phrases.read_seconds,
            rf"^{phrases.NUMBER} ?(ms|s)$",
            "A slower call escalates and is paid.",
            examples=("5s", "800ms"),
        ),
    ] = None
    hedged: bool = Field(default=False, description="Start the next tier at once; both are paid.")

    def read(self) -> Tier:
        """Return the tier this says."""
        gate: Gate | None = None if self.gate is None else self.gate.gate()
        return Tier(self.tier, self.model, gate, self.timeout, self.hedged)


_VALUE_SCHEMA = {"type": ["string", "number", "boolean", "null"]}
_VALUES_SCHEMA = {"anyOf": [_VALUE_SCHEMA, {"type": "array", "items": _VALUE_SCHEMA, "minItems": 1}]}


class WrittenRoute(Written):
    """Where some cases start, decided before any call."""

    noun: ClassVar[str] = "a route"
    example: ClassVar[str] = "{when: {task_type: [code, legal]}, start: flagship}"

    when: Annotated[
        dict[str, Annotated[tuple[str, ...], PlainValidator(phrases.read_values), WithJsonSchema(_VALUES_SCHEMA)]],
        AfterValidator(phrases.some_columns),
    ] = Field(description="Allowed values by case column, compared as text; all columns must match.")
    start: str = Field(description="Name of the tier where these cases start.")

    def read(self) -> Route:
        """Return the route this says."""
        return Route(dict(self.when), self.start)


Tiers = Annotated[list[WrittenTier], AfterValidator(phrases.some)]


class WrittenRouted(Written):
    """A cascade with routes."""

    noun: ClassVar[str] = "a cascade"
    example: ClassVar[str] = "{routes: […], tiers: […]}"

    tiers: Tiers = Field(description="In order, cheapest first; the last is the flagship.")
    routes: list[WrittenRoute] = Field(
        default=[], description="Tried in order; the first that matches decides where a case starts."
    )


def _cascade_kind(value: Any) -> str:
    return "<file>" if isinstance(value, str) else "<routed>" if isinstance(value, dict) else "<tiers>"


WrittenCascade = Annotated[
    Annotated[Tiers, Tag("<tiers>")] | Annotated[WrittenRouted, Tag("<routed>")],
    Discriminator(_cascade_kind),
]
WrittenCascadeOrFile = Annotated[
    Annotated[Tiers, Tag("<tiers>")]
    | Annotated[WrittenRouted, Tag("<routed>")]
    | Annotated[str, Field(description="A file of its own, relative to the suite."), Tag("<file>")],
    Discriminator(_cascade_kind),
]


_TIERS_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "object", "minProperties": 1, "additionalProperties": _VALUE_SCHEMA},
    ]
}


class WrittenTraffic(Written):
    """Recorded cases: files, the log of another tool, or a query."""

    noun: ClassVar[str] = "traffic"
    example: ClassVar[str] = "{path: logs/week-31.parquet}"

    path: str | None = Field(None, description="A file, folder or URL, relative to the suite.", min_length=1)
    importer: str | None = Field(None, description="Importer that reads the log at 'path'.", min_length=1)
    otel: str | None = Field(None, description="OpenTelemetry spans of model calls, as OTLP JSON.", min_length=1)
    openinference: str | None = Field(None, description="OpenInference spans, as OTLP JSON.", min_length=1)
    litellm: str | None = Field(None, description="LiteLLM logging payloads or spend logs.", min_length=1)
    langfuse: str | None = Field(None, description="Langfuse observations.", min_length=1)
    openai_batch: str | None = Field(None, description="OpenAI batches: requests and results.", min_length=1)
    anthropic_batch: str | None = Field(None, description="Anthropic message batches.", min_length=1)
    promptfoo: str | None = Field(None, description="Results of promptfoo.", min_length=1)
    decisions: str | None = Field(None, description="A decision log: a row for each request.", min_length=1)
    case: str | None = Field(
        None, description="Of a log: what a case is, such as trace, or a dotted path.", min_length=1
    )
    models: dict[str, Annotated[Any, WithJsonSchema(_TIERS_SCHEMA)]] = Field(
        default={}, description="Of a log: recorded model by the name it is to have here."
    )
    sql: str | None = Field(None, description="SQLAlchemy URL of a database.", min_length=1)
    query: str | None = Field(None, description="SQL to run there.", min_length=1)

    @model_validator(mode="after")
    def _one_place(self) -> WrittenTraffic:
        logs = self._logs()
        if sum([self.path is not None, self.sql is not None, *(True for _ in logs)]) != 1:
            raise ValueError("traffic is either {path: …}, {sql: …, query: …}, or a log such as {otel: …}.")
        if (self.sql is None) != (self.query is None):
            raise ValueError("'sql' and 'query' belong together: a database and what to ask it.")
        if self.sql is not None and self.importer is not None:
            raise ValueError("'importer' reads files; a query names its columns itself.")
        if self.importer is not None and logs:
            raise ValueError("'importer' goes with 'path'; a key such as 'otel' is both.")
        if (self.case or self.models) and not (logs or self.importer):
            raise ValueError("'case' and 'models' are said of a log: {otel: …}, or {path: …, importer: …}.")
        return self

    def source(self, columns: Mapping[str, str]) -> Source:
        """Return the source this says."""
        logs = self._logs()
        importer = next(iter(logs), self.importer)
        path = next(iter(logs.values()), self.path or self.sql or "")
        return Source("traffic", path, columns, importer, self.query, self.case, self.models)

    def _logs(self) -> dict[str, str]:
        """Return the path by kind of log, of the keys that are both."""
        kinds = set(type(self).model_fields) - {"path", "importer", "sql", "query", "case", "models"}
        return {kind: path for kind in sorted(kinds) if (path := getattr(self, kind)) is not None}


def _traffic_kind(value: Any) -> str:
    return "<path>" if isinstance(value, str) else "<mapping>"


class WrittenCohort(Written):
    """How one column makes cohorts."""

    noun: ClassVar[str] = "a cohort column"
    example: ClassVar[str] = "{at least: 60 cases}"

    at_least: Annotated[
        int | None,
        *_phrase(
            phrases.read_cases, r"^[0-9]+ cases?$", "Smaller cohorts are pooled into '(other)'.", examples=("60 cases",)
        ),
    ] = Field(None, alias="at least")


def _cohorts_kind(value: Any) -> str:
    return "<mapping>" if isinstance(value, dict) else "<list>"


_DERIVED_HELP = (
    "Columns whose values are cohorts; also 'hour of decided_at', 'weekday of decided_at' and 'week of decided_at'."
)
Cohorts = Annotated[
    Annotated[list[str], Tag("<list>")] | Annotated[dict[str, WrittenCohort | None], Tag("<mapping>")],
    Discriminator(_cohorts_kind),
]


class WrittenSuite(Written):
    """A suite of cascade_eval: data, cascades, and what is promised of them."""

    noun: ClassVar[str] = "a suite"
    example: ClassVar[str] = "{goldens: …, cascades: …, budgets: …}"

    description: str | None = Field(None, description="Shown on the report.")
    goldens: str | None = Field(
        None, description="A golden: frozen, described cases, relative to the suite.", min_length=1
    )
    traffic: (
        Annotated[
            Annotated[str, Field(min_length=1), Tag("<path>")] | Annotated[WrittenTraffic, Tag("<mapping>")],
            Discriminator(_traffic_kind),
        ]
        | None
    ) = Field(None, description="Recorded cases: a path or URL, {sql: …, query: …}, or a log: {otel: …}.")
    columns: dict[str, str] = Field(default={}, description="Foreign column name by ours: {case_id: request_id}.")
    baseline: str | None = Field(
        None,
        description="What to compare with: a cascade of this suite, git:<ref>, or an evidence file (.json).",
        min_length=1,
    )
    history: str | None = Field(
        None, description="Where weeks are kept: a folder, relative to the suite, or an SQLAlchemy URL.", min_length=1
    )
    cascades: dict[str, WrittenCascadeOrFile] = Field(default={}, description="What is judged, by name.")
    agreement: Any = Field("exact", description="When two answers are the same answer.")
    cohorts: Cohorts = Field(default=[], description=_DERIVED_HELP)
    prices: dict[str, Any] = Field(default={}, description="Dollars by model, before the price list.")
    budgets: dict[str, Any] = Field(default={}, description="What is promised, by metric and cohort.")
    confidence: Annotated[
        float,
        *_phrase(
            phrases.read_confidence,
            rf"^{phrases.NUMBER} ?%$",
            "Confidence of each bound, on its own side.",
            examples=("95%",),
        ),
    ] = 0.95
    inconclusive: Literal["fail", "warn"] = Field("fail", description="What an inconclusive verdict does to the run.")
    coverage: Annotated[
        float,
        *_phrase(
            phrases.read_share,
            rf"^{phrases.NUMBER} ?%$",
            "Smallest share of cases with a known path that is judged.",
            examples=("99%",),
        ),
    ] = 0.99
    audited: Annotated[
        float,
        *_phrase(
            phrases.read_share,
            rf"^{phrases.NUMBER} ?%$",
            "Smallest share of unescalated cases with a known comparison that is judged.",
            examples=("99%",),
        ),
    ] = 0.99
