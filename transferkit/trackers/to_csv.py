"""Record a run as two CSV files, written while it trains: a row per step, and a row per epoch."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from transferkit.reporter import EpochRow, RunStart, SilentReporter, StepRow
from transferkit.run.folder import LOGS
from transferkit.tables import csv_writer, finite_cells, write_csv


class Recorder(SilentReporter):
    """Writes steps.csv and epochs.csv; epochs.csv has the columns of history.csv."""

    follows_steps = True

    def __init__(self, tell: Callable[[str], None], comparison: Path | None = None) -> None:
        self._steps: _Table | None = None

    def began(self, start: RunStart) -> None:
        """Take the stages for the columns; a resumed run adds to its files."""
        assert isinstance(start.folder, Path)  # the options refuse addresses
        folder = start.folder / LOGS
        trained = [stage.name for stage in start.plan.stages if stage.learning_rate is not None]
        self._stages = trained
        columns = ("step", "epoch", "loss", *(f"lr_{stage}" for stage in trained))
        self._steps = _Table(folder / "steps.csv", columns)
        self._epochs = _Table(folder / "epochs.csv", [entry.name for entry in fields(EpochRow)])

    def steps(self, rows: Sequence[StepRow]) -> None:
        """Append the steps."""
        assert self._steps
        self._steps.append(
            (row.step, row.epoch, row.loss, *map(row.learning_rates.get, self._stages))
            for row in rows
        )

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Append the epoch."""
        self._epochs.append([astuple(row)])


class _Table:
    """A CSV file to which rows are appended, whose first column counts up from 1."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path, self._columns = path, columns
        self._has_rows_before = path.is_file()
        if not self._has_rows_before:
            write_csv(path, columns, ())

    def append(self, rows: Iterable[Sequence[object]]) -> None:
        """Append rows; those of a killed process that are computed again are replaced."""
        rows = list(rows)
        if self._has_rows_before:
            self._drop_from(int(str(rows[0][0])))
            self._has_rows_before = False
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv_writer(file).writerows(map(finite_cells, rows))

    def _drop_from(self, number: int) -> None:
        # A full disk may have cut the last line short.
        whole_lines, _, _ = self._path.read_text("utf-8").rpartition("\n")
        _, *before = csv.reader(whole_lines.splitlines())
        write_csv(self._path, self._columns, (row for row in before if int(row[0]) < number))
