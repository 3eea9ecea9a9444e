"""Outputs of frozen layers: computed once per image and view, then read from a cache."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transferkit.compute import ComputeSettings
from transferkit.data.augment import Augment
from transferkit.data.dataset import Dataset
from transferkit.data.images import VERSION
from transferkit.data.loader import Batch
from transferkit.data.normalization import normalize
from transferkit.data.views import PLAIN, Views
from transferkit.device_copies import (
    after_others_have_begun,
    batch_memory,
    batches_ahead,
    begin_reading,
    to_device,
)
from transferkit.devices import Cache
from transferkit.engines.runtimes import describe_engine
from transferkit.errors import OutputError
from transferkit.forward_pass import (
    Computation,
    Forward,
    ForwardPass,
    create_pass,
    features_of,
    prefix_of,
)
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.network import Network
from transferkit.models.network_cut import NetworkCut
from transferkit.processes import ALONE, Processes
from transferkit.reporter import Reporter
from transferkit.row_cache import CacheEntry, Rows, make_room

_WRITE_BYTES, _WRITE_SECONDS = 2**28, 60.0
"""Rows are written to the cache once this many bytes are pending, or after this long."""


@dataclass(frozen=True, eq=False)
class FrozenLayers:
    """Layers that are not trained.

    Attributes:
        compute: Pixels (B, H, W, 3) uint8 to (B, ...) on `device`, without gradient.
        device: Device of the layers.
        shape: Shape of the output for one image.
        dtype: Type of the output.
        identity: Everything the output depends on besides the view, as JSON values.
    """

    compute: Forward
    device: torch.device
    shape: tuple[int, ...]
    dtype: torch.dtype
    identity: Mapping[str, Any]


@dataclass(eq=False)
class _PendingRows:
    """Rows that are computed but not in the cache yet."""

    names: list[str] = field(default_factory=list)
    parts: list[NDArray[Any]] = field(default_factory=list)
    size: int = 0
    since: float = field(default_factory=time.monotonic)

    def add(self, names: list[str], rows: NDArray[Any]) -> None:
        self.names += names
        self.parts.append(rows)
        self.size += rows.nbytes

    @property
    def is_due(self) -> bool:
        return self.size >= _WRITE_BYTES or time.monotonic() - self.since >= _WRITE_SECONDS


@dataclass(eq=False)
class FrozenRows:
    """Outputs of frozen layers for a dataset's images, one row per image and view.

    Attributes:
        layers: The layers that compute the rows.
        views: The images and their views.
        cache: Memory or disk; off computes rows whenever they are asked for.
        limit: Bytes that all cached rows on disk may take together.
        check: Receives (position, reason) of each image that cannot be read; raises if there are
            any.
        reporter: Receives the progress.
        processes: The processes among which the computation of rows is divided.
    """

    layers: FrozenLayers
    views: Views
    cache: Cache
    limit: int
    check: Callable[[Iterable[tuple[int, str]]], None]
    reporter: Reporter
    processes: Processes = ALONE
    _known: dict[int, Rows] = field(default_factory=dict)

    def numbered(
        self, view: int, order: NDArray[np.int64], batch_size: int | None = None
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield batches of (positions, rows) of a numbered view, computing missing rows first.

        Args:
            view: The number of the view.
            order: Positions of the images.
            batch_size: Images per batch; None for that of the views.
        """
        size = batch_size or self.views.batch_size
        if self.cache is Cache.OFF:
            yield from self._computed(self._views(size).numbered(view, order))
            return
        self.complete(view, order)
        known = self._known[view]
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            values = torch.from_numpy(known.gather(self.views.names[row] for row in rows))
            values = to_device(values.view(self.layers.dtype), self.layers.device)
            yield rows, _channels_last(values)

    def fresh(
        self, epoch: int, order: NDArray[np.int64], batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield batches of (positions, rows) of a view drawn for one epoch only; never cached."""
        return self._computed(self._views(batch_size).fresh(epoch, order))

    def _views(self, batch_size: int) -> Views:
        return replace(self.views, batch_size=batch_size)

    def _computed(self, batches: Iterable[Batch]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        for batch in batches:
            self.check(batch.failures)
            values = self.layers.compute(batch.pixels)
            yield batch.rows, _channels_last(values)

    def complete(self, view: int, order: NDArray[np.int64]) -> None:
        """Compute the rows of a numbered view that are not cached yet, at the given positions.

        The first call for a view must be made by all processes, for the same positions: each
        computes its share, and reads those of the others from the cache.
        """
        if self.cache is Cache.OFF:
            return
        if view not in self._known:
            self._known[view] = self._opened(view)
            if self.processes.are_several:
                # The second time, machines that share no cache compute what the others have.
                for share in (self.processes.share(order), self.processes.share_here(order)):
                    self._compute_missing(view, share)
                    self.processes.wait()
                    self._known[view] = self._opened(view)
        # Alone, all of it; else what another process could not write.
        self._compute_missing(view, order)

    def _opened(self, view: int) -> Rows:
        return self._entry(view) if self.cache is Cache.DISK else Rows()

    def _compute_missing(self, view: int, order: NDArray[np.int64]) -> None:
        """Compute and keep the rows at some positions that are not cached yet."""
        known = self._known[view]
        first = {self.views.names[row]: row for row in order[::-1]}  # copies of one file: one row
        missing = np.sort([row for name, row in first.items() if name not in known])
        if not len(missing):
            return
        batches = self._computed(self.views.numbered(view, missing.astype(np.int64)))
        ahead = batches_ahead(self.layers.device)
        with self.reporter.progress("frozen layers", len(missing)) as progress:
            pending = _PendingRows()
            try:
                begun = ((rows, begin_reading(_as_bits(values))) for rows, values in batches)
                for rows, read in after_others_have_begun(begun, ahead):
                    pending.add([self.views.names[row] for row in rows], read())
                    progress.advance(len(rows))
                    if pending.is_due:
                        self._store(view, pending)
                        pending = _PendingRows()
            finally:
                # Rows of an interrupted run serve the next one.
                self._store(view, pending)
        self._make_room(self._known[view])

    def _store(self, view: int, pending: "_PendingRows") -> None:
        if not pending.names:
            return
        names, rows = pending.names, np.concatenate(pending.parts)
        try:
            self._known[view].add(names, rows)
        except OutputError as error:
            # A disk cache that cannot be written must not end the run.
            self.reporter.notice(f"{error}; cached in memory instead")
            self._known[view] = Rows(self._known[view])
            self._known[view].add(names, rows)

    def _make_room(self, known: Rows) -> None:
        if not isinstance(known, CacheEntry):
            return
        try:
            removed = make_room(self.limit, keep=known.key)
        except OutputError as error:
            self.reporter.notice(str(error))
            return
        for entry in removed:
            self.reporter.notice(f"removed from the cache, least recently used: {entry.what}")

    def _entry(self, view: int) -> CacheEntry:
        seen = {"view": "plain"}
        if view != PLAIN:
            seen = {"view": str(view), "augment": self.views.augment, "seed": str(self.views.seed)}
        identity = {
            **self.layers.identity,
            **seen,
            "preprocessing": self.views.preprocessing.to_config(),
            "decoding": VERSION,
        }
        empty = _as_bits(torch.empty(0, *self.layers.shape, dtype=self.layers.dtype)).numpy()
        return CacheEntry(identity, empty.dtype, empty.shape[1:])


def _channels_last(values: Tensor) -> Tensor:
    # Cached and computed maps need the same memory format: kernels round differently otherwise.
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def _as_bits(values: Tensor) -> Tensor:
    """Return values for a numpy array: bfloat16, which numpy lacks, becomes its bits as int16."""
    values = values.detach().contiguous()
    return values.view(torch.int16) if values.dtype is torch.bfloat16 else values


def frozen_prefix(network: Network, cut: NetworkCut, compute: ComputeSettings) -> FrozenLayers:
    """Return the layers of a network before the first trained one.

    Raises:
        EngineError: When an engine that was asked for by name cannot compute them.
    """
    computation = prefix_of(network, cut)
    forward = create_pass(computation, compute)
    return FrozenLayers(
        lambda pixels: forward.run(pixels).to(forward.dtype),
        compute.device,
        cut.shape,
        forward.dtype,
        _identity(computation, forward, compute),
    )


def frozen_features(extractor: FeatureExtractor, compute: ComputeSettings) -> FrozenLayers:
    """Return the layers that compute an extractor's features, (B, D) float32.

    Raises:
        EngineError: When an engine that was asked for by name cannot compute them.
    """
    computation = features_of(extractor)
    forward = create_pass(computation, compute)
    return FrozenLayers(
        lambda pixels: forward.run(pixels).float(),
        compute.device,
        extractor.shape,
        torch.float32,
        _identity(computation, forward, compute),
    )


def plain_views(dataset: Dataset, network: Network, compute: ComputeSettings) -> Views:
    """Return a dataset's images as validation and prediction see them."""
    return Views(
        files=dataset.index.files,
        names=dataset.sha256,
        preprocessing=network.preprocessing,
        augment=Augment.NONE,
        seed=0,
        batch_size=compute.batch_size,
        workers=compute.workers,
        allow_truncated=compute.allow_truncated,
        allocate=batch_memory(compute.device),
    )


def empty_prefix(network: Network) -> FrozenLayers:
    """Return no layers at all: the images enter a network that is trained from its first layer."""
    preprocessing, device = network.preprocessing, network.device

    def normalized(pixels: NDArray[np.uint8]) -> Tensor:
        return normalize(to_device(torch.from_numpy(pixels), device), preprocessing)

    return FrozenLayers(normalized, device, preprocessing.input_size, torch.float32, {})


def _identity(
    computation: Computation, forward: ForwardPass, compute: ComputeSettings
) -> dict[str, Any]:
    return {
        **computation.identity(),
        "precision": str(compute.precision),
        "device": compute.device.type,
        "engine": describe_engine(forward.engine),
        "torch": torch.__version__,
    }
