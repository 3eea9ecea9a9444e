"""Every tensor of a run is on the GPU where it is computed with: shown by fake tensors.

Fake tensors have a shape, a type and a device, but no values, so a machine without a GPU can run
each step as if on one. A tensor that was left on the CPU makes the operation fail that meets it.
Only backward passes need a driver; they compute where the forward pass did.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from transferkit import batch_size
from transferkit.bundle import ModelBundle
from transferkit.device_copies import pageable
from transferkit.models.feature_extractor import PRELOGITS, FeatureExtractor
from transferkit.models.freezing import freeze, train_mode
from transferkit.network_outputs import features
from transferkit.options.declaration import create_options
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes.finetuning.create_setup import create_setup
from transferkit.recipes.finetuning.read_dataset import read_dataset
from transferkit.recipes.finetuning.run_in_progress import FinetuneRun
from transferkit.recipes.finetuning.train_network import prepare_training
from transferkit.recipes.shared.compute_settings import with_fitting_batches
from transferkit.reporter import SILENT
from transferkit.run.stopwatch import Stopwatch
from transferkit.training.step import training_step

GPU = torch.device("cuda", 0)

RUNS = {
    "head": {},
    "last": {"unfreeze": "last:1", "views": 2},
    "cached": {"unfreeze": "last:1", "views": 2, "cache": "memory"},
    "full": {"strategy": "full", "class_weights": "balanced"},
    "gradual": {"strategy": "gradual", "epochs": 6},
}


def _values_of(tensor: Tensor) -> np.ndarray:
    return np.zeros(tensor.shape, dtype=np.float32)


def _are_on_one_device(one: Tensor, other: Tensor, *_: float) -> bool:
    return (one.shape, one.device) == (other.shape, other.device)


def _move(module: nn.Module, device: torch.device, **_: object) -> nn.Module:
    """Do what `Module.to` cannot do with fake tensors."""
    for child in module.modules():
        for name, value in child.named_parameters(recurse=False):
            moved = nn.Parameter(value.detach().to(device), requires_grad=value.requires_grad)
            child.register_parameter(name, moved)
        for name, value in child.named_buffers(recurse=False):
            child.register_buffer(name, value.to(device))
    return module


class Copies(TorchDispatchMode):
    """Copies between the CPU and the GPU, as (from, to, whether the CPU waits for it)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str, bool]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].device != result.device:
            waits = not kwargs.get("non_blocking")
            self.found.add((args[0].device.type, result.device.type, waits))
        return result


def _let_streams_do_nothing(monkeypatch) -> None:
    for name in ("Stream", "Event", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, Mock())
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: None)
    monkeypatch.setattr("transferkit.device_copies._pinned", pageable)


@pytest.fixture
def fake_gpu(monkeypatch) -> Iterator[None]:
    """A machine with a GPU; numbers that are read off its tensors are zeros."""
    resolved = "transferkit.recipes.shared.compute_settings.resolve_device"
    monkeypatch.setattr(resolved, lambda device: GPU)
    for compare in ("torch.equal", "torch.allclose"):
        monkeypatch.setattr(compare, _are_on_one_device)
    monkeypatch.setattr(Tensor, "numpy", _values_of)
    monkeypatch.setattr(nn.Module, "to", _move)
    _let_streams_do_nothing(monkeypatch)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def prepared(folder, prepare, **options):
    given = create_options(
        FinetuneOptions,
        data=folder,
        backbone="test_resnet",
        weights="none",
        image_size=32,
        **{"batch_size": 7, "cache": "off", **options},
    )
    dataset = read_dataset(given, SILENT)
    network, settings = prepare(given, dataset, SILENT)
    return FinetuneRun(
        given, dataset, network, settings, None, SILENT, Stopwatch(), lambda row: False
    )


@pytest.mark.parametrize("name", RUNS)
def test_training__computes_on_the_gpu(fake_gpu, image_folder, monkeypatch, name):
    run = prepared(image_folder, prepare_training, **RUNS[name])
    setup = create_setup(run, run.options.scheduler)

    def backward(loss):
        assert loss.device == GPU
        for parameter in setup.module.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None

    monkeypatch.setattr(Tensor, "backward", backward)
    for entry in run.settings.phases:
        freeze(setup.module, entry.phase.parameters)
        train_mode(setup.module, setup.batch_norm)
        data = setup.data_of(entry.phase)
        with Copies() as copies:
            steps = [training_step(setup, data.trained, batch) for batch in data.epoch(1)]
        assert len(steps) == 3
        assert ("cpu", "cuda", False) in copies.found
        assert not any(waits for _, _, waits in copies.found)
        assert {value.device for pair in steps for value in pair} == {GPU}
        assert data.validate().probabilities.shape == (6, 3)
    state = setup.optimizer.state_dict()["state"]
    moments = [value for of in state.values() for value in of.values() if value.ndim]
    assert moments
    assert {value.device for value in moments} == {GPU}


def test_features_and_predictions__are_computed_on_the_gpu(fake_gpu, image_folder):
    run = prepared(image_folder, prepare_training)
    files = run.dataset.index.files
    extractor = FeatureExtractor(run.network, (PRELOGITS,))
    bundle = ModelBundle(run.network, run.dataset.index.class_names, {})

    for parts in (
        features(extractor, files, run.compute),
        bundle.probabilities(files, run.compute),
    ):
        assert sum(len(part.rows) for part in parts) == len(files)


def test_batch_size__is_measured_on_the_gpu(fake_gpu, image_folder, monkeypatch):
    measured = []

    def peak(run, device):
        run()
        measured.append(device)
        return 10**6 * len(measured)

    def backward(loss):
        assert loss.device == GPU

    monkeypatch.setattr(batch_size, "_peak", peak)
    monkeypatch.setattr(batch_size, "_free", lambda device: 10**9)
    monkeypatch.setattr(Tensor, "backward", backward)
    run = prepared(image_folder, prepare_training, unfreeze="last:1", batch_size="auto")
    compute = with_fitting_batches(run.options, run.network, run.compute)

    assert measured == [GPU] * 4
    assert run.compute.batch_size == 32  # an epoch has 20 steps, or batches of the usual size
    assert compute.batch_size == 1024


def test_fake_gpu__refuses_a_tensor_that_was_left_on_the_cpu(fake_gpu):
    with pytest.raises(RuntimeError, match=r"device"):
        torch.ones(3, device="cuda") + torch.ones(3)
