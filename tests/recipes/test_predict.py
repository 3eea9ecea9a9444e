"""Prediction and evaluation: a record an input, never a neighbour's scores."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import make_classes, save_picture
from PIL import Image

import transferkit
from transferkit.errors import BundleError, DataError, OptionError


def test_predict__has_a_record_for_every_input_in_order(run_folder, image_folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"broken")
    inputs = [
        str(image_folder / "red/1.png"),
        str(tmp_path / "broken.png"),
        str(tmp_path / "missing.png"),
        str(image_folder / "blue/1.png"),
    ]

    predictions = transferkit.predict(inputs, model=str(run_folder), batch_size=2)

    assert [p.path for p in predictions] == inputs
    assert [p.error for p in predictions] == [
        None,
        "not an image in a known format",
        "no such file or directory",
        None,
    ]
    alone = transferkit.predict(inputs[3], model=str(run_folder))
    assert predictions[3].label == alone[0].label
    assert predictions[3].confidence == pytest.approx(alone[0].confidence, abs=1e-5)


def test_predict__expands_folders_and_patterns(run_folder, image_folder):
    folder = transferkit.predict(str(image_folder / "red"), model=str(run_folder))
    pattern = transferkit.predict(str(image_folder / "red" / "*.png"), model=str(run_folder))

    assert [p.path for p in folder] == [str(image_folder / f"red/{i}.png") for i in range(8)]
    assert folder == pattern


def test_predict__every_input_has_a_record(run_folder, image_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "linked").symlink_to(image_folder / "red")
    inputs = ["no*.png", tmp_path / "empty", tmp_path / "pipe.png", "null\0.png", tmp_path / "l*"]

    predictions = transferkit.predict([str(i) for i in inputs], model=str(run_folder))

    assert [p.error for p in predictions[:4]] == [
        "no such file or directory",
        "a folder without images",
        "not a regular file",
        "no possible file name, it holds a null byte",
    ]
    assert [p.path for p in predictions[4:]] == [
        str(tmp_path / f"linked/{i}.png") for i in range(8)
    ]


def test_predict__a_file_whose_name_looks_like_a_pattern_is_a_file(run_folder, tmp_path):
    save_picture(tmp_path / "cat[1].png", (200, 0, 0), seed=0)

    (prediction,) = transferkit.predict(str(tmp_path / "cat[1].png"), model=str(run_folder))

    assert prediction.error is None


def test_predict__top_k_falls_and_sums_to_one(run_folder, image_folder):
    (prediction,) = transferkit.predict(
        str(image_folder / "red/0.png"), model=str(run_folder), top_k=9
    )
    probabilities = [p for _, p in prediction.top]

    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)
    assert (prediction.label, prediction.confidence) == prediction.top[0]


def test_predict__below_min_confidence_has_no_label(run_folder, image_folder):
    (prediction,) = transferkit.predict(
        str(image_folder / "red/0.png"), model=str(run_folder), min_confidence=1.0
    )

    assert prediction.label is None
    assert prediction.confidence < 1
    assert prediction.error is None


def test_predict__nothing_to_predict_is_an_error(run_folder, tmp_path):
    with pytest.raises(DataError, match="no images in"):
        transferkit.predict(str(tmp_path), model=str(run_folder))


@pytest.mark.parametrize("given", [{}, {"model": "x", "backbone": "y"}])
def test_predict__takes_a_model_or_a_backbone(given):
    with pytest.raises(OptionError, match="--model, --backbone: expected exactly one"):
        transferkit.predict("a.png", **given)


def test_evaluate__agrees_with_predict(run_folder, image_folder):
    metrics = transferkit.evaluate(image_folder, run_folder)
    predictions = transferkit.predict(str(image_folder), model=str(run_folder))
    right = [p.label == p.path.split("/")[-2] for p in predictions]

    assert metrics["n"] == 24
    assert metrics["accuracy"] == pytest.approx(np.mean(right))


def test_evaluate__knows_classes_by_name_not_by_position(run_folder, image_folder, tmp_path):
    shutil.copytree(image_folder / "red", tmp_path / "red")

    metrics = transferkit.evaluate(tmp_path, run_folder)

    whole = transferkit.evaluate(image_folder, run_folder)
    assert metrics["per_class"]["red"]["n"] == 8
    assert metrics["per_class"]["red"]["recall"] == whole["per_class"]["red"]["recall"]


def test_evaluate__measures_the_held_out_part(run_folder, tmp_path):
    make_classes(tmp_path / "train", 4)
    make_classes(tmp_path / "val", 3)
    assert transferkit.evaluate(tmp_path, run_folder)["n"] == 9
    make_classes(tmp_path / "test", 2)
    assert transferkit.evaluate(tmp_path, run_folder)["n"] == 6


def test_evaluate__refuses_classes_that_are_not_the_models(run_folder, tmp_path):
    save_picture(tmp_path / "purple" / "1.png", (1, 2, 3), seed=0)
    save_picture(tmp_path / "red" / "1.png", (1, 2, 3), seed=0)

    with pytest.raises(DataError) as error:
        transferkit.evaluate(tmp_path, run_folder)

    assert str(error.value) == (
        f"{tmp_path}: has 1 classes that the model does not know (purple); expected folders named "
        "as its classes: blue, green, red"
    )


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
        (change("num_classes", "3"), "num_classes must be a whole number"),
        (change("label_names", ["a", "a", "b"]), "must be a list of different texts"),
        (change("label_names", {"0": "a"}), "must be a list of different texts"),
        (change("model_args", [1]), "model_args a table"),
        (change("model_args", {"zzz": 1}), "cannot be built with model_args"),
        (change("model_args", {"checkpoint_path": "x.pth"}), "must not name checkpoint_path"),
        (change("pretrained_cfg", {"mean": [0.5]}), "mean must be three numbers"),
    ],
)
def test_load__says_what_is_wrong_with_a_model(run_folder, tmp_path, damage, message):
    run = shutil.copytree(run_folder, tmp_path / "run")
    damage(run)

    with pytest.raises(BundleError, match=message):
        transferkit.ModelBundle.load(run)


def test_predict_proba__takes_files_and_pictures(run_folder, image_folder, tmp_path):
    bundle = transferkit.ModelBundle.load(run_folder)
    path = image_folder / "green" / "3.png"
    with Image.open(path) as picture:
        rows = bundle.predict_proba([path, picture])

    assert np.array_equal(rows[0], rows[1])
    sideways, exif = Image.open(path).convert("LA"), Image.Exif()
    exif[0x0112] = 6
    sideways.save(tmp_path / "odd.png", exif=exif)
    with Image.open(tmp_path / "odd.png") as picture:
        rows = bundle.predict_proba([tmp_path / "odd.png", picture])
    assert np.array_equal(rows[0], rows[1])
    assert bundle.predict_proba([]).shape == (0, 3)
    with pytest.raises(DataError, match=r"nothing.png: no such file"):
        bundle.predict_proba(["nothing.png"])
