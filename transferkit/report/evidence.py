"""Pictures of a run's dataset for its page, and where the evidence for an answer lies in them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from transferkit.bundle import ModelBundle
from transferkit.data.images import ImageError, decode_image, read_bytes
from transferkit.data.transforms import eval_transform, normalize
from transferkit.report.thumbnails import thumbnail

_NEEDED = 352
"""Pixels of the shorter side that are decoded: a thumbnail's, twice."""


@dataclass(frozen=True)
class Album:
    """The pictures of a dataset as they were when a run began.

    Attributes:
        root: The dataset's folder now.
        sha256: Path -> digest that a picture then had.
        allow_truncated: Whether JPEGs are read whose end is missing.
    """

    root: Path
    sha256: Mapping[str, str]
    allow_truncated: bool

    def read(self, path: str) -> Image.Image | None:
        """A picture, upright; None where it has moved, changed or cannot be read."""
        try:
            data = read_bytes(self.root / path)
            if hashlib.sha256(data).hexdigest() != self.sha256.get(path):
                return None
            return decode_image(data, _NEEDED, allow_truncated=self.allow_truncated)
        except ImageError:
            return None


def draw_evidence(
    bundle: ModelBundle, pictures: Sequence[Image.Image | None], classes: Sequence[int]
) -> list[str | None]:
    """What the network sees of pictures, with the evidence for a class of each.

    Args:
        bundle: The model.
        pictures: N pictures; None for one that is not there.
        classes: N classes.

    Returns:
        N `data:` addresses, None where there is no picture.

    Raises:
        OptionError: When the model cannot be explained.
    """
    from transferkit.attribution.explainer import Explainer  # captum takes a second to import
    from transferkit.report.overlay import overlay

    network, prepare = bundle.network, eval_transform(bundle.network.preprocessing).prepare
    views = {row: prepare(image) for row, image in enumerate(pictures) if image is not None}
    drawn: list[str | None] = [None] * len(pictures)
    if not views:
        return drawn
    pixels = torch.from_numpy(np.stack(list(views.values()))).permute(0, 3, 1, 2)
    targets = torch.tensor([classes[row] for row in views], device=network.device)
    images = normalize(pixels.to(network.device), network.preprocessing)
    maps = Explainer(bundle).maps(images, targets)
    for (row, view), heat in zip(views.items(), maps, strict=True):
        drawn[row] = thumbnail(overlay(Image.fromarray(view), heat))
    return drawn
