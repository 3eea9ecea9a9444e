"""What a command reads: the images that its inputs name, and the model."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transferkit.bundle import ModelBundle
from transferkit.data.images import ImageSource
from transferkit.data.index import ImageIndex
from transferkit.data.walk import walk_images
from transferkit.errors import DataError
from transferkit.models.create_network import categories, create_network
from transferkit.options.shared import DEFAULT_BACKBONE, InputOptions
from transferkit.recipes.shared.backbone import tell_weights_note
from transferkit.reporter import Reporter

STANDARD_INPUT = "-"


def expand_inputs(inputs: Sequence[str | ImageSource], listed: Iterable[str]) -> list[ImageSource]:
    """Return the files of all inputs: a folder's images, a pattern's matches, or the path itself.

    A folder without images and a pattern without matches are kept as paths; they become records
    with an error. Images that are no paths are kept as well.

    Args:
        inputs: Files, folders, patterns, `-`, or images.
        listed: The paths that replace `-`.

    Raises:
        DataError: When the inputs name no files.
    """
    paths: list[ImageSource] = []
    count = 0
    for given in inputs:
        more: list[Any]
        if not isinstance(given, str):
            more = [given]
        elif given == STANDARD_INPUT:
            more = [line for line in (entry.rstrip("\r\n") for entry in listed) if line]
        elif os.path.isdir(given):
            more = _images_in(given)
        elif not os.path.lexists(given) and glob.has_magic(given):
            # A quoted pattern arrives unexpanded, as does any from a shell without patterns.
            matches = sorted(glob.glob(given, recursive=True))
            more = [
                path
                for match in matches
                for path in (_images_in(match) if os.path.isdir(match) else [match])
            ]
        else:
            more = [given]
        count += len(more)
        paths += more or [given]
    if not count:
        raise DataError(
            f"no images in {', '.join(map(str, inputs))}; expected image files, folders of them, "
            "or patterns"
        )
    return paths


def _images_in(folder: str) -> list[str]:
    # A subfolder that cannot be read stays an input and becomes a record with an error.
    return [
        str(found.path)
        for found in walk_images(Path(folder), set())
        if not found.reason or found.unreadable
    ]


def tell_layout(index: ImageIndex, reporter: Reporter) -> None:
    """Report what a dataset's folders were understood to be, unless each is a class."""
    if index.layout:
        reporter.notice(f"{index.root}: {index.layout}")


def load_bundle(model: str, reporter: Reporter) -> ModelBundle:
    """Return a model; the reporter is told if it has no names for its classes.

    Raises:
        BundleError: When it cannot be loaded.
    """
    bundle = ModelBundle.load(model)
    if not bundle.is_named:
        last = len(bundle.class_names) - 1
        reporter.notice(
            f"{model}: names no classes, so the labels are the numbers of its outputs, 0 to {last}"
        )
    return bundle


def load_model(options: InputOptions, reporter: Reporter) -> ModelBundle:
    """Return the model of a run, or a pretrained network with its own categories.

    The reporter is told if the options name neither.

    Raises:
        BundleError: When the model cannot be loaded.
        WeightsError: When the backbone's weights are not available.
    """
    if options.model:
        return load_bundle(options.model, reporter)
    network = create_network(options.backbone or DEFAULT_BACKBONE, weights=options.weights)
    tell_weights_note(network, reporter)
    names = categories(network)
    if not options.backbone:
        reporter.notice(
            f"no model was named, so the classes are the {len(names)} of {network.name}; name a "
            "model of yours with -m RUN"
        )
    return ModelBundle(network, names)
