"""Where in a picture the evidence for a class lies, by captum."""

from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transferkit.attribution import Method
from transferkit.attribution.opened_layers import (
    LayerView,
    find_stage_views,
    find_views,
    seen_through,
)
from transferkit.bundle import ModelBundle
from transferkit.errors import OptionError
from transferkit.models.feature_extractor import find_points

_STEPS = 32
_AT_ONCE = 8
_SQUARES_A_SIDE = 7


@dataclass(frozen=True, eq=False)
class Explainer:
    """Leads the score of a class back to the places of a picture.

    The score is the logit of a network's own head; of a classifier of scikit-learn it is the
    log-odds, whose gradient is found by central differences. Everything is computed in the type of
    the weights, float32, and every picture by itself, so that neighbours in a batch change nothing.
    The model stays as it is, in eval mode.

    Attributes:
        bundle: The model; put into eval mode.
        method: How.
        layer: The stage or module that Grad-CAM looks at; None for the last stage whose map has a
            say in the score: of a network that reads the class token alone, the one before the
            last, since behind the last attention the other tokens have none.

    Raises:
        UnknownNameError: When the network has no such layer.
        OptionError: When the method takes no layer, the layer has no map or no say, or the
            classifier has no gradient.

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
                              "which looks at the pixels; leave --layer out")  # fmt: skip
        if self.method is not Method.OCCLUSION:
            self._require_gradient()
        if self.method is Method.GRAD_CAM:
            _ = self._view  # finds layers without a map before any work

    def maps(self, pixels: Tensor, targets: Tensor) -> NDArray[np.float32]:
        """Where the evidence for a class lies.

        Args:
            pixels: (B, 3, H, W) float32, normalised, on the network's device.
            targets: (B,) int64, a class for each picture.

        Returns:
            (B, H, W) float32, 0 or more: 0 where nothing speaks for the class, and else in the
            unit of the method, so that maps are compared by their shape, not by their size:
            of Grad-CAM weighted activations, of integrated gradients a share of the score (logit
            or log-odds), of saliency score per unit of normalised pixels, of occlusion lost
            probability.
        """
        # Whatever mode the caller is in: gradients are wanted, of tensors that can have them.
        with torch.inference_mode(False), torch.enable_grad():
            found = self._found(pixels.detach().clone(), targets.to(pixels.device).clone())
        return found.detach().float().cpu().numpy()

    def _found(self, pixels: Tensor, targets: Tensor) -> Tensor:
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
        """What the model says of pictures.

        Args:
            pixels: (B, 3, H, W) float32, normalised, on the network's device.

        Returns:
            (B, C), float32 of a network, float64 of a classifier.
        """
        return self._probabilities(pixels)

    def _grad_cam(self, pixels: Tensor, targets: Tensor) -> Tensor:
        from captum.attr import LayerAttribution, LayerGradCam

        window = nn.Identity()
        with seen_through(window, self.bundle.network.module, self._view):
            cam = LayerGradCam(self._scores_after, window)
            coarse = cam.attribute(pixels, target=targets, relu_attributions=True)
        size = (pixels.shape[2], pixels.shape[3])
        found: Tensor = LayerAttribution.interpolate(coarse, size, "bilinear")
        return found[:, 0]

    def _integrated_gradients(self, pixels: Tensor, targets: Tensor) -> Tensor:
        from captum.attr import IntegratedGradients

        method = IntegratedGradients(self._scores)
        parts = [
            method.attribute(
                picture, target=target, n_steps=_STEPS, internal_batch_size=_AT_ONCE
            )
            for picture, target in zip(pixels[:, None], targets[:, None], strict=True)
        ]  # fmt: skip
        return torch.cat(parts).sum(dim=1).clamp(min=0)

    def _saliency(self, pixels: Tensor, targets: Tensor) -> Tensor:
        from captum.attr import Saliency

        found: Tensor = Saliency(self._scores).attribute(pixels.requires_grad_(), target=targets)
        return found.amax(dim=1)

    def _occlusion(self, pixels: Tensor, targets: Tensor) -> Tensor:
        found = pixels.new_empty(len(pixels), *pixels.shape[2:])
        # Hundreds of passes a picture: one with several classes is passed through once for all.
        pictures, numbers = torch.unique(pixels, dim=0, return_inverse=True)
        for number, picture in enumerate(pictures):
            rows = numbers == number
            found[rows] = self._lost_probabilities(picture, targets[rows])
        return found.clamp(min=0)

    def _lost_probabilities(self, picture: Tensor, classes: Tensor) -> Tensor:
        """(number of classes, H, W) of one picture."""
        from captum.attr import Occlusion

        channels, height, width = picture.shape
        side = max(min(height, width) // _SQUARES_A_SIDE, 1)
        step = (side + 1) // 2
        occlusion = Occlusion(lambda pictures: self._probabilities(pictures)[:, classes])
        lost: Tensor = occlusion.attribute(
            picture[None],
            sliding_window_shapes=(channels, side, side),
            strides=(channels, step, step),
        )
        return lost[:, 0].to(picture.dtype)

    def _scores(self, pixels: Tensor) -> Tensor:
        """(B, C) logits, or log-odds of a classifier."""
        head = self.bundle.head
        if head is None:
            logits: Tensor = self.bundle.network.module(pixels)
            return logits
        # Here and not above: scikit-learn takes seconds to import, and most models need none.
        from transferkit.attribution.surrogate import class_log_odds

        return class_log_odds(self.bundle.extractor(pixels), head, len(self.bundle.class_names))

    def _scores_after(self, pixels: Tensor) -> Tensor:
        """The scores, with a gradient from where a layer is seen through a window."""
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
                f"--method: {self.method} follows gradients, and the probabilities of k-nearest "
                "neighbours have none: they stay as they are until a neighbour changes; take "
                f"--method {Method.OCCLUSION}"
            )

    @cached_property
    def _view(self) -> LayerView:
        """Where Grad-CAM looks."""
        network = self.bundle.network
        # What enters the head, and not the logits: those of a new head may all be 0.
        compute = self.bundle.extractor if self.bundle.head else network.features
        stages = find_stage_views(network, compute)
        if not stages:
            raise OptionError(
                f"--method: no stage of {network.name} has a map that leads to its classes; take "
                f"--method {Method.OCCLUSION}"
            )
        if self.layer is None:
            return list(stages.values())[-1]
        views = find_views(network, find_points(network, [self.layer]), compute) | stages
        if self.layer not in views:
            raise OptionError(
                f"--layer: {self.layer} of {network.name} has no map that leads to its classes, "
                f"as {', '.join(stages)} have; name one of these or a module within them"
            )
        return views[self.layer]
