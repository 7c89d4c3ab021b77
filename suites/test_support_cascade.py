"""The support cascade's promises in Python, for those who would rather write tests than YAML.

Data, cascade and cohorts come from the suite that the marker names. Comparing an estimate gives a verdict: the assertion
holds when the promise is proven, and fails when it is broken or when there are too few cases to say.
"""

import pytest

pytestmark = pytest.mark.cascade("suites/signoff.cascade.yaml")


def test_agrees_with_the_flagship_in_every_cohort(cohort):
    """One test for each language and each intent, judged together."""
    assert cohort.unescalated.disagreement <= 0.10


def test_leaves_the_flagship_to_the_hard_cases(replay):
    """The whole replay, where a promise is about all traffic."""
    assert replay.escalation <= 0.40
