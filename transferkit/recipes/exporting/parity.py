"""Compare an exported model with what `predict` computes in fp32."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from transferkit.bundle import ModelBundle
from transferkit.compute import ComputeSettings
from transferkit.data.images import ImageFile
from transferkit.devices import Precision
from transferkit.errors import EngineError
from transferkit.export_formats import Classify
from transferkit.inference import (
    Collected,
    Outputs,
    Reading,
    at_once,
    collect,
    run_batches,
    with_scores,
)
from transferkit.reporter import Reporter

LARGEST_DIFFERENCE = 1e-4
"""Largest accepted difference of a probability, without quantization."""


@dataclass(frozen=True)
class Parity:
    """How an exported model's probabilities compare with those of `predict`.

    Attributes:
        images: Number of validation images that were compared.
        by: What ran the exported model.
        largest: Largest difference of a probability.
        mean: Mean difference of all probabilities.
        labels: Number of images with another label.
    """

    images: int
    by: str
    largest: float
    mean: float
    labels: int

    def require_equal(self) -> None:
        """Check that the exported model does what the model does.

        Raises:
            EngineError: When a label differs, or a probability by more than 1e-4.
        """
        if self.labels or not self.largest <= LARGEST_DIFFERENCE:
            raise EngineError(
                f"the exported model, run by {self.by}, differs from predict: {self.labels} of "
                f"{self.images} labels, and probabilities by up to {self.largest:.1e}, more than "
                f"{LARGEST_DIFFERENCE:.0e}; nothing was written"
            )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Passes over the same images, whose results can be compared.

    Attributes:
        bundle: The model.
        files: The images.
        workers: Number of threads that decode images.
        reporter: Receives the progress.
    """

    bundle: ModelBundle
    files: Sequence[ImageFile]
    workers: int
    reporter: Reporter

    def predicted(self) -> Collected:
        """Return what the model itself computes, in fp32 on the CPU."""
        reading = self._reading
        compute = ComputeSettings(
            torch.device("cpu"), Precision.FP32, reading.batch_size, reading.workers
        )
        with self.reporter.progress("predicting", len(self.files)) as progress:
            parts = self.bundle.probabilities(self.files, compute)
            return self._collect(parts, progress.advance)

    def classified(self, classify: Classify, what: str) -> Collected:
        """Return what an exported model computes."""
        preprocessing = self.bundle.network.preprocessing
        with self.reporter.progress(what, len(self.files)) as progress:
            parts = run_batches(at_once(classify), preprocessing, self.files, self._reading)
            if self.bundle.usual is not None:
                parts = map(with_scores, parts)
            return self._collect(parts, progress.advance)

    @property
    def _reading(self) -> Reading:
        return Reading(32, self.workers)

    def _collect(self, parts: Iterator[Outputs], report: Callable[[int], None]) -> Collected:
        return collect(parts, len(self.files), len(self.bundle.class_names), report)


def compare(expected: Collected, found: Collected, by: str) -> Parity | None:
    """Return how the results of two passes compare; None where no image could be read."""
    readable = expected.readable & found.readable
    if not readable.any():
        return None
    ours, theirs = expected.values[readable], found.values[readable]
    gaps: NDArray[np.float32] = np.abs(ours - theirs)
    labels = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
    return Parity(int(readable.sum()), by, float(gaps.max()), float(gaps.mean()), labels)
