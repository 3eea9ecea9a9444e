"""A comparison: ordinary runs on one split, resumable, in which a failed run is not fatal."""

import csv
import json
from io import StringIO
from pathlib import Path

import pytest
from image_files import make_classes, save_image
from notices import Notices
from rich.console import Console
from safetensors.torch import load_file

import transferkit
from transferkit.cli.compare import print_comparison
from transferkit.errors import DataError, DivergedError, OptionError, OutputError, WeightsError
from transferkit.options.compare import CompareOptions
from transferkit.recipes.compare import compare
from transferkit.recipes.comparing import candidate_runs

SMALL = {"weights": "none", "image_size": 32, "batch_size": 8, "cache": "memory"}
ALL = {"strategy": ("partial", "full", "knn"), "backbone": "test_resnet", "epochs": 2, "seeds": 2}


class Interrupting(Notices):
    """A reporter that remembers its notices and interrupts after `stop_at` epochs."""

    def __init__(self, stop_at: int = 0) -> None:
        super().__init__()
        self.epochs, self.stop_at = 0, stop_at

    def epoch(self, row, epochs, best):
        self.epochs += 1
        if self.epochs == self.stop_at:
            raise KeyboardInterrupt


def read_comparison(folder: Path) -> dict:
    return json.loads((folder / "compare.json").read_text("utf-8"))


def results_without_times(folder: Path) -> list[tuple]:
    """Return the results of every candidate, without times."""
    return [
        (c["strategy"], c["by_seed"], c["accuracy"], c["equals_best"], c["size"])
        for c in sorted(read_comparison(folder)["candidates"], key=lambda c: c["strategy"])
    ]


@pytest.fixture(scope="module")
def compared(image_folder, tmp_path_factory) -> Path:
    """A comparison on `image_folder`. Read only."""
    folder = tmp_path_factory.mktemp("compared") / "all"
    transferkit.compare(image_folder, folder, **SMALL, **ALL)
    return folder


def test_compare__writes_ordinary_runs_on_one_split(compared, image_folder):
    runs = sorted((compared / "runs").iterdir())

    assert sorted(path.name for path in compared.iterdir()) == [
        *("compare-options.json", "compare.csv", "compare.html", "compare.json"),
        *("runs", "split.csv"),
    ]
    assert [run.name for run in runs] == [
        f"{name}-test_resnet-seed{seed}" for name in ("full", "knn", "partial") for seed in (0, 1)
    ]
    assert {(run / "split.csv").read_text() for run in runs} == {
        (compared / "split.csv").read_text()
    }
    assert not list(compared.rglob("report.html"))
    prediction = transferkit.predict(image_folder / "red/0.png", model=str(runs[0]))[0]
    assert prediction.label in ("blue", "green", "red")


def test_compare__agrees_with_its_runs(compared):
    found = read_comparison(compared)
    with (compared / "compare.csv").open(newline="") as lines:
        table = list(csv.DictReader(lines))

    assert [row["strategy"] for row in table] == [c["strategy"] for c in found["candidates"]]
    accuracies = [c["accuracy"]["value"] for c in found["candidates"]]
    assert accuracies == sorted(accuracies, reverse=True)
    for candidate in found["candidates"]:
        metrics = [
            json.loads((compared / "runs" / r["run"] / "metrics.json").read_text())
            for r in found["runs"]
            if r["strategy"] == candidate["strategy"]
        ]
        assert candidate["by_seed"] == [m["val"]["accuracy"] for m in metrics]
        assert candidate["trainable_parameters"] == metrics[0]["trainable_parameters"]
    best, *others = found["candidates"]
    assert best["difference"] is None
    assert all(c["difference"]["value"] <= 0 for c in others)
    assert found["advice"].startswith("Take ")


def test_compare__trains_differently_for_each_seed(compared):
    first, second = (
        load_file(compared / f"runs/partial-test_resnet-seed{seed}/model/model.safetensors")
        for seed in (0, 1)
    )

    assert not (first["fc.weight"] == second["fc.weight"]).all()


def test_compare__curves_end_at_the_seconds_of_the_table(compared):
    for candidate in read_comparison(compared)["candidates"]:
        last = candidate["curve"][-1]
        assert last["seconds"] == pytest.approx(candidate["seconds"])
        assert last["epoch"] == candidate["epochs"]


@pytest.mark.parametrize("stop_at", [1, 4])
def test_compare__stopped_and_resumed_gives_the_same_results(
    compared, image_folder, tmp_path, stop_at
):
    folder, reporter = tmp_path / "stopped", Interrupting(stop_at)
    with pytest.raises(KeyboardInterrupt):
        compare(CompareOptions(image_folder, folder, **SMALL, **ALL), reporter)
    assert reporter.all[-1] == (
        f"progress is kept; resume with: transferkit compare {image_folder} -o {folder} --resume"
    )
    assert "--resume" not in "".join(reporter.all[:-1])
    finished = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/metrics.json")}
    compare(CompareOptions(image_folder, folder, resume=True, cache="memory"))

    assert results_without_times(folder) == results_without_times(compared)
    assert finished
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())


def test_compare__resumed_with_more_seeds_keeps_the_finished_ones(compared, image_folder, tmp_path):
    folder = tmp_path / "more"
    small = SMALL | {"backbone": "test_resnet", "strategy": ("knn", "ridge")}
    transferkit.compare(image_folder, folder, **small, seeds=1)
    transferkit.compare(image_folder, folder, seeds=2, resume=True, cache="memory")

    assert [r["seed"] for r in read_comparison(folder)["runs"]] == [0, 0, 1, 1]


def fail_full(monkeypatch):
    """Make every run of the strategy `full` diverge."""
    carry_out = candidate_runs.finetune

    def fails(options, *args, **more):
        if options.strategy == "full" and not options.dry_run:
            raise DivergedError("the training loss became nan in epoch 1")
        return carry_out(options, *args, **more)

    monkeypatch.setattr(candidate_runs, "finetune", fails)


def test_compare__reports_a_failure_and_continues_the_others(
    image_folder, tmp_path, monkeypatch, cli
):
    fail_full(monkeypatch)
    folder = tmp_path / "failing"
    ran = cli(
        *("compare", image_folder, "-o", folder, "-b", "test_resnet", "--weights", "none"),
        *("--image-size", 32, "--epochs", 1, "--seeds", 2, "-s", "knn", "-s", "full"),
    )
    table = {row["strategy"]: row for row in csv.DictReader(StringIO(ran.out))}

    assert ran.code == 3
    assert table["full"]["accuracy"] == ""
    assert table["full"]["note"] == (
        "seed 0 failed: the training loss became nan in epoch 1; 1 other seed did not finish"
    )
    assert float(table["knn"]["accuracy"]) > 0
    assert "resume with: transferkit compare" in ran.err
    monkeypatch.undo()
    monkeypatch.setattr("transferkit.devices.has_fast_bf16", lambda device: False)
    again = cli("compare", image_folder, "-o", folder, "--resume", "-q")
    assert again.code == 0
    assert again.err == ""
    assert all(row["accuracy"] for row in csv.DictReader(StringIO(again.out)))


def test_compare__refuses_an_impossible_candidate_before_replacing_anything(compared, image_folder):
    before = (compared / "compare.json").read_text()
    with pytest.raises(WeightsError, match=r"lost\.safetensors"):
        transferkit.compare(
            image_folder, compared, overwrite=True, backbone="test_resnet",
            weights="lost.safetensors",
        )  # fmt: skip

    assert (compared / "compare.json").read_text() == before


def test_compare__replaces_no_folder_unasked(compared, run_folder, image_folder):
    with pytest.raises(OutputError, match="already exists and is not empty"):
        transferkit.compare(image_folder, compared, **SMALL)
    with pytest.raises(OutputError, match=r"this folder has no compare-options\.json"):
        transferkit.compare(image_folder, run_folder, overwrite=True, **SMALL)
    with pytest.raises(OutputError, match="nothing to resume"):
        transferkit.compare(image_folder, run_folder, resume=True)


def test_compare__resumed_with_other_options_or_images_is_refused(tmp_path):
    data, folder = make_classes(tmp_path / "data", 5), tmp_path / "out"
    small = SMALL | {"backbone": "test_resnet", "strategy": "knn", "seeds": 1}
    transferkit.compare(data, folder, **small)
    with pytest.raises(OptionError, match=r"--epochs: got 7, and the run in .* began with 10"):
        transferkit.compare(data, folder, resume=True, epochs=7)
    save_image(data / "red/new.png", (200, 50, 40), seed=77)
    with pytest.raises(DataError, match="the images have changed since the comparison"):
        transferkit.compare(data, folder, resume=True)


def test_compare__takes_a_validation_folder_as_the_split(image_folder, tmp_path):
    val = make_classes(tmp_path / "val", 2)
    for name in ("blue", "green", "red"):
        for path in (val / name).iterdir():
            save_image(path, (90, 90, 90), seed=sum(map(ord, f"{name}{path.name}")))
    small = SMALL | {"backbone": "test_resnet", "strategy": ("knn", "ridge"), "seeds": 1}
    found = transferkit.compare(image_folder, tmp_path / "out", val=val, **small)

    assert found.images == (24, 6)


def test_table__fits_a_narrow_terminal(compared, image_folder):
    found = transferkit.compare(image_folder, compared, resume=True, cache="memory")
    for width in (80, 120):
        console = Console(file=StringIO(), force_terminal=True, width=width, color_system=None)
        print_comparison(found, console)
        text = console.file.getvalue()
        table = text[: text.rindex("┘")]
        assert max(map(len, table.splitlines())) <= width
        assert "the best" in text
        assert found.advice in text
