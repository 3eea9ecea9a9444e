"""Record a run in MLflow, whose own environment variables say where."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from transferkit.places import Place
from transferkit.reporter import EpochRow, Outcome, RunEnd, RunStart, SilentReporter, StepRow
from transferkit.trackers import DEFAULT_PROJECT, Tracker
from transferkit.trackers.figures import epoch_figures, final_figures, parameters, step_figures
from transferkit.trackers.kept_id import keep_id, kept_id

_LONGEST = 6000
"""Characters of a parameter's value that MLflow takes."""

_STATUS = {Outcome.FINISHED: "FINISHED", Outcome.STOPPED: "KILLED", Outcome.FAILED: "FAILED"}


class Recorder(SilentReporter):
    """Records a run of MLflow; those of a comparison are below a run of its name.

    MLFLOW_TRACKING_URI names the server or store, else it is MLflow's own default, mlflow.db in the
    current folder. MLFLOW_EXPERIMENT_NAME names the experiment.
    """

    follows_steps = True

    def __init__(self, tell: Callable[[str], None], comparison: Path | None = None) -> None:
        # MLflow reports its use to its makers otherwise, as soon as it is imported.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # It would print where a run is to standard output, which is for results.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric, self._parameter = Metric, Param
        self._client = MlflowClient()
        self._tell, self._comparison = tell, comparison
        self._parent: str | None = None

    def began(self, start: RunStart) -> None:
        """Create the run with its parameters, or resume that of a resumed one."""
        if self._comparison:
            self._parent = self._kept_or_created(self._comparison, {})
        nested = {"mlflow.parentRunId": self._parent} if self._parent else {}
        known = kept_id(start.folder, Tracker.MLFLOW)
        self._run = self._kept_or_created(start.folder, nested)
        if known is None:
            params = [
                self._parameter(name, str(value)[:_LONGEST])
                for name, value in parameters(start).items()
            ]
            self._client.log_batch(self._run, params=params)
        server = self._client.tracking_uri
        if server.startswith(("http://", "https://")):
            page = f"#/experiments/{self._experiment()}/runs/{self._run}"
            self._tell(f"--log mlflow: {server.rstrip('/')}/{page}")

    def steps(self, rows: Sequence[StepRow]) -> None:
        """Record the loss and the learning rates of steps, over the number of the step."""
        self._record((row.step, step_figures(row)) for row in rows)

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Record the figures of an epoch, over its number."""
        self._record([(row.epoch, epoch_figures(row))])

    def ended(self, end: RunEnd) -> None:
        """Record the final figures, the model and the page, and end the run."""
        self._record([(0, final_figures(end.metrics))])
        if isinstance(end.model, Path):
            self._client.log_artifacts(self._run, str(end.model), end.model.name)
        if isinstance(end.page, Path):
            self._client.log_artifact(self._run, str(end.page))
        self._client.set_terminated(self._run, _STATUS[end.outcome])
        if self._parent:
            self._client.set_terminated(self._parent, _STATUS[Outcome.FINISHED])

    def _record(self, figures: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Record figures over the number of a step or an epoch."""
        now = int(1000 * time.time())
        found = [
            self._metric(name, value, now, step)
            for step, values in figures
            for name, value in values.items()
        ]
        if found:
            self._client.log_batch(self._run, metrics=found)

    def _kept_or_created(self, folder: Place, tags: Mapping[str, str]) -> str:
        """Return the run that a folder keeps, which is resumed, or a new one."""
        known = kept_id(folder, Tracker.MLFLOW)
        if known:
            self._client.update_run(known, status="RUNNING")
            return known
        created = self._client.create_run(
            self._experiment(),
            run_name=folder.name,
            tags={"mlflow.source.name": "transferkit", **tags},
        )
        run_id: str = created.info.run_id
        keep_id(folder, Tracker.MLFLOW, run_id)
        return run_id

    def _experiment(self) -> str:
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", DEFAULT_PROJECT)
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)
