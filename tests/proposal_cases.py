"""A suite of one gate and cases for it, which tests of proposals choose by."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cascade_eval import suite

SUITE = """\
traffic: cases.parquet
cascades:
  current:
    - tier: mini
      model: mini
      gate:
        signal: confidence
        threshold: 0.5  # by feel
    - {tier: flagship, model: big}
agreement: same label
cohorts: [language]
budgets:
  disagreement: {overall: at most 10%}
"""


def cases(size=3000, *, seed=0, wrong=0.35, **columns):
    """Confidence says how often mini agrees; `wrong` is disagreement at confidence 0."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(size).round(4)
    agrees = rng.random(size) >= wrong * (1 - confidence)
    return pd.DataFrame(
        {
            "case_id": [f"c{n}" for n in range(size)],
            "language": np.where(np.arange(size) % 4 == 0, "fr", "en"),
            "mini.answer": np.where(agrees, "yes", "no"),
            "mini.confidence": confidence,
            "big.answer": "yes",
            **columns,
        }
    )


@pytest.fixture
def laid_out(tmp_path, monkeypatch):
    """Lay out a suite beside its cases."""
    monkeypatch.chdir(tmp_path)

    def lay(frame, text=SUITE):
        frame.to_parquet("cases.parquet")
        (tmp_path / "s.cascade.yaml").write_text(text)
        return suite.load("s.cascade.yaml")

    return lay
