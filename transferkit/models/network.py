"""A backbone with its head, whichever library built it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from transferkit.data.preprocessing import Preprocessing
from transferkit.errors import OptionError
from transferkit.models.digests import tensors_digest
from transferkit.models.stages import Stage


@dataclass(frozen=True)
class Layout:
    """How a network's feature maps and tokens are laid out.

    Attributes:
        class_token: Whether the first token stands for the whole picture.
        prefix_tokens: How many tokens before those of the positions.
        channels_last: Whether maps are (B, H, W, C) and not (B, C, H, W).
    """

    class_token: bool = False
    prefix_tokens: int = 0
    channels_last: bool = False


@dataclass(frozen=True)
class Source:
    """A library that backbones come from.

    Attributes:
        prefix: What stands before its names on the command line, with the colon.
        names: Its architectures.
        build: Architecture, arguments and configuration to a network with random weights.
        new_head: Gives the network's module a fresh head of so many classes.
        find_stages: A module, its heads and its input size to its stages.
        forward_parts: Images to the last map or tokens, and to what enters the head; with True
            the head runs too.
        layout: A module to the layout of its maps and tokens.
        by_formula: Whether its weights are computed, so that there are none to download.
    """

    prefix: str
    names: Callable[[], Sequence[str]]
    build: Callable[[str, Mapping[str, Any], Mapping[str, Any]], "Network"]
    new_head: Callable[["Network", int], None]
    find_stages: Callable[[nn.Module, tuple[str, ...], tuple[int, int, int]], tuple[Stage, ...]]
    forward_parts: Callable[["Network", Tensor, bool], tuple[object, Tensor]]
    layout: Callable[[nn.Module], Layout]
    by_formula: bool = False


@dataclass(frozen=True, eq=False)
class Network:
    """A backbone and its head, in eval mode except while it is trained.

    Attributes:
        module: (B, 3, H, W) float32 to logits (B, num_classes).
        source: The library it comes from.
        architecture: The library's name for it.
        model_args: Arguments beyond the name that build it.
        config: timm's pretrained configuration: preprocessing, licence, categories ...
        heads: Names of the head's modules, nearly always one; none where there is no head.
        num_classes: Width of the logits.
        stages: The backbone's stages, stem to last, then the head.
        embedded_name: The name of a backbone that comes with the package; None for all others.
    """

    module: nn.Module
    source: Source
    architecture: str
    model_args: Mapping[str, Any]
    config: Mapping[str, Any]
    heads: tuple[str, ...]
    num_classes: int
    stages: tuple[Stage, ...]
    embedded_name: str | None = None

    @property
    def name(self) -> str:
        """The name that the command line takes, without a weights tag."""
        return self.embedded_name or self.library_name

    @property
    def library_name(self) -> str:
        """The architecture with its library's prefix, which any program can build it from."""
        return f"{self.source.prefix}{self.architecture}"

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """What the network expects of its pixels."""
        return Preprocessing.from_config(self.config)

    @cached_property
    def feature_dim(self) -> int:
        """Length D of a feature vector."""
        with torch.no_grad():
            return int(self.features(self.blank_image()).shape[1])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of the pictures it takes."""
        return next(self.module.parameters()).dtype

    def features(self, images: Tensor) -> Tensor:
        """What enters the head, pooled.

        Args:
            images: (B, 3, H, W) float32, normalised.

        Returns:
            (B, feature_dim).
        """
        return self.forward_parts(images)[1]

    def forward_parts(self, images: Tensor, *, head: bool = False) -> tuple[object, Tensor]:
        """A pass up to the head.

        Args:
            images: (B, 3, H, W) float32, normalised.
            head: Whether the head's modules run as well.

        Returns:
            What the last stage puts out, nearly always a map or tokens, and (B, feature_dim).
        """
        return self.source.forward_parts(self, images, head)

    @property
    def layout(self) -> Layout:
        """How its maps and tokens are laid out."""
        return self.source.layout(self.module)

    def backbone_digest(self) -> str:
        """Return the SHA-256 of all tensors but the head's."""
        in_head = tuple(f"{head}." for head in self.heads)
        state = self.module.state_dict()
        return tensors_digest({k: v for k, v in state.items() if not k.startswith(in_head)})

    def blank_image(self) -> Tensor:
        """One picture of zeros, (1, 3, H, W)."""
        size = self.preprocessing.input_size
        return torch.zeros(1, *size, device=self.device, dtype=self.dtype)

    def with_new_head(self, num_classes: int) -> "Network":
        """The same backbone with an untrained head, or with 0 classes without one.

        The module is changed in place: this network must not be used any more.
        """
        # Held on to, so that no new parameter can be taken for an old one.
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
        """The same network with another record of preprocessing.

        Raises:
            OptionError: When the network cannot read pictures of that size.
        """
        network = replace(self, config={**self.config, **preprocessing.to_config()})
        if preprocessing.input_size != self.preprocessing.input_size:
            network.check_input_size()
        return network

    @torch.no_grad()
    def check_input_size(self) -> None:
        """Run a blank image through.

        Raises:
            OptionError: When the network cannot read pictures of its input size.
        """
        try:
            self.module(self.blank_image())
        except (RuntimeError, AssertionError, ValueError) as error:
            _, height, width = self.preprocessing.input_size
            raise OptionError(
                f"--image-size: {self.name} cannot read pictures of {height} x {width} px "
                f"({' '.join(str(error).split())[:200]}); leave the option out or try another size"
            ) from error


def module_names(root: nn.Module, wanted: object) -> tuple[str, ...]:
    """The dotted names under `root` of a module, or of each in a tuple or list of modules."""
    if isinstance(wanted, tuple | list | nn.ModuleList):
        return tuple(name for one in wanted for name in module_names(root, one))
    return tuple(name for name, module in root.named_modules() if module is wanted and name)
