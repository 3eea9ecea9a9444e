"""A stopped run that is resumed ends like a run that was never stopped."""

import json
import signal

import numpy as np
import pytest
import torch
from filelock import FileLock
from image_files import make_classes, save_image
from interrupting import stop_after
from safetensors.torch import load_file
from simulated import direction

import transferkit
from transferkit.errors import (
    BundleError,
    DataError,
    DivergedError,
    OptionError,
    OutputError,
    WeightsError,
)
from transferkit.recipes.finetuning.create_setup import _Reading
from transferkit.tables.probabilities import read_probabilities
from transferkit.training import checkpoint
from transferkit.training.loss import Criterion


@pytest.fixture(autouse=True)
def save_every_epoch(monkeypatch):
    """Save a checkpoint after every epoch, however short."""
    monkeypatch.setattr(checkpoint, "_MIN_INTERVAL", 0)


SMALL: dict[str, object] = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 4,
    "patience": 0,
}
DROPOUT = {"optimizer": "sgd", "backbone": "torchvision:squeezenet1_1"}
STRATEGIES = {
    "partial": {"epochs": 3, "unfreeze": "last:1"},
    "full": {"epochs": 2, "strategy": "full", "augment": "strong", **DROPOUT},
    "gradual": {"epochs": 3, "strategy": "gradual", "optimizer": "adan"},
    "stopping early": {"epochs": 4, "strategy": "full", "patience": 1, "learning_rate": 0.5},
}
STEPS_PER_EPOCH = 5


def results_of(run):
    """Return the weights, and the history and metrics without times."""
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("seconds", "time", "images_per_second"):
        del metrics[name]
    history = [line.split(",")[:-1] for line in (run / "history.csv").read_text().splitlines()]
    return load_file(run / "model/model.safetensors"), history, metrics


def assert_same_results(one, other):
    weights, *rest = results_of(one)
    expected, *expected_rest = results_of(other)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert rest == expected_rest


@pytest.fixture(scope="module")
def uninterrupted(image_folder, tmp_path_factory):
    """Uninterrupted runs, one per strategy, created on first use."""
    place, made = tmp_path_factory.mktemp("uninterrupted"), set()

    def run(name):
        if name not in made:
            transferkit.finetune(image_folder, place / name, **{**SMALL, **STRATEGIES[name]})
            made.add(name)
        return place / name

    return run


def test_resume__has_the_batch_size_that_was_chosen_at_the_beginning(
    image_folder, tmp_path, monkeypatch
):
    """The GPU's memory may be fuller now."""
    options = {**STRATEGIES["partial"], "batch_size": "auto"}
    chosen = "transferkit.recipes.finetuning.resolve_settings.choose_batch_size"
    monkeypatch.setattr(chosen, lambda *_: 4)
    run = stopped_run(image_folder, tmp_path / "run", monkeypatch, **options)
    monkeypatch.setattr(chosen, lambda *_: 8)
    transferkit.finetune(image_folder, run, resume=True)
    recorded = json.loads((run / "options.json").read_text())

    assert (recorded["batch_size"], recorded["given"]["batch_size"]) == (4, "auto")
    assert (
        "batches of 4" in dict(json.loads((run / "plan.json").read_text())["settings"])["training"]
    )
    transferkit.finetune(
        image_folder, tmp_path / "four", **{**SMALL, **STRATEGIES["partial"], "batch_size": 4}
    )
    assert_same_results(run, tmp_path / "four")


def stopped_run(data, run, monkeypatch, steps=STEPS_PER_EPOCH + 3, **options):
    with monkeypatch.context() as patched:
        stop_after(patched, steps)
        with pytest.raises(KeyboardInterrupt):
            transferkit.finetune(data, run, **{**SMALL, **options})
    assert not (run / "metrics.json").exists()
    return run


@pytest.mark.parametrize(
    ("name", "steps"),
    [(name, STEPS_PER_EPOCH + 3) for name in STRATEGIES] + [("partial", 2), ("gradual", 11)],
)
def test_resume__ends_like_a_run_that_was_never_stopped(
    name, steps, uninterrupted, image_folder, tmp_path, monkeypatch
):
    run = stopped_run(image_folder, tmp_path / "run", monkeypatch, steps, **STRATEGIES[name])

    transferkit.finetune(image_folder, run, resume=True)

    assert_same_results(run, uninterrupted(name))
    time_spent = json.loads((run / "metrics.json").read_text())["time"]
    assert min(time_spent.values()) >= 0
    assert not (run / "checkpoint").exists()
    assert not (run / ".lock").exists()


def test_resume__requires_the_options_that_the_run_began_with(image_folder, tmp_path, monkeypatch):
    run = stopped_run(image_folder, tmp_path / "run", monkeypatch, **STRATEGIES["partial"])
    elsewhere = tmp_path / "elsewhere"

    with pytest.raises(OptionError, match=r"--epochs: got 9, and the run in .* began with 3"):
        transferkit.finetune(image_folder, run, resume=True, epochs=9)
    with pytest.raises(OptionError, match=r"--log: got csv, mlflow, and the .* began with none;"):
        transferkit.finetune(image_folder, run, resume=True, log=["csv", "mlflow"])
    with pytest.raises(OptionError, match=r"--resume: expected the run to resume"):
        transferkit.finetune(image_folder, resume=True)
    with pytest.raises(OptionError, match=r"--overwrite starts a run, --resume resumes one"):
        transferkit.finetune(image_folder, run, resume=True, overwrite=True)
    with pytest.raises(OutputError, match=r"nothing to resume, it has no options.json"):
        transferkit.finetune(image_folder, elsewhere, resume=True)
    transferkit.finetune(image_folder, run, resume=True, epochs=3, workers=1)
    with pytest.raises(OutputError, match=r"is finished already"):
        transferkit.finetune(image_folder, run, resume=True)


def test_resume__names_images_that_changed_since(tmp_path, monkeypatch):
    data = make_classes(tmp_path / "data", 6)
    run = stopped_run(data, tmp_path / "run", monkeypatch, epochs=4)
    kept = (data / "red/0.png").read_bytes()

    save_image(data / "red/0.png", (1, 2, 3), seed=99)
    with pytest.raises(DataError, match=r"1 of its images are changed in .*: red/0.png"):
        transferkit.finetune(data, run, resume=True)
    (data / "red/0.png").unlink()
    with pytest.raises(DataError, match=r"1 of its images are missing in .*: red/0.png"):
        transferkit.finetune(data, run, resume=True)
    (data / "red/0.png").write_bytes(kept)
    save_image(data / "red/new.png", (1, 2, 3), seed=99)
    with pytest.raises(DataError, match=r"1 images are new since the run began: red/new.png"):
        transferkit.finetune(data, run, resume=True)
    (data / "red/new.png").unlink()
    transferkit.finetune(data, run, resume=True)


def test_resume__refuses_other_weights_and_a_damaged_checkpoint(
    image_folder, tmp_path, monkeypatch
):
    run = stopped_run(image_folder, tmp_path / "run", monkeypatch, epochs=4)
    options = json.loads((run / "options.json").read_text())
    (run / "options.json").write_text(json.dumps({**options, "weights_sha256": "0" * 64}))
    with pytest.raises(WeightsError, match=r"began with other weights of test_resnet"):
        transferkit.finetune(image_folder, run, resume=True)
    (run / "options.json").write_text(json.dumps(options))

    state = (run / "checkpoint/state.json").read_text()
    for damaged in ("{", state.replace('"version": 3', '"version": 7'), "[]"):
        (run / "checkpoint/state.json").write_text(damaged)
        with pytest.raises(BundleError, match=r"state.json: .*start over with --overwrite"):
            transferkit.finetune(image_folder, run, resume=True)
    (run / "checkpoint/state.json").write_text(state)
    (run / "options.json").write_text("{}")
    with pytest.raises(OutputError, match=r"options.json: is damaged"):
        transferkit.finetune(image_folder, run, resume=True)


@pytest.mark.parametrize("part", ["prepare", "validate"])
def test_resume__continues_where_it_was_stopped_between_epochs(
    part, uninterrupted, image_folder, tmp_path, monkeypatch
):
    """Stop in the frozen layers or in validation, where nothing changes."""
    run, called = tmp_path / "run", []
    original = getattr(_Reading, part)

    def stopped(self, *epoch):
        called.append(1)
        if len(called) == 2:
            raise KeyboardInterrupt
        return original(self, *epoch)

    with monkeypatch.context() as patched:
        patched.setattr(_Reading, part, stopped)
        patched.setattr(checkpoint, "_MIN_INTERVAL", 1e6)
        with pytest.raises(KeyboardInterrupt):
            transferkit.finetune(image_folder, run, **SMALL, **STRATEGIES["partial"])
    state = json.loads((run / "checkpoint/state.json").read_text())
    assert len(state["fit"]["history"]) == 1

    transferkit.finetune(image_folder, run, resume=True)

    assert_same_results(run, uninterrupted("partial"))


def test_resume__removes_what_a_killed_process_left_unfinished(image_folder, tmp_path, monkeypatch):
    run = stopped_run(image_folder, tmp_path / "run", monkeypatch, epochs=3)
    for name in (".transferkit-0123", "other.safetensors"):
        (run / "checkpoint" / name).write_bytes(b"half")
    left = []
    monkeypatch.setattr(
        checkpoint.Checkpoints,
        "after_step",
        lambda *_: left.extend(p.name for p in (run / "checkpoint").iterdir()),
    )
    monkeypatch.setattr(checkpoint, "_MIN_INTERVAL", 1e6)

    transferkit.finetune(image_folder, run, resume=True)

    assert {".transferkit-0123", "other.safetensors"}.isdisjoint(left)
    assert "state.json" in left


def test_resume__refuses_a_run_stopped_before_its_split(image_folder, tmp_path, monkeypatch):
    run = stopped_run(image_folder, tmp_path / "run", monkeypatch, epochs=3)
    (run / "split.csv").unlink()

    with pytest.raises(OutputError, match=r"stopped before it had written split\.csv"):
        transferkit.finetune(image_folder, run, resume=True)


def test_checkpoint__survives_a_full_device_at_the_next_one(
    image_folder, tmp_path, monkeypatch, uninterrupted
):
    """The second epoch's tensors do not fit; the state of the first epoch is kept."""
    run, written = tmp_path / "run", []
    save = checkpoint.save_file

    def fail_second(tensors, path):
        written.append(path)
        if len(written) == 2:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", fail_second)
        with pytest.raises(OutputError, match=r"No space left on device \(\d+ MB are needed\)"):
            transferkit.finetune(image_folder, run, **SMALL, **STRATEGIES["partial"])
    assert len(list((run / "checkpoint").iterdir())) == 2

    transferkit.finetune(image_folder, run, resume=True)

    assert_same_results(run, uninterrupted("partial"))


def test_options_json__is_enough_to_repeat_the_run(uninterrupted, image_folder, tmp_path):
    given = json.loads((uninterrupted("gradual") / "options.json").read_text())["given"]

    transferkit.finetune(image_folder, tmp_path / "again", **given)

    assert_same_results(tmp_path / "again", uninterrupted("gradual"))


def test_finetune__refuses_a_folder_that_another_process_writes(image_folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    options = {**SMALL, "epochs": 1}
    features = {"backbone": "edges8", "strategy": "features"}
    with FileLock(run / ".lock"):
        for given in (options, {**options, "overwrite": True}, features):
            with pytest.raises(OutputError, match="another process is writing there"):
                transferkit.finetune(image_folder, run, **given)

    transferkit.finetune(image_folder, run, **options)
    assert not (run / ".lock").exists()


def diverge(monkeypatch, step):
    """Make the loss NaN from this step on."""
    seen = []
    call = Criterion.__call__

    def criterion(self, logits, labels):
        seen.append(1)
        loss = call(self, logits, labels)
        return loss * float("nan") if len(seen) >= step else loss

    monkeypatch.setattr(Criterion, "__call__", criterion)


@pytest.mark.parametrize("strategy", ["partial", "full"])
def test_finetune__keeps_the_best_model_when_the_loss_is_no_longer_finite(
    image_folder, tmp_path, monkeypatch, strategy
):
    diverge(monkeypatch, 2 * STEPS_PER_EPOCH + 2)
    run = tmp_path / "run"

    with pytest.raises(DivergedError, match=r"became nan in epoch 3; try a lower --lr .* epoch"):
        transferkit.finetune(image_folder, run, epochs=5, strategy=strategy, **SMALL)

    metrics = json.loads((run / "metrics.json").read_text())
    assert "became nan in epoch 3" in metrics["stopped"]
    assert len((run / "history.csv").read_text().splitlines()) == 3
    state = json.loads((run / "checkpoint/state.json").read_text())
    assert len(state["fit"]["history"]) == 2
    kept = read_probabilities(run / "val_predictions.npz")
    bundle = transferkit.ModelBundle.load(run)
    predicted = bundle.predict_proba([image_folder / path for path in kept.paths])
    np.testing.assert_allclose(direction(predicted), direction(kept.probabilities), atol=1e-4)


def test_finetune__keeps_no_model_when_it_diverges_at_once(image_folder, tmp_path, monkeypatch):
    diverge(monkeypatch, 1)

    with pytest.raises(DivergedError, match=r"became nan in epoch 1; try a lower --lr"):
        transferkit.finetune(image_folder, tmp_path / "run", epochs=5, **SMALL)
    assert not (tmp_path / "run/model").exists()


def test_command__says_how_to_resume_and_exits_with_the_signals_code(
    cli, image_folder, tmp_path, monkeypatch
):
    run = tmp_path / "my run"
    words = ("finetune", image_folder, "-o", run, "-b", "test_resnet", "--weights", "none")
    words += ("--image-size", 32, "--batch-size", 4, "--epochs", 4, "--unfreeze", "last:1")
    stop_after(monkeypatch, 3, signal.SIGTERM)

    ran = cli(*words)

    assert ran.code == 143
    *_, notice, last = ran.err.splitlines()
    assert last == "terminated"
    assert notice == f"resume with: transferkit finetune {image_folder} -o '{run}' --resume"
    resumed = cli("finetune", image_folder, "-o", run, "--resume")
    assert resumed.code == 0
    assert "resumes in epoch 1, after 12 images" in resumed.err


def test_finetune__resumes_exactly_where_it_was_paused(image_folder, tmp_path):
    """The state is saved at the end of the epoch, even if no checkpoint is due."""
    from transferkit.options.finetune import FinetuneOptions
    from transferkit.recipes.finetune import finetune

    small = {**SMALL, "backbone": "test_resnet", "strategy": "full", "epochs": 3, "report": False}
    paused = finetune(
        FinetuneOptions(image_folder, tmp_path / "paused", **small),
        should_stop=lambda row: row.epoch == 1,
    )
    assert (paused.metrics, len(paused.history)) == ({}, 1)
    finetune(FinetuneOptions(image_folder, tmp_path / "paused", resume=True, report=False))
    finetune(FinetuneOptions(image_folder, tmp_path / "straight", **small))

    states = [load_file(tmp_path / run / "model/model.safetensors") for run in
              ("paused", "straight")]  # fmt: skip
    assert all((states[0][name] == states[1][name]).all() for name in states[1])
