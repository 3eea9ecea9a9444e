"""What a network computes of images: class probabilities or features, in order."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from transferkit.compute import ComputeSettings
from transferkit.data.images import ImageSource
from transferkit.forward_pass import create_pass, features_of, logits_of
from transferkit.inference import Outputs, run_batches
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.network import Network


def probabilities(
    network: Network, images: Sequence[ImageSource], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Yield class probabilities (softmax of the logits, float32), batch by batch in order."""
    forward = create_pass(logits_of(network), compute)

    def probabilities_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        array: NDArray[np.float32] = forward.run(pixels).float().softmax(dim=1).cpu().numpy()
        return array

    return run_batches(probabilities_of, network.preprocessing, images, compute.reading)


def features(
    extractor: FeatureExtractor, images: Sequence[ImageSource], compute: ComputeSettings
) -> Iterator[Outputs]:
    """Yield features (float32), batch by batch in order."""
    forward = create_pass(features_of(extractor), compute)
    return run_batches(forward.values, extractor.network.preprocessing, images, compute.reading)
