"""`transferkit evaluate`: JSON or one line, and its notice about training images."""

import csv
import json
import shutil
from pathlib import Path

from transferkit.data.images import ImageError


def test_evaluate__counts_what_the_model_was_trained_on(cli, run_folder, image_folder, tmp_path):
    with (run_folder / "split.csv").open() as file:
        splits = {row["path"]: row["split"] for row in csv.DictReader(file)}
    trained = [path for path, split in splits.items() if split == "train"]
    held_out = [path for path, split in splits.items() if split == "val"]
    for number, path in enumerate([*trained[:2], *held_out]):
        copy = tmp_path / "data" / Path(path).parent / f"renamed{number}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image_folder / path, copy)
    (copy.parent / "broken.png").write_bytes(b"broken")
    notice = f"2 of {2 + len(held_out)} images were also used to train the model"

    for model in (run_folder, run_folder / "model"):
        assert notice in cli("evaluate", tmp_path / "data", "-m", model).err

    for copy in (tmp_path / "data").rglob("renamed[01].png"):
        copy.unlink()
    assert "trained on" not in cli("evaluate", tmp_path / "data", "-m", run_folder).err


def test_evaluate__of_a_model_without_its_run_gives_no_notice(
    cli, run_folder, image_folder, tmp_path
):
    shutil.copytree(run_folder / "model", tmp_path / "moved")

    assert cli("evaluate", image_folder, "-m", tmp_path / "moved").err == ""


def test_evaluate__keeps_its_metrics_when_images_disappear_meanwhile(
    cli, run_folder, image_folder, monkeypatch
):
    def gone(file):
        raise ImageError("no such file or directory")

    monkeypatch.setattr("transferkit.recipes.evaluate.read_bytes", gone)

    ran = cli("evaluate", image_folder, "-m", run_folder)

    assert json.loads(ran.out)["n"] == 24
    assert ran.err.startswith("24 images were evaluated but can no longer be read")


def test_evaluate__is_json_in_a_pipe_and_a_file_on_request(cli, run_folder, image_folder, tmp_path):
    piped = cli("evaluate", image_folder, "-m", run_folder)
    written = cli("evaluate", image_folder, "-m", run_folder, "-o", tmp_path / "m.json")

    metrics = json.loads(piped.out)
    assert metrics == json.loads((tmp_path / "m.json").read_text())
    assert written.out.startswith(f"{tmp_path}/m.json: accuracy {metrics['accuracy']:.3f} (")
    assert written.out.endswith(", 95% Wilson) of 24 images\n")
