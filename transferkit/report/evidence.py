"""Images of a run's dataset for its page, and where in them the evidence for a prediction lies."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from transferkit.bundle import ModelBundle
from transferkit.data.images import ImageError, ImageFile, decode_image, read_bytes
from transferkit.data.normalization import normalize
from transferkit.data.transforms import eval_transform
from transferkit.errors import StoreError
from transferkit.report.thumbnails import thumbnail

_DECODED_SIDE = 352
"""Pixels of the shorter side that are decoded: twice the side of a thumbnail."""


@dataclass(frozen=True)
class RecordedImages:
    """The images of a dataset as they were when a run began.

    Attributes:
        sha256: Path -> digest of the image when the run began.
        allow_truncated: Whether to read JPEGs whose end is missing.
    """

    sha256: Mapping[str, str]
    allow_truncated: bool

    def read(self, path: str, file: ImageFile) -> Image.Image | None:
        """Return an image, upright; None if it has moved, changed or cannot be read.

        Args:
            path: Its path in the dataset.
            file: Where it is now.
        """
        try:
            data = read_bytes(file)
            if hashlib.sha256(data).hexdigest() != self.sha256.get(path):
                return None
            return decode_image(data, _DECODED_SIDE, allow_truncated=self.allow_truncated)
        except (ImageError, StoreError):
            return None


def draw_evidence(
    bundle: ModelBundle, images: Sequence[Image.Image | None], classes: Sequence[int]
) -> list[str | None]:
    """Return what `evidence_in` draws as small images: N `data:` addresses, None for a missing one.

    Raises:
        OptionError: When the model cannot be explained.
    """
    drawn = evidence_in(bundle, images, classes)
    return [None if image is None else thumbnail(image) for image in drawn]


def evidence_in(
    bundle: ModelBundle, images: Sequence[Image.Image | None], classes: Sequence[int]
) -> list[Image.Image | None]:
    """Draw each image as the network sees it, with the evidence for one class.

    Args:
        bundle: The model.
        images: N images; None for a missing one.
        classes: N classes, one per image.

    Returns:
        N images of the network's input size, None for a missing one.

    Raises:
        OptionError: When the model cannot be explained.
    """
    from transferkit.attribution.explainer import Explainer  # captum takes a second to import
    from transferkit.report.overlay import overlay

    network, prepare = bundle.network, eval_transform(bundle.network.preprocessing).prepare
    views = {row: prepare(image) for row, image in enumerate(images) if image is not None}
    drawn: list[Image.Image | None] = [None] * len(images)
    if not views:
        return drawn
    pixels = torch.from_numpy(np.stack(list(views.values())))
    targets = torch.tensor([classes[row] for row in views], device=network.device)
    inputs = normalize(pixels.to(network.device), network.preprocessing)
    maps = Explainer(bundle).maps(inputs, targets)
    for (row, view), heat in zip(views.items(), maps, strict=True):
        drawn[row] = overlay(Image.fromarray(view), heat)
    return drawn
