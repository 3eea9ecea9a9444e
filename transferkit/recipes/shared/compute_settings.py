"""Resolve how a command computes: device, precision, engine, batch size and threads."""

from dataclasses import replace

import numpy as np
import torch

from transferkit.batch_size import fitting_batch_size
from transferkit.compute import ComputeSettings
from transferkit.devices import (
    USUAL_BATCH_SIZE,
    Precision,
    divide_threads,
    resolve_device,
    resolve_precision,
)
from transferkit.engines import Engine
from transferkit.engines.runtimes import is_installed, require_installed
from transferkit.errors import OptionError
from transferkit.forward_pass import create_pass, logits_of
from transferkit.memory import MicroBatches
from transferkit.models.network import Network
from transferkit.options.parsers import AUTO
from transferkit.options.shared import ComputeOptions
from transferkit.recipes.shared.inputs import reading_threads
from transferkit.reporter import Reporter

_WORTH_CONVERTING, _MORE_PER_MB = 300, 10
"""Images whose faster pass makes up for converting a network, and more for every MB of weights.

Measured on two cores with AMX: converting, trying and opening a network took 1 s and 0.02 s per
MB, and the pass became faster by 2 to 4 ms per image.
"""


def resolve_compute(
    options: ComputeOptions,
    network: Network,
    reporter: Reporter,
    *,
    engine: Engine = Engine.TORCH,
    images: int = 0,
) -> ComputeSettings:
    """Resolve device, precision, engine and threads, and move the network to its device.

    Args:
        options: The options as given.
        network: Moved to the device in place.
        reporter: Receives a notice when a batch does not fit in memory, or an engine cannot
            compute the network.
        engine: The value of `--engine`, for a command that has it.
        images: Number of images that pass through the network without gradient.

    Raises:
        OptionError: When this machine has no such device, or the device no such precision or
            engine.
        EngineError: When the engine is not installed.
    """
    divide_threads()
    device = resolve_device(options.device)
    engine = _resolve_engine(engine, device, network, images)
    precision = options.precision
    if engine is Engine.ONNXRUNTIME and precision is Precision.AUTO:
        precision = Precision.FP32
    precision = resolve_precision(precision, device)
    if engine is Engine.ONNXRUNTIME and precision is not Precision.FP32:
        raise OptionError(
            f"--engine onnxruntime computes in fp32, got --precision {precision}; leave one out"
        )
    network.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ComputeSettings(
        device,
        precision,
        USUAL_BATCH_SIZE if options.batch_size == AUTO else options.batch_size,
        reading_threads(options),
        options.allow_truncated,
        engine,
        MicroBatches(reporter.notice),
        reporter.notice,
    )


def with_fitting_batches(
    options: ComputeOptions, network: Network, compute: ComputeSettings
) -> ComputeSettings:
    """Return the settings with a batch size for passes without gradient, if the options ask for it.

    Args:
        options: The options as given.
        network: The network that the images pass through.
        compute: The settings that the options were resolved to.
    """
    if options.batch_size != AUTO or compute.device.type != "cuda":
        return compute
    _, *size = network.preprocessing.input_size
    forward = create_pass(logits_of(network), compute)
    pixels = np.zeros((1, *size, 3), dtype=np.uint8)

    def run(count: int) -> None:
        forward.run(np.repeat(pixels, count, axis=0))

    return replace(compute, batch_size=fitting_batch_size(run, compute.device))


def _resolve_engine(engine: Engine, device: torch.device, network: Network, images: int) -> Engine:
    """Return the engine to use; `auto` stays where only trying can tell."""
    if engine not in (Engine.AUTO, Engine.TORCH):
        if device.type != "cpu":
            raise OptionError(f"--engine: {engine} computes on the CPU, got --device {device.type}")
        require_installed(engine)
    if engine is not Engine.AUTO:
        return engine
    size = sum(p.nbytes for p in network.module.parameters()) / 1e6
    is_worth = images >= _WORTH_CONVERTING + _MORE_PER_MB * size
    return (
        engine
        if device.type == "cpu" and is_worth and is_installed(Engine.OPENVINO)
        else (Engine.TORCH)
    )
