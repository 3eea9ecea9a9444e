"""File formats, chosen by suffix."""

import pytest

from transferkit.errors import OptionError
from transferkit.tables import format_of
from transferkit.tables.feature_table import FeatureFormat


def test_format_of__reads_the_suffix_and_lists_those_it_knows(tmp_path):
    assert format_of(tmp_path / "a.b.NPZ", FeatureFormat, "--output") is FeatureFormat.NPZ
    with pytest.raises(OptionError, match=r"ending in \.npz, \.parquet, \.csv, \.safetensors"):
        format_of(tmp_path / "x.npy", FeatureFormat, "--output")
