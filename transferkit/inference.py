"""Batched inference without gradient: class probabilities or features of images, in order."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transferkit.data.image_inputs import image_name
from transferkit.data.images import ImageSource
from transferkit.data.loader import iterate_batches
from transferkit.data.normalization import normalize
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.transforms import eval_transform
from transferkit.devices import Precision, autocast
from transferkit.errors import DataError
from transferkit.memory import MicroBatches
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.fusing import inference_copy
from transferkit.models.network import Network

NOT_FINITE = "the network's output is not finite (NaN or infinity); try --precision fp32"


@dataclass(frozen=True)
class Outputs:
    """Results for one batch of images.

    Attributes:
        rows: (B,) int64 positions in the list of images.
        values: (B, D), one row for each of them; features may have more axes.
        failures: (position, reason) of the images of this batch that could not be read, or whose
            values are not finite.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.floating[Any]]
    failures: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Collected:
    """Results for all images.

    Attributes:
        values: (N, D) float32; zeros for an image that could not be read.
        readable: (N,) whether each image could be read.
        reasons: Position -> reason of each image that could not be read.
    """

    values: NDArray[np.float32]
    readable: NDArray[np.bool_]
    reasons: dict[int, str]


def collect(
    parts: Iterable[Outputs], count: int, width: int, report: Callable[[int], None]
) -> Collected:
    """Gather batches into one table, one row per image.

    Args:
        parts: Batches of N images.
        count: N.
        width: D.
        report: Receives the number of images of each batch.
    """
    values = np.zeros((count, width), dtype=np.float32)
    reasons: dict[int, str] = {}
    for part in parts:
        if len(part.rows):
            values[part.rows] = part.values
        reasons.update(part.failures)
        report(len(part.rows) + len(part.failures))
    readable = np.ones(count, dtype=bool)
    readable[list(reasons)] = False
    return Collected(values, readable, reasons)


def require_readable(images: Sequence[ImageSource], table: Collected) -> None:
    """Check that all of `images` could be read.

    Raises:
        DataError: When one could not; names the first one by its path or its position.
    """
    for row, reason in table.reasons.items():
        raise DataError(f"{image_name(images[row], row)}: {reason}")


@dataclass(frozen=True)
class ComputeSettings:
    """Device, precision and batching of a pass over images.

    Attributes:
        device: Device of the network.
        precision: Precision of the forward pass; results are float32 in any case.
        batch_size: Images per batch.
        workers: Number of threads that decode images.
        allow_truncated: Whether to read JPEGs whose end is missing.
        micro_batches: Number of images that are computed at once.
    """

    device: torch.device
    precision: Precision
    batch_size: int
    workers: int
    allow_truncated: bool = False
    micro_batches: MicroBatches = field(default_factory=MicroBatches, compare=False)

    def autocast_for(self, dtype: torch.dtype) -> AbstractContextManager[object]:
        """Return the autocast context for layers with weights of a type; none for cast weights."""
        is_cast = dtype is not torch.float32
        return nullcontext() if is_cast else autocast(self.device, self.precision)


def probabilities(
    network: Network, images: Sequence[ImageSource], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Yield class probabilities (softmax of the logits, float32), batch by batch in order."""
    module, dtype = fast_module(network.module, network.blank_image(), compute)

    def forward(pixels: Tensor) -> Tensor:
        logits: Tensor = module(pixels)
        return logits.float().softmax(dim=1)

    return _run(network.preprocessing, dtype, images, compute, forward)


def features(
    extractor: FeatureExtractor, images: Sequence[ImageSource], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Yield features (float32), batch by batch in order."""
    fast = fast_extractor(extractor, compute)
    return _run(fast.network.preprocessing, fast.network.dtype, images, compute, fast)


def fast_extractor(extractor: FeatureExtractor, compute: ComputeSettings) -> FeatureExtractor:
    """Return an extractor of the same features on the module that `fast_module` returns."""
    network = extractor.network
    module, _ = fast_module(network.module, network.blank_image(), compute, extractor.inner_modules)
    if module is network.module:
        return extractor
    return replace(extractor, network=replace(network, module=module))


def fast_module(
    module: nn.Module, image: Tensor, compute: ComputeSettings, keep: Collection[str] = ()
) -> tuple[nn.Module, torch.dtype]:
    """Return the module to run for inference in the precision of `compute`.

    In bf16 it is a copy cast to bfloat16, with norms fused. In fp32 it is the module itself, so
    that results are exact. It is also the module itself where the cast copy fails because it mixes
    types; autocast handles those.

    Args:
        module: Put into eval mode.
        image: An input that the module accepts, float32; used to try the copy.
        compute: Its precision decides.
        keep: Names of modules whose own input or output is needed, so they are not fused.

    Returns:
        The module, and the type of its weights and of its input.
    """
    module.eval()
    if compute.precision is not Precision.BF16:
        return module, torch.float32
    copy = inference_copy(module, torch.bfloat16, keep)
    try:
        with torch.inference_mode():
            copy(image.bfloat16())
    except RuntimeError:
        return module, torch.float32
    return copy, torch.bfloat16


def _run(
    preprocessing: Preprocessing,
    dtype: torch.dtype,
    images: Sequence[ImageSource],
    compute: ComputeSettings,
    forward: Callable[[Tensor], Tensor],
) -> Iterator[Outputs]:
    transform = eval_transform(preprocessing)
    for batch in iterate_batches(
        images,
        transform,
        batch_size=compute.batch_size,
        workers=compute.workers,
        allow_truncated=compute.allow_truncated,
    ):  # fmt: skip
        values = torch.empty((0, 0))
        if len(batch.rows):
            pixels = normalize(torch.from_numpy(batch.pixels).to(compute.device), preprocessing)
            with torch.inference_mode(), compute.autocast_for(dtype):
                values = compute.micro_batches.compute(forward, pixels.to(dtype)).float().cpu()
        yield only_finite(Outputs(batch.rows, values.numpy(), batch.failures))


def only_finite(outputs: Outputs) -> Outputs:
    """Return the outputs without rows that hold NaN or infinity, which become failures."""
    finite = np.array([np.isfinite(row).all() for row in outputs.values], dtype=bool)
    if finite.all():
        return outputs
    broken = tuple((row, NOT_FINITE) for row in outputs.rows[~finite].tolist())
    failures = tuple(sorted(outputs.failures + broken))
    return Outputs(outputs.rows[finite], outputs.values[finite], failures)
