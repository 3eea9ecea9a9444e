"""Record a run as event files of TensorBoard, in the run's folder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from transferkit.reporter import EpochRow, Outcome, RunEnd, RunStart, SilentReporter, StepRow
from transferkit.run.folder import LOGS
from transferkit.trackers.figures import (
    Parameter,
    epoch_figures,
    final_figures,
    parameters,
    step_figures,
)


class Recorder(SilentReporter):
    """Writes scalars over steps, and the parameters as text and as hyperparameters.

    Epochs stand at the step that they ended with, so that what a killed process wrote after its
    last checkpoint can be discarded from one step on, when the run is resumed.
    """

    follows_steps = True

    def __init__(self, tell: Callable[[str], None], comparison: Path | None = None) -> None:
        """Wait for a run, which says where its files are."""

    def began(self, start: RunStart) -> None:
        """Write the parameters, which a resumed run has already; discard steps after those."""
        assert isinstance(start.folder, Path)  # the options refuse addresses
        self._step = start.steps_before
        self._parameters = parameters(start)
        folder = str(start.folder / LOGS / "tensorboard")
        self._writer = SummaryWriter(folder, purge_step=self._step + 1)
        if not start.is_resumed:
            self._writer.add_text("parameters", _as_markdown(self._parameters))

    def steps(self, rows: Sequence[StepRow]) -> None:
        """Write the loss and the learning rates of steps."""
        for row in rows:
            self._add(step_figures(row), row.step)

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Write the figures of an epoch, and let readers see all up to here."""
        self._add({"epoch": row.epoch, **epoch_figures(row)}, self._step)
        self._writer.flush()

    def ended(self, end: RunEnd) -> None:
        """Write the final figures, and close the files."""
        self._add(final_figures(end.metrics), self._step)
        if end.outcome is Outcome.FINISHED:
            best = {"hparam/val_accuracy": end.metrics["val"]["accuracy"]}
            self._writer.add_hparams(self._parameters, best, run_name=".")
        self._writer.close()

    def _add(self, figures: Mapping[str, float], step: int) -> None:
        self._step = step
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)


def _as_markdown(known: Mapping[str, Parameter]) -> str:
    rows = (f"| {name} | {value} |".replace("\n", " ") for name, value in known.items())
    return "\n".join(("| name | value |", "|---|---|", *rows))
