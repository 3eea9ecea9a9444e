"""Predictions: one record per input, with its own scores."""

import json
import os
from pathlib import Path

import pytest
from image_files import save_image
from torchvision.models import ResNet18_Weights

import transferkit
from transferkit.errors import DataError, OptionError, OutputError


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


def test_predict__from_python_computes_in_this_process(run_folder, image_folder, tmp_path):
    with pytest.raises(
        OptionError, match=r"--on: a cluster writes records .* leave it out, or run"
    ):
        transferkit.predict(
            str(image_folder), model=str(run_folder), on="ray", output=tmp_path / "records"
        )
    assert not list(tmp_path.iterdir())


def test_predict__from_python_returns_what_it_sorts(run_folder, image_folder, tmp_path):
    given = {"model": str(run_folder), "sort_into": tmp_path / "out", "by": "copy"}
    first = transferkit.predict(str(image_folder / "red"), **given)
    second = transferkit.predict(str(image_folder), **given)

    assert [len(first), len(second)] == [8, 16]
    assert (tmp_path / "out" / first[0].label / "0.png").is_file()
    with pytest.raises(OptionError, match="--sort-into: takes paths, got images"):
        transferkit.predict((image_folder / "red/0.png").read_bytes(), **given)


def test_predict__from_python_returns_what_it_writes(run_folder, image_folder, tmp_path):
    given = {"model": str(run_folder), "output": tmp_path / "all.jsonl"}
    found = transferkit.predict(str(image_folder / "red"), **given)

    lines = (tmp_path / "all.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [one.to_record() for one in found]
    with pytest.raises(OutputError, match="already exists"):
        transferkit.predict(str(image_folder), **given)
    with pytest.raises(OptionError, match=r"--format is for records in a file"):
        transferkit.predict(str(image_folder), model=str(run_folder), format="csv")


def test_predict__takes_a_model_or_a_backbone():
    with pytest.raises(OptionError, match="--model has its own backbone and weights"):
        transferkit.predict("a.png", model="x", backbone="y")


def test_predict__without_a_model_says_that_it_names_imagenets_categories(cli, image_folder):
    ran = cli("predict", image_folder / "red/0.png", "--top-k", "1")

    (line,) = ran.out.splitlines()
    assert json.loads(line)["label"] in ResNet18_Weights.DEFAULT.meta["categories"]
    assert "the classes are the 1000 of tf_efficientnet_lite0; name a model of yours" in ran.err


def test_predict__without_a_model_recognises_real_images(shared, no_network):
    predictions = transferkit.predict(str(shared / "data/imagenet_sample"), top_k=5)
    ranks = []
    for found in predictions:
        name = Path(found.path).stem.partition("_")[2].replace("_", " ")
        ranks.append(
            [label for label, _ in found.top].index(name) if name in dict(found.top) else 9
        )

    assert len(ranks) == 200
    assert sum(rank == 0 for rank in ranks) >= 176  # 177 were measured
    assert sum(rank < 5 for rank in ranks) >= 196  # 197 were measured
