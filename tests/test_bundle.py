"""Model folders: error messages for damaged ones, and predictions from Python."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import transferkit
from transferkit.errors import BundleError, DataError


def change(key, value):
    def damage(run):
        path = run / "model" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: shutil.rmtree(run / "model"), "a folder without a model"),
        (lambda run: (run / "model/config.json").write_text("{"), "not a model's configuration"),
        (lambda run: (run / "model/config.json").write_text("[]"), "not a model's configuration"),
        (lambda run: (run / "model/model.safetensors").unlink(), "no model.safetensors"),
        (
            lambda run: (run / "model/model.safetensors").write_bytes(b"\x00" * 64),
            "cannot be read as weights",
        ),
        (
            lambda run: (run / "model/config.json").write_text(
                (run / "model/config.json").read_text().replace('"blue",', "")
            ),
            "names 2 classes for 3 outputs",
        ),
        (change("architecture", 5), "architecture must be a name"),
        (change("architecture", None), "expected the name of a network of timm's or torchvision"),
        (change("num_classes", "3"), "num_classes must be a whole number"),
        (change("label_names", ["a", "a", "b"]), "must be distinct, got more than once: a"),
        (change("label_names", {"7": "a"}), "label_names has 7 for 3 outputs"),
        (change("model_args", [1]), "model_args a table"),
        (change("model_args", {"zzz": 1}), "cannot be built with input_size"),
        (change("model_args", {"checkpoint_path": "x.pth"}), "must not name checkpoint_path"),
        (change("pretrained_cfg", {"mean": ["x"]}), "mean must be a number per channel"),
    ],
)
def test_load__says_what_is_wrong_with_a_model(run_folder, tmp_path, damage, message):
    run = shutil.copytree(run_folder, tmp_path / "run")
    damage(run)

    with pytest.raises(BundleError, match=message):
        transferkit.ModelBundle.load(run)


def test_predict_proba__takes_files_and_images(run_folder, image_folder, tmp_path):
    bundle = transferkit.ModelBundle.load(run_folder)
    path = image_folder / "green" / "3.png"
    with Image.open(path) as image:
        rows = bundle.predict_proba([path, image])

    assert np.array_equal(rows[0], rows[1])
    sideways, exif = Image.open(path).convert("LA"), Image.Exif()
    exif[0x0112] = 6
    sideways.save(tmp_path / "odd.png", exif=exif)
    with Image.open(tmp_path / "odd.png") as image:
        rows = bundle.predict_proba([tmp_path / "odd.png", image])
    assert np.array_equal(rows[0], rows[1])
    assert bundle.predict_proba([]).shape == (0, 3)
    with pytest.raises(DataError, match=r"nothing.png: no such file"):
        bundle.predict_proba(["nothing.png"])
