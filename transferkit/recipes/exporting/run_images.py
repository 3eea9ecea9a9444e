"""The images that a run was validated and trained on, as far as they are still there."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from transferkit.data.images import ImageFile
from transferkit.data.scan import locate
from transferkit.data.split_file import recorded_paths
from transferkit.places import Place
from transferkit.run.folder import MODEL, OPTIONS, SPLIT
from transferkit.run.record import place_of_images, read_options

_T = TypeVar("_T")

_MOST_COMPARED, _MOST_CALIBRATED = 1000, 300
"""Validation images that are compared, and training images that 8-bit numbers are calibrated on."""


@dataclass(frozen=True, eq=False)
class RunImages:
    """Some images of a run's dataset, spread evenly over it.

    Attributes:
        val: N files of validation images.
        labels: (N,) int64, positions of the class names.
        train: Files of training images.
        why_not: Why there are no validation images; empty if there are some.
    """

    val: Sequence[ImageFile]
    labels: NDArray[np.int64]
    train: Sequence[ImageFile]
    why_not: str = ""


def run_images(model: Path, class_names: Sequence[str], data: Place | None) -> RunImages:
    """Return images of the run that a model is part of.

    Args:
        model: A run, or its model/ folder.
        class_names: Names of the model's classes.
        data: The dataset, if it has moved.

    Raises:
        BundleError: When the run is damaged.
        DataError: When its split is damaged.
    """
    run = model.parent if model.name == MODEL else model
    if not (run / SPLIT).is_file() or not (run / OPTIONS).is_file():
        return _none(f"{model} is not part of a run")
    data = data or place_of_images(read_options(run))
    position = {name: i for i, name in enumerate(class_names)}
    paths, names = recorded_paths(run / SPLIT, "val")
    known = [
        (path, position[name])
        for path, name in _spread(list(zip(paths, names, strict=True)), _MOST_COMPARED)
        if name in position
    ]
    files = locate(data, [path for path, _ in known])
    labelled = [
        (file, label)
        for file, (_, label), is_there in zip(files, known, _are_there(files), strict=True)
        if is_there
    ]
    if not labelled:
        return _none(
            f"the run's validation images are not in {data}; name their folder with --data"
        )
    train, _ = recorded_paths(run / SPLIT, "train")
    trained = locate(data, _spread(train, _MOST_CALIBRATED))
    return RunImages(
        [file for file, _ in labelled],
        np.array([label for _, label in labelled], dtype=np.int64),
        list(compress(trained, _are_there(trained))),
    )


def _are_there(files: Sequence[ImageFile]) -> list[bool]:
    """Return which files are there; many of them may be in one archive."""
    places = [file if isinstance(file, Path) else file.place for file in files]
    known = {place: place.is_file() for place in set(places)}
    return [known[place] for place in places]


def _none(why: str) -> RunImages:
    return RunImages((), np.empty(0, dtype=np.int64), (), why)


def _spread(items: list[_T], most: int) -> list[_T]:
    """Return at most so many items, evenly spread."""
    return items[:: max(1, -(-len(items) // most))]
