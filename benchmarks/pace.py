"""Measure the milliseconds per image of networks: a forward pass without gradient, and a step.

    python benchmarks/pace.py tf_efficientnet_lite0 resnet18 --precision bf16

A step is a forward and a backward pass through everything. Both are computed as `predict` and
`finetune --strategy full` do, in batches of 32 and at each network's own image size. The networks
take turns, so that a shared machine slows all of them; the median of the rounds is printed. Weights
are random, which does not affect the time.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Annotated

import torch
import typer

from transferkit.compute import ComputeSettings
from transferkit.devices import Precision, autocast
from transferkit.forward_pass import fast_module
from transferkit.models import NO_WEIGHTS
from transferkit.models.create_network import create_network
from transferkit.models.depthwise import train_depthwise_in_full_precision

CPU = torch.device("cpu")
BATCH = 32


def passes(name: str, precision: Precision) -> dict[str, Callable[[], None]]:
    """Return the forward pass and the step of a network, each on a batch of its own."""
    compute = ComputeSettings(CPU, precision, BATCH, workers=1)
    inference, training = (create_network(name, weights=NO_WEIGHTS) for _ in range(2))
    for network in (inference, training):
        network.module.to(memory_format=torch.channels_last)
    module, dtype = fast_module(inference.module, inference.blank_image(), compute)
    train_depthwise_in_full_precision(training.module, CPU, precision)
    images = torch.rand(BATCH, *inference.preprocessing.input_size)
    images = images.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward() -> None:
        with compute.autocast_for(dtype):
            module(images.to(dtype))

    def step() -> None:
        with autocast(CPU, precision):
            logits = training.module(images)
        logits.float().logsumexp(dim=1).sum().backward()

    return {"forward": forward, "step": step}


def main(
    names: list[str],
    precision: Annotated[Precision, typer.Option()] = Precision.FP32,
    rounds: int = 7,
) -> None:
    """Time all networks in turn and print a table."""
    measured: dict[tuple[str, str], list[float]] = {}
    timed = {name: passes(name, precision) for name in names}
    for _ in range(rounds + 1):
        for name, kinds in timed.items():
            for kind, run in kinds.items():
                started = time.perf_counter()
                run()
                seconds = time.perf_counter() - started
                measured.setdefault((name, kind), []).append(1000 * seconds / BATCH)
    print("| network | precision | forward, ms per image | step, ms per image |\n|---|---|---|---|")
    for name in names:
        # The first round warms up.
        forward, step = (median(measured[name, kind][1:]) for kind in ("forward", "step"))
        print(f"| {name} | {precision} | {forward:.1f} | {step:.1f} |")


if __name__ == "__main__":
    typer.run(main)
