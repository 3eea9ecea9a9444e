"""Decisions about images: applied as written, counted, and refused where they no longer fit."""

import csv
import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
from image_files import make_classes

import transferkit
from transferkit.data.decisions import decided
from transferkit.data.scan import scan
from transferkit.data.split_file import recorded_labels
from transferkit.errors import DataError, OptionError

SHORT = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "epochs": 1}


@pytest.fixture
def data(tmp_path):
    return make_classes(tmp_path / "data", 4)


@pytest.fixture
def write(tmp_path):
    def write(*rows, columns="path,action,label"):
        file = tmp_path / "decisions.csv"
        file.write_text("\n".join([columns, *rows]) + "\n")
        return file

    return write


def test_decided__relabels_and_excludes_and_counts(data, write):
    index = scan(data)
    file = write("red/0.png,relabel,green", "red/1.png,exclude,", "blue/0.png,keep,")

    found = decided(index, file)

    assert len(found) == len(index) - 1
    labels = dict(zip(found.paths, found.labels.tolist(), strict=True))
    assert labels["red/0.png"] == found.class_names.index("green")
    assert labels["red/2.png"] == found.class_names.index("red")
    assert labels["blue/0.png"] == found.class_names.index("blue")
    assert [(item.path, item.reason, item.unreadable) for item in found.left_out] == [
        ("red/1.png", "excluded by decisions.csv", False)
    ]
    assert found.layout == "decisions.csv: 1 relabelled, 1 excluded"
    assert index.labels.tolist() == scan(data).labels.tolist()


def test_decided__checks_files_whose_digest_was_noted(data, write):
    digest = sha256((data / "red/0.png").read_bytes()).hexdigest()
    columns = "path,action,label,sha256"
    index = scan(data)

    assert len(decided(index, write(f"red/0.png,exclude,,{digest.upper()}", columns=columns))) == 11
    shutil.copy(data / "red/1.png", data / "red/0.png")
    with pytest.raises(
        DataError, match=r"csv: images have changed since the decision: red/0\.png; r"
    ):
        decided(index, write(f"red/0.png,keep,,{digest}", columns=columns))
    assert len(decided(index, write("red/0.png,exclude,,", columns=columns))) == 11


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["red/9.png,exclude,"], r"about images that are not in .*data: red/9\.png; put them back"),
        (["red/0.png,remove,"], "row 1 has the action 'remove', expected keep, relabel, exclude"),
        (["red/0.png,relabel,"], "row 1 has the action relabel and no label for red/0.png"),
        (["red/0.png,exclude,red"], "row 1 has the action exclude and the label red for red/0.png"),
        (
            ["red/0.png,relabel,Green"],
            "has no image: 'Green', where 'green' is known; expected one of blue",
        ),
        (
            ["red/0.png,relabel,cyan"],
            "relabels red/0.png to a class of which .* has no image: cyan; exp",
        ),
        ([",exclude,"], "row 1 has no path"),
        (["red/0.png,keep,", "red/0.png,exclude,"], "decides twice about red/0.png"),
    ],
)
def test_decided__refuses_what_no_longer_fits(data, write, rows, message):
    with pytest.raises(DataError, match=message):
        decided(scan(data), write(*rows))


def test_decided__names_missing_columns(data, write):
    with pytest.raises(DataError, match=r"has no column action, label; it has path, label_name"):
        decided(scan(data), write("red/0.png,red", columns="path,label_name"))


def test_commands__honour_decisions(data, write, tmp_path):
    file = write("red/0.png,relabel,green", "red/1.png,exclude,")

    run = tmp_path / "run"
    result = transferkit.finetune(data, run, decisions=file, strategy="full", **SHORT)
    labels = recorded_labels(run)
    assert labels["red/0.png"] == "green"
    assert "red/1.png" not in labels
    assert ("layout", "decisions.csv: 1 relabelled, 1 excluded") in result.plan.settings
    assert json.loads((run / "options.json").read_text())["decisions"] == str(file)
    with (run / "skipped.csv").open() as rows:
        assert list(csv.DictReader(rows)) == [
            {"path": "red/1.png", "reason": "excluded by decisions.csv"}
        ]

    features = tmp_path / "f.npz"
    transferkit.extract_features(data, features, decisions=file, model=str(run))
    with np.load(features) as table:
        names = table["label_names"][table["labels"]]
        labels = dict(zip(table["paths"].tolist(), names.tolist(), strict=True))
    assert (labels["red/0.png"], len(labels)) == ("green", 11)

    assert transferkit.evaluate(data, model=str(run), decisions=file)["n"] == 11
    comparison = transferkit.compare(
        data, tmp_path / "compared", decisions=file, strategy="knn", seeds=1, **SHORT
    )
    assert recorded_labels(comparison.folder)["red/0.png"] == "green"


def test_a_resumed_run__refuses_decisions_that_have_changed(data, write, tmp_path):
    from transferkit.options.finetune import FinetuneOptions
    from transferkit.recipes.finetune import finetune

    run, options = tmp_path / "run", {**SHORT, "epochs": 3, "strategy": "full"}
    file = write("red/0.png,relabel,green")
    first = FinetuneOptions(data, run, decisions=file, **options)
    finetune(first, should_stop=lambda row: row.epoch == 1)

    write("red/0.png,relabel,blue")
    with pytest.raises(DataError, match=r"1 labels have changed since the run began: red/0\.png"):
        transferkit.finetune(data, run, resume=True)
    write("red/0.png,relabel,green")
    transferkit.finetune(data, run, resume=True)
    with pytest.raises(OptionError, match="--decisions"):
        transferkit.finetune(data, tmp_path / "other", decisions=3, **SHORT)
