"""Pretrain the embedded backbone on pictures made by formula.

    python pretraining/train.py OUT --probe PHOTOS

OUT/pictures is rendered once, OUT/state.safetensors written after every epoch, and an interrupted
call, made again, goes on from there to the same weights. OUT/nano is what the package carries.
Everything follows from the options and the seed. Real pictures only measure: every few epochs a
logistic regression on frozen features says how far it has come, and nothing is learnt from them.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from learner import ARCHITECTURE, MODEL_ARGS, Learner
from probe import probe
from safetensors import safe_open
from safetensors.torch import save
from store import PictureStore
from torch import Tensor, nn
from views import MEAN, STD, Views

from transferkit.files import whole_file, write_json
from transferkit.models.digests import tensors_digest

_WARM_UP = 0.05
_WEIGHT_DECAY = 0.05
_SLOT = "optimizer."
"""What stands before the names of the optimizer's tensors in the state."""


@dataclass(frozen=True)
class Recipe:
    """What decides the weights.

    Attributes:
        seed: Of everything that is drawn.
        programs: Pictures that are rendered.
        side: Of a picture, in pixels.
        view: Side of a view, in pixels.
        epochs: Passes over all pictures.
        batch: Pictures a step, each in two views.
        lr: The highest learning rate.
    """

    seed: int
    programs: int
    side: int
    view: int
    epochs: int
    batch: int
    lr: float

    @property
    def steps_an_epoch(self) -> int:
        """What is left over takes part in another epoch."""
        return self.programs // self.batch

    def rate_at(self, step: int) -> float:
        """A warm-up, then half a cosine down to nothing."""
        done = step / (self.epochs * self.steps_an_epoch)
        if done < _WARM_UP:
            return self.lr * done / _WARM_UP
        return self.lr * 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def main(
    out: Path,
    seed: int = 0,
    programs: int = 40_000,
    side: int = 128,
    view: int = 64,
    epochs: int = 26,
    batch: int = 256,
    lr: float = 2e-3,
    probe_folders: Annotated[list[Path] | None, typer.Option("--probe")] = None,
    probe_every: int = 10,
    workers: int = os.cpu_count() or 1,
) -> None:
    """Render what is not there yet, train, and write what the package carries."""
    recipe = Recipe(seed, programs, side, view, epochs, batch, lr)
    store = PictureStore(out / "pictures", programs, side, workers)
    training = Training(recipe, store, out)
    for epoch in range(training.epoch, epochs):
        started = time.monotonic()
        told: dict[str, Any] = {"epoch": epoch + 1, "loss": training.run_epoch()}
        told["seconds"] = round(time.monotonic() - started, 1)
        if epoch + 1 == epochs or (epoch + 1) % probe_every == 0:
            model = training.export()
            for folder in probe_folders or ():
                told[folder.name] = probe(f"local-dir:{model}", folder)
        print(json.dumps(told), flush=True)


class Training:
    """A learner, its optimizer and how far they have come.

    Attributes:
        epoch: How many are done.
    """

    def __init__(self, recipe: Recipe, store: PictureStore, out: Path) -> None:
        """Begin, or go on from OUT/state.safetensors."""
        self.recipe, self.store, self.out = recipe, store, out
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(recipe.seed)
        self.learner = Learner().to(self.device, memory_format=torch.channels_last)
        parameters = list(self.learner.parameters())
        decayed = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": _WEIGHT_DECAY}
        plain = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
        self.optimizer = torch.optim.AdamW([decayed, plain], lr=recipe.lr, fused=True)
        self.epoch = 0
        self._state = out / "state.safetensors"
        if self._state.exists():
            self._restore()

    def _restore(self) -> None:
        with safe_open(self._state, "pt") as file:
            told = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if json.loads(told["recipe"]) != asdict(self.recipe):
            raise SystemExit(
                f"{self._state}: was begun with {told['recipe']}, expected {asdict(self.recipe)}; "
                "give the same options or another folder"
            )
        self.learner.load_state_dict({name: tensors[name] for name in self.learner.state_dict()})
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith(_SLOT):
                place, key = name.removeprefix(_SLOT).split(".")
                slots.setdefault(int(place), {})[key] = tensor
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for place, slot in slots.items():
            for key, tensor in slot.items():
                if tensor.ndim:  # laid out like its parameter, as the fused step expects
                    slot[key] = torch.empty_like(parameters[place]).copy_(tensor)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        self.epoch = int(told["epoch"])

    def run_epoch(self) -> float:
        """Train for one more epoch and keep its state; the mean loss."""
        generator = torch.Generator(self.device).manual_seed(
            1_000_003 * self.recipe.seed + self.epoch
        )
        views = Views(self.recipe.view, generator)
        self.learner.train()
        first_step = self.epoch * self.recipe.steps_an_epoch
        total = torch.zeros((), device=self.device)
        for step, pictures in enumerate(self._batches(), first_step):
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.rate_at(step)
            with torch.autocast(self.device.type, torch.bfloat16):
                loss = self.learner.loss(views(pictures), views(pictures))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        self.epoch += 1
        self._keep()
        return round(float(total) / self.recipe.steps_an_epoch, 4)

    def _batches(self) -> Iterator[Tensor]:
        """All pictures in a new order, (batch, 3, side, side) from 0 to 1."""
        random = np.random.default_rng((self.recipe.seed, self.epoch))
        order = random.permutation(self.store.count)
        for step in range(self.recipe.steps_an_epoch):
            rows = order[step * self.recipe.batch : (step + 1) * self.recipe.batch]
            pictures = torch.from_numpy(self.store.rows(rows)).to(self.device)
            yield pictures.permute(0, 3, 1, 2).float() / 255

    def _keep(self) -> None:
        tensors = dict(self.learner.state_dict())
        for place, slot in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{_SLOT}{place}.{key}": tensor for key, tensor in slot.items()}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        told = {"epoch": str(self.epoch), "recipe": json.dumps(asdict(self.recipe))}
        with whole_file(self._state) as temporary:
            temporary.write_bytes(save(tensors, metadata=told))

    def export(self) -> Path:
        """Write the backbone as the package carries it: half precision, and how it was made."""
        folder = self.out / "nano"
        tensors = _halved(self.learner.backbone)
        with whole_file(folder / "model.safetensors") as temporary:
            temporary.write_bytes(save(tensors))
        steps = self.epoch * self.recipe.steps_an_epoch
        made = {"script": "pretraining/train.py", "steps": steps, **asdict(self.recipe)}
        config = {
            "architecture": ARCHITECTURE,
            "model_args": MODEL_ARGS,
            "num_classes": 0,
            "pretrained_cfg": _PRETRAINED_CFG,
            "pretraining": {**made, "digest": tensors_digest(tensors)},
        }
        write_json(folder / "config.json", config)
        return folder


_PRETRAINED_CFG = {
    "tag": "formula",
    "description": "Pretrained on pictures made by formula, not on photographs or ImageNet.",
    "license": "apache-2.0",
    "input_size": [3, 288, 288],
    "crop_pct": 0.95,
    "interpolation": "bicubic",
    "mean": [MEAN] * 3,
    "std": [STD] * 3,
    "num_classes": 0,
    "first_conv": "conv1",
    "classifier": "fc",
}


def _halved(backbone: nn.Module) -> dict[str, Tensor]:
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in backbone.state_dict().items()
    }


if __name__ == "__main__":
    typer.run(main)
