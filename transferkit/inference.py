"""Batched passes without gradient: logits or features of a list of files, in their order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transferkit.data.loader import iterate_batches
from transferkit.data.transforms import eval_transform, normalize
from transferkit.devices import Precision
from transferkit.models.network import Network

_DTYPES = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


@dataclass(frozen=True)
class Outputs:
    """Rows for some of the files.

    Attributes:
        rows: (B,) int64 positions in the list of files.
        values: (B, D) float32, one row for each of them.
        failures: (row, reason) of the files of this batch that could not be read.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float32]
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


def probabilities(network: Network, files: Sequence[Path], how: Pass) -> Iterator[Outputs]:
    """Class probabilities of `files`, softmax of the logits, batch by batch in order."""
    return _run(network, files, how, lambda images: network.module(images).float().softmax(dim=1))


def features(network: Network, files: Sequence[Path], how: Pass) -> Iterator[Outputs]:
    """Feature vectors of `files`, what enters the head, batch by batch in order."""
    return _run(network, files, how, network.features)


def _run(
    network: Network, files: Sequence[Path], how: Pass, compute: Callable[[Tensor], Tensor]
) -> Iterator[Outputs]:
    network.module.eval()
    transform = eval_transform(network.preprocessing)
    for batch in iterate_batches(files, transform, batch_size=how.batch_size, workers=how.workers):
        values = torch.empty((0, 0))
        if len(batch.rows):
            images = normalize(batch.pixels.to(how.device), network.preprocessing)
            with torch.inference_mode(), how.autocast():
                values = compute(images).float().cpu()
        yield Outputs(batch.rows, values.numpy(), batch.failures)
