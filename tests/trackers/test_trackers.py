"""A run recorded by all trackers at once, stopped and resumed, read back by their own libraries."""

import csv
import json
import struct
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from interrupting import stop_after
from notices import Notices
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import transferkit
from transferkit.errors import OptionError
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes.finetune import finetune
from transferkit.reporter import (
    EpochRow,
    Outcome,
    Plan,
    RunEnd,
    RunStart,
    StageRow,
    StepRow,
)
from transferkit.run.record import read_history
from transferkit.trackers import Tracker, require_installed, to_csv, to_tensorboard
from transferkit.training import checkpoint

SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "strategy": "gradual",
    "image_size": 32,
    "batch_size": 4,
    "patience": 0,
    "epochs": 3,
}
STEPS = 5
FIGURES = (
    *("train_loss", "train_accuracy", "val_loss", "val_accuracy"),
    *("lr_head", "lr_backbone", "seconds"),
)


# MLflow's tables use what SQLAlchemy 2.1 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture(scope="module")
def recorded(image_folder, tmp_path_factory):
    """The folder of a run, `run`, that was stopped in its second epoch and resumed."""
    place = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(checkpoint, "_MIN_INTERVAL", 0)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_DATA_DIR", str(place))
        patch.setenv("WANDB_CACHE_DIR", str(place))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
        with patch.context() as interrupted:
            stop_after(interrupted, STEPS + 3)
            with pytest.raises(KeyboardInterrupt):
                transferkit.finetune(image_folder, place / "run", log=tuple(Tracker), **SMALL)
        transferkit.finetune(image_folder, place / "run", resume=True)
        yield place
        import wandb

        wandb.teardown()


def history_of(place):
    return read_history(place / "run")


def steps_of(place):
    with (place / "run/logs/steps.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv__has_every_epoch_and_every_step(recorded):
    epochs = (recorded / "run/logs/epochs.csv").read_text()
    steps = steps_of(recorded)

    assert epochs == (recorded / "run/history.csv").read_text()
    assert [int(row["step"]) for row in steps] == list(range(1, 3 * STEPS + 1))
    assert [int(row["epoch"]) for row in steps] == [1] * STEPS + [2] * STEPS + [3] * STEPS
    for epoch in history_of(recorded):
        own = [row for row in steps if int(row["epoch"]) == epoch.epoch]
        sizes = [4] * (STEPS - 1) + [2]  # 18 training images
        mean = np.average([float(row["loss"]) for row in own], weights=sizes)
        assert mean == pytest.approx(epoch.train_loss, rel=1e-5)
        assert float(own[-1]["lr_head"]) == epoch.lr_head


def test_csv__has_a_rate_for_every_stage_that_is_trained(recorded):
    plan = json.loads((recorded / "run/plan.json").read_text())
    trained = {
        stage["name"]: stage["first_epoch"] for stage in plan["stages"] if stage["trainable"]
    }

    assert len(trained) > 2
    for row in steps_of(recorded):
        rates = {
            name.removeprefix("lr_") for name, cell in row.items() if name[:3] == "lr_" and cell
        }
        assert rates == {name for name, first in trained.items() if first <= int(row["epoch"])}


def test_tensorboard__has_what_history_and_steps_have(recorded):
    read = EventAccumulator(str(recorded / "run/logs/tensorboard")).Reload()
    steps = steps_of(recorded)

    for name in FIGURES:
        expected = [np.float32(getattr(row, name)) for row in history_of(recorded)]
        assert [event.value for event in read.Scalars(f"epoch/{name}")] == expected
    losses = read.Scalars("step/loss")
    assert [event.step for event in losses] == [int(row["step"]) for row in steps]
    assert [event.value for event in losses] == [np.float32(row["loss"]) for row in steps]
    rates = [event.value for event in read.Scalars("step/lr/head")]
    assert rates == [np.float32(row["lr_head"]) for row in steps]
    (final,) = read.Scalars("final/val/accuracy")
    assert final.value == np.float32(metrics_of(recorded)["val"]["accuracy"])
    assert read.PluginTagToContent("hparams")
    assert "parameters/text_summary" in read.PluginTagToContent("text")


def metrics_of(place):
    return json.loads((place / "run/metrics.json").read_text())


def test_mlflow__has_one_run_with_all_figures_parameters_and_files(recorded):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{recorded}/mlflow.db")
    experiment = client.get_experiment_by_name("transferkit")
    (run,) = client.search_runs([experiment.experiment_id], "run_name = 'run'")
    number = run.info.run_id

    for name in FIGURES:
        found = client.get_metric_history(number, f"epoch/{name}")
        expected = [(row.epoch, getattr(row, name)) for row in history_of(recorded)]
        assert sorted((metric.step, metric.value) for metric in found) == expected
    losses = client.get_metric_history(number, "step/loss")
    assert sorted((metric.step, metric.value) for metric in losses) == [
        (int(row["step"]), float(row["loss"])) for row in steps_of(recorded)
    ]
    assert run.data.metrics["final/val/accuracy"] == metrics_of(recorded)["val"]["accuracy"]
    assert run.data.params["strategy"] == "gradual"
    assert run.data.params["plan/phase 1"] == "last:1, epochs 1 to 1"
    assert float(run.data.params["plan/lr/head"]) == 1e-3
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert "model/config.json" in [f.path for f in client.list_artifacts(number, "model")]


def test_wandb__has_one_run_with_all_figures_parameters_and_files(recorded):
    files = sorted(recorded.glob("wandb/offline-run-*/run-*.wandb"))
    records = [record for file in files for record in wandb_records(file)]
    rows = [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    summary = {
        i.key: json.loads(i.value_json)
        for record in records
        for i in record.summary.update
        if not i.nested_key
    }

    assert len(files) == 2
    assert len({record.run.run_id for record in records if record.HasField("run")}) == 1
    for name in FIGURES:
        found = [(row["epoch"], row[f"epoch/{name}"]) for row in rows if f"epoch/{name}" in row]
        assert found == [(row.epoch, getattr(row, name)) for row in history_of(recorded)]
    assert [(row["step"], row["step/loss"]) for row in rows if "step/loss" in row] == [
        (int(row["step"]), float(row["loss"])) for row in steps_of(recorded)
    ]
    assert summary["final/val/accuracy"] == metrics_of(recorded)["val"]["accuracy"]


def wandb_records(file: Path):
    """Yield the records of an offline run: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
        _, size, kind = struct.unpack("<IHB", content[position : position + 7])
        parts += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


@pytest.fixture(scope="module")
def compared(recorded, few_images):
    """The folder of a comparison of two candidates, recorded beside the run."""
    shared = {key: SMALL[key] for key in ("backbone", "weights", "image_size", "batch_size")}
    folder = recorded / "comparison"
    transferkit.compare(
        few_images,
        folder,
        strategy=("full", "knn"),
        seeds=1,
        epochs=1,
        log=tuple(Tracker),
        **shared,
    )
    return folder


def test_compare__groups_its_runs(compared):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{compared.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("transferkit")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs["comparison"].info.run_id
    groups = {
        record.run.display_name: record.run.run_group
        for file in compared.parent.glob("wandb/offline-run-*/run-*.wandb")
        for record in wandb_records(file)
        if record.HasField("run")
    }
    names = {run.name for run in (compared / "runs").iterdir()}

    assert len(names) == 2
    assert {
        name for name, run in runs.items() if run.data.tags.get("mlflow.parentRunId") == parent
    } == names
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert groups == {"run": "", **dict.fromkeys(names, "comparison")}
    for name in names:
        assert list((compared / "runs" / name / "logs/tensorboard").iterdir())


def name_files_in_order(monkeypatch):
    """Give TensorBoard's files a second each: it reads them in the order of their names."""
    clock = SimpleNamespace(time=count(1_000_000_000).__next__)
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time", clock)


@pytest.mark.parametrize("module", [to_csv, to_tensorboard])
def test_files__lose_what_a_killed_process_wrote_after_its_checkpoint(
    module, tmp_path, monkeypatch
):
    name_files_in_order(monkeypatch)
    stages = tuple(StageRow(name, (), 1, 1, 0.1, 1) for name in ("stage1", "head"))
    plan = Plan((), {}, (), stages, ())

    def record(steps, *, steps_before=0):
        recorder = module.Recorder(lambda message: None)
        recorder.began(RunStart(tmp_path, {}, plan, steps_before > 0, steps_before))
        for step in steps:
            recorder.steps([StepRow(step, step, 0.5 * step, {"head": 0.1})])
            recorder.epoch(EpochRow(step, "head", step, 0, 0, 0, 0, 0, 0), 5, False)
        return recorder

    record([1, 2, 3, 4])
    for table in (tmp_path / "logs").glob("*.csv"):
        with table.open("a") as file:
            file.write("1")  # of a line that began with 15, say, on a full disk
    record([3, 4, 5], steps_before=2).ended(RunEnd(Outcome.STOPPED, {}))

    if module is to_csv:
        for name in ("steps.csv", "epochs.csv"):
            rows = (tmp_path / "logs" / name).read_text().splitlines()[1:]
            assert [row.split(",")[0] for row in rows] == list("12345")
    else:
        read = EventAccumulator(str(tmp_path / "logs/tensorboard")).Reload()
        for name in ("step/loss", "epoch/train_loss"):
            assert [event.step for event in read.Scalars(name)] == [1, 2, 3, 4, 5]


def test_tensorboard__keeps_the_steps_of_an_epoch_that_was_only_to_be_validated(
    image_folder, tmp_path, monkeypatch
):
    name_files_in_order(monkeypatch)
    stop_after(monkeypatch, 2 * STEPS)
    with pytest.raises(KeyboardInterrupt):
        transferkit.finetune(image_folder, tmp_path / "run", log="tensorboard", **SMALL)
    transferkit.finetune(image_folder, tmp_path / "run", resume=True)
    read = EventAccumulator(str(tmp_path / "run/logs/tensorboard")).Reload()

    assert [event.step for event in read.Scalars("step/loss")] == list(range(1, 3 * STEPS + 1))
    assert [event.step for event in read.Scalars("epoch")] == [STEPS, 2 * STEPS, 3 * STEPS]


def test_log__changes_no_result(recorded, image_folder, tmp_path):
    transferkit.finetune(image_folder, tmp_path / "run", **SMALL)
    with_trackers, without = (history_of(place) for place in (recorded, tmp_path))

    def figures(row):
        return [getattr(row, name) for name in FIGURES if name != "seconds"]

    assert list(map(figures, with_trackers)) == list(map(figures, without))


def test_log__records_features_without_epochs(image_folder, tmp_path):
    options = {"strategy": "features", "classifier": "knn", "image_size": 32}
    transferkit.finetune(
        image_folder, tmp_path / "run", backbone="test_resnet", weights="none", log="csv", **options
    )

    assert (tmp_path / "run/logs/epochs.csv").read_text().startswith("epoch,phase,")


def test_log__goes_on_without_a_tracker_that_fails(image_folder, tmp_path, monkeypatch):
    def fail(self, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(to_csv.Recorder, "steps", fail)
    reporter = Notices()
    options = FinetuneOptions(image_folder, tmp_path / "run", log=("csv",), **SMALL)
    result = finetune(options, reporter)

    assert result.metrics["val"]["n"] == 6
    assert [message for message in reporter.all if "--log" in message] == [
        "--log csv: stopped recording ([Errno 28] No space left on device); the run goes on"
    ]


def test_log__goes_on_without_a_server(image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    reporter = Notices()
    options = FinetuneOptions(image_folder, tmp_path / "run", log=("mlflow",), **SMALL)
    finetune(options, reporter)
    told = [message for message in reporter.all if "--log" in message]

    assert len(told) == 1
    assert told[0].startswith("--log mlflow: stopped recording (")


def test_log__asks_for_the_extra_of_a_package_that_is_missing(image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transferkit.trackers.find_spec", lambda name: None)

    with pytest.raises(OptionError, match=r"pip install 'transferkit\[wandb\]'"):
        transferkit.finetune(image_folder, tmp_path / "run", log=("csv", "wandb"), **SMALL)
    assert not (tmp_path / "run").exists()


def test_log__does_not_take_a_folder_for_a_package(image_folder, tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [""])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)

    with pytest.raises(OptionError, match="the package wandb is not installed"):
        require_installed([Tracker.WANDB])


def test_log__resumes_without_a_package_that_is_missing(image_folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, STEPS + 1)
        with pytest.raises(KeyboardInterrupt):
            transferkit.finetune(image_folder, tmp_path / "run", log="csv", **SMALL)

    def missing(tell, comparison):
        raise ModuleNotFoundError("No module named 'csv'")

    monkeypatch.setattr("transferkit.trackers.find_spec", lambda name: None)
    monkeypatch.setattr(to_csv, "Recorder", missing)
    reporter = Notices()
    result = finetune(FinetuneOptions(image_folder, tmp_path / "run", resume=True), reporter)

    assert result.metrics
    assert "--log csv: stopped recording (No module named 'csv'); the run goes on" in reporter.all


def test_log__refuses_files_in_a_store():
    with pytest.raises(OptionError, match="--log csv appends to files in the run, and s3://runs/a"):
        FinetuneOptions("photos", "s3://runs/a", log=("mlflow", "csv"))
