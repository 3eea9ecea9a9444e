"""What a network computes of images: class probabilities or features, in order."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from transferkit.compute import ComputeSettings
from transferkit.data.images import ImageSource
from transferkit.device_copies import begin_reading
from transferkit.forward_pass import (
    create_pass,
    features_of,
    logits_and_scores_of,
    logits_of,
)
from transferkit.inference import Outputs, run_batches, with_scores
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.network import Network
from transferkit.models.usual_images import UsualImages

OutputsOf = Callable[[Sequence[ImageSource]], Iterator[Outputs]]
"""Images to their values, batch by batch in order; for images that come in parts.

The network is prepared once, before the first part.
"""


def probabilities_in_parts(network: Network, compute: ComputeSettings) -> OutputsOf:
    """Return the function of images that yields class probabilities (softmax, float32)."""
    forward = create_pass(logits_of(network), compute)

    def begin(pixels: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        return begin_reading(forward.run(pixels).float().softmax(dim=1))

    return lambda images: run_batches(begin, network.preprocessing, images, compute.reading)


def probabilities_and_scores_in_parts(
    network: Network, usual: UsualImages, compute: ComputeSettings
) -> OutputsOf:
    """Return the function of images that yields class probabilities and how unusual each is."""
    forward = create_pass(logits_and_scores_of(network, usual), compute)

    def begin(pixels: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        values = forward.run(pixels).float()
        values[:, :-1] = values[:, :-1].softmax(dim=1)
        return begin_reading(values)

    return lambda images: map(
        with_scores, run_batches(begin, network.preprocessing, images, compute.reading)
    )


def features(
    extractor: FeatureExtractor, images: Sequence[ImageSource], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Yield features (float32), batch by batch in order."""
    return features_in_parts(extractor, compute)(images)


def features_in_parts(extractor: FeatureExtractor, compute: ComputeSettings) -> OutputsOf:
    """Return the function of images that yields their features."""
    forward = create_pass(features_of(extractor), compute)
    preprocessing = extractor.network.preprocessing
    return lambda images: run_batches(forward.begin, preprocessing, images, compute.reading)
