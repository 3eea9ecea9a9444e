"""Evaluation: the metrics agree with the predictions, and classes are matched by name."""

import shutil

import numpy as np
import pytest
from image_files import make_classes, save_image

import transferkit
from transferkit.errors import DataError


def test_evaluate__agrees_with_predict(run_folder, image_folder):
    metrics = transferkit.evaluate(image_folder, run_folder)
    predictions = transferkit.predict(str(image_folder), model=str(run_folder))
    right = [p.label == p.path.split("/")[-2] for p in predictions]

    assert metrics["n"] == 24
    assert metrics["accuracy"] == pytest.approx(np.mean(right))


def test_evaluate__matches_classes_by_name_not_by_position(run_folder, image_folder, tmp_path):
    shutil.copytree(image_folder / "red", tmp_path / "red")

    metrics = transferkit.evaluate(tmp_path, run_folder)

    whole = transferkit.evaluate(image_folder, run_folder)
    assert metrics["per_class"]["red"]["n"] == 8
    assert metrics["per_class"]["red"]["recall"] == whole["per_class"]["red"]["recall"]


def test_evaluate__evaluates_the_held_out_part(run_folder, tmp_path):
    make_classes(tmp_path / "train", 4)
    make_classes(tmp_path / "val", 3)
    assert transferkit.evaluate(tmp_path, run_folder)["n"] == 9
    make_classes(tmp_path / "test", 2)
    assert transferkit.evaluate(tmp_path, run_folder)["n"] == 6


def test_evaluate__refuses_classes_that_the_model_lacks(run_folder, tmp_path):
    save_image(tmp_path / "purple" / "1.png", (1, 2, 3), seed=0)
    save_image(tmp_path / "red" / "1.png", (1, 2, 3), seed=0)

    with pytest.raises(DataError) as error:
        transferkit.evaluate(tmp_path, run_folder)

    assert str(error.value) == (
        f"{tmp_path}: has 1 classes that the model does not know (purple); expected the names of "
        "its classes: blue, green, red"
    )
