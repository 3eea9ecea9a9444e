"""Several processes train what one process trains."""

import csv
import json
from itertools import chain

import numpy as np
import pytest
import torch
from image_files import make_classes
from safetensors.torch import load_file
from several_processes import run_together

import transferkit
from transferkit.errors import OptionError

STRATEGIES = {
    "head": {"views": 2},
    "last": {"unfreeze": "last:1", "cache": "off", "class_weights": "balanced", "bn": "eval"},
    "linear": {"unfreeze": "last:1", "head_start": "linear", "views": 1, "bn": "eval"},
    "full": {"strategy": "full", "bn": "eval"},
    "gradual": {"strategy": "gradual", "bn": "eval"},
    "features": {"strategy": "features"},
}

TRAIN = """
import json, os, signal
import transferkit
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.declaration import create_options
from transferkit.recipes.finetune import finetune
from transferkit import frozen_layers
from transferkit.data import check
from transferkit.training.checkpoint import Checkpoints

os.environ["TRANSFERKIT_CACHE"] = f"cache-{count}"
transferkit.devices.has_fast_bf16 = lambda device: False
computed, decoded = [], []
original, decode = frozen_layers.FrozenRows._computed, check.decode_image

def counting(self, batches):
    for rows, values in original(self, batches):
        computed.extend(rows.tolist())
        yield rows, values

def counting_decode(*args, **kwargs):
    decoded.append(1)
    return decode(*args, **kwargs)

frozen_layers.FrozenRows._computed = counting
check.decode_image = counting_decode

def train(output, data=DATA, *, stop_after=None, **more):
    network = {} if more.get("strategy") == "features" or more.get("resume") else NETWORK
    options = create_options(
        FinetuneOptions, data=data, output=output, **{**COMMON, **network, **more}
    )
    seen = []
    def should_stop(row):
        return row.epoch == stop_after
    return finetune(options, should_stop=should_stop)
"""

COMMON = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
    "report": False,
    "cache": "disk",
    "engine": "torch",
    "precision": "fp32",
}


NETWORK = {"epochs": 3, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    """Twenty images to train on, of which the last batch of six has two; and five to validate."""
    data = make_classes(tmp_path_factory.mktemp("twenty") / "colours", 8)
    next((data / "red").iterdir()).write_bytes(b"not an image")
    return data


def program(data, what):
    given = TRAIN.replace("DATA", repr(str(data))).replace("COMMON", repr(COMMON))
    return given.replace("NETWORK", repr(NETWORK)) + what


@pytest.fixture(scope="module")
def trained(twenty, tmp_path_factory):
    """A folder of runs `strategy-count`, and what each process computed and decoded."""
    folder = tmp_path_factory.mktemp("together")
    what = f"""
found = {{}}
for name, options in {STRATEGIES!r}.items():
    computed.clear(), decoded.clear()
    train(f"{{name}}-{{count}}", **options)
    found[name] = sorted(computed), len(decoded)
with open(f"{{count}}-{{number}}.json", "w") as file:
    json.dump(found, file)
"""
    jobs = [(count, program(twenty, what)) for count in (1, 3)]
    assert run_together(*jobs, folder=folder) == [[0], [0, 0, 0]]
    return folder


def history(run):
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [[float(row[n]) for n in row if n not in ("phase", "seconds")] for row in rows]


def steps(run):
    with (run / "logs/steps.csv").open() as file:
        return [[float(cell) for cell in row] for row in list(csv.reader(file))[1:]]


def test_processes__train_what_one_trains_and_divide_the_work(trained):
    for strategy in STRATEGIES:
        alone, together = (trained / f"{strategy}-{count}" for count in (1, 3))
        if strategy != "features":
            np.testing.assert_allclose(history(together), history(alone), rtol=1e-4)
        found, expected = (
            json.loads((run / "metrics.json").read_text())["val"] for run in (together, alone)
        )
        assert found["n"] == len((together / "split.csv").read_text().split(",val,")) - 1
        assert found["log_loss"] == pytest.approx(expected["log_loss"], rel=1e-4)
        for name in ("skipped.csv", "split.csv"):
            assert (together / name).read_text() == (alone / name).read_text()

    work = [json.loads((trained / f"3-{number}.json").read_text()) for number in range(3)]
    expected = json.loads((trained / "1-0.json").read_text())
    # The views of the first run, and the features of the last, are computed once and cached.
    for strategy in ("head", "features"):
        shares = [part[strategy][0] for part in work]
        assert sorted(chain.from_iterable(shares)) == expected[strategy][0]
        assert max(map(len, shares)) - min(map(len, shares)) <= 3
    assert sum(part["head"][1] for part in work) == expected["head"][1] > 20


def test_several__resume_as_any_number(twenty, tmp_path):
    everything = "strategy='full', bn='eval', log='csv'"
    copy = "if not number: __import__('shutil').copytree('paused', 'paused-1')"
    jobs = [
        (3, f"train('whole', {everything})"),
        (3, f"train('paused', stop_after=2, {everything})\n{copy}"),
        (3, "train('paused', resume=True)"),
        (1, "train('paused-1', resume=True)"),
    ]
    codes = run_together(*((n, program(twenty, what)) for n, what in jobs), folder=tmp_path)

    assert codes == [[0] * n for n, _ in jobs]
    whole = load_file(tmp_path / "whole/model/model.safetensors")
    resumed = load_file(tmp_path / "paused/model/model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    np.testing.assert_allclose(
        history(tmp_path / "paused-1"), history(tmp_path / "whole"), rtol=1e-4
    )
    assert steps(tmp_path / "paused") == steps(tmp_path / "whole")
    np.testing.assert_allclose(steps(tmp_path / "paused-1"), steps(tmp_path / "whole"), rtol=1e-4)
    losses = np.array(steps(tmp_path / "whole"))[:, 2].reshape(3, -1)
    expected = [row[1] for row in history(tmp_path / "whole")]
    np.testing.assert_allclose(losses.mean(axis=1), expected, rtol=1e-5)


def test_several__stop_at_the_same_step_when_one_is_told_to(twenty, tmp_path):
    what = """
after_step = Checkpoints.after_step
def told(self, setup, state):
    if number == 1 and setup.schedule.done == 5:
        os.kill(os.getpid(), signal.SIGINT)
    after_step(self, setup, state)
Checkpoints.after_step = told
try:
    train("stopped", strategy="full", bn="eval")
except KeyboardInterrupt:
    os._exit(130)
"""
    assert run_together(
        (2, program(twenty, what)),
        (2, program(twenty, "train('stopped', resume=True)")),
        (2, program(twenty, "train('whole', strategy='full', bn='eval')")),
        folder=tmp_path,
    ) == [[130, 130], [0, 0], [0, 0]]
    resumed, whole = (
        load_file(tmp_path / r / "model/model.safetensors") for r in ("stopped", "whole")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")


def test_several__keep_the_best_epoch_before_they_diverge(twenty, tmp_path):
    what = """
from transferkit.errors import DivergedError
from transferkit.training import loop
step = loop.training_step
def diverging(setup, trained, batch):
    loss, logits = step(setup, trained, batch)
    return loss * (float("nan") if number == 1 and setup.schedule.done > 4 else 1), logits
loop.training_step = diverging
try:
    train("diverged", strategy="full", bn="eval")
except DivergedError as error:
    assert "the model of epoch 1, the best before, is in diverged" in str(error)
    os._exit(5)
"""
    assert run_together((2, program(twenty, what)), folder=tmp_path) == [[5, 5]]
    assert (tmp_path / "diverged/model/model.safetensors").is_file()


def test_several__refuse_what_they_cannot_do_together(twenty, tmp_path):
    what = """
from transferkit.errors import TransferKitError
found = []
for options in {"strategy": "full"}, {"cache": "memory"}, {"batch_size": 1}:
    try:
        train("refused", **options)
    except TransferKitError as error:
        found.append(str(error))
with open(f"{number}.json", "w") as file:
    json.dump(found, file)
"""
    assert run_together((2, program(twenty, what)), folder=tmp_path) == [[0, 0]]
    for number in range(2):
        statistics, cache, batch = json.loads((tmp_path / f"{number}.json").read_text())
        assert statistics.startswith("--bn train: torch does not share BatchNorm's statistics")
        assert cache.startswith("--cache memory: several processes share rows on disk only")
        assert batch.startswith("--batch-size: got 1 for 2 processes")


def test_processes__must_be_started_and_do_not_plan_a_budget(twenty, tmp_path):
    with pytest.raises(OptionError, match=r"--budget plans the run of one process"):
        transferkit.finetune(twenty, tmp_path / "run", processes=2, budget=1)
    with pytest.raises(OptionError, match=r"--processes 2: this is one of 1"):
        transferkit.finetune(twenty, tmp_path / "run", processes=2)
