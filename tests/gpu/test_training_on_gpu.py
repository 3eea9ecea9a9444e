"""Runs on a GPU: they learn, agree with those on the CPU, resume, and make do with its memory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupting import stop_after
from notices import Notices
from safetensors.torch import load_file
from torch import nn

import transferkit
from transferkit.compute import ComputeSettings
from transferkit.devices import Precision
from transferkit.models.create_network import create_network
from transferkit.models.strategies import Phase
from transferkit.models.unfreeze import last_stages
from transferkit.options.declaration import create_options
from transferkit.options.finetune import FinetuneOptions
from transferkit.processes import ALONE
from transferkit.recipes.finetune import finetune
from transferkit.recipes.finetuning.choose_batch_size import choose_batch_size
from transferkit.recipes.finetuning.run_in_progress import FinetuneResult

CATS = Path(__file__).parents[2] / "sample_data" / "cats"
SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
    "learning_rate": 1e-3,
    "patience": 0,
}
STRATEGIES = {
    "head": {"epochs": 3},
    "last": {"unfreeze": "last:1", "views": 2, "epochs": 3},
    "full": {"strategy": "full", "epochs": 3},
    "gradual": {"strategy": "gradual", "epochs": 4},
    "features": {"strategy": "features"},
}
LOSSES = 1e-3
"""Relative difference of losses after some steps in fp32: sums are rounded in another order."""
PROBABILITIES = 1e-4
"""Absolute difference of probabilities in fp32."""


def losses(result: FinetuneResult) -> list[tuple[float, float]]:
    return [(row.train_loss, row.val_loss) for row in result.history]


@pytest.mark.parametrize("name", STRATEGIES)
def test_finetune__learns_cats_and_predicts_what_the_cpu_predicts(device, tmp_path, name):
    run = tmp_path / "run"
    result = transferkit.finetune(
        CATS, run, device=device.type, image_size=96, cache="off", **STRATEGIES[name]
    )
    files = sorted(str(path) for path in CATS.rglob("*.jpg"))[::10]
    here, on_cpu = (
        transferkit.predict(files, model=str(run), device=kind) for kind in (device.type, "cpu")
    )

    assert result.metrics["val"]["accuracy"] > 0.4  # one in five by guessing
    for one, other in zip(here, on_cpu, strict=True):
        assert one.label == other.label
        assert one.confidence == pytest.approx(other.confidence, abs=PROBABILITIES)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "features"])
def test_losses__agree_with_those_of_the_cpu(device, image_folder, tmp_path, name):
    options = {**SMALL, **STRATEGIES[name], "optimizer": "sgd"}
    here, on_cpu = (
        transferkit.finetune(image_folder, tmp_path / cache, **options, device=kind, cache=cache)
        for kind, cache in ((device.type, "memory"), ("cpu", "off"))
    )

    np.testing.assert_allclose(losses(here), losses(on_cpu), rtol=LOSSES)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision__learns_as_fp32_does(device, image_folder, tmp_path, precision):
    if precision == "fp16" and device.type == "cpu":
        pytest.skip("fp16 needs a GPU")
    options = {**SMALL, "strategy": "full", "epochs": 3, "device": device.type}
    half, full = (
        transferkit.finetune(image_folder, tmp_path / one, precision=one, **options)
        for one in (precision, "fp32")
    )

    np.testing.assert_allclose(losses(half), losses(full), rtol=0.1)


@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("name", ["last", "full"])
def test_resumed_run__has_the_weights_of_one_that_was_never_stopped(
    device, same_sums, image_folder, tmp_path, monkeypatch, name, compiles
):
    options = {**SMALL, **STRATEGIES[name], "device": device.type, "compile": compiles}
    # It has dropout, and no max-pooling, whose gradients a GPU adds up in any order.
    options |= {"backbone": "torchvision:mobilenet_v3_small"}
    transferkit.finetune(image_folder, tmp_path / "whole", **options)
    with monkeypatch.context() as patched:
        stop_after(patched, 5)
        with pytest.raises(KeyboardInterrupt):
            transferkit.finetune(image_folder, tmp_path / "stopped", **options)
    transferkit.finetune(image_folder, tmp_path / "stopped", resume=True)

    one, other = (
        load_file(tmp_path / run / "model/model.safetensors") for run in ("whole", "stopped")
    )
    assert all(torch.equal(one[tensor], other[tensor]) for tensor in one)


@contextmanager
def little_memory(device: torch.device, peak: int) -> Iterator[None]:
    """Leave three quarters of `peak` bytes; on the CPU, convolutions refuse more than 60 images."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.75 * peak / total)
        yield
        torch.cuda.set_per_process_memory_fraction(1.0)
        return
    forward = nn.Conv2d.forward

    def refusing(self, images):
        if len(images) > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Conv2d, "forward", refusing)
        yield


def test_batch__that_does_not_fit_is_computed_in_halves(device, tmp_path):
    options = {
        "backbone": "resnet18",
        "weights": "none",
        "image_size": 112,
        "strategy": "full",
        "epochs": 1,
        "batch_size": 96,
        "bn": "eval",
        "device": device.type,
        "report": False,
    }
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    whole = transferkit.finetune(CATS, tmp_path / "whole", **options)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    notices = Notices()
    given = create_options(FinetuneOptions, data=CATS, output=tmp_path / "halved", **options)
    with little_memory(device, peak):
        halved = finetune(given, notices)

    assert any("continuing with 48" in text for text in notices.all)
    np.testing.assert_allclose(losses(halved), losses(whole), rtol=LOSSES)


@pytest.mark.parametrize("name", ["last", "full"])
def test_compiled_layers__train_what_others_train(device, image_folder, tmp_path, name):
    options = {**SMALL, **STRATEGIES[name], "optimizer": "sgd", "device": device.type}
    plain = transferkit.finetune(image_folder, tmp_path / "plain", **options)
    fast = transferkit.finetune(image_folder, tmp_path / "compiled", compile=True, **options)

    np.testing.assert_allclose(losses(fast), losses(plain), rtol=LOSSES)


def test_batch_size__is_chosen_for_the_memory(device, tmp_path):
    options = {**SMALL, "device": device.type, "batch_size": "auto", "epochs": 1}
    transferkit.finetune(CATS, tmp_path / "run", **options)
    recorded = json.loads((tmp_path / "run" / "options.json").read_text())
    files = [str(path) for path in CATS.rglob("*.jpg")]
    predicted = transferkit.predict(
        files, model=str(tmp_path / "run"), batch_size="auto", device=device.type
    )

    assert recorded["batch_size"] == 32  # a larger one would leave an epoch too few steps
    assert len(predicted) == len(files)


def test_fitting_batch__fits(device):
    if device.type == "cpu":
        pytest.skip("the memory of a GPU is measured")
    network = create_network("resnet50", weights="none", image_size=224)
    network.module.to(device, memory_format=torch.channels_last)
    phase = Phase.of(network, last_stages(4), range(1, 2))
    compute = ComputeSettings(device, Precision.FP32, 32, 1)
    size = choose_batch_size(network, phase, compute, 10**6, ALONE)
    torch.cuda.reset_peak_memory_stats()
    images = network.blank_image().expand(size, -1, -1, -1)
    network.module(images).sum().backward()

    total = torch.cuda.get_device_properties(device).total_memory
    peak = torch.cuda.max_memory_allocated()
    assert peak < total
    assert size == 1024 or peak > total / 4


def test_page_and_maps__are_computed_on_the_gpu(device, pages, image_folder, tmp_path):
    run = tmp_path / "run"
    transferkit.finetune(image_folder, run, **SMALL, epochs=1, device=device.type)
    (image, *_) = sorted(image_folder.rglob("*.png"))
    explained = transferkit.explain(
        [str(image)], model=str(run), output=tmp_path / "maps", device=device.type
    )

    assert (run / "report.html").stat().st_size > 10_000
    assert len(explained) == 1
    assert json.loads((run / "metrics.json").read_text())["val"]["n"] > 0
