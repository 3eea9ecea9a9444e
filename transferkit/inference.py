"""Batched passes without gradient: probabilities or features of pictures, in their order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transferkit.data.images import Picture
from transferkit.data.loader import iterate_batches
from transferkit.data.transforms import eval_transform, normalize
from transferkit.devices import Precision
from transferkit.errors import DataError
from transferkit.models.features import FeatureExtractor
from transferkit.models.network import Network

_DTYPES = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


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
class Pass:
    """How a pass over files is run.

    Attributes:
        device: Where the network is.
        precision: What it computes in; results are float32 whatever this is.
        batch_size: Images a batch.
        workers: Threads that decode.
    """

    device: torch.device
    precision: Precision
    batch_size: int
    workers: int

    def autocast(self) -> AbstractContextManager[object]:
        """The context that the network computes in."""
        dtype = _DTYPES.get(self.precision)
        return torch.autocast(self.device.type, dtype) if dtype else nullcontext()


def probabilities(network: Network, pictures: Sequence[Picture], how: Pass) -> Iterator[Outputs]:
    """Class probabilities, softmax of the logits, float32, batch by batch in order."""

    def compute(images: Tensor) -> Tensor:
        logits: Tensor = network.module(images)
        return logits.float().softmax(dim=1)

    return _run(network, pictures, how, compute)


def features(
    extractor: FeatureExtractor, pictures: Sequence[Picture], how: Pass
) -> Iterator[Outputs]:
    """Features, float32, batch by batch in order."""
    return _run(extractor.network, pictures, how, extractor)


def _run(
    network: Network, pictures: Sequence[Picture], how: Pass, compute: Callable[[Tensor], Tensor]
) -> Iterator[Outputs]:
    network.module.eval()
    transform = eval_transform(network.preprocessing)
    for batch in iterate_batches(
        pictures, transform, batch_size=how.batch_size, workers=how.workers
    ):  # fmt: skip
        values = torch.empty((0, 0))
        if len(batch.rows):
            images = normalize(batch.pixels.to(how.device), network.preprocessing)
            with torch.inference_mode(), how.autocast():
                values = compute(images).float().cpu()
        yield Outputs(batch.rows, values.numpy(), batch.failures)
