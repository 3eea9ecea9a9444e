"""Some of many rows: as many as asked for, distinct, from the first to the last."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transferkit.sampling import evenly_spaced


@given(count=st.integers(2, 5000), most=st.integers(2, 1500))
def test_evenly_spaced__spans_all_rows_and_names_each_once(count, most):
    rows = evenly_spaced(count, most)

    assert len(rows) == min(count, most)
    assert (rows[0], rows[-1]) == (0, count - 1)
    assert (np.diff(rows) >= 1).all()
    assert np.ptp(np.diff(rows)) <= 1
