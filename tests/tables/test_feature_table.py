"""Tables of features: every format can be read back without loss."""

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors

from transferkit.tables.feature_table import FeatureFormat, FeatureTable, write_features

TABLE = FeatureTable(
    features=np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    labels=np.array([1, 0, 1]),
    label_names=("cat, big", "dög"),
    paths=("b/1.jpg", "a/1.jpg", "b/2.jpg"),
    columns=("stem_0", "stem_1", "pooled_0", "pooled_1"),
    backbone="test_resnet",
    layer="stem,pooled",
    pool="avg",
    preprocessing={"input_size": [3, 32, 32]},
)


def read_npz(path):
    with np.load(path, allow_pickle=False) as file:
        return (
            file["features"],
            file["labels"],
            [str(file["label_names"][i]) for i in file["labels"]],
            file["paths"].tolist(),
            file["columns"].tolist(),
            *(str(file[key]) for key in ("backbone", "layer", "pool")),
            json.loads(str(file["preprocessing"])),
        )


def from_columns(columns):
    names = [name for name in columns if name.startswith(("stem_", "pooled_"))]
    features = np.array([columns[name] for name in names], dtype=np.float32).T
    return (
        features,
        np.array(columns["label"], dtype=np.int64),
        list(columns["label_name"]),
        list(columns["path"]),
        names,
        *(set(columns[key]).pop() for key in ("backbone", "layer", "pool")),
        json.loads(columns["preprocessing"][0]),
    )


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return from_columns({name: [row[name] for row in rows] for name in rows[0]})


def read_safetensors(path):
    with safetensors.safe_open(path, "numpy") as file:
        described = file.metadata()
        labels = file.get_tensor("labels")
        return (
            file.get_tensor("features"),
            labels,
            [json.loads(described["label_names"])[i] for i in labels],
            json.loads(described["paths"]),
            json.loads(described["columns"]),
            *(described[key] for key in ("backbone", "layer", "pool")),
            json.loads(described["preprocessing"]),
        )


READ_FEATURES = {
    FeatureFormat.NPZ: read_npz,
    FeatureFormat.CSV: read_csv,
    FeatureFormat.SAFETENSORS: read_safetensors,
    FeatureFormat.PARQUET: lambda path: from_columns(pq.read_table(path).to_pydict()),
}


@pytest.mark.parametrize(("kind", "read"), READ_FEATURES.items())
@pytest.mark.parametrize("piece", [8_000_000, 20])
def test_write_features__can_be_read_back(tmp_path, monkeypatch, kind, read, piece):
    monkeypatch.setattr("transferkit.tables.feature_table._PIECE", piece)  # 20 bytes: row by row
    write_features(TABLE, tmp_path / f"f.{kind}", kind)

    features, labels, names, paths, columns, *described = read(tmp_path / f"f.{kind}")

    assert np.array_equal(features, TABLE.features)
    assert features.dtype == np.float32
    assert np.array_equal(labels, TABLE.labels)
    assert names == ["dög", "cat, big", "dög"]
    assert paths == list(TABLE.paths)
    assert columns == list(TABLE.columns)
    assert described == ["test_resnet", "stem,pooled", "avg", TABLE.preprocessing]


@pytest.mark.parametrize("kind", [FeatureFormat.NPZ, FeatureFormat.SAFETENSORS])
def test_write_features__keeps_the_shape_of_maps(tmp_path, kind):
    maps = np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2)
    table = replace(TABLE, features=maps, columns=tuple(f"stem_{i}" for i in range(8)))
    write_features(table, tmp_path / f"f.{kind}", kind)

    features, labels, *_ = READ_FEATURES[kind](tmp_path / f"f.{kind}")

    assert kind.holds_maps
    assert np.array_equal(features, maps)
    assert np.array_equal(labels, TABLE.labels)
