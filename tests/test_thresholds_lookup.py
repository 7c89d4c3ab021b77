"""Values among thresholds by table: the same as by search, everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cascade_eval.thresholds.lookup import Lookup

TIES = np.round(np.arange(101) / 100, 2)
FINE = np.linspace(0, 1, 5_000)

EDGES = st.one_of(
    arrays.arrays(np.float64, st.integers(0, 60), elements=st.floats(allow_nan=False)),
    arrays.arrays(np.float64, st.integers(0, 60), elements=st.integers(-300, 300).map(lambda n: n / 100)),
    arrays.arrays(np.float64, st.integers(0, 9), elements=st.floats(0.5, 0.5000001)),
)


def counted(edges, values):
    """Count one by one the edges that each value reaches."""
    return [sum(bool(value >= edge) for edge in edges) for value in values]


@given(st.data(), EDGES, st.sampled_from([np.float64, np.float32]))
def test_a_value_stands_where_a_loop_finds_it(data, edges, kind):
    """Ties, neighbours in the last bit, infinities and missing values, in either precision."""
    with np.errstate(over="ignore"):
        ascending = np.sort(edges.astype(kind))
        near = [np.nextafter(ascending, -np.inf), ascending, np.nextafter(ascending, np.inf)]
    other = data.draw(arrays.arrays(kind, 5, elements=st.floats(width=32)))
    values = np.concatenate([*near, other, np.array([np.nan, np.inf, -np.inf], dtype=kind)]).astype(kind)
    assert Lookup(ascending).place(values).tolist() == counted(ascending, values)


@pytest.mark.parametrize(
    "edges", [TIES, FINE, FINE[::7] ** 9, -TIES[::-1]], ids=["ties", "many", "crowded", "negative"]
)
def test_many_values_stand_where_a_search_finds_them(edges):
    """Whether cells hold one edge, several or so many that they are searched."""
    values = np.concatenate([edges, np.random.default_rng(1).uniform(-1.5, 1.5, 2_000)])
    assert np.array_equal(Lookup(edges).place(values), np.searchsorted(edges, values, side="right"))
