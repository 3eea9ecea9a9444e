"""The files that a run leaves in its folder."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.bundle import FeatureHead, ModelBundle
from transferkit.data.dataset import Dataset
from transferkit.data.split_file import COLUMNS
from transferkit.files import write_json
from transferkit.inference import Pass
from transferkit.models.network import Network
from transferkit.models.weights import tensors_digest
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.recipes.job import Job
from transferkit.recipes.resuming import GIVEN, given_options
from transferkit.recipes.run_folder import (
    HISTORY,
    METRICS,
    MODEL,
    OPTIONS,
    RANGE_TEST,
    RANGE_TEST_PLOT,
    SKIPPED,
    SPLIT,
    VAL_PREDICTIONS,
)
from transferkit.report.plots import draw_range_test
from transferkit.reporting import EpochRow
from transferkit.tables import write_csv
from transferkit.tables.probabilities import ProbabilityTable, write_probabilities
from transferkit.training.range_test import RangeTest

_PACKAGES = (
    *("transferkit", "torch", "torchvision", "timm", "pillow", "numpy"),
    *("scikit-learn", "skops"),
)


def versions() -> dict[str, str]:
    """Of Python and of the packages that a run's numbers depend on."""
    found = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def backbone_digest(network: Network) -> str:
    """SHA-256 of the tensors of everything but the head."""
    state = network.module.state_dict()
    return tensors_digest({k: v for k, v in state.items() if not _in_head(k, network)})


def write_inputs(job: Job, network: Network, resolved: Mapping[str, Any]) -> None:
    """Write options.json, split.csv and skipped.csv, all that is known before training.

    Args:
        job: The run.
        network: With the weights that it begins with.
        resolved: Every option, see `resolved_options`.

    Raises:
        OutputError: When they cannot be written: better now than after hours.
    """
    assert job.run is not None
    run, dataset, given = job.run, job.dataset, given_options(job.options)
    write_json(
        run / OPTIONS,
        {
            **{k: str(v) if isinstance(v, Path) else v for k, v in resolved.items()},
            GIVEN: {k: str(v) if isinstance(v, Path) else v for k, v in given.items()},
            "versions": versions(),
            "weights_sha256": backbone_digest(network),
            "data_sha256": dataset.digest(),
        },
    )
    write_split(run, dataset)
    skipped = ((item.path, item.reason) for item in dataset.index.left_out)
    write_csv(run / SKIPPED, ("path", "reason"), skipped)


def write_split(folder: Path, dataset: Dataset) -> None:
    """Write split.csv, as `--split` replays it.

    Raises:
        OutputError: When it cannot be written.
    """
    index = dataset.index
    labels = (index.class_names[label] for label in index.labels)
    rows = zip(index.paths, labels, dataset.splits, dataset.sha256, dataset.groups(), strict=True)
    write_csv(folder / SPLIT, COLUMNS, rows)


def resolved_options(
    run: Path, options: FinetuneOptions, network: Network, how: Pass
) -> dict[str, Any]:
    """Every option, with what stood for "automatic" or "the backbone's" filled in.

    Rates and phases are not among them: the strategies that have some add them.
    """
    values: dict[str, Any] = {f.name: getattr(options, f.name) for f in fields(options)}
    preprocessing = network.preprocessing
    return values | {
        "output": run,
        "image_size": preprocessing.input_size[-1],
        "resize": preprocessing.resize,
        "device": how.device.type,
        "precision": how.precision,
        "workers": how.workers,
    }


def _in_head(name: str, network: Network) -> bool:
    return name.startswith(tuple(f"{head}." for head in network.heads))


def write_history(run: Path, history: Sequence[EpochRow]) -> None:
    """Write history.csv, a row an epoch.

    Raises:
        OutputError: When it cannot be written.
    """
    columns = [entry.name for entry in fields(EpochRow)]
    write_csv(run / HISTORY, columns, (astuple(row) for row in history))


def write_range_test(run: Path, test: RangeTest) -> None:
    """Write find_lr.csv, a row a step, and its plot.

    Raises:
        OutputError: When they cannot be written.
    """
    rows = zip(test.rates, test.losses, test.smoothed, strict=True)
    write_csv(run / RANGE_TEST, ("learning_rate", "loss", "smoothed_loss"), rows)
    draw_range_test(test, run / RANGE_TEST_PLOT)


def write_model(
    job: Job,
    network: Network,
    metrics: dict[str, Any],
    *,
    probabilities: NDArray[np.float32],
    trained: Mapping[str, Any],
    head: FeatureHead | None = None,
) -> ModelBundle:
    """Write the model, val_predictions.npz and metrics.json, to which the time so far is added.

    Args:
        job: The run.
        network: Trained, or as it was with a classifier on its features.
        metrics: How good it is; changed in place.
        probabilities: (N, C) float32, what it says of the validation images.
        trained: What was trained, for the model's record.
        head: The classifier on features.

    Returns:
        The model.

    Raises:
        OutputError: When they cannot be written.
    """
    assert job.run is not None
    options = job.options
    provenance = {
        "backbone": options.backbone,
        "weights": options.weights,
        "strategy": str(options.strategy),
        **trained,
    }
    names = job.dataset.index.class_names
    bundle = ModelBundle(network, names, provenance, head)
    bundle.save(job.run / MODEL)
    index, rows = job.dataset.index, job.dataset.rows("val")
    paths = job.dataset.paths("val")
    table = ProbabilityTable(paths, index.labels[rows], names, probabilities)
    write_probabilities(table, job.run / VAL_PREDICTIONS)
    metrics["seconds"] = job.watch.total
    metrics["time"] = job.watch.report()
    write_json(job.run / METRICS, metrics)
    return bundle
