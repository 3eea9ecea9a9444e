"""Checkpoints: everything a run needs to resume exactly where it stopped, without pickle.

A checkpoint is two files. The tensors are written first, under a unique name. Then a JSON file that
names them atomically replaces the JSON file of the previous checkpoint. The folder therefore holds
one complete checkpoint at any moment, even when the disk is full.
"""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from transferkit.errors import BundleError, OtherProcessError
from transferkit.files import remove_folder, whole_file, write_json
from transferkit.interruption import DeferredStop, deferred_stop, stop_error
from transferkit.models.weights import copy_tensors
from transferkit.places import Place
from transferkit.processes import ALONE, Processes
from transferkit.reporter import EpochRow
from transferkit.training.setup import TrainingSetup
from transferkit.training.state import EpochState, TrainingState, changing_tensors

_STATE, _TENSORS = "state.json", ".safetensors"
_VERSION = 3
_MIN_INTERVAL = 20
"""Train at least this many times as long as writing takes before saving after an epoch."""


class Checkpoints:
    """The checkpoints of a run: after each epoch, at intervals within one, and when it stops.

    After very short epochs a checkpoint is skipped if writing would take more than a twentieth of
    the time.

    Args:
        folder: Folder of the checkpoints.
        every: Seconds between checkpoints within an epoch.
        processes: The processes that train; the first one writes.
    """

    def __init__(self, folder: Place, every: float, processes: Processes = ALONE) -> None:
        self._folder, self._every, self._processes = folder, every, processes
        self._written, self._cost = time.monotonic(), 0.0
        self._stop = DeferredStop()

    @contextmanager
    def deferring_stop(self, setup: TrainingSetup, state: TrainingState) -> Iterator[None]:
        """Defer Ctrl-C and SIGTERM to the end of the current step."""
        with deferred_stop() as self._stop:
            try:
                yield
                self._save_or_stop(setup, state, is_due=False)
            except OtherProcessError as error:
                # The signal has come already, so nobody will send another one.
                if self._stop.number:
                    raise stop_error(self._stop.number) from error
                raise

    def after_step(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Save a checkpoint if one is due; after a deferred signal, save one and raise."""
        is_due = time.monotonic() - self._written >= self._every
        self._save_or_stop(setup, state, is_due=is_due)

    def _save_or_stop(self, setup: TrainingSetup, state: TrainingState, *, is_due: bool) -> None:
        # A signal reaches each process at another moment, and clocks differ: all do the same.
        number, is_due_anywhere = self._processes.highest([self._stop.number, int(is_due)])
        if number or is_due_anywhere:
            if state.epoch:
                state.epoch.collect(self._processes)
            self.save(setup, state)
        if number:
            raise stop_error(number)

    def after_epoch(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Save a checkpoint unless saving would take too large a share of the time."""
        if time.monotonic() - self._written >= _MIN_INTERVAL * self._cost:
            self.save(setup, state)

    def save(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Save a checkpoint, unless the loss is no longer finite."""
        started = time.monotonic()
        if state.epoch and not torch.isfinite(state.epoch.loss_sum):
            return  # the loop is about to end the run; keep the last good state
        if self._processes.is_first:
            save_checkpoint(self._folder, setup, state)
        self._written = time.monotonic()
        self._cost = self._written - started

    def load(self, setup: TrainingSetup) -> TrainingState | None:
        """Restore the run's state; see `load_checkpoint`."""
        return load_checkpoint(self._folder, setup, self._processes)

    def remove(self) -> None:
        """Remove the checkpoints of a finished run."""
        remove_folder(self._folder)


def save_checkpoint(folder: Place, setup: TrainingSetup, state: TrainingState) -> None:
    """Write the state of a run, replacing the previous checkpoint.

    Args:
        folder: Folder of the checkpoints; created if missing.
        setup: Module, optimizer, schedule and the rest of the training setup.
        state: State of the run.

    Raises:
        OutputError: When it cannot be written; the previous checkpoint is then kept.
    """
    tensors: dict[str, Tensor] = {}
    epoch, best = state.epoch, state.best_probabilities
    record = {
        "version": _VERSION,
        "fit": {
            name: getattr(state, name) for name in _PLAIN
        } | {"history": [asdict(row) for row in state.history]},
        "epoch": _pack(None if epoch is None else asdict(epoch), "epoch", tensors),
        "module": _pack(changing_tensors(setup.module, setup.trained), "module", tensors),
        "best": _pack(state.best_state, "best", tensors),
        "best_probabilities": _pack(
            None if best is None else torch.from_numpy(best), "best_probabilities", tensors
        ),
        "optimizer": _pack(setup.optimizer.state_dict(), "optimizer", tensors),
        "scaler": setup.scaler.state_dict(),
        "steps": setup.schedule.done,
        "micro_batch": setup.micro_batches.largest,
    }  # fmt: skip
    name = secrets.token_hex(6) + _TENSORS
    size = sum(tensor.nbytes for tensor in tensors.values())
    with whole_file(folder / name, size=size) as temporary:
        save_file(tensors, temporary)
    write_json(folder / _STATE, {"tensors": name, **record})
    _keep_only(folder, name)


def _keep_only(folder: Place, tensors: str) -> None:
    """Remove the tensors of other checkpoints and the partial files of killed processes."""
    for file in folder.iterdir():
        if file.name not in (_STATE, tensors):
            file.unlink(missing_ok=True)


def load_checkpoint(
    folder: Place, setup: TrainingSetup, processes: Processes = ALONE
) -> TrainingState | None:
    """Restore a run's state from its checkpoint.

    Args:
        folder: Folder of the checkpoints.
        setup: The training setup as it was at the start of the run; changed in place.
        processes: The processes that train, in any number; the first one reads the checkpoint.

    Returns:
        State of the run; None where no checkpoint was written yet.

    Raises:
        BundleError: When the checkpoint is damaged or has another format version.
    """
    path = folder / _STATE
    found = processes.from_first(lambda: _read(path))
    if found is None:
        return None
    record, tensors = found
    with _reading_errors(path):
        state = _restore(record, tensors, setup)
    if state.epoch:
        state.epoch.move_sums(setup.device)
        if not processes.is_first:
            state.epoch.forget_sums()
    if processes.is_first:
        _keep_only(folder, _tensors_name(record))
    return state


def saved_steps(folder: Place) -> int:
    """Return how many steps a run had taken at its checkpoint; 0 where none was written yet.

    Raises:
        BundleError: When the checkpoint is damaged or has another format version.
    """
    path = folder / _STATE
    with _reading_errors(path):
        return int(_read_record(path)["steps"]) if path.is_file() else 0


def _read(path: Place) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Read a checkpoint: its record and its tensors; None where there is none."""
    if not path.is_file():
        return None
    with _reading_errors(path):
        record = _read_record(path)
        tensors = path.parent / _tensors_name(record)
        is_here = isinstance(tensors, Path)
        return record, load_file(tensors) if is_here else load(tensors.read_bytes())


def _read_record(path: Place) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if record["version"] != _VERSION:
        raise BundleError(
            f"{path}: has format version {record['version']}, expected {_VERSION}; resume with "
            "the transferkit version that wrote it, or start over with --overwrite"
        )
    return record


def _tensors_name(record: Mapping[str, Any]) -> str:
    return Path(record["tensors"]).name


@contextmanager
def _reading_errors(path: Place) -> Iterator[None]:
    try:
        yield
    except BundleError:
        raise
    except Exception as error:
        # json, safetensors and torch each raise their own errors; missing keys can fail anywhere.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BundleError(
            f"{path}: cannot be read ({type(error).__name__}: {reason}); start over with "
            "--overwrite"
        ) from error


_PLAIN = tuple(
    entry.name
    for entry in fields(TrainingState)
    if entry.name
    not in (
        *("history", "best_state", "best_probabilities", "epoch"),
        *("is_paused", "is_out_of_time"),  # of the process that has ended
    )
)


def _restore(
    record: Mapping[str, Any], tensors: dict[str, Tensor], setup: TrainingSetup
) -> TrainingState:
    copy_tensors(_unpack(record["module"], tensors), setup.module)
    setup.optimizer.load_state_dict(_unpack(record["optimizer"], tensors))
    _match_memory_format(setup.optimizer)
    setup.scaler.load_state_dict(record["scaler"])
    setup.schedule.go_to(record["steps"])
    setup.micro_batches.largest = record["micro_batch"]
    probabilities, epoch = (
        _unpack(record[name], tensors) for name in ("best_probabilities", "epoch")
    )
    return TrainingState(
        history=[EpochRow(**row) for row in record["fit"]["history"]],
        best_state=_unpack(record["best"], tensors),
        best_probabilities=None if probabilities is None else probabilities.numpy(),
        epoch=None if epoch is None else EpochState(**epoch),
        **{name: record["fit"][name] for name in _PLAIN},
    )


def _match_memory_format(optimizer: Any) -> None:
    # Fused optimizers walk a parameter and its state in lockstep: strides must be the same.
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return `value` as JSON values, moving its tensors to `tensors` and leaving their names."""
    match value:
        case Tensor():
            tensors[name] = value.detach().cpu().contiguous()
            return {"__tensor__": name}
        case dict():
            # As pairs, because JSON keys are strings and an optimizer's keys are also integers.
            packed = [[key, _pack(each, f"{name}.{key}", tensors)] for key, each in value.items()]
            return {"__dict__": packed}
        case tuple() | list():
            items = [_pack(each, f"{name}.{i}", tensors) for i, each in enumerate(value)]
            return {"__tuple__": items} if isinstance(value, tuple) else items
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"{name}: a checkpoint cannot hold a {type(value).__name__}")


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    match value:
        case {"__tensor__": name}:
            return tensors[name]
        case {"__dict__": pairs}:
            return {key: _unpack(each, tensors) for key, each in pairs}
        case {"__tuple__": items}:
            return tuple(_unpack(each, tensors) for each in items)
        case list():
            return [_unpack(each, tensors) for each in value]
    return value
