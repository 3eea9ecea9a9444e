"""The files that a fine-tuning run writes to its folder."""

import shlex
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.bundle import FeatureHead, ModelBundle
from transferkit.confidence import ConfidenceTable, risk_coverage
from transferkit.data.split_file import write_split
from transferkit.errors import TransferKitError, name_some
from transferkit.files import write_json
from transferkit.inference import collect
from transferkit.metrics import summarize
from transferkit.models.strategies import Strategy
from transferkit.models.usual_images import UsualImages
from transferkit.options.declaration import AppliesTo, option_names
from transferkit.options.recorded import GIVEN, given_options, json_values
from transferkit.places import Place
from transferkit.recipes.finetuning.resuming import require_same_beginning
from transferkit.recipes.finetuning.run_in_progress import FinetuneRun
from transferkit.recipes.finetuning.settings import RunSettings
from transferkit.report.model_card import model_card, write_card
from transferkit.report.plots import draw_range_test
from transferkit.report.run_contents import ReportSources, write_report
from transferkit.reporter import Plan, RunStart
from transferkit.run.folder import (
    CHECKPOINT,
    METRICS,
    MODEL,
    OPTIONS,
    RANGE_TEST,
    RANGE_TEST_PLOT,
    REPORT_PAGE,
    SKIPPED,
    VAL_PREDICTIONS,
    claimed,
)
from transferkit.run.record import package_versions, read_run, write_plan
from transferkit.run.stopwatch import EVALUATION, REPORT
from transferkit.tables import write_csv
from transferkit.tables.probabilities import ProbabilityTable, write_probabilities
from transferkit.training.checkpoint import saved_steps
from transferkit.training.lr_range_test import RangeTest


def claimed_by_first(run: FinetuneRun[RunSettings]) -> AbstractContextManager[None]:
    """Claim the run's folder for the block, in the process that writes."""
    return claimed(run.output, run.options) if run.processes.is_first else nullcontext()


def write_beginning(run: FinetuneRun[RunSettings], plan: Plan) -> None:
    """Write and report what is known before training, or check that a resumed run began with it.

    Raises:
        OutputError: When it cannot be written.
        WeightsError: When the weights have changed since the resumed run began.
        BundleError: When the checkpoint of the resumed run is damaged.
    """
    options, is_resumed = json_values(resolved_options(run)), run.options.resume
    if is_resumed:
        require_same_beginning(run.output, run.network, run.reporter)
    else:
        _write_inputs(run, options)
    write_plan(run.output, plan)
    steps = saved_steps(run.output / CHECKPOINT) if is_resumed else 0
    run.reporter.began(RunStart(run.output, options, plan, is_resumed, steps))


def _write_inputs(run: FinetuneRun[RunSettings], options: Mapping[str, Any]) -> None:
    """Write options.json, from the resolved options, split.csv and skipped.csv."""
    dataset = run.dataset
    write_json(
        run.output / OPTIONS,
        {
            **options,
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
    """Return every option that the run uses, with its resolved value."""
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
        "image_size": preprocessing.image_size,
        "resize": preprocessing.resize,
        "device": compute.device.type,
        "precision": compute.precision,
        "batch_size": compute.batch_size,
        "workers": compute.workers,
        **run.settings.resolved_options(),
    }


def write_range_test(run: Place, test: RangeTest) -> None:
    """Write find_lr.csv, one row per step, and its plot.

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
    usual: UsualImages | None,
    head: FeatureHead | None = None,
) -> ModelBundle:
    """Write the model with its card, val_predictions.npz and metrics.json.

    Args:
        run: The run; its network is trained, or unchanged if there is a `head`.
        metrics: The content of metrics.json; the time so far is added to it.
        probabilities: (N, C) float32 of the validation images.
        trained: What was trained, for the model's record of its training.
        usual: What tells unusual images, if there are enough validation images.
        head: The classifier, if one was fitted on features.

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
    labels = index.labels[run.dataset.rows("val")]
    confidence = ConfidenceTable.measure(labels, probabilities)
    bundle = ModelBundle(run.network, index.class_names, provenance, head, confidence, usual)
    bundle.save(run.output / MODEL)
    if test := _test_metrics(run, bundle):
        metrics["test"] = test
    metrics["answering"] = risk_coverage(labels, probabilities)
    paths = run.dataset.paths("val")
    table = ProbabilityTable(paths, labels, index.class_names, probabilities)
    write_probabilities(table, run.output / VAL_PREDICTIONS)
    metrics["seconds"] = run.stopwatch.total
    metrics["time"] = run.stopwatch.report()
    write_json(run.output / METRICS, metrics)
    write_card(run.output / MODEL, model_card(read_run(run.output), bundle))
    return bundle


def _test_metrics(run: FinetuneRun[RunSettings], bundle: ModelBundle) -> dict[str, Any]:
    """Return the metrics of the finished model on the dataset's test part; empty without one.

    Nothing was chosen by these images, unlike by those for validation.
    """
    rows = run.dataset.rows("test")
    if not len(rows):
        return {}
    index = run.dataset.index
    files = [index.files[row] for row in rows.tolist()]
    with (
        run.stopwatch.part(EVALUATION),
        run.reporter.progress("evaluating the test part", len(files)) as progress,
    ):
        parts = bundle.probabilities(files, run.compute)
        table = collect(parts, len(files), len(index.class_names), progress.advance)
    if table.reasons:
        # The run is finished, so it is not given up.
        failed = [f"{index.paths[rows[row]]} ({why})" for row, why in table.reasons.items()]
        run.reporter.notice(f"the test metrics lack {len(failed)} images: {name_some(failed)}")
    kept = table.readable
    if not kept.any():
        return {}
    return summarize(index.labels[rows][kept], table.values[kept], index.class_names)


def leave_report(
    run: FinetuneRun[RunSettings], bundle: ModelBundle, metrics: dict[str, Any]
) -> None:
    """Write the report page of a finished run, if the options ask for it.

    The run is complete without its page, so a failure is reported as a notice.

    Args:
        run: The run; its model and metrics are already written.
        bundle: Its model.
        metrics: Its metrics; the time that the page took is added, also on disk.
    """
    if not run.options.report:
        return
    try:
        with run.stopwatch.part(REPORT):
            data = run.options.root or run.options.data
            sources = ReportSources(read_run(run.output), bundle, run.compute, data)
            write_report(sources, run.output / REPORT_PAGE, run.reporter)
        spent = run.stopwatch.seconds(REPORT)
        metrics["seconds"] += spent
        metrics["time"][REPORT] = spent
        write_json(run.output / METRICS, metrics)
    except Exception as error:
        # Even a bug must not spoil the finished run; the command in the notice shows it in full.
        is_known = isinstance(error, TransferKitError)
        reason = str(error) if is_known else f"{type(error).__name__}: {error}"
        run.reporter.notice(
            f"the run is complete, but its page could not be written: {reason}; write it with: "
            f"transferkit report {shlex.quote(str(run.output))}"
        )
