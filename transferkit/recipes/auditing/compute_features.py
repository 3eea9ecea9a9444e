"""Compute the features of all images of a dataset with a frozen backbone, or read them back."""

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from transferkit.data.bad_images import require_all_readable
from transferkit.data.dataset import Dataset
from transferkit.data.views import PLAIN
from transferkit.frozen_layers import FrozenRows, frozen_features, plain_views
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.options.audit import AuditOptions
from transferkit.recipes.shared.caches import choose_cache
from transferkit.recipes.shared.compute_settings import resolve_compute, with_fitting_batches
from transferkit.reporter import Reporter


def compute_features(
    options: AuditOptions, dataset: Dataset, extractor: FeatureExtractor, reporter: Reporter
) -> NDArray[np.float32]:
    """Return the features of a dataset's N images, (N, D), from the cache where it has them.

    Raises:
        DataError: When an image can no longer be read.
        OptionError: When this machine has no such device, precision or engine, or `--cache memory`
            or `disk` has too little room.
        EngineError: When an engine that was asked for by name cannot compute them.
    """
    count, network = len(dataset.index), extractor.network
    compute = resolve_compute(options, network, reporter, engine=options.engine, images=count)
    compute = with_fitting_batches(options, network, compute)
    limit = int(options.cache_limit * 10**9)
    size = count * prod(extractor.shape) * torch.float32.itemsize
    rows = FrozenRows(
        frozen_features(extractor, compute),
        plain_views(dataset, network, compute),
        cache=choose_cache(options.cache, size, limit=limit, what="features").place,
        limit=limit,
        check=lambda failures: require_all_readable(dataset, failures),
        reporter=reporter,
    )
    features = np.empty((count, *extractor.shape), np.float32)
    for positions, values in rows.numbered(PLAIN, np.arange(count)):
        features[positions] = values.cpu().numpy()
    return features
