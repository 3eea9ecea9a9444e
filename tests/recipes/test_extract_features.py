"""Features: rows in index order, whatever the workers, from a backbone or a run."""

import numpy as np
import pytest
import torch
from conftest import make_classes

import transferkit
from transferkit.errors import DataError, OptionError, OutputError
from transferkit.reporting import LeftOut

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32}


def test_extract_features__rows_stand_in_index_order(image_folder, tmp_path):
    table = transferkit.extract_features(image_folder, tmp_path / "f.npz", **SMALL)

    assert list(table.paths) == sorted(table.paths)
    assert [table.label_names[i] for i in table.labels] == [p.split("/")[0] for p in table.paths]
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert np.array_equal(file["features"], table.features)
        assert file["paths"].tolist() == list(table.paths)


def test_extract_features__does_not_depend_on_workers_or_batches(image_folder, tmp_path):
    tables = [
        transferkit.extract_features(
            image_folder,
            tmp_path / f"{workers}-{size}.npz",
            workers=workers,
            batch_size=size,
            **SMALL,
        )
        for workers, size in ((1, 24), (4, 24), (4, 5))
    ]

    assert np.array_equal(tables[0].features, tables[1].features)
    assert np.allclose(tables[0].features, tables[2].features, rtol=1e-4, atol=1e-5)


def test_extract_features__are_what_enters_the_head(run_folder, image_folder, tmp_path):
    table = transferkit.extract_features(image_folder, tmp_path / "f.npz", model=str(run_folder))
    bundle = transferkit.ModelBundle.load(run_folder)

    with torch.no_grad():
        logits = bundle.network.module.fc(torch.from_numpy(table.features))
    expected = bundle.predict_proba([image_folder / path for path in table.paths])

    assert np.allclose(logits.softmax(1).numpy(), expected, atol=1e-5)
    assert table.preprocessing["input_size"] == [3, 32, 32]


def test_extract_features__tells_what_is_not_in_the_table(tmp_path):
    data = make_classes(tmp_path / "data", 2)
    (data / "blue" / "0.png").write_bytes(b"")

    table = transferkit.extract_features(data, tmp_path / "f.npz", **SMALL)

    assert table.left_out == (LeftOut("blue/0.png", "an empty file", unreadable=True),)
    assert table.paths[0] == "blue/1.png"
    assert len(table.features) == len(table.labels) == 5


def test_extract_features__of_nothing_readable_is_an_error(tmp_path):
    data = make_classes(tmp_path / "data", 1)
    for path in data.rglob("*.png"):
        path.write_bytes(b"broken")

    with pytest.raises(DataError, match="none of its 3 images can be read"):
        transferkit.extract_features(data, tmp_path / "f.npz", **SMALL)
    assert not (tmp_path / "f.npz").exists()


def test_extract_features__keeps_a_file_that_is_there(image_folder, tmp_path):
    (tmp_path / "f.npz").write_text("mine")

    with pytest.raises(OutputError, match="replace it with --overwrite"):
        transferkit.extract_features(image_folder, tmp_path / "f.npz", **SMALL)
    assert (tmp_path / "f.npz").read_text() == "mine"


def test_extract_features__model_brings_its_backbone(image_folder, tmp_path):
    with pytest.raises(OptionError, match="--model brings its backbone"):
        transferkit.extract_features(image_folder, tmp_path / "f.npz", model="run", backbone="x")
