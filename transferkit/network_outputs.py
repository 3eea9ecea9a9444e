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


def probabilities(
    network: Network, images: Sequence[ImageSource], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Yield class probabilities (softmax of the logits, float32), batch by batch in order."""
    forward = create_pass(logits_of(network), compute)

    def begin(pixels: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        return begin_reading(forward.run(pixels).float().softmax(dim=1))

    return run_batches(begin, network.preprocessing, images, compute.reading)


def probabilities_and_scores(
    network: Network, usual: UsualImages, images: Sequence[ImageSource], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Yield class probabilities, and how unusual each image is, batch by batch in order."""
    forward = create_pass(logits_and_scores_of(network, usual), compute)

    def begin(pixels: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        values = forward.run(pixels).float()
        values[:, :-1] = values[:, :-1].softmax(dim=1)
        return begin_reading(values)

    for part in run_batches(begin, network.preprocessing, images, compute.reading):
        yield with_scores(part)


def features(
    extractor: FeatureExtractor, images: Sequence[ImageSource], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Yield features (float32), batch by batch in order."""
    return features_in_parts(extractor, compute)(images)


def features_in_parts(
    extractor: FeatureExtractor, compute: ComputeSettings
) -> Callable[[Sequence[ImageSource]], Iterator[Outputs]]:
    """Return the function of images that yields their features, for images that come in parts.

    The network is prepared once, before the first part.
    """
    forward = create_pass(features_of(extractor), compute)
    preprocessing = extractor.network.preprocessing
    return lambda images: run_batches(forward.begin, preprocessing, images, compute.reading)
