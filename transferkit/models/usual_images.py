"""Tell images that are unlike those that a model was validated on, by their nearest neighbours.

An image's score is its cosine distance to its nearest validation images in feature space (Sun et
al., Out-of-distribution detection with deep nearest neighbors, ICML 2022). A validation image's own
score leaves itself out.
"""

from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from transferkit.errors import BundleError
from transferkit.models.digests import tensors_digest

NEIGHBOURS = 5
"""Nearest images whose mean distance is the score."""

_PASSING = 0.95
"""Share of validation images whose score is usual."""

FEWEST = 20
"""With fewer validation images there are no usual ones to compare with."""

MOST = 1000
"""At most this many validation images are compared with, so that file and comparison stay small."""

_SIMILARITIES = 2**23
"""How many similarities, of 4 bytes each, are computed at once."""


class UsualImages(nn.Module):
    """The features of usual images, and how far others may be from them.

    Args:
        features: (N, D) float32, rows of length 1.
        rows: (N,) int64, the images' positions among the validation images.
        threshold: Images with a higher score are unusual.
    """

    def __init__(self, features: Tensor, rows: NDArray[np.int64], threshold: float) -> None:
        super().__init__()
        self.register_buffer("features", features)
        self.rows, self.threshold = rows, threshold

    @classmethod
    def measure(cls, features: NDArray[np.float32], rows: NDArray[np.int64]) -> "UsualImages":
        """Take images as usual.

        Args:
            features: (N, D) of N >= `FEWEST` images.
            rows: (N,) their positions among the validation images.
        """
        # What is saved in half the space is also what the threshold is measured with.
        saved = functional.normalize(torch.from_numpy(features)).half()
        usual = cls(functional.normalize(saved.float()), rows, 0.0)
        usual.threshold = float(np.quantile(usual.own_scores(), _PASSING, method="higher"))
        return usual

    features: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores (B,) float32 of images with the features (B, D), 0 to 2."""
        return _scores(functional.normalize(features.float()) @ self.features.T)

    def own_scores(self) -> NDArray[np.float32]:
        """Return the scores (N,) of the usual images themselves, each compared with the others."""
        return _scores_among(self.features)

    def digest(self) -> str:
        """Return the SHA-256 of the features."""
        return tensors_digest(self.state_dict())

    def save(self, file: Path) -> None:
        """Write it as .safetensors."""
        tensors = {"features": self.features.half(), "rows": torch.from_numpy(self.rows)}
        safetensors.torch.save_file(tensors, file, {"threshold": repr(self.threshold)})

    @classmethod
    def load(cls, file: Path) -> "UsualImages":
        """Read what `save` wrote.

        Raises:
            BundleError: When it is missing or damaged.
        """
        try:
            with safetensors.safe_open(file, "pt") as opened:
                threshold = float((opened.metadata() or {})["threshold"])
                features, rows = opened.get_tensor("features"), opened.get_tensor("rows")
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise BundleError(f"{file}: cannot be read ({error}); train the model again") from error
        if features.ndim != 2 or len(features) < FEWEST or rows.shape != features.shape[:1]:
            raise BundleError(f"{file}: is damaged; train the model again")
        return cls(functional.normalize(features.float()), rows.long().numpy(), threshold)


def distances_among(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far each image is from all others: its score (N,), 0 to 2, without itself.

    Args:
        features: (N, D) of N >= `FEWEST` images.
    """
    return _scores_among(functional.normalize(torch.from_numpy(features)))


def _scores_among(features: Tensor) -> NDArray[np.float32]:
    """Return the scores (N,) of images among themselves, from features (N, D) of length 1."""
    scores = []
    # In parts, because all similarities at once would take memory that grows with the square of N.
    rows = max(1, min(MOST, _SIMILARITIES // len(features)))
    for start in range(0, len(features), rows):
        part = features[start : start + rows]
        similarity = part @ features.T
        similarity.diagonal(start).fill_(-1.0)
        scores.append(_scores(similarity).numpy())
    return np.concatenate(scores)


def _scores(similarity: Tensor) -> Tensor:
    """Return the mean distance (B,) of the nearest neighbours, from cosines (B, N)."""
    nearest = similarity.topk(NEIGHBOURS, dim=1).values
    return 1 - nearest.mean(dim=1)
