"""Calibrate a model on the validation images of its run."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.calibration import Calibration, calibrate
from transferkit.errors import TransferKitError
from transferkit.metrics import Labels, expected_calibration_error, log_loss
from transferkit.models.fold_temperature import fold_temperature
from transferkit.recipes.finetuning.run_in_progress import FinetuneRun, TrainingRun
from transferkit.recipes.finetuning.settings import RunSettings


def calibrate_on_validation(
    run: FinetuneRun[RunSettings], probabilities: NDArray[np.float32]
) -> Calibration:
    """Fit a temperature to the probabilities (N, C) of a run's validation images."""
    dataset, rows = run.dataset, run.dataset.rows("val")
    labels, together = dataset.index.labels[rows], dataset.together[rows]
    return calibrate(labels, probabilities, together, run.options.seed)


def calibrate_network(run: TrainingRun, probabilities: NDArray[np.float32]) -> Calibration:
    """Fit a temperature and fold it into the network's head, which is changed in place.

    Args:
        run: A run whose network has the weights of its best epoch.
        probabilities: (N, C) of the validation images.
    """
    calibration = calibrate_on_validation(run, probabilities)
    try:
        fold_temperature(run.network, calibration.temperature)
    except TransferKitError as error:
        run.reporter.notice(f"the probabilities are not calibrated: {error}")
        return Calibration(1.0, 0, probabilities)
    return calibration


def describe_calibration(
    calibration: Calibration, labels: Labels, before: NDArray[np.float32]
) -> dict[str, Any]:
    """Return what metrics.json says about the calibration.

    Args:
        calibration: The calibration.
        labels: (N,) int64 of the validation images.
        before: (N, C), their probabilities before it.
    """
    return {
        "temperature": calibration.temperature,
        "folds": calibration.folds,
        "before": {
            "log_loss": log_loss(labels, before),
            "ece": expected_calibration_error(labels, before),
        },
    }
