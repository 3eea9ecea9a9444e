"""Trackers: they record a run while it trains, each by the library of its own name.

Each is a `Reporter` in a module of its own. Importing this package imports none of the libraries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

from transferkit.errors import OptionError


class Tracker(StrEnum):
    """What records a run.

    `tensorboard`: event files, in the run's folder. `mlflow`: a run of MLflow. `wandb`: a run of
    Weights & Biases. `csv`: steps.csv and epochs.csv, in the run's folder.
    """

    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"
    WANDB = "wandb"
    CSV = "csv"


DEFAULT_PROJECT = "transferkit"
"""The experiment or project of a tracker whose environment names none."""


@dataclass(frozen=True)
class Registration:
    """Where a tracker is, and what it needs.

    Attributes:
        module: Its module; the class `Recorder` in it is the tracker.
        needs: The package that it imports, which an extra of the tracker's name installs.
        writes_to_run: Whether it appends to files in the run's folder, which a store cannot do.
    """

    module: str
    needs: str | None
    writes_to_run: bool


TRACKERS = {
    Tracker.TENSORBOARD: Registration("to_tensorboard", "tensorboard", writes_to_run=True),
    Tracker.MLFLOW: Registration("to_mlflow", "mlflow", writes_to_run=False),
    Tracker.WANDB: Registration("to_wandb", "wandb", writes_to_run=False),
    Tracker.CSV: Registration("to_csv", None, writes_to_run=True),
}


def require_installed(trackers: Sequence[Tracker]) -> None:
    """Check that the packages of trackers are installed, without importing them.

    Raises:
        OptionError: When one is not.
    """
    for tracker in trackers:
        package = TRACKERS[tracker].needs
        if package and not _is_installed(package):
            raise OptionError(
                f"--log {tracker}: the package {package} is not installed; install it with: "
                f"pip install 'transferkit[{tracker}]'"
            )


def _is_installed(package: str) -> bool:
    """Return whether a package is installed; a folder of its name in the current one is none.

    Weights & Biases writes to such a folder.
    """
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
