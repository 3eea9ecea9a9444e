"""The page that finetune writes, and that report redraws from the run's folder."""

import json
import shutil

import pytest
from image_files import COLOURS, save_image
from notices import Notices
from PIL import Image

import transferkit
from transferkit.errors import OutputError
from transferkit.metrics import summarize
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes.finetune import finetune
from transferkit.run.record import read_run
from transferkit.tables.probabilities import read_probabilities

SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
}
ODD = "<script>alert(1)"
"""A malicious name; folder names cannot contain a slash."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A dataset of colours; one class has a malicious name, and two files are not images."""
    root = tmp_path_factory.mktemp("data") / "colours"
    names = {ODD: COLOURS["blue"], "green": COLOURS["green"], "red": COLOURS["red"]}
    for number, (name, colour) in enumerate(names.items()):
        for i in range(12):
            save_image(root / name / f"{i}.png", colour, seed=100 * number + i)
    sideways = Image.new("RGB", (60, 20), COLOURS["red"])
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways.save(root / "green" / '"><svg onload=alert(2)>.jpg', exif=exif)
    (root / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    (root / "red" / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="module")
def result(pages, data, tmp_path_factory):
    """Result of `finetune` for a run with a page."""
    folder = tmp_path_factory.mktemp("runs") / "colours"
    return transferkit.finetune(
        data, folder, strategy="gradual", epochs=3, val_fraction=0.4, learning_rate=1e-3, **SMALL
    )


@pytest.fixture(scope="module")
def run(result):
    """Folder of that run. Read only."""
    return result.run


def moved(run, tmp_path, data):
    """Return a copy of a run that records another folder for its dataset."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    options = json.loads((copy / "options.json").read_text())
    (copy / "options.json").write_text(json.dumps({**options, "data": str(data)}))
    return copy


def test_finetune__writes_a_page(run):
    page = (run / "report.html").read_text()
    time = json.loads((run / "metrics.json").read_text())["time"]

    assert "data:image/jpeg;base64," in page
    assert "last:1" in page
    assert "broken.jpg" in page
    assert "notes.txt" in page
    assert "could not be written" not in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<svg onload" not in page
    assert time["report"] > 0


def test_finetune__keeps_the_probabilities_behind_its_metrics(run):
    table = read_probabilities(run / "val_predictions.npz")
    metrics = json.loads((run / "metrics.json").read_text())

    assert summarize(table.labels, table.probabilities, table.label_names) == metrics["val"]


def test_report__redraws_the_same_page(cli, run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "report.html").unlink()
    ran = cli("report", copy)

    assert (ran.code, ran.out) == (0, f"report: {copy / 'report.html'}\n")
    assert (copy / "report.html").read_bytes() == (run / "report.html").read_bytes()


def test_report__without_the_images_says_so(cli, run, data, tmp_path):
    copy = moved(run, tmp_path, "nowhere")
    ran = cli("report", copy, "-q", "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()

    assert (ran.code, ran.err) == (0, "")
    assert "data:image/jpeg" not in page
    assert "images in nowhere are missing or have changed since the run began" in page
    assert "No map of the features: 0 of" in page
    assert "Confusion matrix" in page
    message = cli("report", copy).err
    assert "draw the page again with transferkit report RUN --data FOLDER" in message

    found = cli("report", copy, "--data", data)
    assert found.code == 0
    assert "data:image/jpeg" in (copy / "report.html").read_text()


def test_report__shows_no_image_that_has_changed(run, data, tmp_path):
    """Another image of the same name would mislead."""
    changed = tmp_path / "data"
    shutil.copytree(data, changed)
    for path in changed.rglob("*.[pj][np]g"):
        path.write_bytes(path.read_bytes() + b"more")
    drawn = transferkit.draw_report(run, data=changed, output=tmp_path / "page.html")

    assert "are missing or have changed since the run began" in drawn.notes[0]
    assert "data:image/jpeg" not in (tmp_path / "page.html").read_text()


def test_no_report__writes_no_page(cli, pages, data, tmp_path):
    ran = cli("finetune", data, "-o", tmp_path / "run", "-b", "edges8", "--epochs", 1,
              "--no-report")  # fmt: skip

    assert ran.code == 3  # because of the broken image
    assert "report:" not in ran.out
    assert not (tmp_path / "run/report.html").exists()
    assert (tmp_path / "run/plan.json").exists()


@pytest.mark.parametrize("kind", ["svm", "knn"])
def test_finetune__of_a_classifier_writes_a_page(cli, pages, data, tmp_path, kind):
    ran = cli("extract-features", data, "-o", tmp_path / "run", "-b", "test_resnet", "--weights",
              "none", "--image-size", 32, "--classifier", kind)  # fmt: skip
    page = (tmp_path / "run/report.html").read_text()

    assert ran.code == 3
    assert f"report: {tmp_path / 'run' / 'report.html'}\n" in ran.out
    assert "fold cross-validation: accuracy" in page
    assert "Learning rates" not in page


def test_finetune__succeeds_without_its_page_on_a_full_device(pages, data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transferkit.report.page.utf8_text", full)
    notices = Notices()
    result = finetune(FinetuneOptions(data, tmp_path / "run", epochs=1, **SMALL), notices)

    (message,) = [line for line in notices.all if "could not be written" in line]
    assert "No space left on device" in message
    assert message.endswith(f"write it with: transferkit report {tmp_path / 'run'}")
    assert not (tmp_path / "run/report.html").exists()
    assert transferkit.evaluate(data, model=str(tmp_path / "run"))["n"] > 0
    assert result.metrics["val"]["n"] > 0
    with pytest.raises(OutputError, match="No space left on device"):
        transferkit.draw_report(tmp_path / "run")


def test_finetune__survives_a_bug_in_its_page(pages, data, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("transferkit.report.run_contents.run_page", fail)
    notices = Notices()
    finetune(FinetuneOptions(data, tmp_path / "run", epochs=1, **SMALL), notices)

    assert "ZeroDivisionError: a bug" in notices.all[-1]
    assert not (tmp_path / "run/checkpoint").exists()
    with pytest.raises(ZeroDivisionError):
        transferkit.draw_report(tmp_path / "run")


def test_report__checks_its_output_before_computing(run, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match="cannot write"):
        transferkit.draw_report(run, output=tmp_path / "file" / "page.html")


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("", "no such run; expected the folder that finetune wrote"),
        ("metrics.json", "not a finished run, it has no metrics.json"),
        ("val_predictions.npz", "has no val_predictions.npz, which earlier versions did not write"),
        ("plan.json", "has no plan.json, which earlier versions did not write"),
    ],
)
def test_report__of_an_unfinished_or_missing_run_is_an_error(cli, run, tmp_path, gone, message):
    copy = tmp_path / "run"
    if gone:
        shutil.copytree(run, copy)
        (copy / gone).unlink()
    ran = cli("report", copy)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {copy}: {message}")


def test_label_errors__are_shown_for_swapped_labels(pages, tmp_path):
    """Two images in the validation folder have a wrong label."""
    for part, count in (("train", 12), ("val", 6)):
        for number, (name, colour) in enumerate(COLOURS.items()):
            for i in range(count):
                seed = 1000 * (part == "val") + 100 * number + i
                save_image(tmp_path / "data" / part / name / f"{name}{i}.png", colour, seed=seed)
    val = tmp_path / "data/val"
    (val / "red/red0.png").rename(val / "blue/red0.png")
    (val / "green/green1.png").rename(val / "red/green1.png")
    network = {"backbone": "test_resnet", "weights": "none", "image_size": 32}
    training = {"strategy": "full", "epochs": 8, "learning_rate": 3e-3, "batch_size": 6}
    transferkit.finetune(tmp_path / "data", tmp_path / "run", **network, **training)
    page = (tmp_path / "run/report.html").read_text()
    section = page[page.index("Likely label errors") : page.index("Calibration and features</h2>")]

    assert "val/blue/red0.png" in section
    assert "val/red/green1.png" in section


def test_read_run__returns_the_plan_and_the_history(result):
    record = read_run(result.run)

    assert record.plan == result.plan
    assert record.history == result.history
    assert tuple(record.predictions.paths) == result.val_paths
