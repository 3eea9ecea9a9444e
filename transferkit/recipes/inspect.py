"""Look inside a backbone: its layers as a table, its kernels and feature maps as drawings."""

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
from transferkit.data.normalization import normalize
from transferkit.data.transforms import eval_transform
from transferkit.errors import DataError, OptionError
from transferkit.files import numbered, require_new
from transferkit.models import EDGES8, NO_WEIGHTS
from transferkit.models.anatomy.layer_table import LayerRow, Role, list_layers
from transferkit.models.building import without_drawing
from transferkit.models.create_network import create_network
from transferkit.models.feature_extractor import POOLED, PRELOGITS, FeatureExtractor
from transferkit.models.network import Network
from transferkit.models.stages import HEAD
from transferkit.options.inspect import InspectOptions
from transferkit.recipes.shared.backbone import tell_weights_note
from transferkit.report.layer_drawings import draw_kernels, draw_maps
from transferkit.reporter import SILENT, Reporter

_LONGEST_STEM = 40
"""Characters of an image's name that the name of a drawing begins with."""


@dataclass(frozen=True)
class Drawing:
    """A drawing that was written.

    Attributes:
        path: The PNG file.
        shows: What it shows, in a few words.
    """

    path: Path
    shows: str


@dataclass(frozen=True)
class Inspection:
    """The layers of a backbone, and the drawings that were asked for.

    Attributes:
        backbone: Name of the backbone, or of the run.
        input_size: (channels, height, width) of its input.
        layers: `pooled`, `prelogits` and the stages, then every module in order of execution.
        drawings: The drawings that were written.
    """

    backbone: str
    input_size: tuple[int, int, int]
    layers: tuple[LayerRow, ...]
    drawings: tuple[Drawing, ...] = ()

    @property
    def counted(self) -> list[LayerRow]:
        """The rows that together contain every parameter once."""
        return [row for row in self.layers if row.role in (Role.LAYER, Role.PARAMETER)]

    @property
    def weights(self) -> int:
        """Number of elements of all weights."""
        return sum(row.weights for row in self.counted)

    @property
    def biases(self) -> int:
        """Number of elements of all biases."""
        return sum(row.biases for row in self.counted)


def inspect(options: InspectOptions, reporter: Reporter = SILENT) -> Inspection:
    """Return the layers of a backbone, and write the drawings that the options ask for.

    Raises:
        UnknownNameError: When there is no such backbone or layer.
        OptionError: When the backbone cannot take that image size, or a layer has no map.
        BundleError: When there is no such run.
        WeightsError: When the weights for a drawing are not available.
        DataError: When the image cannot be read.
        OutputError: When a drawing cannot be written.
    """
    name = str(options.model or options.backbone).rstrip("/").rsplit("/", 1)[-1]
    default = numbered(Path("inspect", name.replace(":", "-")))
    folder = options.output or next(path for path in default if not path.exists())
    network = _create_network(options)
    tell_weights_note(network, reporter)
    layers = list_layers(network)
    drawings: list[Drawing] = []
    if options.kernels:
        path = folder / "kernels.png"
        require_new(path, overwrite=options.overwrite)
        drawings.append(_draw_kernels(network, layers, name, path))
    if options.activations:
        drawings += _draw_activations(network, layers, options, name, folder)
    size = network.preprocessing.input_size
    return Inspection(name, size, tuple(layers), tuple(drawings))


def _create_network(options: InspectOptions) -> Network:
    """Create the backbone; a table alone needs no weights, so none are loaded or drawn."""
    name = model_name(options.model) if options.model else str(options.backbone)
    # The weights of edges8 are computed by formula; it takes no others.
    weights = options.weights if options.draws or name == EDGES8 else NO_WEIGHTS
    with nullcontext() if options.draws else without_drawing():
        return create_network(name, weights=weights, image_size=options.image_size)


def _draw_kernels(network: Network, layers: Sequence[LayerRow], title: str, path: Path) -> Drawing:
    modules = dict(network.module.named_modules())
    for row in layers:
        module = modules.get(row.name)
        if row.role is Role.LAYER and isinstance(module, nn.Conv2d):
            count, channels, height, width = module.weight.shape
            shows = f"{count} kernels {height} x {width} x {channels} of {row.name}"
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
    """Draw the feature maps of an image, one file per layer."""
    image = Path(str(options.activations))
    pixels = _read_pixels(image, network)
    stages = {row.name for row in layers if row.role is Role.STAGE} - {POOLED, PRELOGITS, HEAD}
    names = options.layer or tuple(stage.name for stage in network.stages if stage.name in stages)
    images = normalize(torch.tensor(pixels)[None], network.preprocessing)
    with torch.inference_mode():
        maps = FeatureExtractor(network, names).maps(images)
    maps = _with_positions(maps, network, named=bool(options.layer))
    paths = {name: folder / f"{image.stem[:_LONGEST_STEM]}-{name}.png" for name in maps}
    for path in paths.values():
        require_new(path, overwrite=options.overwrite)
    for name, (values,) in maps.items():
        channels, height, width = values.shape
        shown = min(options.channels, channels)
        shows = f"{shown} of {channels} channels {height} x {width} of {name}"
        heading = f"{title}\n{shows}, those that vary most"
        path = paths[name]
        draw_maps(values.numpy(), pixels, path, count=shown, title=heading)
        yield Drawing(path, shows)


def _read_pixels(image: Path, network: Network) -> NDArray[np.uint8]:
    """Return an image as the network sees it, (H, W, 3)."""
    transform = eval_transform(network.preprocessing)
    try:
        return transform(read_image(image, transform.needed), np.random.default_rng(0))
    except ImageError as error:
        raise DataError(f"{image}: {error}; name another image") from error


def _with_positions(
    maps: Mapping[str, Tensor], network: Network, *, named: bool
) -> dict[str, Tensor]:
    """Return the maps with more than one position.

    Raises:
        OptionError: When there are none, or when the layers are `named` and one is missing.
    """
    drawable = {name: values for name, values in maps.items() if values[0, 0].numel() > 1}
    missing = [name for name in maps if name not in drawable]
    if missing and (named or not drawable):
        raise OptionError(
            f"--layer: {missing[0]} of {network.name} has one position, so it is no map; name "
            "an earlier layer, or use a larger --image-size"
        )
    return drawable
