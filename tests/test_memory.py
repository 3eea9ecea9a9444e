"""Micro-batches: a batch that does not fit in memory gives the same gradients in halves."""

import pytest
import torch
from torch import nn

import transferkit
from transferkit.errors import TransferKitError
from transferkit.memory import MicroBatches, is_out_of_memory

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "batch_size": 8}


def out_of_memory() -> RuntimeError:
    return RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")


def test_micro_batches__halve_until_they_fit_and_stay_that_small():
    notices, tried = [], []
    batches = MicroBatches(notices.append)

    def attempt(size):
        tried.append(size)
        if size > 3:
            raise out_of_memory()
        return size

    assert batches.run(10, attempt, lambda: tried.append("undone")) == 3
    assert batches.run(8, attempt, lambda: None) == 3
    assert batches.run(2, attempt, lambda: None) == 2
    assert tried == [10, "undone", 5, "undone", 3, 3, 2]
    assert [text.split(":")[0] for text in notices] == [
        "out of memory with 10 images at a time", "out of memory with 5 images at a time",
    ]  # fmt: skip


def test_micro_batches__report_one_image_too_large_and_pass_other_errors_on():
    def attempt(size):
        raise out_of_memory()

    with pytest.raises(TransferKitError, match=r"out of memory with one image at a time"):
        MicroBatches().run(4, attempt, lambda: None)
    with pytest.raises(RuntimeError, match="other"):
        MicroBatches().run(
            4, lambda size: (_ for _ in ()).throw(RuntimeError("other")), lambda: None
        )
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


@pytest.mark.parametrize("strategy", ["full", "partial", "features"])
def test_finetune__continues_in_micro_batches_when_memory_runs_out(
    strategy, few_images, tmp_path, monkeypatch
):
    """Simulate a small machine with layers that run out of memory beyond three images."""
    options = {**SMALL, "strategy": strategy}
    if strategy != "features":
        options |= {"epochs": 2, "views": 1, "bn": "eval", "augment": "none"}
    if strategy == "partial":
        options["unfreeze"] = "last:1"
    whole = transferkit.finetune(few_images, tmp_path / "whole", **options)
    forward = nn.Conv2d.forward

    def small_machine(self, images):
        if len(images) > 3 and images.shape[-1] >= 4:
            raise out_of_memory()
        return forward(self, images)

    monkeypatch.setattr(nn.Conv2d, "forward", small_machine)
    options["cache"] = "off"
    halved = transferkit.finetune(few_images, tmp_path / "halved", **options)

    assert abs(whole.metrics["val"]["log_loss"] - halved.metrics["val"]["log_loss"]) < 1e-4
    for one, other in zip(whole.history, halved.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-4)
