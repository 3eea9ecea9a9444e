"""A table as a folder of parts."""

import pyarrow.parquet as pq
import pytest

from transferkit.errors import OutputError
from transferkit.tables.parts import PartsFolder
from transferkit.tables.predictions import FAILED, Prediction, parquet_of

MANIFEST = {"version": 1, "images": 5, "layers": ("pooled",)}


def part(*errors):
    return parquet_of(
        [Prediction(f"{i}.png", None, None, (), error) for i, error in enumerate(errors)]
    )


def test_parts__are_one_table_whatever_their_order(tmp_path):
    folder = PartsFolder(tmp_path)
    folder.begin(MANIFEST, resume=False)
    assert folder.missing(2) == [0, 1]
    folder.write(1, part("broken", None))
    assert folder.missing(2) == [0]
    folder.write(0, part(None, "broken", "gone"))

    assert folder.missing(2) == []
    assert folder.metadata(FAILED, 2) == [b"2", b"1"]
    errors = pq.read_table(tmp_path).column("error").to_pylist()
    assert errors == [None, "broken", "gone", "broken", None]


def test_parts__are_resumed_only_with_the_same_manifest(tmp_path):
    folder = PartsFolder(tmp_path)
    with pytest.raises(OutputError, match=r"_manifest.json: cannot be read .*leave out --resume"):
        folder.begin(MANIFEST, resume=True)
    folder.begin(MANIFEST, resume=False)
    folder.begin(MANIFEST, resume=True)
    with pytest.raises(OutputError, match=r"was begun with other images; give the same"):
        folder.begin({**MANIFEST, "images": 6}, resume=True)
