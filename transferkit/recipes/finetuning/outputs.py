"""The files that a fine-tuning run leaves in its folder."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.bundle import FeatureHead, ModelBundle
from transferkit.data.split_file import write_split
from transferkit.errors import TransferKitError
from transferkit.files import write_json
from transferkit.models.phases import Strategy
from transferkit.options.declaration import AppliesTo, option_names
from transferkit.options.recorded import GIVEN, given_options, json_values
from transferkit.recipes.finetuning.run import FinetuneRun
from transferkit.recipes.finetuning.settings import RunSettings
from transferkit.report.plots import draw_range_test
from transferkit.report.run_contents import ReportSources, write_report
from transferkit.run.folder import (
    METRICS,
    MODEL,
    OPTIONS,
    RANGE_TEST,
    RANGE_TEST_PLOT,
    REPORT_PAGE,
    SKIPPED,
    VAL_PREDICTIONS,
)
from transferkit.run.record import package_versions, read_run
from transferkit.run.stopwatch import REPORT
from transferkit.tables import write_csv
from transferkit.tables.probabilities import ProbabilityTable, write_probabilities
from transferkit.training.range_test import RangeTest


def write_inputs(run: FinetuneRun[RunSettings]) -> None:
    """Write options.json, split.csv and skipped.csv: all that is known before training.

    Raises:
        OutputError: When they cannot be written, which is better known now than after hours.
    """
    dataset = run.dataset
    write_json(
        run.output / OPTIONS,
        {
            **json_values(resolved_options(run)),
            GIVEN: given_options(run.options),
            "versions": package_versions(),
            "weights_sha256": run.network.backbone_digest(),
            "data_sha256": dataset.digest(),
        },
    )
    write_split(run.output, dataset)
    skipped = ((item.path, item.reason) for item in dataset.index.left_out)
    write_csv(run.output / SKIPPED, ("path", "reason"), skipped)


def resolved_options(run: FinetuneRun[RunSettings]) -> dict[str, Any]:
    """Return every option that the run uses, with nothing left open."""
    options, compute = run.options, run.compute
    unused = (
        option_names(options, applies_to=AppliesTo.TRAINING)
        if options.strategy is Strategy.FEATURES
        else ()
    )
    values = {name: getattr(options, name) for name in option_names(options) if name not in unused}
    preprocessing = run.network.preprocessing
    return values | {
        "output": run.output,
        "image_size": preprocessing.input_size[-1],
        "resize": preprocessing.resize,
        "device": compute.device.type,
        "precision": compute.precision,
        "workers": compute.workers,
        **run.settings.resolved_options(),
    }


def write_range_test(run: Path, test: RangeTest) -> None:
    """Write find_lr.csv, a row a step, and its plot.

    Raises:
        OutputError: When they cannot be written.
    """
    rows = zip(test.rates, test.losses, test.smoothed, strict=True)
    write_csv(run / RANGE_TEST, ("learning_rate", "loss", "smoothed_loss"), rows)
    draw_range_test(test, run / RANGE_TEST_PLOT)


def write_model(
    run: FinetuneRun[RunSettings],
    metrics: dict[str, Any],
    *,
    probabilities: NDArray[np.float32],
    trained: Mapping[str, Any],
    head: FeatureHead | None = None,
) -> ModelBundle:
    """Write the model, val_predictions.npz and metrics.json.

    Args:
        run: The run; its network is trained, or as it was with a classifier on its features.
        metrics: The content of metrics.json, to which the time so far is added.
        probabilities: (N, C) float32 of the validation images.
        trained: What was trained, for the model's record.
        head: The classifier on features.

    Returns:
        The model.

    Raises:
        OutputError: When they cannot be written.
    """
    options, index = run.options, run.dataset.index
    provenance = {
        "backbone": options.backbone,
        "weights": options.weights,
        "strategy": str(options.strategy),
        **trained,
    }
    bundle = ModelBundle(run.network, index.class_names, provenance, head)
    bundle.save(run.output / MODEL)
    labels = index.labels[run.dataset.rows("val")]
    paths = run.dataset.paths("val")
    table = ProbabilityTable(paths, labels, index.class_names, probabilities)
    write_probabilities(table, run.output / VAL_PREDICTIONS)
    metrics["seconds"] = run.stopwatch.total
    metrics["time"] = run.stopwatch.report()
    write_json(run.output / METRICS, metrics)
    return bundle


def leave_report(
    run: FinetuneRun[RunSettings], bundle: ModelBundle, metrics: dict[str, Any]
) -> None:
    """Draw the page of a run that has just finished, where it is wanted.

    The run is whole without its page, so a page that fails costs nothing but a notice.

    Args:
        run: The run; its model and metrics are written.
        bundle: Its model.
        metrics: Its metrics, to which the page's time is added, also on disk.
    """
    if not run.draws_report:
        return
    try:
        with run.stopwatch.part(REPORT):
            sources = ReportSources(read_run(run.output), bundle, run.compute, run.options.data)
            write_report(sources, run.output / REPORT_PAGE, run.reporter)
        spent = run.stopwatch.seconds(REPORT)
        metrics["seconds"] += spent
        metrics["time"][REPORT] = spent
        write_json(run.output / METRICS, metrics)
    except Exception as error:
        # Even a bug of ours: the run is finished, and the command below shows it.
        is_known = isinstance(error, TransferKitError)
        reason = str(error) if is_known else f"{type(error).__name__}: {error}"
        run.reporter.notice(
            f"the run is whole, but its page could not be drawn: {reason}; draw it with: "
            f"transferkit report {shlex.quote(str(run.output))}"
        )
