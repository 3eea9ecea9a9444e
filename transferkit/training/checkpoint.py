"""Checkpoints: all that a run needs to go on exactly where it stopped, in files without pickle.

A checkpoint is two files. The tensors are written first, under a name of their own; then a JSON
file that names them replaces that of the checkpoint before, in one step. So at any moment, and also
when the device is full, the folder holds one checkpoint that is whole.
"""

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from transferkit.errors import BundleError
from transferkit.files import whole_file, write_json
from transferkit.interruption import deferred_stop
from transferkit.models.weights import copy_tensors
from transferkit.reporting import EpochRow
from transferkit.training.progress import EpochProgress, TrainingProgress, changing_tensors
from transferkit.training.setup import TrainingSetup

_STATE, _TENSORS = "state.json", ".safetensors"
_VERSION = 2
_WORTH = 20
"""How many times as long as writing took, training goes on until the next epoch is written."""


class Checkpoints:
    """The checkpoints of a run: after every epoch, in between by the clock, and when it stops.

    Where epochs are so short that writing would take more than a twentieth of the time, some are
    passed over.

    Args:
        folder: Where they are.
        every: Seconds between two of them within an epoch.
    """

    def __init__(self, folder: Path, every: float) -> None:
        self._folder, self._every = folder, every
        self._written, self._cost = time.monotonic(), 0.0
        self._check_stop: Callable[[Callable[[], None]], None] = lambda before: None

    @contextmanager
    def deferring_stop(self, setup: TrainingSetup, fit: TrainingProgress) -> Iterator[None]:
        """Within the block Ctrl-C and SIGTERM wait for the end of the step."""
        with deferred_stop() as self._check_stop:
            yield
            self._check_stop(lambda: self.save(setup, fit))

    def after_step(self, setup: TrainingSetup, fit: TrainingProgress) -> None:
        """Write one if it is time to, or if the run is to stop; raises then."""
        if time.monotonic() - self._written >= self._every:
            self.save(setup, fit)
        self._check_stop(lambda: self.save(setup, fit))

    def after_epoch(self, setup: TrainingSetup, fit: TrainingProgress) -> None:
        """Write one unless that would take too much of the time."""
        if time.monotonic() - self._written >= _WORTH * self._cost:
            self.save(setup, fit)

    def save(self, setup: TrainingSetup, fit: TrainingProgress) -> None:
        """Write one."""
        started = time.monotonic()
        if fit.epoch and not torch.isfinite(fit.epoch.loss_sum):
            return  # the loop is about to end the run for it, and the last good state stays
        save_checkpoint(self._folder, setup, fit)
        self._written = time.monotonic()
        self._cost = self._written - started

    def load(self, setup: TrainingSetup) -> TrainingProgress | None:
        """See `load_checkpoint`."""
        return load_checkpoint(self._folder, setup)

    def remove(self) -> None:
        """Remove them: the run has come to its end."""
        shutil.rmtree(self._folder, ignore_errors=True)


def save_checkpoint(folder: Path, setup: TrainingSetup, fit: TrainingProgress) -> None:
    """Write the state of a run, in place of the one before.

    Args:
        folder: Where; made if need be.
        setup: What takes part in the run.
        fit: How far it has come.

    Raises:
        OutputError: When it cannot be written; the one before is then still there.
    """
    tensors: dict[str, Tensor] = {}
    state = {
        "version": _VERSION,
        "fit": {
            name: getattr(fit, name) for name in _PLAIN
        } | {"history": [asdict(row) for row in fit.history]},
        "epoch": _pack(None if fit.epoch is None else asdict(fit.epoch), "epoch", tensors),
        "module": _pack(changing_tensors(setup.module, setup.trained), "module", tensors),
        "best": _pack(fit.best_state, "best", tensors),
        "best_probabilities": _pack(
            None if fit.best_probabilities is None else torch.from_numpy(fit.best_probabilities),
            "best_probabilities",
            tensors,
        ),
        "optimizer": _pack(setup.optimizer.state_dict(), "optimizer", tensors),
        "scaler": setup.scaler.state_dict(),
        "steps": setup.schedule.done,
        "micro_batch": setup.micro_batches.largest,
        "random": _pack(_random_state(setup.device), "random", tensors),
    }  # fmt: skip
    name = secrets.token_hex(6) + _TENSORS
    size = sum(tensor.nbytes for tensor in tensors.values())
    with whole_file(folder / name, size=size) as temporary:
        save_file(tensors, temporary)
    write_json(folder / _STATE, {"tensors": name, **state})
    _keep_only(folder, name)


def _keep_only(folder: Path, tensors: str) -> None:
    """Remove other tensors, and what a killed process had not written whole."""
    for file in folder.iterdir():
        if file.name not in (_STATE, tensors):
            file.unlink(missing_ok=True)


def load_checkpoint(folder: Path, setup: TrainingSetup) -> TrainingProgress | None:
    """Put a run's state back into what takes part in it.

    Args:
        folder: Where checkpoints are written.
        setup: As it was at the beginning of the run; changed in place.

    Returns:
        How far it had come; None where no checkpoint was written yet.

    Raises:
        BundleError: When it is damaged, or of another version of transferkit.
    """
    path = folder / _STATE
    if not path.is_file():
        return None
    try:
        state = json.loads(path.read_text("utf-8"))
        if state["version"] != _VERSION:
            raise BundleError(
                f"{path}: is of version {state['version']}, expected {_VERSION}; go on with the "
                "transferkit that wrote it, or start over with --overwrite"
            )
        name = Path(state["tensors"]).name
        fit = _restore(state, load_file(folder / name), setup)
    except BundleError:
        raise
    except Exception as error:
        # json, safetensors and torch each have their own, and what is missing shows anywhere.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BundleError(
            f"{path}: cannot be read ({type(error).__name__}: {reason}); start over with "
            "--overwrite"
        ) from error
    _keep_only(folder, name)
    return fit


_PLAIN = tuple(
    entry.name
    for entry in fields(TrainingProgress)
    if entry.name not in ("history", "best_state", "best_probabilities", "epoch", "is_paused")
)


def _restore(
    state: Mapping[str, Any], tensors: dict[str, Tensor], setup: TrainingSetup
) -> TrainingProgress:
    copy_tensors(_unpack(state["module"], tensors), setup.module)
    setup.optimizer.load_state_dict(_unpack(state["optimizer"], tensors))
    _lay_out_as_parameters(setup.optimizer)
    setup.scaler.load_state_dict(state["scaler"])
    setup.schedule.go_to(state["steps"])
    setup.micro_batches.largest = state["micro_batch"]
    probabilities, epoch = (
        _unpack(state[name], tensors) for name in ("best_probabilities", "epoch")
    )
    fit = TrainingProgress(
        history=[EpochRow(**row) for row in state["fit"]["history"]],
        best_state=_unpack(state["best"], tensors),
        best_probabilities=None if probabilities is None else probabilities.numpy(),
        epoch=None if epoch is None else EpochProgress(**epoch),
        **{name: state["fit"][name] for name in _PLAIN},
    )
    _set_random_state(_unpack(state["random"], tensors), setup.device)
    return fit


def _lay_out_as_parameters(optimizer: Any) -> None:
    # Fused optimizers go through a parameter and its state side by side in memory.
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; its tensors go to `tensors`, and their names stand in their place."""
    match value:
        case Tensor():
            tensors[name] = value.detach().cpu().contiguous()
            return {"__tensor__": name}
        case dict():
            # As pairs: JSON's own keys are strings, an optimizer's are numbers too.
            packed = [[key, _pack(each, f"{name}.{key}", tensors)] for key, each in value.items()]
            return {"__dict__": packed}
        case tuple() | list():
            items = [_pack(each, f"{name}.{i}", tensors) for i, each in enumerate(value)]
            return {"__tuple__": items} if isinstance(value, tuple) else items
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"{name}: {type(value).__name__} has no place in a checkpoint")


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
