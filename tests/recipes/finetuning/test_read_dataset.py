"""The dataset of a run: images left out, images held out, and changes during the run."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from image_files import make_classes
from notices import Notices
from PIL import Image
from tiny_backbone import TINY

import transferkit
from transferkit.errors import DataError, OptionError
from transferkit.options.finetune import FinetuneOptions
from transferkit.reporter import LeftOut

SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
}


def test_finetune__leaves_out_and_lists_unreadable_images(tmp_path):
    data = make_classes(tmp_path / "data", 4)
    (data / "red" / "0.png").write_bytes(b"broken")

    result = transferkit.finetune(data, tmp_path / "run", dry_run=True, **SMALL)

    assert result.plan.left_out == (
        LeftOut("red/0.png", "not an image in a known format", unreadable=True),
    )
    assert result.plan.classes["red"] == (2, 1, 0)


def test_finetune__uses_a_separate_validation_folder(image_folder, tmp_path):
    val = make_classes(tmp_path / "val", 2)

    result = transferkit.finetune(image_folder, tmp_path / "run", val=val, epochs=1, **SMALL)

    assert result.plan.classes["red"] == (8, 2, 0)
    assert result.metrics["val"]["n"] == 6


def test_finetune__says_when_validation_images_are_also_in_training(image_folder, tmp_path):
    from transferkit.recipes.finetune import finetune

    notices, val = Notices(), tmp_path / "val"
    shutil.copytree(image_folder, val)
    finetune(
        FinetuneOptions(image_folder, tmp_path / "run", val=val, dry_run=True, **SMALL), notices
    )

    assert notices.all[0].startswith("24 images are in training and also in validation")


def test_finetune__names_the_image_that_changed_during_the_run(tmp_path, monkeypatch):
    data = make_classes(tmp_path / "data", 4)
    from transferkit.recipes.finetuning import read_dataset as recipe

    checked = recipe.assign_splits
    monkeypatch.setattr(
        recipe,
        "assign_splits",
        lambda *a, **k: ((data / "red/0.png").unlink(), checked(*a, **k))[1],
    )

    with pytest.raises(DataError, match=r"images changed during the run: red/0.png \(no such file"):
        transferkit.finetune(data, tmp_path / "run", epochs=1, **SMALL)


def make_groups(root):
    """Write 40 photographs of nothing, ten noisy shifts of each, with a random label for each."""
    random = np.random.default_rng(0)
    labels = random.permutation(["a", "b"] * 20)
    for group, label in enumerate(labels):
        (root / label).mkdir(parents=True, exist_ok=True)
        colours = Image.fromarray(random.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        whole = np.asarray(colours.resize((72, 72), Image.Resampling.BICUBIC)).astype(np.int16)
        for number in range(10):
            x, y = random.integers(0, 24, 2)
            part = whole[y : y + 48, x : x + 48] + random.integers(-20, 21, (48, 48, 3))
            image = Image.fromarray(part.clip(0, 255).astype(np.uint8))
            image.save(root / label / f"patient{group:02d}_{number}.png")
    return root


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    return make_groups(tmp_path_factory.mktemp("grouped") / "data")


def recorded_split(run):
    with (run / "split.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_group_by__keeps_the_accuracy_at_chance_where_labels_are_random(grouped, tmp_path):
    def run(name, **options):
        result = transferkit.finetune(
            grouped,
            tmp_path / name,
            strategy="features",
            classifier="svm",
            val_fraction=0.5,
            **SMALL,
            **options,
        )
        return result.metrics["val"]["accuracy"]

    # Real weights recognise a group by far more; even random weights see its colours.
    leaking = run("leaking")
    honest = run("honest", group_by=r"patient(\d+)_")

    assert abs(honest - 0.5) < 3 * 0.5 / 20**0.5, "20 groups are 20 independent answers"
    assert leaking > 0.8
    split = recorded_split(tmp_path / "honest")
    sides = {(row["group"], row["split"]) for row in split}
    assert len(sides) == len({row["group"] for row in split}) == 40
    assert {row["path"][9:11] == row["group"] for row in split} == {True}


def test_groups__are_read_from_a_table_and_are_in_the_plan(grouped, tmp_path):
    table = tmp_path / "groups.csv"
    paths = sorted(p.relative_to(grouped).as_posix() for p in grouped.rglob("*.png"))
    table.write_text("path,group\n" + "".join(f"{path},{path[9:11]}\n" for path in paths))

    result = transferkit.finetune(grouped, dry_run=True, groups=table, **SMALL)

    assert dict(result.plan.settings)["groups"] == "40, none of them divided by the split"


def test_groups__divided_by_a_given_split_are_told_with_numbers(grouped, tmp_path):
    from transferkit.recipes.finetune import finetune

    transferkit.finetune(grouped, tmp_path / "run", epochs=1, **SMALL)
    notices = Notices()
    options = FinetuneOptions(
        grouped, split=tmp_path / "run", group_by=r"patient(\d+)", dry_run=True, **SMALL
    )
    result = finetune(options, notices)

    (notice,) = [message for message in notices.all if "groups" in message]
    assert re.match(
        r"\d+ of 40 groups, with \d+0 images, are on several sides of the split", notice
    )
    assert re.match(r"40, \d+ of them divided", dict(result.plan.settings)["groups"])


def test_groups__too_few_to_divide_are_an_error(image_folder):
    with pytest.raises(DataError, match="got 1 groups of 24 images, expected 2 or more to divide"):
        transferkit.finetune(image_folder, dry_run=True, group_by=r"(\.png)", **SMALL)
    with pytest.raises(DataError, match="every group is the only one of some class"):
        transferkit.finetune(image_folder, dry_run=True, group_by=r"^(\w+)/", **SMALL)
    with pytest.raises(OptionError, match="--group-by and --groups both name the groups"):
        FinetuneOptions(image_folder, group_by="(a)", groups="g.csv")


@pytest.mark.parametrize("strategy", ["partial", "features"])
def test_finetune__evaluates_the_test_part_apart_from_validation(tmp_path, strategy, cli):
    make_classes(tmp_path / "data/Training", 6)
    make_classes(tmp_path / "data/Testing", 2)

    ran = cli(
        *("finetune", tmp_path / "data", *TINY, "--strategy", strategy, "-o", tmp_path / "run"),
    )
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    again = transferkit.evaluate(tmp_path / "data", model=tmp_path / "run")

    assert ran.code == 0
    assert metrics["test"]["n"] == 6
    assert metrics["val"]["n"] == 3
    assert metrics["test"]["accuracy"] == again["accuracy"]
    assert metrics["test"]["log_loss"] == pytest.approx(again["log_loss"], rel=1e-4)
    assert f"test accuracy {again['accuracy']:.3f} (" in ran.out
    assert "classes in Training/, test in Testing/" in ran.err


@pytest.mark.parametrize("strategy", ["partial", "features"])
def test_finetune__trains_on_classes_with_one_image(tmp_path, strategy):
    data = make_classes(tmp_path / "data", 5)
    for name in ("lone1", "lone2"):
        make_classes(tmp_path / name, 1)
        (tmp_path / name / "red").rename(data / name)

    result = transferkit.finetune(data, tmp_path / "run", strategy=strategy, **SMALL)

    settings = dict(result.plan.settings)
    assert settings["classes"] == "2 of 5 have no validation image: lone1, lone2"
    assert result.plan.classes["lone1"] == (1, 0, 0)
    val = json.loads((tmp_path / "run/metrics.json").read_text())["val"]
    assert val["without_images"] == ["lone1", "lone2"]
    assert val["per_class"]["lone1"]["recall"] is val["per_class"]["lone1"]["f1"] is None


def test_evaluate__shows_a_class_that_differs_only_in_case(run_folder, tmp_path):
    make_classes(tmp_path / "data", 1)
    (tmp_path / "data/red").rename(tmp_path / "data/Red ")

    with pytest.raises(DataError, match=r"\('Red ', where 'red' is known\)"):
        transferkit.evaluate(tmp_path / "data", model=run_folder)
