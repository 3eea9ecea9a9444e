"""Whole commands on images, models and outputs in a store, and on images in archives."""

import json
import os
import tarfile

import pyarrow.parquet as pq
import pytest
from clusters import ClusterInThisProcess, start_command
from image_files import save_image

import transferkit
from transferkit.data.split_file import recorded_digests
from transferkit.errors import BundleError, OutputError, StoreError
from transferkit.options.finetune import FinetuneOptions
from transferkit.places import Url
from transferkit.recipes.finetune import finetune
from transferkit.row_cache import list_entries
from transferkit.run.stored_model import local_model

SHORT = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "epochs": 1, "seed": 3}


@pytest.fixture
def stored_images(s3, image_folder):
    """The address of a copy of `image_folder`."""
    return s3.put(image_folder, "colours")


def weights_of(run):
    return (run / "model/model.safetensors").read_bytes()


def test_finetune__trains_the_same_model_on_images_in_a_store(
    s3, stored_images, image_folder, tmp_path
):
    s3.gate.faults = ["503", "cut", "", "stall", "", "cut", "503"]
    transferkit.finetune(str(stored_images), tmp_path / "there", strategy="full", **SHORT)
    transferkit.finetune(image_folder, tmp_path / "here", strategy="full", **SHORT)

    assert not s3.gate.faults
    assert weights_of(tmp_path / "there") == weights_of(tmp_path / "here")
    splits = [recorded_digests(tmp_path / run / "split.csv") for run in ("there", "here")]
    assert splits[0] == splits[1]
    options = json.loads((tmp_path / "there/options.json").read_text())
    assert options["data"] == stored_images


def test_finetune__trains_on_images_in_an_archive(image_folder, tmp_path):
    with tarfile.open(tmp_path / "colours.tar", "w") as archive:
        archive.add(image_folder, "colours")

    transferkit.finetune(tmp_path / "colours.tar", tmp_path / "run", strategy="full", **SHORT)

    found = recorded_digests(tmp_path / "run/split.csv")
    assert len(found) == 24
    assert all(path.startswith("colours.tar/colours/") for path in found)


def test_finetune__ends_with_one_error_when_the_store_goes_away(
    s3, stored_images, tmp_path, cli, monkeypatch
):
    from transferkit.recipes.finetuning import read_dataset

    scan = read_dataset.scan

    def scan_and_fail(*args):
        found = scan(*args)
        s3.gate.always = "503"
        return found

    monkeypatch.setattr(read_dataset, "scan", scan_and_fail)
    ran = cli("finetune", stored_images, "-o", tmp_path / "run", "-b", "test_resnet", "--weights",
              "none", "--image-size", 32)  # fmt: skip

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.count("error: ") == 1
    assert f"error: {stored_images}/" in ran.err
    assert "cannot be read ([Errno 16] Service Unavailable; tried 4 times); check" in ran.err


def test_the_check__remembers_images_in_a_store(s3, stored_images, tmp_path):
    """A second run lists the folder, and reads its images to train on them, not to check them."""
    asked = []
    for run in ("first", "second"):
        s3.gate.asked = 0
        transferkit.finetune(str(stored_images), tmp_path / run, strategy="partial", **SHORT)
        asked.append(s3.gate.asked)

    assert asked[1] == asked[0] - 24
    assert weights_of(tmp_path / "second") == weights_of(tmp_path / "first")


def test_predict__reads_and_writes_in_a_store(s3, stored_images, image_folder, run_folder, cli):
    model, table = s3.put(run_folder, "runs/colours"), s3.bucket / "out/table.csv"

    ran = cli("predict", stored_images / "red", stored_images / "*/1.png", stored_images / "no.png",
              "-m", model, "-o", table)  # fmt: skip

    assert (ran.code, ran.out) == (3, f"{table}: 12 predictions, 1 errors\n")
    lines = table.read_text("utf-8").splitlines()
    assert [line.split(",")[0] for line in lines[1:4]] == [
        f"{stored_images}/red/{number}.png" for number in range(3)
    ]
    assert "no such file or folder" in lines[-1]
    here = transferkit.predict(str(image_folder / "red"), model=str(run_folder))
    assert [line.split(",")[3] for line in lines[1:9]] == [str(p.confidence) for p in here]
    again = cli("predict", stored_images / "red", "-m", model, "-o", table)
    assert (again.code, again.out) == (1, "")
    assert "already exists" in again.err


def test_extract_features__and_evaluate__write_to_a_store(
    s3, stored_images, run_folder, cli, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    features, metrics = s3.bucket / "features.parquet", s3.bucket / "metrics.json"

    ran = cli("extract-features", stored_images, "-m", run_folder, "-o", features)
    assert ran.code == 0, ran.err
    with features.open("rb") as file:
        assert pq.read_table(file).num_rows == 24
    ran = cli("evaluate", stored_images, "-m", run_folder, "-o", metrics)
    assert ran.code == 0, ran.err
    assert json.loads(metrics.read_text("utf-8"))["n"] == 24
    assert "of 24 images were also used to train the model" in ran.err
    assert os.listdir(tmp_path) == []


def test_audit__reads_and_writes_in_a_store(s3, stored_images, cli):
    folder = s3.bucket / "audit"

    ran = cli("audit", stored_images, "-o", folder, "-b", "test_resnet", "--weights", "none")

    assert ran.code == 0, ran.err
    assert ran.out.endswith(f"findings: {folder}/audit.csv\npage: {folder}/audit.html\n")
    assert (folder / "audit.csv").read_text("utf-8").startswith("path,kind,score,")
    page = (folder / "audit.html").read_text("utf-8")
    assert page.count("data:image/jpeg") >= 3


def test_predict_on_ray__writes_its_parts_to_a_store(
    cli, s3, stored_images, image_folder, run_folder, monkeypatch
):
    here = transferkit.predict(str(image_folder), model=str(run_folder), batch_size=8)
    output = s3.bucket / "records"
    words = ("predict", stored_images, "-m", run_folder, "--on", "ray", "--actors", 1, "-o", output,
             "--images-per-part", 8, "--batch-size", 8, "--precision", "fp32")  # fmt: skip

    process = start_command(*words)
    out, err = process.communicate()
    assert (process.returncode, out) == (0, f"{output}: 24 predictions in 3 files, 0 errors\n"), err
    assert sorted(output.files()) == ["_manifest.json"] + [
        f"parts/part-0000000{number}.parquet" for number in range(3)
    ]
    (output / "parts/part-00000001.parquet").remove()
    states = {name: file.state for name, file in output.files().items()}
    cluster = ClusterInThisProcess()  # the images of one part need no other process
    monkeypatch.setattr("transferkit.recipes.shared.parts_on_ray.compute_on_ray", cluster)
    assert cli(*words, "--resume").code == 0

    assert cluster.computed == [1]
    records = []
    for name, file in sorted(output.files().items()):
        assert states.get(name, file.state) == file.state
        if name.endswith(".parquet"):
            with (output / name).open("rb") as content:
                records += pq.read_table(content).to_pylist()
    assert [record["path"] for record in records] == [
        str(prediction.path).replace(str(image_folder), stored_images) for prediction in here
    ]
    assert [record["confidence"] for record in records] == pytest.approx(
        [prediction.confidence for prediction in here], rel=1e-6
    )


def test_local_model__downloads_a_run_once(s3, run_folder, tmp_path):
    url = s3.put(run_folder, "runs/colours")

    first = local_model(url)
    s3.gate.asked = 0
    assert local_model(url) == first
    assert s3.gate.asked <= 3
    assert {file.name for file in (run_folder / "model").iterdir()} <= {
        file.name for file in os.scandir(f"{first}/model")
    }
    assert f"the model {url}" in {entry.what for entry in list_entries()}

    save_image(tmp_path / "notes.png", (0, 0, 0), seed=0)
    (url / "model/config.json").put(tmp_path / "notes.png")
    assert local_model(url) != first
    assert local_model("runs/colours") == "runs/colours"


def test_local_model__says_that_there_is_none(s3, stored_images):
    for url in (stored_images, stored_images / "nothing", s3.bucket / "model.onnx"):
        with pytest.raises(BundleError, match=f"{url}: no "):
            local_model(url)
    s3.gate.always = "503"
    with pytest.raises(StoreError, match="tried 4 times"):
        local_model(Url(stored_images))


def test_finetune__writes_its_run_to_a_store(s3, image_folder, tmp_path):
    there, here = s3.bucket / "runs/1", tmp_path / "run"
    s3.gate.faults = ["503", "", "cut", "", "", "503"]
    result = transferkit.finetune(image_folder, there, strategy="full", **SHORT)
    transferkit.finetune(image_folder, here, strategy="full", **SHORT)

    assert result.run == there
    assert {file.name for file in here.iterdir()} == {file.name for file in there.iterdir()}
    assert (there / "model/model.safetensors").read_bytes() == weights_of(here)
    for name in ("split.csv", "plan.json", "skipped.csv"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
    with pytest.raises(OutputError, match=f"{there}: already exists and is not empty"):
        transferkit.finetune(image_folder, there, strategy="full", **SHORT)
    transferkit.finetune(image_folder, there, strategy="full", overwrite=True, **SHORT)


def test_finetune__goes_on_from_a_checkpoint_in_a_store(s3, stored_images, tmp_path):
    """Another machine may go on: everything it needs is in the store."""
    options = {**SHORT, "strategy": "full", "epochs": 3}
    there = s3.bucket / "runs/1"
    first = FinetuneOptions(stored_images, there, **options)
    stopped = finetune(first, should_stop=lambda row: row.epoch == 2)
    assert not stopped.metrics
    assert any(name.startswith("checkpoint/") for name in there.files())

    transferkit.finetune(str(stored_images), there, resume=True)
    transferkit.finetune(str(stored_images), tmp_path / "whole", **options)

    assert not any(name.startswith("checkpoint/") for name in there.files())
    assert (there / "model/model.safetensors").read_bytes() == weights_of(tmp_path / "whole")


def test_finetune__keeps_the_last_checkpoint_when_the_store_goes_away(s3, image_folder, tmp_path):
    options = {**SHORT, "strategy": "full", "epochs": 3}
    there = s3.bucket / "runs/1"

    def go_away(row):
        if row.epoch == 2:
            s3.gate.always = "503"
        return False

    first = FinetuneOptions(image_folder, there, **options)
    with pytest.raises(StoreError, match=r"cannot be \w+ .*tried 4 times"):
        finetune(first, should_stop=go_away)
    s3.gate.always = ""

    transferkit.finetune(image_folder, there, resume=True)
    transferkit.finetune(image_folder, tmp_path / "whole", **options)
    assert (there / "model/model.safetensors").read_bytes() == weights_of(tmp_path / "whole")


def test_report__of_a_run_in_a_store(s3, stored_images, pages, cli):
    run = s3.bucket / "runs/1"
    transferkit.finetune(str(stored_images), run, strategy="full", report=False, **SHORT)

    ran = cli("report", run)

    assert (ran.code, ran.out) == (0, f"report: {run}/report.html\n"), ran.err
    assert (run / "report.html").read_text("utf-8").count("<img") >= 1


def test_an_address__is_no_path_where_a_folder_of_this_machine_is_needed(cli, image_folder):
    ran = cli("compare", image_folder, "-o", "s3://bucket/run")

    assert (ran.code, ran.out) == (2, "")
    assert "--output: got 's3://bucket/run', expected a path of this machine" in ran.err
