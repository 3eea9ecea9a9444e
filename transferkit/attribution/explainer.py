"""Attribution maps: where in an image the evidence for a class lies, computed by captum."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transferkit.attribution import Method
from transferkit.attribution.layer_views import (
    LayerView,
    find_stage_views,
    find_views,
    seen_through,
)
from transferkit.bundle import ModelBundle
from transferkit.errors import OptionError
from transferkit.models.feature_extractor import find_hook_points

_STEPS = 32
"""Points on the path of integrated gradients."""

_INTERNAL_BATCH = 8
"""Points of that path computed at once."""

_SQUARES_PER_SIDE = 7
"""The side of an occluding square is the image's shorter side divided by this."""


@dataclass(frozen=True, eq=False)
class Explainer:
    """Attributes the score of a class to places in an image.

    The score is the logit of the network's own head. For a scikit-learn classifier it is the
    log-odds, whose gradient is computed by central differences. Everything is computed in the type
    of the weights, float32, and one image at a time, so that other images in the batch change
    nothing. The model is left unchanged, in eval mode.

    Attributes:
        bundle: The model; put into eval mode.
        method: The attribution method.
        layer: The stage or module that Grad-CAM reads. None for the last stage whose feature map
            affects the score. In a network whose head reads the class token alone, that is the
            stage before the last one, because after the last attention the other tokens no longer
            affect the score.

    Raises:
        UnknownNameError: When the network has no such layer.
        OptionError: When the method takes no layer, the layer has no feature map or none that
            affects the score, or the classifier has no gradient.

    Example:
        >>> explainer = Explainer(bundle)                             # doctest: +SKIP
        >>> explainer.maps(pixels, torch.tensor([2, 0])).shape        # doctest: +SKIP
        (2, 224, 224)
    """

    bundle: ModelBundle
    method: Method = Method.GRAD_CAM
    layer: str | None = None

    def __post_init__(self) -> None:
        self.bundle.network.module.eval()
        if self.layer is not None and self.method is not Method.GRAD_CAM:
            raise OptionError(f"--layer is for --method {Method.GRAD_CAM}, got {self.method}, "
                              "which explains pixels; leave out --layer")  # fmt: skip
        if self.method is not Method.OCCLUSION:
            self._require_gradient()
        if self.method is Method.GRAD_CAM:
            _ = self._view  # raises for a layer without a map before any work

    def maps(self, pixels: Tensor, targets: Tensor) -> NDArray[np.float32]:
        """Return maps of where the evidence for a class lies.

        Args:
            pixels: (B, 3, H, W) float32, normalised, on the network's device.
            targets: (B,) int64, one class per image.

        Returns:
            (B, H, W) float32, 0 or more; 0 where nothing is evidence for the class. The unit
            depends on the method, so compare maps by their shape, not by their magnitude: weighted
            activations for Grad-CAM, a share of the score (logit or log-odds) for integrated
            gradients, score per unit of normalised pixels for saliency, lost probability for
            occlusion.
        """
        # The caller may be in inference mode, whose tensors cannot have gradients: copy them.
        with torch.inference_mode(False), torch.enable_grad():
            maps = self._attribute(pixels.detach().clone(), targets.to(pixels.device).clone())
        return maps.detach().float().cpu().numpy()

    def _attribute(self, pixels: Tensor, targets: Tensor) -> Tensor:
        _import_ipython()
        match self.method:
            case Method.GRAD_CAM:
                return self._grad_cam(pixels, targets)
            case Method.INTEGRATED_GRADIENTS:
                return self._integrated_gradients(pixels, targets)
            case Method.SALIENCY:
                return self._saliency(pixels, targets)
            case Method.OCCLUSION:
                return self._occlusion(pixels, targets)
            case _:
                assert_never(self.method)

    @torch.inference_mode()
    def probabilities(self, pixels: Tensor) -> Tensor:
        """Return the class probabilities of images.

        Args:
            pixels: (B, 3, H, W) float32, normalised, on the network's device.

        Returns:
            (B, C); float32 for a network, float64 for a classifier.
        """
        return self._probabilities(pixels)

    def _grad_cam(self, pixels: Tensor, targets: Tensor) -> Tensor:
        from captum.attr import LayerAttribution, LayerGradCam

        window = nn.Identity()
        with seen_through(window, self.bundle.network.module, self._view):
            cam = LayerGradCam(self._scores_after, window)
            coarse = cam.attribute(pixels, target=targets, relu_attributions=True)
        size = (pixels.shape[2], pixels.shape[3])
        maps: Tensor = LayerAttribution.interpolate(coarse, size, "bilinear")
        return maps[:, 0]

    def _integrated_gradients(self, pixels: Tensor, targets: Tensor) -> Tensor:
        from captum.attr import IntegratedGradients

        method = IntegratedGradients(self._scores)
        parts = [
            method.attribute(
                image, target=target, n_steps=_STEPS, internal_batch_size=_INTERNAL_BATCH
            )
            for image, target in zip(pixels[:, None], targets[:, None], strict=True)
        ]  # fmt: skip
        return torch.cat(parts).sum(dim=1).clamp(min=0)

    def _saliency(self, pixels: Tensor, targets: Tensor) -> Tensor:
        from captum.attr import Saliency

        gradients: Tensor = Saliency(self._scores).attribute(
            pixels.requires_grad_(), target=targets
        )
        return gradients.amax(dim=1)

    def _occlusion(self, pixels: Tensor, targets: Tensor) -> Tensor:
        maps = pixels.new_empty(len(pixels), *pixels.shape[2:])
        # Occlusion takes hundreds of passes per image: share them among an image's classes.
        images, numbers = torch.unique(pixels, dim=0, return_inverse=True)
        for number, image in enumerate(images):
            rows = numbers == number
            maps[rows] = self._lost_probabilities(image, targets[rows])
        return maps.clamp(min=0)

    def _lost_probabilities(self, image: Tensor, classes: Tensor) -> Tensor:
        """Return the probability lost at each place, (number of classes, H, W), of one image."""
        from captum.attr import Occlusion

        channels, height, width = image.shape
        side = max(min(height, width) // _SQUARES_PER_SIDE, 1)
        step = (side + 1) // 2
        occlusion = Occlusion(lambda images: self._probabilities(images)[:, classes])
        lost: Tensor = occlusion.attribute(
            image[None],
            sliding_window_shapes=(channels, side, side),
            strides=(channels, step, step),
        )
        return lost[:, 0].to(image.dtype)

    def _scores(self, pixels: Tensor) -> Tensor:
        """Return the logits (B, C), or the log-odds of a classifier."""
        head = self.bundle.head
        if head is None:
            logits: Tensor = self.bundle.network.module(pixels)
            return logits
        # Imported here: scikit-learn takes seconds to import, and most models do not need it.
        from transferkit.attribution.surrogate import class_log_odds

        return class_log_odds(self.bundle.extractor(pixels), head, len(self.bundle.class_names))

    def _scores_after(self, pixels: Tensor) -> Tensor:
        """Return the scores with a gradient that begins at the layer shown to `window`."""
        with torch.no_grad():
            return self._scores(pixels)

    def _probabilities(self, pixels: Tensor) -> Tensor:
        head = self.bundle.head
        if head is None:
            return self._scores(pixels).softmax(dim=1)
        rows = self.bundle.extractor(pixels).cpu().double().numpy()
        values = head.predict_proba(rows, len(self.bundle.class_names))
        return torch.from_numpy(values).to(pixels.device)

    def _require_gradient(self) -> None:
        if self.bundle.head is None:
            return
        from transferkit.classifiers.gradients import follows_features

        if not follows_features(self.bundle.head.classifier):
            raise OptionError(
                f"--method: {self.method} needs gradients, and the probabilities of k-nearest "
                "neighbours have none: they are constant until a neighbour changes; use "
                f"--method {Method.OCCLUSION}"
            )

    @cached_property
    def _view(self) -> LayerView:
        """The layer that Grad-CAM reads."""
        network = self.bundle.network
        # The head's input instead of the logits, because a new head's logits may all be 0.
        compute = self.bundle.extractor if self.bundle.head else network.features
        stages = find_stage_views(network, compute)
        if not stages:
            raise OptionError(
                f"--method: no stage of {network.name} has a feature map that affects its classes; "
                f"use --method {Method.OCCLUSION}"
            )
        if self.layer is None:
            return list(stages.values())[-1]
        views = find_views(network, find_hook_points(network, [self.layer]), compute) | stages
        if self.layer not in views:
            raise OptionError(
                f"--layer: {self.layer} of {network.name} has no feature map that affects its "
                f"classes; choose one of {', '.join(stages)}, or a module within one of them"
            )
        return views[self.layer]


def _import_ipython() -> None:
    """Import IPython, if it is installed, before captum imports a module of it.

    A tracker may be importing it in its thread. Where one thread begins with the package and the
    other one with a module in it, each waits for the other, which Python ends by an error.
    """
    with suppress(ImportError):
        import IPython  # noqa: F401
