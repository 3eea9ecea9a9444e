"""The folder that a run leaves: where it is, and the files besides the model."""

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transferkit.data.dataset import Dataset
from transferkit.errors import OutputError
from transferkit.files import write_json
from transferkit.inference import Pass
from transferkit.models.network import Network
from transferkit.models.weights import tensors_digest
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.report.plots import draw_range_test
from transferkit.reporting import EpochRow
from transferkit.tables import write_csv
from transferkit.training.range_test import RangeTest

MODEL, METRICS, HISTORY, SPLIT, OPTIONS = (
    "model", "metrics.json", "history.csv", "split.csv", "options.json",
)  # fmt: skip
RANGE_TEST, RANGE_TEST_PLOT = "find_lr.csv", "find_lr.png"
_PACKAGES = (
    *("transferkit", "torch", "torchvision", "timm", "pillow", "numpy"),
    *("scikit-learn", "skops"),
)


def choose_run(options: FinetuneOptions) -> Path:
    """The run's folder; nothing is made or removed yet.

    Raises:
        OutputError: When it holds files that may not be replaced, or that are no run.
    """
    run = options.output or _unused_name(options)
    if run.exists() and not run.is_dir():
        raise OutputError(f"{run}: is a file, expected a folder for the run; name another --output")
    if run.is_dir() and any(run.iterdir()) and not options.overwrite:
        raise OutputError(
            f"{run}: is there already and not empty; name another --output, or replace the run in "
            "it with --overwrite"
        )
    if run.is_dir() and any(run.iterdir()) and not (run / OPTIONS).is_file():
        raise OutputError(
            f"{run}: --overwrite replaces runs, and this folder holds no {OPTIONS}; "
            "name another --output"
        )
    return run


def clear_run(run: Path) -> None:
    """Make the run's folder, and remove an earlier run's files from it; others stay.

    Raises:
        OutputError: When that cannot be done.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        for name in (MODEL, METRICS, HISTORY, SPLIT, OPTIONS, RANGE_TEST, RANGE_TEST_PLOT):
            old = run / name
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot make {run}: {reason}; name another --output") from error


def _unused_name(options: FinetuneOptions) -> Path:
    backbone = options.backbone.rsplit("/", 1)[-1].replace(":", "-")
    stem = f"{options.data.resolve().name}-{backbone}-{options.strategy}"
    count, run = 1, Path("runs", stem)
    while run.exists():
        count += 1
        run = Path("runs", f"{stem}-{count}")
    return run


def write_inputs(
    run: Path, dataset: Dataset, network: Network, resolved: Mapping[str, Any]
) -> None:
    """Write options.json and split.csv, all that is known before training.

    Args:
        run: The run's folder.
        dataset: What is trained on.
        network: With the weights that it begins with.
        resolved: Every option, see `resolved_options`.

    Raises:
        OutputError: When they cannot be written: better now than after hours.
    """
    body = {k: v for k, v in network.module.state_dict().items() if not _in_head(k, network)}
    write_json(
        run / OPTIONS,
        {
            **{k: str(v) if isinstance(v, Path) else v for k, v in resolved.items()},
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in _PACKAGES},
            "weights_sha256": tensors_digest(body),
            "data_sha256": dataset.digest(),
        },
    )
    columns = zip(
        dataset.index.paths, dataset.index.labels, dataset.splits, dataset.sha256, strict=True
    )
    rows = ((p, dataset.index.class_names[i], to, sha, sha[:16]) for p, i, to, sha in columns)
    write_csv(run / SPLIT, ("path", "label", "split", "sha256", "group"), rows)


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
