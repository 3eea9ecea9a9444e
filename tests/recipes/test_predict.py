"""Predictions: one record per input, with its own scores."""

import os

import pytest
from image_files import save_image

import transferkit
from transferkit.errors import DataError, OptionError


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


def test_predict__has_a_record_for_odd_inputs_and_links(run_folder, image_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "linked").symlink_to(image_folder / "red")
    inputs = ["no*.png", tmp_path / "empty", tmp_path / "pipe.png", "null\0.png", tmp_path / "l*"]

    predictions = transferkit.predict([str(i) for i in inputs], model=str(run_folder))

    assert [p.error for p in predictions[:4]] == [
        "no such file or directory",
        "a folder without images",
        "not a regular file",
        "not a possible file name, it contains a null byte",
    ]
    assert [p.path for p in predictions[4:]] == [
        str(tmp_path / f"linked/{i}.png") for i in range(8)
    ]


def test_predict__takes_a_file_named_like_a_pattern_as_a_file(run_folder, tmp_path):
    save_image(tmp_path / "cat[1].png", (200, 0, 0), seed=0)

    (prediction,) = transferkit.predict(str(tmp_path / "cat[1].png"), model=str(run_folder))

    assert prediction.error is None


def test_predict__sorts_top_k_which_sums_to_one(run_folder, image_folder):
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


def test_predict__of_no_images_is_an_error(run_folder, tmp_path):
    with pytest.raises(DataError, match="no images in"):
        transferkit.predict(str(tmp_path), model=str(run_folder))


@pytest.mark.parametrize("given", [{}, {"model": "x", "backbone": "y"}])
def test_predict__takes_a_model_or_a_backbone(given):
    with pytest.raises(OptionError, match="--model, --backbone: expected exactly one"):
        transferkit.predict("a.png", **given)
