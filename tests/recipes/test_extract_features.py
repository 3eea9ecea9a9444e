"""Features: rows in index order with any number of workers, from a backbone or a run."""

import json

import numpy as np
import pytest
import torch
from image_files import make_classes
from notices import Notices

import transferkit
from transferkit.errors import DataError, OptionError, OutputError, UnknownNameError
from transferkit.options.extract_features import ExtractFeaturesOptions
from transferkit.recipes.extract_features import extract_features
from transferkit.reporter import LeftOut

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32}


def extracted(data, path, **options) -> dict[str, np.ndarray]:
    transferkit.extract_features(data, path, **options)
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_extract_features__writes_rows_in_index_order(image_folder, tmp_path):
    written = transferkit.extract_features(image_folder, tmp_path / "f.npz", **SMALL)
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        table = dict(file)

    paths = table["paths"].tolist()
    assert paths == sorted(paths)
    assert table["label_names"][table["labels"]].tolist() == [p.split("/")[0] for p in paths]
    assert written.shape == table["features"].shape == (24, len(table["columns"]))
    assert (written.backbone, written.layer) == ("test_resnet", "pooled")
    assert table["columns"][0] == "pooled_0"
    assert [p.name for p in tmp_path.iterdir()] == ["f.npz"]


def test_extract_features__does_not_depend_on_workers_or_batches(image_folder, tmp_path):
    tables = [
        extracted(
            image_folder,
            tmp_path / f"{workers}-{size}.npz",
            workers=workers,
            batch_size=size,
            **SMALL,
        )["features"]
        for workers, size in ((1, 24), (4, 24), (4, 5))
    ]

    assert np.array_equal(tables[0], tables[1])
    np.testing.assert_allclose(tables[0], tables[2], rtol=1e-4, atol=1e-5)


def test_extract_features__prelogits_are_the_input_of_the_head(run_folder, image_folder, tmp_path):
    table = extracted(image_folder, tmp_path / "f.npz", model=str(run_folder), layer=("prelogits",))
    bundle = transferkit.ModelBundle.load(run_folder)

    with torch.no_grad():
        logits = bundle.network.module.fc(torch.from_numpy(table["features"]))
    expected = bundle.predict_proba([image_folder / path for path in table["paths"]])

    np.testing.assert_allclose(logits.softmax(1).numpy(), expected, atol=1e-5)
    assert json.loads(str(table["preprocessing"]))["input_size"] == [3, 32, 32]


def test_extract_features__joins_layers_and_writes_maps(image_folder, tmp_path):
    both = extracted(image_folder, tmp_path / "a.npz", layer=("stage2", "head"), **SMALL)
    maps = extracted(image_folder, tmp_path / "b.npz", layer=("stage2",), pool="none", **SMALL)

    channels = maps["features"].shape[1]
    assert maps["features"].ndim == 4
    assert both["features"].shape == (24, channels + 1000)  # the head is kept if it is a layer
    np.testing.assert_allclose(
        both["features"][:, :channels], maps["features"].mean(axis=(2, 3)), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(OptionError, match=r"a \.csv file cannot hold maps"):
        transferkit.extract_features(image_folder, tmp_path / "c.csv", pool="none", **SMALL)
    with pytest.raises(UnknownNameError, match="transferkit inspect test_resnet"):
        transferkit.extract_features(image_folder, tmp_path / "c.npz", layer=("x",), **SMALL)


def test_extract_features__reports_images_left_out(tmp_path):
    data = make_classes(tmp_path / "data", 2)
    (data / "blue" / "0.png").write_bytes(b"")

    written = transferkit.extract_features(data, tmp_path / "f.npz", **SMALL)

    assert written.left_out == (LeftOut("blue/0.png", "an empty file", unreadable=True),)
    with np.load(tmp_path / "f.npz") as file:
        assert file["paths"][0] == "blue/1.png"
        assert len(file["features"]) == len(file["labels"]) == 5


def test_extract_features__leaves_out_a_broken_link(tmp_path):
    data = make_classes(tmp_path / "data", 2)
    (data / "blue" / "9.png").symlink_to(tmp_path / "nothing.png")

    written = transferkit.extract_features(data, tmp_path / "f.npz", **SMALL)

    assert [item.path for item in written.left_out] == ["blue/9.png"]
    assert written.shape[0] == 6


def test_extract_features__is_not_resumed_with_other_patches(image_folder, tmp_path):
    options = {"data": image_folder, "output": tmp_path / "f.npz", "backbone": "edges8"}
    with pytest.raises(KeyboardInterrupt):
        extract_features(ExtractFeaturesOptions(**options, batch_size=5), Interrupting(after=7))
    with pytest.raises(OutputError, match="begun with other model_args, shape"):
        transferkit.extract_features(**options, patches=2, resume=True)


def test_extract_features__of_nothing_readable_is_an_error(tmp_path):
    data = make_classes(tmp_path / "data", 1)
    for path in data.rglob("*.png"):
        path.write_bytes(b"broken")

    with pytest.raises(DataError, match="none of its 3 images can be used"):
        transferkit.extract_features(data, tmp_path / "f.npz", **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_extract_features__keeps_an_existing_file(image_folder, tmp_path):
    (tmp_path / "f.npz").write_text("mine")

    with pytest.raises(OutputError, match="replace it with --overwrite"):
        transferkit.extract_features(image_folder, tmp_path / "f.npz", **SMALL)
    assert (tmp_path / "f.npz").read_text() == "mine"


def test_extract_features__refuses_a_backbone_beside_a_model(image_folder, tmp_path):
    with pytest.raises(OptionError, match="--model has its own backbone"):
        transferkit.extract_features(image_folder, tmp_path / "f.npz", model="run", backbone="x")


class Interrupting(Notices):
    """A reporter that raises KeyboardInterrupt after some images."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def progress(self, description, total):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, count, detail=""):
        self.left -= count
        if self.left < 0:
            raise KeyboardInterrupt


def test_extract_features__is_resumed_to_the_same_rows(image_folder, tmp_path):
    whole = extracted(image_folder, tmp_path / "whole.npz", batch_size=5, **SMALL)
    options = {**SMALL, "batch_size": 5, "data": image_folder, "output": tmp_path / "f.npz"}
    stopping = Interrupting(after=12)
    with pytest.raises(KeyboardInterrupt):
        extract_features(ExtractFeaturesOptions(**options), stopping)
    assert stopping.all == ["15 of 24 images are done; resume with --resume"]
    assert not (tmp_path / "f.npz").exists()

    with pytest.raises(OutputError, match="unfinished extraction; resume it with --resume"):
        transferkit.extract_features(**options)
    with pytest.raises(OutputError, match="begun with other layers"):
        transferkit.extract_features(**options, layer=("stem",), resume=True)
    extract_features(ExtractFeaturesOptions(**options, resume=True), Interrupting(after=24))

    with np.load(tmp_path / "f.npz") as file:
        assert all(np.array_equal(file[name], whole[name]) for name in whole)
    assert not (tmp_path / "f.npz.partial").exists()
