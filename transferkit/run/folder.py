"""The folder of a run: its name, its files, and the lock that keeps other processes out."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from transferkit.data import split_file
from transferkit.errors import OutputError
from transferkit.files import numbered
from transferkit.places import Place, Url

MODEL, METRICS, HISTORY, SPLIT, SKIPPED, OPTIONS = (
    "model", "metrics.json", "history.csv", split_file.NAME, "skipped.csv", "options.json",
)  # fmt: skip
PLAN, VAL_PREDICTIONS, REPORT_PAGE = "plan.json", "val_predictions.npz", "report.html"
RANGE_TEST, RANGE_TEST_PLOT, CHECKPOINT = "find_lr.csv", "find_lr.png", "checkpoint"
LOGS = "logs"
"""Folder of what trackers write there: files of TensorBoard and CSV, numbers of their runs."""

_ALL = (
    MODEL, METRICS, HISTORY, SPLIT, SKIPPED, OPTIONS, RANGE_TEST, RANGE_TEST_PLOT, CHECKPOINT,
    PLAN, VAL_PREDICTIONS, REPORT_PAGE, LOGS,
)  # fmt: skip
_LOCK = ".lock"
"""Locked by the process that writes; the file a killed process leaves behind is not locked."""


@dataclass(frozen=True)
class Contents:
    """The files of a folder that a command writes.

    Attributes:
        marker: The file that identifies such a folder, so that --overwrite may replace it.
        names: Names of its files and folders, which --overwrite removes.
        resumable: Whether --resume may continue in such a folder.
    """

    marker: str
    names: tuple[str, ...]
    resumable: bool = True


RUN = Contents(OPTIONS, _ALL)


class Replacing(Protocol):
    """What may happen to a folder that exists."""

    @property
    def overwrite(self) -> bool:
        """Whether to replace the folder's contents."""

    @property
    def resume(self) -> bool:
        """Whether to resume the run in the folder."""


class Destination(Replacing, Protocol):
    """Where a command writes its folder, and what may happen to a folder that exists."""

    @property
    def output(self) -> Place | None:
        """The folder; None for a generated name."""


@contextmanager
def chosen_folder(options: Destination, stem: str, contents: Contents = RUN) -> Iterator[Place]:
    """Yield the folder to write: the output option, or an unused name that begins runs/`stem`.

    An unused name is reserved until the end of the block by an empty folder, so that runs that
    begin at the same time have different names.

    Raises:
        OutputError: When the folder holds something else, or another process writes there.
    """
    if options.output is None:
        run = _reserve_unused(Path("runs", stem))
        try:
            yield run
        finally:
            # Fails where something was written.
            for folder in (run, run.parent):
                with suppress(OSError):
                    folder.rmdir()
        return
    _require_free(options.output, options, contents)
    lock = options.output / _LOCK
    if isinstance(lock, Path) and lock.exists():
        with locked(lock.parent):
            pass
    yield options.output


@contextmanager
def claimed(run: Place, options: Replacing, contents: Contents = RUN) -> Iterator[None]:
    """Create the run's folder and keep other processes out until the end of the block.

    Removes the files of an earlier run, unless that run is resumed. Other files stay. A folder in a
    store cannot be locked: there, other processes are not kept out.

    Raises:
        OutputError: When the folder cannot be created or cleared, or another process writes there.
        StoreError: When it is in a store that fails.
    """
    if isinstance(run, Url):
        _require_free(run, options, contents)
        if not options.resume:
            _clear(run, contents.names)
        yield
        return
    with locked(run):
        # Checked again: another process may have started and finished a run since it was chosen.
        _require_free(run, options, contents)
        if not options.resume:
            with _output_errors(run):
                _clear(run, contents.names)
        yield


def _require_free(run: Place, options: Replacing, contents: Contents) -> None:
    if run.exists() and not run.is_dir():
        raise OutputError(f"{run}: is a file, expected a folder for the run; name another --output")
    if options.resume or not run.is_dir():
        return
    present = {entry.name for entry in run.iterdir()} - {_LOCK}
    if present and not options.overwrite:
        resume = ", resume the run in it with --resume," if contents.resumable else ""
        raise OutputError(
            f"{run}: already exists and is not empty; name another --output{resume} or replace it "
            "with --overwrite"
        )
    if present and contents.marker not in present:
        raise OutputError(
            f"{run}: --overwrite replaces runs only, and this folder has no {contents.marker}; "
            "name another --output"
        )


@contextmanager
def locked(folder: Path, option: str = "--output") -> Iterator[None]:
    """Create a folder, and keep other processes out until the end of the block.

    Args:
        folder: The folder.
        option: The option that names it, for messages.

    Raises:
        OutputError: When it cannot be created, or another process writes there.
    """
    with _output_errors(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"{folder}: another process is writing there; wait for it, or name another {option}"
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot lock {folder}: {reason}; name another {option}") from error
    try:
        yield
    finally:
        # Removed while locked. Systems that cannot remove an open file keep an empty one.
        with suppress(OSError):
            (folder / _LOCK).unlink()
        lock.release()


def _clear(run: Place, names: Sequence[str]) -> None:
    for name in names:
        old = run / name
        if isinstance(old, Url):
            if old.exists():
                old.remove()
        elif old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)


@contextmanager
def _output_errors(run: Path, option: str = "--output") -> Iterator[None]:
    """Raise OSErrors in the block as OutputError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot create {run}: {reason}; name another {option}") from error


def _reserve_unused(first: Path) -> Path:
    """Create and return the first folder of a numbered series that does not exist."""
    for folder in numbered(first):
        with _output_errors(folder), suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("a series of names has no end")
