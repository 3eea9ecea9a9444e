"""Record a run in Weights & Biases, whose own environment variables say where."""

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import wandb
from requests.utils import get_netrc_auth

from transferkit.errors import TransferKitError
from transferkit.reporter import EpochRow, Outcome, RunEnd, RunStart, SilentReporter, StepRow
from transferkit.trackers import DEFAULT_PROJECT, Tracker
from transferkit.trackers.figures import (
    EPOCH,
    STEP,
    epoch_figures,
    final_figures,
    parameters,
    step_figures,
)
from transferkit.trackers.kept_id import keep_id, kept_id

_TO_ANSWER = 20
"""Seconds that the server may take to answer for the first time."""

_EXIT_CODE = {Outcome.FINISHED: 0, Outcome.STOPPED: 255, Outcome.FAILED: 1}
"""Weights & Biases shows 255 as killed."""


class Recorder(SilentReporter):
    """Records a run of Weights & Biases; those of a comparison are a group of its name.

    WANDB_MODE, WANDB_PROJECT, WANDB_DIR and the like mean what they always do.
    """

    follows_steps = True

    def __init__(self, tell: Callable[[str], None], comparison: Path | None = None) -> None:
        self._tell, self._comparison = tell, comparison

    def began(self, start: RunStart) -> None:
        """Create the run with its parameters, or resume that of a resumed one.

        Raises:
            TransferKitError: When nobody is logged in.
        """
        self._require_login()
        run_id = kept_id(start.folder, Tracker.WANDB) or uuid.uuid4().hex[:12]
        keep_id(start.folder, Tracker.WANDB, run_id)
        self._name = start.folder.name
        self._run = wandb.init(
            id=run_id,
            resume="allow",
            reinit="create_new",
            project=os.environ.get("WANDB_PROJECT", DEFAULT_PROJECT),
            name=self._name,
            group=self._comparison.name if self._comparison else None,
            settings=wandb.Settings(silent=True, console="off", init_timeout=_TO_ANSWER),
        )
        self._run.config.update(parameters(start), allow_val_change=True)  # type: ignore[no-untyped-call]
        for axis in (EPOCH, STEP):
            self._run.define_metric(f"{axis}/*", step_metric=axis)
        if not self._run.offline and self._run.url:
            self._tell(f"--log wandb: {self._run.url}")

    def steps(self, rows: Sequence[StepRow]) -> None:
        """Record the loss and the learning rates of steps, over the number of the step."""
        for row in rows:
            self._run.log({STEP: row.step, **step_figures(row)})

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Record the figures of an epoch, over its number."""
        self._run.log({EPOCH: row.epoch, **epoch_figures(row)})

    def ended(self, end: RunEnd) -> None:
        """Record the final figures, the model and the page, and end the run."""
        self._run.summary.update(final_figures(end.metrics))
        if isinstance(end.model, Path):
            self._add_files("model", end.model.rglob("*"), end.model)
        if isinstance(end.page, Path):
            self._add_files("report", [end.page], end.page.parent)
        self._run.finish(exit_code=_EXIT_CODE[end.outcome])

    def _add_files(self, kind: str, files: Iterable[Path], folder: Path) -> None:
        """Add files under their paths relative to a folder, as an artifact."""
        artifact = wandb.Artifact(f"{kind}-{self._run.id}", type=kind)
        for file in files:
            if file.is_file():
                artifact.add_file(str(file), name=file.relative_to(folder).as_posix())
        self._run.log_artifact(artifact)

    def _require_login(self) -> None:
        """Check that somebody is logged in, instead of being asked at a terminal while training."""
        settings = wandb.setup().settings
        if settings.mode not in ("online", "shared"):
            return
        if not (
            settings.api_key or settings.identity_token_file or get_netrc_auth(settings.base_url)
        ):
            raise TransferKitError(
                "nobody is logged in; log in with: wandb login, or set WANDB_MODE=offline"
            )
