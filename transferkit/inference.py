"""Batched passes without gradient: probabilities or features of pictures, in their order."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transferkit.data.images import Picture
from transferkit.data.loader import iterate_batches
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.transforms import eval_transform, normalize
from transferkit.devices import Precision, autocast
from transferkit.errors import DataError
from transferkit.memory import MicroBatches
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.fusing import inference_copy
from transferkit.models.network import Network


@dataclass(frozen=True)
class Outputs:
    """Rows for some of the files.

    Attributes:
        rows: (B,) int64 positions in the list of files.
        values: (B, D), one row for each of them; features may have more axes.
        failures: (row, reason) of the files of this batch that could not be read.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.floating[Any]]
    failures: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Collected:
    """The rows of all files.

    Attributes:
        values: (N, D) float32; zeros for a file that could not be read.
        readable: (N,) whether each file could be read.
        reasons: Row -> reason of those that could not.
    """

    values: NDArray[np.float32]
    readable: NDArray[np.bool_]
    reasons: dict[int, str]


def collect(
    parts: Iterable[Outputs], count: int, width: int, report: Callable[[int], None]
) -> Collected:
    """Gather batches into one table, each row in its file's place.

    Args:
        parts: Batches of `count` files.
        count: N.
        width: D.
        report: Told how many files each batch was.
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


def require_readable(pictures: Sequence[Picture], table: Collected) -> None:
    """Check that a pass could read all of `pictures`.

    Raises:
        DataError: When it could not; the first is named, by its path or its place.
    """
    for row, reason in table.reasons.items():
        picture = pictures[row]
        told = picture if isinstance(picture, str | Path) else f"picture {row}"
        raise DataError(f"{told}: {reason}")


@dataclass(frozen=True)
class ComputeSettings:
    """How a pass over files is run.

    Attributes:
        device: Where the network is.
        precision: What it computes in; results are float32 whatever this is.
        batch_size: Images a batch.
        workers: Threads that decode.
        allow_truncated: Whether JPEGs are read whose end is missing.
        micro_batches: How much of a batch fits in memory.
    """

    device: torch.device
    precision: Precision
    batch_size: int
    workers: int
    allow_truncated: bool = False
    micro_batches: MicroBatches = field(default_factory=MicroBatches, compare=False)

    def autocast_for(self, dtype: torch.dtype) -> AbstractContextManager[object]:
        """The context that layers with weights of a type compute in; none where they are cast."""
        is_cast = dtype is not torch.float32
        return nullcontext() if is_cast else autocast(self.device, self.precision)


def probabilities(
    network: Network, pictures: Sequence[Picture], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Class probabilities, softmax of the logits, float32, batch by batch in order."""
    module, dtype = fast_module(network.module, network.blank_image(), compute)

    def forward(images: Tensor) -> Tensor:
        logits: Tensor = module(images)
        return logits.float().softmax(dim=1)

    return _run(network.preprocessing, dtype, pictures, compute, forward)


def features(
    extractor: FeatureExtractor, pictures: Sequence[Picture], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Features, float32, batch by batch in order."""
    fast = fast_extractor(extractor, compute)
    return _run(fast.network.preprocessing, fast.network.dtype, pictures, compute, fast)


def fast_extractor(extractor: FeatureExtractor, compute: ComputeSettings) -> FeatureExtractor:
    """An extractor of the same features, whose network is as `fast_module` gives it."""
    network = extractor.network
    module, _ = fast_module(network.module, network.blank_image(), compute, extractor.inner_modules)
    if module is network.module:
        return extractor
    return replace(extractor, network=replace(network, module=module))


def fast_module(
    module: nn.Module, image: Tensor, compute: ComputeSettings, keep: Collection[str] = ()
) -> tuple[nn.Module, torch.dtype]:
    """What computes a module without gradient in the precision of a pass.

    In bf16 that is a copy of which everything is bfloat16, with norms fused. In fp32 it is the
    module itself, so that results are exact; and so it is where a copy would mix in numbers of
    other types, which autocast takes care of.

    Args:
        module: Put into eval mode.
        image: One that it can read.
        compute: Its precision decides.
        keep: Names of modules whose own output or input is wanted.

    Returns:
        The module, and the type of its weights and of the pictures it takes.
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
    pictures: Sequence[Picture],
    compute: ComputeSettings,
    forward: Callable[[Tensor], Tensor],
) -> Iterator[Outputs]:
    transform = eval_transform(preprocessing)
    for batch in iterate_batches(
        pictures,
        transform,
        batch_size=compute.batch_size,
        workers=compute.workers,
        allow_truncated=compute.allow_truncated,
    ):  # fmt: skip
        values = torch.empty((0, 0))
        if len(batch.rows):
            images = normalize(batch.pixels.to(compute.device), preprocessing)
            with torch.inference_mode(), compute.autocast_for(dtype):
                values = compute.micro_batches.compute(forward, images.to(dtype)).float().cpu()
        yield Outputs(batch.rows, values.numpy(), batch.failures)
