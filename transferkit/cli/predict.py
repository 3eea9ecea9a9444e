"""`transferkit predict`."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.table import Table

from transferkit.cli.console import escape, standard_output
from transferkit.cli.exits import SOME_LEFT_OUT, write_result
from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.options.predict import PredictOptions
from transferkit.tables.predictions import (
    Prediction,
    PredictionFormat,
    format_predictions,
)
from transferkit.tables.sort_log import NAME as SORT_LOG
from transferkit.tables.sort_log import read_counts


@takes(PredictOptions)
def predict(options: PredictOptions, invocation: Invocation) -> None:
    """Predict the classes of images, with a model of yours or a pretrained network.

    Examples:
        transferkit predict photo.jpg
        transferkit predict new_photos -m runs/photos --format csv
        transferkit predict archive -m runs/photos --on ray -o records
        transferkit predict heap -m runs/photos --accuracy 0.95 --sort-into sorted

    Writes one record per input, in the order of the inputs. The record of an image that cannot be
    read holds the reason, and the exit code is then 3.
    """
    if options.on:
        _predict_on_ray(options, invocation)
        return
    from transferkit.recipes.predict import predict as recipe

    predictions = _Counted(recipe(options, invocation.reporter, listed=sys.stdin))
    if options.output:
        predictions.exhaust()
        print(f"{options.output}: {predictions.total} predictions, {predictions.failed} errors")
    elif options.sort_into:
        predictions.exhaust()
    else:
        _show(predictions, options)
    unreadable = _tell_sorted(options.sort_into) if options.sort_into else 0
    if predictions.failed or unreadable:
        raise typer.Exit(SOME_LEFT_OUT)


def _show(predictions: Iterable[Prediction], options: PredictOptions) -> None:
    by_default = PredictionFormat.TABLE if sys.stdout.isatty() else PredictionFormat.JSONL
    kind = options.format or by_default
    if kind is PredictionFormat.TABLE:
        standard_output().print(_table(predictions, with_sets=options.sets is not None))
        return
    for text in format_predictions(predictions, kind, options.top_k):
        write_result(text)


def _tell_sorted(folder: Path) -> int:
    """Print how many images are in which folders; return how many could not be read."""
    counts = read_counts(folder)
    print(
        f"{folder}: {counts.labelled} images in {counts.classes} classes, {counts.unsure} unsure, "
        f"{counts.unreadable} unreadable; {SORT_LOG} lists them"
    )
    return counts.unreadable


def _predict_on_ray(options: PredictOptions, invocation: Invocation) -> None:
    from transferkit.recipes.predicting.predict_on_ray import predict_on_ray

    found = predict_on_ray(options, invocation.reporter, listed=sys.stdin)
    print(
        f"{options.output}: {found.total} predictions in {found.parts} files, {found.failed} errors"
    )
    if found.failed:
        raise typer.Exit(SOME_LEFT_OUT)


@dataclass
class _Counted:
    """Passes predictions on, and counts them."""

    predictions: Iterable[Prediction]
    total: int = 0
    failed: int = 0

    def __iter__(self) -> Iterator[Prediction]:
        for prediction in self.predictions:
            self.total += 1
            self.failed += prediction.error is not None
            yield prediction

    def exhaust(self) -> None:
        """Let all predictions pass."""
        for _ in self:
            pass


def _table(predictions: Iterable[Prediction], *, with_sets: bool) -> Table:
    table = Table()
    # Paths are folded, never truncated: the file name is at their end.
    table.add_column("image", overflow="fold")
    table.add_column("label", overflow="fold")
    table.add_column("confidence", justify="right")
    table.add_column("set" if with_sets else "next", overflow="fold")
    for prediction in predictions:
        if prediction.error is not None:
            table.add_row(escape(prediction.path), f"[red]error: {escape(prediction.error)}[/]")
            continue
        if prediction.set is not None:
            others = "\n".join(map(escape, prediction.set))
        else:
            others = "\n".join(f"{escape(label)} {p:.2f}" for label, p in prediction.top[1:3])
        label = prediction.label or "(not sure enough)"
        if prediction.unusual:
            label += " (unusual image)"
        image, confidence = escape(prediction.path), f"{prediction.confidence:.3f}"
        table.add_row(image, escape(label), confidence, others)
    return table
