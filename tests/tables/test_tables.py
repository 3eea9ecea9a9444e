"""The suffix of a file chooses the format."""

import pytest

from transferkit.errors import OptionError
from transferkit.tables import format_of
from transferkit.tables.feature_table import FeatureFormat


def test_format_of__says_which_suffixes_there_are(tmp_path):
    assert format_of(tmp_path / "a.b.NPZ", FeatureFormat, "--output") is FeatureFormat.NPZ
    with pytest.raises(OptionError, match=r"ending in \.npz, \.parquet, \.csv, \.safetensors"):
        format_of(tmp_path / "x.npy", FeatureFormat, "--output")
