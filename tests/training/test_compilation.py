"""Compiled layers: those of each phase, under their own names, or an error before the run begins.

torch's compiler reads the code here and leaves out writing other code, which takes many seconds.
"""

from functools import cache, partial

import numpy as np
import pytest
import torch
from interrupting import stop_after
from safetensors.torch import load_file

import transferkit
from transferkit.errors import OptionError
from transferkit.training.compilation import require_compiler

SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 7,
    "learning_rate": 1e-3,
    "patience": 0,
}


@pytest.fixture
def compilations(monkeypatch) -> list[str]:
    """The classes of what was compiled, each once it is called for the first time."""
    found: list[str] = []
    compile_quickly = partial(torch.compile, backend="eager")

    def record(what, **options):
        ready = compile_quickly(what, **options)
        called = cache(lambda: found.append(type(what).__name__))

        def call(*args):
            called()
            return ready(*args)

        return call

    monkeypatch.setattr(torch, "compile", record)
    return found


def train(data, run, **options):
    result = transferkit.finetune(data, run, **{**SMALL, **options})
    losses = [(row.train_loss, row.val_loss) for row in result.history]
    return losses, load_file(run / "model/model.safetensors")


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"unfreeze": "last:1", "epochs": 2}, 1),
        ({"strategy": "gradual", "epochs": 3}, 3),
    ],
)
def test_compiled_run__trains_what_another_trains(
    few_images, tmp_path, compilations, options, count
):
    plain, weights = train(few_images, tmp_path / "plain", **options)
    assert compilations == []
    fast, compiled = train(few_images, tmp_path / "compiled", compile=True, **options)

    _, *phases = compilations  # the first one tries the compiler
    assert len(phases) == count
    np.testing.assert_allclose(fast, plain, rtol=1e-5)
    assert compiled.keys() == weights.keys()


def test_compiled_run__is_resumed(few_images, tmp_path, compilations, monkeypatch):
    options = {"strategy": "full", "epochs": 3, "compile": True}
    _, whole = train(few_images, tmp_path / "whole", **options)
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            train(few_images, tmp_path / "stopped", **options)
    compilations.clear()
    transferkit.finetune(few_images, tmp_path / "stopped", resume=True)

    resumed = load_file(tmp_path / "stopped/model/model.safetensors")
    assert compilations
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_run__says_at_once_that_torch_cannot_compile(few_images, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no working C++ compiler found")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(OptionError, match=r"--compile: .*no working C\+\+ .*leave the option out"):
        train(few_images, tmp_path / "run", compile=True)
    assert not (tmp_path / "run").exists()


def test_require_compiler__finds_a_working_one(compilations):
    require_compiler(torch.device("cpu"))

    assert len(compilations) == 1


def test_budget__knows_nothing_of_compiling(few_images, tmp_path):
    with pytest.raises(OptionError, match="--budget measures steps that are not compiled"):
        transferkit.finetune(few_images, tmp_path / "run", budget=1.0, compile=True)


def test_features__compile_nothing(few_images, tmp_path):
    with pytest.raises(OptionError, match="--compile: --strategy features trains no network"):
        transferkit.finetune(few_images, tmp_path / "run", strategy="features", compile=True)
