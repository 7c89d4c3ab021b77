"""Suites as text, and how tests read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade_eval import suite
from cascade_eval.errors import SuiteError

SUPPORT = """\
# yaml-language-server: $schema=suite.schema.json
goldens: goldens/support                 # or traffic
baseline: git:origin/main

cascades:                                # a mapping, or paths to files of their own
  current:
    - tier: mini
      model: gpt-4.1-nano
      timeout: 5s
      gate: {signal: logprob, calibrate: hierarchical per language, threshold: 0.82}
    - tier: flagship
      model: gpt-4.1
  wider: cascades/wider.yaml

agreement: same label
cohorts: [language, intent]

budgets:
  disagreement:
    overall: at most 5%
    each language: at most 10%
    language=no: at most 8%
  escalation: {overall: 15% to 40%}
  cost: {overall: at most 45% of always-flagship}
  flips to disagreement: {overall: at most 1%}

confidence: 95%
inconclusive: fail
"""

WIDER = """\
routes:
  - when: {task_type: [code, legal], user_tier: no}
    start: flagship
tiers:
  - tier: mini
    model: gpt-4.1-nano
    hedged: true
    gate:
      all:
        - {signal: {recorded: logprob}, escalate: 30%}
        - any:
            - {signal: length, threshold: 200, surer: lower, name: short}
            - {signal: {logprob: {statistic: minimum}}, threshold: 0.5, calibrate: calibrations/mini.json}
  - {tier: flagship, model: gpt-4.1, timeout: 800ms}
"""

PLAIN = """\
goldens: goldens/support
baseline: git:origin/main
cascades:
  current:
    - tier: mini
      model: nano
      gate: {signal: confidence, threshold: 0.82}
    - tier: flagship
      model: big
agreement: same label
cohorts: [language, intent]
budgets:
  disagreement:
    overall: at most 5%
    each language: at most 10%
confidence: 95%
"""

GATE = "{signal: confidence, threshold: 0.82}"

ROUTED = """\
routes:
  - when: {task_type: [code]}
    start: flagship
tiers:
  - tier: mini
    model: nano
    gate: {signal: confidence, threshold: 0.82}
  - {tier: flagship, model: big}
"""


def read(text, **options):
    return suite.parse(text, file="s.cascade.yaml", base=Path(), **options)


def problems(text, **options):
    with pytest.raises(SuiteError) as caught:
        read(text, **options)
    return str(caught.value).splitlines()


def changed(*changes):
    """PLAIN with pieces of it replaced."""
    text = PLAIN
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
