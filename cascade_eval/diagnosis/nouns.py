"""What a diagnosis says: causes with their evidence, the tests that were run, and what to do about each cause."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cascade_eval import monitor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade_eval.monitor import Cohort

TreatmentKind: TypeAlias = Literal[
    "escalate more",
    "route to the flagship",
    "recalibrate",
    "retrain the student",
    "ask for an audit",
    "fix the judge",
    "choose a threshold",
    "use a cascade",
    "use the flagship alone",
    "leave alone",
    "look beyond the cascade",
]
"""What can be done about a cause."""

CauseName: TypeAlias = Literal[
    "healthy",
    "saturation",
    "mix shift",
    "uncovered cohort",
    "student drift",
    "threshold by feel",
    "verifier regression",
    "cost creep",
    "single-model overspend",
    "rising escalation",
    "moved past the cascade",
    "audit costs more than it guards",
    "not enough evidence",
]
"""What can be the matter with a cascade, and the two names for "nothing" and "cannot be said"."""

Outcome: TypeAlias = Literal["conclusive", "suspects", "clear", "cannot run", "not needed"]
"""How one test of the tree ended; "not needed" where an earlier one was conclusive."""


@dataclass(frozen=True)
class Treatment:
    """Something that could be done about a cause; never applied unasked.

    Parameters
    ----------
    kind
        What is done.
    cohorts
        To whose cases; the member () is all cases.
    message
        One or two sentences, with figures, that say whose figures they are.
    predicted
        Value, low and high by "escalation", "cost" (of always-flagship) or "disagreement"; None where unknown.
    steps
        What to do next: each a command, or a change to a YAML file that could be pasted.
    evidence
        The figures behind the message.
    """

    kind: TreatmentKind
    cohorts: tuple[Cohort, ...]
    message: str
    predicted: Mapping[str, tuple[float | None, float | None, float | None]] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    evidence: Mapping[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "kind": self.kind,
            "cohorts": [monitor.label(cohort) for cohort in self.cohorts],
            "message": self.message,
            "predicted": {name: list(values) for name, values in self.predicted.items()},
            "steps": list(self.steps),
        }


@dataclass(frozen=True)
class Cause:
    """One thing that is the matter with a cascade, or is suspected to be.

    Parameters
    ----------
    name
        Which.
    cascade
        Whose.
    cohorts
        Where; () is the whole cascade.
    conclusive
        Whether the evidence decides; a cause that is only suspected is False.
    test
        Test of the tree that found it.
    message
        One sentence.
    evidence, contradicts
        Sentences with figures, and what would speak against the cause.
    treatments
        What could be done.
    """

    name: CauseName
    cascade: str
    cohorts: tuple[Cohort, ...]
    conclusive: bool
    test: str
    message: str
    evidence: tuple[str, ...] = ()
    contradicts: tuple[str, ...] = ()
    treatments: tuple[Treatment, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "name": self.name,
            "cohorts": [monitor.label(cohort) for cohort in self.cohorts],
            "conclusive": self.conclusive,
            "test": self.test,
            "message": self.message,
            "evidence": list(self.evidence),
            "contradicts": list(self.contradicts),
            "treatments": [treatment.record() for treatment in self.treatments],
        }


@dataclass(frozen=True)
class Step:
    """One test of the tree, whether it could run, and how it ended.

    Parameters
    ----------
    name, question
        What it is called, and what it asks.
    ran
        Whether there was data for it.
    outcome
        How it ended.
    message
        Why.
    """

    name: str
    question: str
    ran: bool
    outcome: Outcome
    message: str

    def record(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"name": self.name, "question": self.question, "outcome": self.outcome, "message": self.message}


@dataclass(frozen=True)
class Diagnosis:
    """What is the matter with one cascade.

    Parameters
    ----------
    cascade
        Whose.
    causes
        Main cause first; never empty.
    steps
        Tests of the tree, in the order they were run.
    notes
        What was assumed, and what stays unknown.
    """

    cascade: str
    causes: tuple[Cause, ...]
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> Cause:
        """The cause to act on first."""
        return self.causes[0]

    def record(self) -> dict[str, Any]:
        """Return plain JSON, as the report and `diagnose -o` hold it."""
        return {
            "cascade": self.cascade,
            "causes": [cause.record() for cause in self.causes],
            "steps": [step.record() for step in self.steps],
            "notes": list(self.notes),
        }
