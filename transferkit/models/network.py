"""A backbone and its head, the same for every library that builds one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from transferkit.data.preprocessing import Preprocessing
from transferkit.errors import OptionError
from transferkit.models.digests import tensors_digest
from transferkit.models.stages import Stage


@dataclass(frozen=True)
class Layout:
    """Layout of a network's feature maps and tokens.

    Attributes:
        class_token: Whether the first token represents the whole image.
        prefix_tokens: Number of tokens before those of the image's positions.
        channels_last: Whether maps are (B, H, W, C) instead of (B, C, H, W).
    """

    class_token: bool = False
    prefix_tokens: int = 0
    channels_last: bool = False


class ForwardParts(NamedTuple):
    """What a network computes on the way to its logits.

    Attributes:
        last_map: The output of the last stage, nearly always a map or tokens.
        features: The pooled features that enter the head, (B, feature_dim).
        logits: (B, num_classes); None where the head was not run.
    """

    last_map: object
    features: Tensor
    logits: Tensor | None


@dataclass(frozen=True)
class Source:
    """A library of backbones.

    Attributes:
        prefix: Prefix of its names on the command line, with the colon; empty for none.
        names: `names()` returns its architectures.
        build: `build(architecture, model_args, config)` returns a network with random weights.
        new_head: `new_head(network, num_classes)` gives the network's module an untrained head.
        find_stages: `find_stages(module, heads, input_size)` returns the stages.
        forward_parts: `forward_parts(network, images, head)` runs the network, and its head if
            `head` is true.
        layout: `layout(module)` returns the layout of its maps and tokens.
        by_formula: Whether the weights are computed by formula instead of downloaded.
    """

    prefix: str
    names: Callable[[], Sequence[str]]
    build: Callable[[str, Mapping[str, Any], Mapping[str, Any]], "Network"]
    new_head: Callable[["Network", int], None]
    find_stages: Callable[[nn.Module, tuple[str, ...], tuple[int, int, int]], tuple[Stage, ...]]
    forward_parts: Callable[["Network", Tensor, bool], ForwardParts]
    layout: Callable[[nn.Module], Layout]
    by_formula: bool = False


@dataclass(frozen=True, eq=False)
class Network:
    """A backbone and its head, in eval mode except during training.

    Attributes:
        module: Maps images (B, C, H, W) float32 to logits (B, num_classes); C is 3 or 1.
        source: The library that builds it.
        architecture: The library's name for it.
        model_args: Arguments that build it, besides the name.
        config: timm's pretrained configuration: preprocessing, licence, categories and more.
        heads: Names of the head's modules, nearly always one; empty without a head.
        num_classes: Width of the logits.
        stages: The backbone's stages from the stem to the last, then the head.
        weights_note: What the user should know about the weights that were loaded; often empty.
    """

    module: nn.Module
    source: Source
    architecture: str
    model_args: Mapping[str, Any]
    config: Mapping[str, Any]
    heads: tuple[str, ...]
    num_classes: int
    stages: tuple[Stage, ...]
    weights_note: str = ""

    @property
    def name(self) -> str:
        """Name as the command line takes it, without a weights tag."""
        return f"{self.source.prefix}{self.architecture}"

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing that the network expects of its input."""
        return Preprocessing.from_config(self.config)

    @cached_property
    def feature_dim(self) -> int:
        """Length of a feature vector."""
        with torch.no_grad():
            return int(self.features(self.blank_image()).shape[1])

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, and of the images that the module takes."""
        return next(self.module.parameters()).dtype

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features that enter the head.

        Args:
            images: (B, C, H, W) float32, normalised.

        Returns:
            (B, feature_dim).
        """
        return self.forward_parts(images).features

    def forward_parts(self, images: Tensor, *, head: bool = False) -> ForwardParts:
        """Run the backbone, and the head if `head` is true.

        Args:
            images: (B, C, H, W) float32, normalised.
            head: Whether to run the head's modules as well.
        """
        return self.source.forward_parts(self, images, head)

    @property
    def last_layers(self) -> list[nn.Linear | nn.Conv2d]:
        """The layers whose outputs are the logits; several if logits are averaged."""
        heads = [self.module.get_submodule(name) for name in self.heads]
        inner = [layer for head in heads for layer in head.modules()]
        return [
            layer
            for layer in inner
            if (isinstance(layer, nn.Linear) and layer.out_features == self.num_classes)
            or (isinstance(layer, nn.Conv2d) and layer.out_channels == self.num_classes)
        ]

    @torch.no_grad()
    def has_linear_head(self) -> bool:
        """Return whether the logits are a single linear layer of the features, with a bias."""
        layers = self.last_layers
        if len(layers) != 1 or layers[0].bias is None:
            return False
        weight = layers[0].weight.flatten(1)
        if weight.shape[1] != self.feature_dim:
            return False
        image = torch.rand(self.blank_image().shape, generator=torch.Generator().manual_seed(0))
        parts = self.forward_parts(image.to(self.device, self.dtype), head=True)
        expected = torch.nn.functional.linear(parts.features, weight, layers[0].bias)
        return parts.logits is not None and torch.allclose(parts.logits, expected, 1e-3, 1e-4)

    @property
    def layout(self) -> Layout:
        """Layout of the maps and tokens."""
        return self.source.layout(self.module)

    def backbone_digest(self) -> str:
        """Return the SHA-256 of all tensors but the head's."""
        in_head = tuple(f"{head}." for head in self.heads)
        state = self.module.state_dict()
        return tensors_digest({k: v for k, v in state.items() if not k.startswith(in_head)})

    def blank_image(self) -> Tensor:
        """Return one image of zeros, (1, C, H, W)."""
        size = self.preprocessing.input_size
        return torch.zeros(1, *size, device=self.device, dtype=self.dtype)

    def with_new_head(self, num_classes: int) -> "Network":
        """Return the same backbone with an untrained head, or without a head for 0 classes.

        The module is changed in place, so this network must not be used afterwards.
        """
        # Keeps the old parameters alive, so that no new one can have the id of an old one.
        old = list(self.module.parameters())
        self.source.new_head(self, num_classes)
        self.module.eval()
        known = {id(parameter) for parameter in old}
        new = [name for name, p in self.module.named_parameters() if id(p) not in known]
        heads = tuple(dict.fromkeys(name.rpartition(".")[0] for name in new)) or self.heads
        config = {k: v for k, v in self.config.items() if not k.startswith("label_")}
        return replace(
            self,
            heads=heads,
            num_classes=num_classes,
            stages=self.source.find_stages(self.module, heads, self.preprocessing.input_size),
            config={**config, "num_classes": num_classes},
        )

    def with_preprocessing(self, preprocessing: Preprocessing) -> "Network":
        """Return the same network with other preprocessing.

        Raises:
            OptionError: When the network cannot take images of that size.
        """
        network = replace(self, config={**self.config, **preprocessing.to_config()})
        if preprocessing.input_size != self.preprocessing.input_size:
            network.check_input_size()
        return network

    @torch.no_grad()
    def check_input_size(self) -> None:
        """Check with a blank image that the network works at its input size.

        Raises:
            OptionError: When it does not.
        """
        try:
            self.module(self.blank_image())
        except (RuntimeError, AssertionError, ValueError) as error:
            _, height, width = self.preprocessing.input_size
            raise OptionError(
                f"--image-size: {self.name} cannot take images of {height} x {width} px "
                f"({' '.join(str(error).split())[:200]}); leave the option out or try another size"
            ) from error


def module_names(root: nn.Module, wanted: object) -> tuple[str, ...]:
    """Return the dotted names under `root` of a module, or of each module in a tuple or list."""
    if isinstance(wanted, tuple | list | nn.ModuleList):
        return tuple(name for one in wanted for name in module_names(root, one))
    return tuple(name for name, module in root.named_modules() if module is wanted and name)
