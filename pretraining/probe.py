"""A linear probe: logistic regression on a backbone's frozen, pooled features.

    python pretraining/probe.py PHOTOS... --backbone nano --backbone resnet18

Prints the mean accuracy over three seeds. Each seed splits a folder of classes differently; with
train/ and val/ folders, it only changes the folds of the training images in which C is chosen.
"""

from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

import transferkit

_SEEDS = (0, 1, 2)


def probe(backbone: str, folder: Path, weights: str = "pretrained") -> float:
    """Return the accuracy of a logistic regression, 0 to 1."""
    accuracies = []
    for seed in _SEEDS:
        with TemporaryDirectory() as run:
            result = transferkit.finetune(
                folder, Path(run, "run"), backbone=backbone, weights=weights, seed=seed,
                strategy="features", classifier="linear", on_bad_image="skip", report=False,
            )  # fmt: skip
        accuracies.append(result.metrics["val"]["accuracy"])
    return round(mean(accuracies), 4)


def main(
    folders: list[Path],
    backbone: Annotated[list[str], typer.Option()],
    weights: str = "pretrained",
) -> None:
    """Print a line for each backbone and folder."""
    for name in backbone:
        for folder in folders:
            print(f"{name} {folder.name} {probe(name, folder, weights):.3f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
