"""The folder that a run leaves: its name, and what may be in it already."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from transferkit.data import split_file
from transferkit.errors import OutputError

MODEL, METRICS, HISTORY, SPLIT, SKIPPED, OPTIONS = (
    "model", "metrics.json", "history.csv", split_file.NAME, "skipped.csv", "options.json",
)  # fmt: skip
PLAN, VAL_PREDICTIONS, REPORT_PAGE = "plan.json", "val_predictions.npz", "report.html"
RANGE_TEST, RANGE_TEST_PLOT, CHECKPOINT = "find_lr.csv", "find_lr.png", "checkpoint"
_ALL = (
    MODEL, METRICS, HISTORY, SPLIT, SKIPPED, OPTIONS, RANGE_TEST, RANGE_TEST_PLOT, CHECKPOINT,
    PLAN, VAL_PREDICTIONS, REPORT_PAGE,
)  # fmt: skip
_LOCK = ".lock"
"""Held by the process that writes; where one was killed the file stays, and means nothing."""


@dataclass(frozen=True)
class Contents:
    """What a folder holds that a command fills.

    Attributes:
        marker: The file that tells it from any other folder, so that it may be replaced.
        names: Files and folders, all of which go when it is replaced.
    """

    marker: str
    names: tuple[str, ...]


RUN = Contents(OPTIONS, _ALL)


class Writing(Protocol):
    """What options say of the folder that they fill."""

    @property
    def output(self) -> Path | None:
        """Where it is; None for a name of our own."""

    @property
    def overwrite(self) -> bool:
        """Whether what is there is replaced."""

    @property
    def resume(self) -> bool:
        """Whether what is there is gone on with."""


def choose_folder(options: Writing, stem: str, contents: Contents = RUN) -> Path:
    """The folder to fill, runs/`stem` where none is named; raises what `choose_run` raises."""
    run = options.output or _unused_name(stem)
    _require_free(run, options, contents)
    if (run / _LOCK).exists():
        with _locked(run):
            pass
    return run


@contextmanager
def claimed(run: Path, options: Writing, contents: Contents = RUN) -> Iterator[None]:
    """Make the run's folder and keep other processes out until the end of the block.

    An earlier run's files are removed from it, unless that is what is resumed; others stay.

    Raises:
        OutputError: When that cannot be done, or another process writes there.
    """
    with _explained(run):
        run.mkdir(parents=True, exist_ok=True)
    with _locked(run):
        # Once more: since it was chosen another process may have begun and ended there.
        _require_free(run, options, contents)
        if not options.resume:
            with _explained(run):
                _clear(run, contents.names)
        yield


def _require_free(run: Path, options: Writing, contents: Contents) -> None:
    if run.exists() and not run.is_dir():
        raise OutputError(f"{run}: is a file, expected a folder for the run; name another --output")
    if options.resume or not run.is_dir():
        return
    there = {entry.name for entry in run.iterdir()} - {_LOCK}
    if there and not options.overwrite:
        raise OutputError(
            f"{run}: is there already and not empty; name another --output, go on with the run in "
            "it with --resume, or replace it with --overwrite"
        )
    if there and contents.marker not in there:
        raise OutputError(
            f"{run}: --overwrite replaces runs, and this folder holds no {contents.marker}; "
            "name another --output"
        )


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    lock = FileLock(run / _LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"{run}: another process is writing there; wait for it, or name another --output"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise OutputError(
            f"cannot lock {run}: {getattr(error, 'strerror', None) or error}; name another --output"
        ) from error
    try:
        yield
    finally:
        # While it is still held; systems that cannot remove an open file keep an empty one.
        with suppress(OSError):
            (run / _LOCK).unlink()
        lock.release()


def _clear(run: Path, names: Sequence[str]) -> None:
    for name in names:
        old = run / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)


@contextmanager
def _explained(run: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot make {run}: {reason}; name another --output") from error


def _unused_name(stem: str) -> Path:
    count, run = 1, Path("runs", stem)
    while run.exists():
        count += 1
        run = Path("runs", f"{stem}-{count}")
    return run
