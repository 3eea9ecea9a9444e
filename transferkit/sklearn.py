"""Backbones as a transformer of scikit-learn, for its pipelines and searches.

>>> from sklearn.linear_model import LogisticRegression
>>> from sklearn.pipeline import make_pipeline
>>> from transferkit.sklearn import BackboneFeatures
>>> model = make_pipeline(BackboneFeatures("resnet18"), LogisticRegression())
>>> model.fit(paths, labels).predict(["new.jpg"])  # doctest: +SKIP
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from transferkit.data.images import Picture
from transferkit.errors import DataError, OptionError
from transferkit.inference import collect, features, require_readable
from transferkit.models import PRETRAINED
from transferkit.models.feature_extractor import POOLED, FeatureExtractor
from transferkit.options.shared import FeatureOptions
from transferkit.recipes.shared.backbone import create_extractor
from transferkit.recipes.shared.compute_settings import resolve_compute
from transferkit.reporting import SILENT

__all__ = ["BackboneFeatures"]


class BackboneFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pictures to features of a pretrained backbone.

    The parameters mean what the options of `transferkit extract-features` mean. Nothing is learnt
    from the pictures: `fit` loads the backbone.

    Args:
        backbone: Its name.
        weights: `pretrained`, `none` or a file.
        layer: Where features are taken, a name or several.
        pool: auto, avg, max, gem or flatten.
        image_size: Side of the pictures in pixels; None for the backbone's.
        resize: crop, pad or squash; None for the backbone's.
        patches: For edges8.
        batch_size: Pictures a batch.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32, bf16 or fp16.
        workers: Threads that decode; None for one a core.
        seed: Of random weights.

    Attributes:
        extractor_: The backbone with its layers, after `fit`.
        n_features_out_: How many features a picture has, after `fit`.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        weights: str = PRETRAINED,
        layer: str | Sequence[str] = POOLED,
        pool: str = "auto",
        image_size: int | None = None,
        resize: str | None = None,
        patches: int | None = None,
        batch_size: int = 32,
        device: str = "auto",
        precision: str = "auto",
        workers: int | None = None,
        seed: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.layer = layer
        self.pool = pool
        self.image_size = image_size
        self.resize = resize
        self.patches = patches
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.workers = workers
        self.seed = seed

    def fit(self, X: Sequence[Picture], y: object = None) -> "BackboneFeatures":
        """Load the backbone; the pictures are only counted.

        Args:
            X: N paths, opened pictures, or arrays of (H, W, 3) uint8, such as one of (N, H, W, 3).
            y: Not used.

        Raises:
            DataError: When there are no pictures.
            UnknownNameError: When there is no such backbone or layer.
            WeightsError: When the weights cannot be had or do not fit.
            OptionError: When a parameter is out of range.
        """
        _pictures(X)
        self.extractor_ = self._create_extractor()
        (self.n_features_out_,) = self.extractor_.shape
        return self

    def transform(self, X: Sequence[Picture]) -> NDArray[np.float32]:
        """The features of N pictures, (N, n_features_out_) float32.

        Raises:
            DataError: When a picture cannot be read; the message says which.
        """
        check_is_fitted(self)
        pictures = _pictures(X)
        compute = resolve_compute(self._options(), self.extractor_.network, SILENT)
        parts = features(self.extractor_, pictures, compute)
        table = collect(parts, len(pictures), self.n_features_out_, lambda count: None)
        require_readable(pictures, table)
        return table.values

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """A name for each feature: its layer and its place in it."""
        check_is_fitted(self)
        return np.array(self.extractor_.columns, dtype=object)

    def _options(self) -> FeatureOptions:
        layer = (self.layer,) if isinstance(self.layer, str) else tuple(self.layer)
        return FeatureOptions(
            layer=layer,
            pool=self.pool,  # type: ignore[arg-type]
            image_size=self.image_size,
            resize=self.resize,  # type: ignore[arg-type]
            patches=self.patches,
            batch_size=self.batch_size,
            device=self.device,  # type: ignore[arg-type]
            precision=self.precision,  # type: ignore[arg-type]
            workers=self.workers,
            seed=self.seed,
        )

    def _create_extractor(self) -> FeatureExtractor:
        extractor = create_extractor(
            self._options(), backbone=self.backbone, weights=str(self.weights)
        )
        if len(extractor.shape) > 1:
            raise OptionError("pool='none' gives maps, and scikit-learn takes vectors; use flatten")
        return extractor

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = True
        tags.no_validation = True
        return tags


def _pictures(X: Sequence[Picture]) -> list[Picture]:
    if isinstance(X, str | Path):
        raise DataError(f"got one path, {X}; expected a list of pictures")
    pictures = list(X)
    if not pictures:
        raise DataError("got no pictures")
    return pictures
