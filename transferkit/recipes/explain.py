"""Draw what a model's predictions rest on: one drawing per input, in the order of the inputs."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transferkit.attribution import Method
from transferkit.attribution.explainer import Explainer
from transferkit.compute import ComputeSettings
from transferkit.data.image_inputs import image_name
from transferkit.data.images import ImageSource
from transferkit.data.loader import iterate_batches
from transferkit.data.normalization import normalize
from transferkit.data.transforms import eval_transform
from transferkit.devices import Precision
from transferkit.errors import UnknownNameError, name_some
from transferkit.files import numbered, require_new, require_place
from transferkit.inference import NOT_FINITE
from transferkit.options.explain import ExplainOptions
from transferkit.recipes.shared.compute_settings import resolve_compute
from transferkit.recipes.shared.inputs import expand_inputs
from transferkit.recipes.shared.load_model import load_model
from transferkit.report.overlay import overlay
from transferkit.report.panels import Panel, draw_panels, enlarged
from transferkit.reporter import SILENT, Reporter

_LONGEST_STEM = 200
"""Bytes of an input's name that are kept; file systems allow 255, the ending included."""


@dataclass(frozen=True)
class Explanation:
    """The explanation of one input.

    Attributes:
        path: The input, as it was given.
        drawing: The PNG file; None if the input could not be read.
        classes: (label, probability) of the explained classes, in the order of the panels.
        error: Why the input could not be read; None if it could.
    """

    path: str
    drawing: Path | None
    classes: tuple[tuple[str, float], ...]
    error: str | None = None


def explain(
    options: ExplainOptions, reporter: Reporter = SILENT, *, listed: Iterable[str] = ()
) -> Iterator[Explanation]:
    """Yield an explanation for every input as soon as it is drawn.

    Args:
        options: The model, the inputs, the method and the output folder.
        reporter: Receives notices and progress.
        listed: The paths that replace the input `-`.

    Raises:
        DataError: When the inputs name no files.
        BundleError: When the model cannot be loaded.
        WeightsError: When the backbone's weights are not available.
        UnknownNameError: When the model has no such class or layer.
        OptionError: When the method cannot explain this model or layer.
        OutputError: When a drawing cannot be written.
    """
    inputs = expand_inputs(options.inputs, listed)
    paths = [image_name(image, position) for position, image in enumerate(inputs)]
    folder = options.output or next(p for p in numbered(Path("explanations")) if not p.exists())
    drawings = _drawing_paths(paths, folder, options.method)
    for drawing in drawings:
        require_new(drawing, overwrite=options.overwrite)
    require_place(folder / "place")
    bundle = load_model(options, reporter)
    chosen = _class_indices(options.classes, bundle.class_names)
    compute = replace(resolve_compute(options, bundle.network, reporter), precision=Precision.FP32)
    explainer = Explainer(bundle, options.method, options.layer)
    with reporter.progress("explaining", len(paths)) as progress:
        for row, predicted in _predicted_images(inputs, explainer, compute):
            if isinstance(predicted, str):
                yield Explanation(paths[row], None, (), predicted)
            else:
                classes = chosen or _most_probable(predicted.probabilities, options.top_k)
                named = tuple(
                    (bundle.class_names[c], float(predicted.probabilities[c])) for c in classes
                )
                panels = _panels(paths[row], predicted, classes, named, explainer)
                draw_panels(panels, drawings[row])
                yield Explanation(paths[row], drawings[row], named)
            progress.advance(1)


@dataclass(frozen=True, eq=False)
class _PredictedImage:
    """An image as the network sees it, and the probabilities that it predicts.

    Attributes:
        pixels: (H, W, 3) uint8.
        image: (C, H, W) float32, normalised, on the network's device.
        probabilities: (C,).
    """

    pixels: NDArray[np.uint8]
    image: Tensor
    probabilities: NDArray[np.floating[Any]]


def _predicted_images(
    images: Sequence[ImageSource], explainer: Explainer, compute: ComputeSettings
) -> Iterator[tuple[int, _PredictedImage | str]]:
    """Yield the position of every image in order, with its prediction or why it is unreadable."""
    preprocessing = explainer.bundle.network.preprocessing
    for batch in iterate_batches(
        images,
        eval_transform(preprocessing),
        batch_size=compute.batch_size,
        workers=compute.workers,
        allow_truncated=compute.allow_truncated,
    ):
        results: dict[int, _PredictedImage | str] = dict(batch.failures)
        if len(batch.rows):
            seen = normalize(torch.from_numpy(batch.pixels).to(compute.device), preprocessing)
            probabilities = compute.micro_batches.compute(explainer.probabilities, seen)
            values = probabilities.cpu().numpy()
            for i, row in enumerate(batch.rows.tolist()):
                predicted = _PredictedImage(batch.pixels[i], seen[i], values[i])
                results[row] = predicted if np.isfinite(values[i]).all() else NOT_FINITE
        yield from sorted(results.items(), key=lambda item: item[0])


def _panels(
    path: str,
    predicted: _PredictedImage,
    classes: Sequence[int],
    named: Sequence[tuple[str, float]],
    explainer: Explainer,
) -> list[Panel]:
    """Return the panels of a drawing: the image, and its heat map for each class."""
    images = predicted.image.expand(len(classes), *predicted.image.shape)
    heats = explainer.maps(images, torch.tensor(classes))
    pixels = enlarged(predicted.pixels)
    panels = [Panel(pixels, Path(path).name, "as the network sees it")]
    for (name, probability), heat in zip(named, heats, strict=True):
        note = f"{probability:.3f}" if heat.any() else f"{probability:.3f}, no heat anywhere"
        panels.append(Panel(overlay(pixels, heat), name, note))
    return panels


def _most_probable(probabilities: NDArray[np.floating[Any]], count: int) -> list[int]:
    classes: list[int] = np.argsort(-probabilities, kind="stable")[:count].tolist()
    return classes


def _class_indices(wanted: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """Return the indices of the wanted classes, each once.

    Raises:
        UnknownNameError: When the model has no such class.
    """
    for name in wanted:
        if name not in class_names:
            raise UnknownNameError(
                "class", name, class_names, f"the model's classes: {name_some(class_names)}"
            )
    return [class_names.index(name) for name in dict.fromkeys(wanted)]


def _drawing_paths(paths: Sequence[str], folder: Path, method: Method) -> list[Path]:
    """Return a path for each drawing: the input's name, the method, and a number if needed.

    The number avoids the drawings of other inputs, and the inputs themselves, which are never
    overwritten.
    """
    taken = {_file_key(path) for path in paths}
    numbers: Counter[str] = Counter()
    drawings = []
    for path in paths:
        stem = os.fsdecode(os.fsencode(Path(path).stem)[:_LONGEST_STEM])
        drawing = folder / f"{stem}.{method}.png"
        while _file_key(drawing) in taken:
            # One counter per name, so that a thousand equal names need a thousand attempts in all.
            numbers[stem] += 1
            drawing = folder / f"{stem}-{numbers[stem] + 1}.{method}.png"
        taken.add(_file_key(drawing))
        drawings.append(drawing)
    return drawings


def _file_key(path: str | Path) -> str:
    """Return a key for a file, equal for paths that may name the same file on some systems."""
    # A file name cannot contain a null byte, but an input may.
    return os.path.realpath(str(path).replace("\0", "")).casefold()
