"""The dataset of a run: images left out, images held out, and changes during the run."""

import pytest
from image_files import make_classes

import transferkit
from transferkit.errors import DataError
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
    from transferkit.reporter import SilentReporter

    class Recorder(SilentReporter):
        notices = ""

        def notice(self, message):
            self.notices += message

    recorder = Recorder()
    finetune(
        FinetuneOptions(image_folder, tmp_path, val=image_folder, dry_run=True, **SMALL), recorder
    )

    assert recorder.notices.startswith("24 images are in training and also in validation")


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
