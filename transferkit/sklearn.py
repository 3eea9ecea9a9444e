"""Pretrained backbones as a scikit-learn transformer, for pipelines and hyperparameter searches.

>>> from sklearn.linear_model import LogisticRegression
>>> from sklearn.pipeline import make_pipeline
>>> from transferkit.sklearn import BackboneFeatures
>>> model = make_pipeline(BackboneFeatures(), LogisticRegression())
>>> model.fit(paths, labels).predict(["new.jpg"])  # doctest: +SKIP
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from transferkit.data.image_inputs import as_images
from transferkit.data.images import ImageSource
from transferkit.errors import DataError, OptionError, WeightsError
from transferkit.inference import collect, require_readable
from transferkit.models import PRETRAINED
from transferkit.models.digests import tensors_digest
from transferkit.models.feature_extractor import POOLED, FeatureExtractor
from transferkit.network_outputs import features
from transferkit.options.dataset_options import FeatureOptions
from transferkit.options.shared import DEFAULT_BACKBONE
from transferkit.recipes.shared.backbone import create_extractor
from transferkit.recipes.shared.compute_settings import resolve_compute
from transferkit.reporter import SILENT

__all__ = ["BackboneFeatures"]


_DIGEST = "weights_sha256"


class BackboneFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transform images to features of a pretrained backbone.

    The parameters are the options of `transferkit extract-features`. Nothing is learned from the
    images: `fit` loads the backbone.

    Args:
        backbone: Name of the backbone.
        weights: `pretrained`, `none` or a weights file.
        layer: Layer or layers whose outputs are the features.
        pool: auto, avg, max, gem or flatten.
        image_size: Side, or (height, width), of the input in pixels; None for the backbone's own.
        resize: crop, pad or squash; None for the backbone's own.
        patches: For edges8 only: number of patches per side over which edges are summed.
        batch_size: Images per batch.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32, bf16 or fp16.
        workers: Number of threads that decode images; None for one per core.
        seed: Seed of random weights.

    Attributes:
        extractor_: The backbone and its layers, after `fit`.
        n_features_out_: Number of features per image, after `fit`.
    """

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        *,
        weights: str = PRETRAINED,
        layer: str | Sequence[str] = POOLED,
        pool: str = "auto",
        image_size: int | tuple[int, int] | None = None,
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

    def fit(self, X: Any, y: object = None) -> "BackboneFeatures":
        """Load the backbone. The images are not read.

        Args:
            X: N paths, PIL images, arrays and the like, see `as_images`: as a list, an array
                (N, H, W, C), or a table or an array with one column.
            y: Ignored.

        Raises:
            DataError: When there are no images.
            ImageTypeError: When there is something else among the images.
            UnknownNameError: When there is no such backbone or layer.
            WeightsError: When the weights are not available or do not fit.
            OptionError: When a parameter is out of range.
        """
        _as_list(X)
        self.extractor_ = self._create_extractor()
        (self.n_features_out_,) = self.extractor_.shape
        return self

    def fit_transform(self, X: Any, y: object = None) -> NDArray[np.float32]:
        """Load the backbone and return the features; raises what `fit` and `transform` raise."""
        images = _as_list(X)  # a generator can be read once
        return self.fit(images, y).transform(images)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the features of N images, (N, n_features_out_) float32.

        Raises:
            DataError: When an image cannot be read; names it.
        """
        check_is_fitted(self)
        images = _as_list(X)
        compute = resolve_compute(self._options(), self.extractor_.network, SILENT)
        parts = features(self.extractor_, images, compute)
        table = collect(parts, len(images), self.n_features_out_, lambda count: None)
        require_readable(images, table)
        return table.values

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return a name for each feature: its layer and its index in that layer."""
        check_is_fitted(self)
        return np.array(self.extractor_.columns, dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters, and a digest of the weights instead of the backbone.

        The backbone is loaded again, so that files of skops and pickle stay small and hold nothing
        that skops cannot read.
        """
        state = dict(super().__getstate__())
        extractor = state.pop("extractor_", None)
        if extractor is not None:
            state[_DIGEST] = tensors_digest(extractor.network.module.state_dict())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the parameters, and load the backbone if it was loaded before.

        Raises:
            WeightsError: When the weights are not available, or have changed since.
        """
        parameters = {name: value for name, value in state.items() if name != _DIGEST}
        super().__setstate__(parameters)
        if _DIGEST not in state:
            return
        self.extractor_ = self._create_extractor()
        if tensors_digest(self.extractor_.network.module.state_dict()) != state[_DIGEST]:
            raise WeightsError(
                f"weights of {self.backbone}: not those that this BackboneFeatures was fitted "
                f"with; expected the same weights={self.weights!r} as then"
            )

    def _options(self) -> FeatureOptions:
        return FeatureOptions(
            layer=self.layer,  # type: ignore[arg-type]
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
            self._options(), SILENT, backbone=self.backbone, weights=str(self.weights)
        )
        if len(extractor.shape) > 1:
            raise OptionError(
                "pool='none' gives feature maps, scikit-learn expects vectors; use pool='flatten'"
            )
        return extractor

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = True
        tags.no_validation = True
        return tags


def _as_list(X: Any) -> list[ImageSource]:
    images = as_images(X, alone=False)
    if not images:
        raise DataError("got no images; expected a list of at least one")
    return images
