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
from transferkit.inference import Outputs, PreparedPass
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.network import Network
from transferkit.models.usual_images import UsualImages


def probabilities_in_parts(network: Network, compute: ComputeSettings) -> PreparedPass:
    """Return the pass that yields class probabilities (softmax, float32)."""
    forward = create_pass(logits_of(network), compute)

    def begin(pixels: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        return begin_reading(forward.run(pixels).float().softmax(dim=1))

    return PreparedPass(begin, network.preprocessing, compute.reading)


def probabilities_and_scores_in_parts(
    network: Network, usual: UsualImages, compute: ComputeSettings
) -> PreparedPass:
    """Return the pass that yields class probabilities and how unusual each image is."""
    forward = create_pass(logits_and_scores_of(network, usual), compute)

    def begin(pixels: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        values = forward.run(pixels).float()
        values[:, :-1] = values[:, :-1].softmax(dim=1)
        return begin_reading(values)

    return PreparedPass(begin, network.preprocessing, compute.reading, has_scores=True)


def features(
    extractor: FeatureExtractor, images: Sequence[ImageSource], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Yield features (float32), batch by batch in order."""
    return features_in_parts(extractor, compute)(images)


def features_in_parts(extractor: FeatureExtractor, compute: ComputeSettings) -> PreparedPass:
    """Return the pass that yields the features of images."""
    forward = create_pass(features_of(extractor), compute)
    return PreparedPass(forward.begin, extractor.network.preprocessing, compute.reading)
