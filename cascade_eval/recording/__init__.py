"""Ask real models, once: a journal that a killed run resumes from, and a cap on what is spent."""

from __future__ import annotations

from cascade_eval.recording.collecting import collect, write
from cascade_eval.recording.nouns import Call, Case, Model, Progress, Recipe, Recording, Reply, Usage
from cascade_eval.recording.questions import answered
from cascade_eval.recording.recipe import load, parse
from cascade_eval.recording.running import run

__all__ = [
    "Call",
    "Case",
    "Model",
    "Progress",
    "Recipe",
    "Recording",
    "Reply",
    "Usage",
    "answered",
    "collect",
    "load",
    "parse",
    "run",
    "write",
]
