"""Look inside a backbone: its layers as a table, its kernels and feature maps as pictures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transferkit.bundle import model_name
from transferkit.data.images import ImageError, read_image
from transferkit.data.transforms import eval_transform, normalize
from transferkit.errors import DataError, OptionError
from transferkit.models import EDGES8, NO_WEIGHTS
from transferkit.models.anatomy.layer_table import LayerRow, Role, list_layers
from transferkit.models.building import without_drawing
from transferkit.models.feature_extractor import POOLED, PRELOGITS, FeatureExtractor
from transferkit.models.network import Network
from transferkit.models.sources import create_network
from transferkit.models.stages import HEAD
from transferkit.options.commands import InspectOptions
from transferkit.report.exhibits import draw_kernels, draw_maps

_LONGEST_STEM = 40
"""Letters of a picture's name that a drawing's begins with."""


@dataclass(frozen=True)
class Drawing:
    """A picture that was drawn.

    Attributes:
        path: The PNG file.
        shows: What it shows, in a few words.
    """

    path: Path
    shows: str


@dataclass(frozen=True)
class Inspection:
    """What was found in a backbone.

    Attributes:
        backbone: Its name, or that of the run.
        input_size: (channels, height, width) of its pictures.
        layers: `pooled`, `prelogits` and the stages, then every module in order of execution.
        drawings: What was drawn.
    """

    backbone: str
    input_size: tuple[int, int, int]
    layers: tuple[LayerRow, ...]
    drawings: tuple[Drawing, ...] = ()

    @property
    def counted(self) -> list[LayerRow]:
        """The rows that together hold every parameter once."""
        return [row for row in self.layers if row.role in (Role.LAYER, Role.PARAMETER)]

    @property
    def weights(self) -> int:
        """How many numbers its weights hold."""
        return sum(row.weights for row in self.counted)

    @property
    def biases(self) -> int:
        """How many its biases hold."""
        return sum(row.biases for row in self.counted)


def inspect(options: InspectOptions) -> Inspection:
    """The layers of a backbone, measured and by formula, and what the options ask to draw.

    Raises:
        UnknownNameError: When there is no such backbone or layer.
        OptionError: When it cannot read pictures of the size asked for, or a layer has no map.
        BundleError: When there is no such run.
        WeightsError: When the weights for a drawing cannot be had.
        DataError: When the picture cannot be read.
        OutputError: When a drawing cannot be written.
    """
    name = str(options.model or options.backbone).rstrip("/").rsplit("/", 1)[-1]
    folder = options.output or Path("inspect", name.replace(":", "-"))
    network = _create_network(options)
    layers = list_layers(network)
    drawings: list[Drawing] = []
    if options.kernels:
        drawings.append(_draw_kernels(network, layers, name, folder))
    if options.activations:
        drawings += _draw_activations(network, layers, options, name, folder)
    size = network.preprocessing.input_size
    return Inspection(name, size, tuple(layers), tuple(drawings))


def _create_network(options: InspectOptions) -> Network:
    """The backbone, with whatever weights where only its table is wanted."""
    name = model_name(options.model) if options.model else str(options.backbone)
    # The weights of edges8 are a formula, and nothing else can be had for it.
    weights = options.weights if options.draws or name == EDGES8 else NO_WEIGHTS
    with nullcontext() if options.draws else without_drawing():
        return create_network(name, weights=weights, image_size=options.image_size)


def _draw_kernels(
    network: Network, layers: Sequence[LayerRow], title: str, folder: Path
) -> Drawing:
    modules = dict(network.module.named_modules())
    for row in layers:
        module = modules.get(row.name)
        if row.role is Role.LAYER and isinstance(module, nn.Conv2d):
            count, channels, height, width = module.weight.shape
            shows = f"{count} kernels {height} x {width} x {channels} of {row.name}"
            path = folder / "kernels.png"
            kernels = module.weight.detach().float().numpy()
            draw_kernels(kernels, path, title=f"{title}\n{shows}")
            return Drawing(path, shows)
    raise OptionError(f"--kernels: {network.name} has no convolution; try --activations IMAGE")


def _draw_activations(
    network: Network,
    layers: Sequence[LayerRow],
    options: InspectOptions,
    title: str,
    folder: Path,
) -> Iterator[Drawing]:
    """Draw maps of the picture, a file for each layer."""
    picture = Path(str(options.activations))
    pixels = _read(picture, network)
    stages = {row.name for row in layers if row.role is Role.STAGE} - {POOLED, PRELOGITS, HEAD}
    names = options.layer or tuple(stage.name for stage in network.stages if stage.name in stages)
    images = normalize(torch.from_numpy(pixels)[None], network.preprocessing)
    with torch.inference_mode():
        maps = FeatureExtractor(network, names).maps(images)
    maps = _with_positions(maps, network, named=bool(options.layer))
    for name, (values,) in maps.items():
        channels, height, width = values.shape
        shown = min(options.channels, channels)
        path = folder / f"{picture.stem[:_LONGEST_STEM]}-{name}.png"
        told = f"{shown} of {channels} channels {height} x {width} of {name}"
        told_above = f"{title}\n{told}, those that vary most"
        draw_maps(values.numpy(), pixels.transpose(1, 2, 0), path, count=shown, title=told_above)
        yield Drawing(path, told)


def _read(picture: Path, network: Network) -> NDArray[np.uint8]:
    """(3, H, W) as the network sees it."""
    transform = eval_transform(network.preprocessing)
    try:
        return transform(read_image(picture, transform.needed), np.random.default_rng(0))
    except ImageError as error:
        raise DataError(f"{picture}: {error}; name another picture") from error


def _with_positions(
    maps: Mapping[str, Tensor], network: Network, *, named: bool
) -> dict[str, Tensor]:
    """The maps of more than one position; where layers are `named` all must have them."""
    drawable = {name: values for name, values in maps.items() if values[0, 0].numel() > 1}
    missing = [name for name in maps if name not in drawable]
    if missing and (named or not drawable):
        raise OptionError(
            f"--layer: {missing[0]} of {network.name} has one position and no map to draw; name a "
            "layer before it, or take a larger --image-size"
        )
    return drawable
