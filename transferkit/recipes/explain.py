"""Show where in pictures a model sees its classes: one drawing an input, in their order."""

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
from transferkit.data.loader import iterate_batches
from transferkit.data.transforms import eval_transform, normalize
from transferkit.devices import Precision
from transferkit.errors import UnknownNameError, name_some
from transferkit.files import require_place
from transferkit.inference import ComputeSettings
from transferkit.options.commands import ExplainOptions
from transferkit.recipes.shared.compute_settings import resolve_compute
from transferkit.recipes.shared.inputs import expand_inputs, load_model
from transferkit.report.overlay import overlay
from transferkit.report.panels import Panel, draw_panels, enlarged
from transferkit.reporting import SILENT, Reporter

_LONGEST_STEM = 200
"""Bytes of a name that are kept; systems take 255, its ending included."""


@dataclass(frozen=True)
class Explanation:
    """What was drawn of one input.

    Attributes:
        path: The input, as it was given.
        picture: The PNG file; None for an error.
        classes: (label, probability) of the classes explained, in the order of the panels.
        error: Why the input could not be read; None where it could.
    """

    path: str
    picture: Path | None
    classes: tuple[tuple[str, float], ...]
    error: str | None = None


def explain(
    options: ExplainOptions, reporter: Reporter = SILENT, *, listed: Iterable[str] = ()
) -> Iterator[Explanation]:
    """Yield an explanation for every input, as they are drawn.

    Args:
        options: What to explain with what, and where to draw it.
        reporter: Told of the progress.
        listed: The paths that stand for the input `-`.

    Raises:
        DataError: When the inputs name no file at all.
        BundleError: When the model cannot be loaded.
        WeightsError: When the backbone's weights cannot be had.
        UnknownNameError: When the model has no such class or layer.
        OptionError: When the method cannot explain this model or layer.
        OutputError: When a drawing cannot be written.
    """
    paths = expand_inputs(options.inputs, listed)
    drawings = _drawings(paths, options.output, options.method)
    require_place(options.output / "place")
    bundle = load_model(options)
    chosen = _positions(options.classes, bundle.class_names)
    compute = replace(resolve_compute(options, bundle.network, reporter), precision=Precision.FP32)
    explainer = Explainer(bundle, options.method, options.layer)
    with reporter.progress("explaining", len(paths)) as progress:
        for row, seen in _seen(paths, explainer, compute):
            if isinstance(seen, str):
                yield Explanation(paths[row], None, (), seen)
            else:
                classes = chosen or _most_probable(seen.probabilities, options.top_k)
                named = tuple(
                    (bundle.class_names[c], float(seen.probabilities[c])) for c in classes
                )
                panels = _panels(paths[row], seen, classes, named, explainer)
                draw_panels(panels, drawings[row])
                yield Explanation(paths[row], drawings[row], named)
            progress.advance(1)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the network saw of a picture, and what it said.

    Attributes:
        pixels: (H, W, 3) uint8.
        image: (3, H, W) float32, normalised, on the network's device.
        probabilities: (C,).
    """

    pixels: NDArray[np.uint8]
    image: Tensor
    probabilities: NDArray[np.floating[Any]]


def _seen(
    paths: Sequence[str], explainer: Explainer, compute: ComputeSettings
) -> Iterator[tuple[int, _Seen | str]]:
    """Every picture in order, or why it cannot be read."""
    preprocessing = explainer.bundle.network.preprocessing
    for batch in iterate_batches(
        paths,
        eval_transform(preprocessing),
        batch_size=compute.batch_size,
        workers=compute.workers,
        allow_truncated=compute.allow_truncated,
    ):
        found: dict[int, _Seen | str] = dict(batch.failures)
        if len(batch.rows):
            images = normalize(batch.pixels.to(compute.device), preprocessing)
            said = compute.micro_batches.compute(explainer.probabilities, images).cpu().numpy()
            for i, row in enumerate(batch.rows.tolist()):
                pixels = batch.pixels[i].permute(1, 2, 0).numpy()
                found[row] = _Seen(pixels, images[i], said[i])
        yield from sorted(found.items(), key=lambda item: item[0])


def _panels(
    path: str,
    seen: _Seen,
    classes: Sequence[int],
    named: Sequence[tuple[str, float]],
    explainer: Explainer,
) -> list[Panel]:
    """A picture, and its heat for each class."""
    images = seen.image.expand(len(classes), *seen.image.shape)
    heats = explainer.maps(images, torch.tensor(classes))
    picture = enlarged(seen.pixels)
    panels = [Panel(picture, Path(path).name, "as the network sees it")]
    for (name, probability), heat in zip(named, heats, strict=True):
        note = f"{probability:.3f}" if heat.any() else f"{probability:.3f}, no heat anywhere"
        panels.append(Panel(overlay(picture, heat), name, note))
    return panels


def _most_probable(probabilities: NDArray[np.floating[Any]], count: int) -> list[int]:
    found: list[int] = np.argsort(-probabilities, kind="stable")[:count].tolist()
    return found


def _positions(wanted: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """Of the classes asked for, each once.

    Raises:
        UnknownNameError: When the model has no such class.
    """
    for name in wanted:
        if name not in class_names:
            raise UnknownNameError(
                "class", name, class_names, f"the model's classes: {name_some(class_names, 20)}"
            )
    return [class_names.index(name) for name in dict.fromkeys(wanted)]


def _drawings(paths: Sequence[str], folder: Path, method: Method) -> list[Path]:
    """A file for each input: its name, the method, and a number where that name is taken.

    Taken by another input's drawing, that is, or by an input itself, which is never replaced.
    """
    taken = {_place(path) for path in paths}
    numbers: Counter[str] = Counter()
    drawings = []
    for path in paths:
        stem = os.fsdecode(os.fsencode(Path(path).stem)[:_LONGEST_STEM])
        drawing = folder / f"{stem}.{method}.png"
        while _place(drawing) in taken:
            # Counted by name, so that a thousand of one name are not tried a thousand times each.
            numbers[stem] += 1
            drawing = folder / f"{stem}-{numbers[stem] + 1}.{method}.png"
        taken.add(_place(drawing))
        drawings.append(drawing)
    return drawings


def _place(path: str | Path) -> str:
    """Where a file is, the same for names that some systems take for one."""
    # No file has a null byte in its name, but an input may.
    return os.path.realpath(str(path).replace("\0", "")).casefold()
