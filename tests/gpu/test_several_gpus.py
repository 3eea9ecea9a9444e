"""Several GPUs train what one GPU trains, by NCCL."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from several_processes import run_together

TRAIN = """
import os
import transferkit
os.environ["TRANSFERKIT_CACHE"] = f"cache-{count}"
for name, options in RUNS.items():
    transferkit.finetune(DATA, f"{name}-{count}", **{**COMMON, **options})
"""
COMMON = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
    "epochs": 3,
    "learning_rate": 1e-3,
    "optimizer": "sgd",
    "bn": "eval",
    "precision": "fp32",
    "report": False,
    "cache": "disk",
}
RUNS = {"last": {"unfreeze": "last:1"}, "full": {"strategy": "full"}}
SYNCHRONISED = {"statistics": {"strategy": "full", "bn": "train"}}


def losses(run: Path) -> list[list[float]]:
    with (run / "history.csv").open() as file:
        return [[float(r["train_loss"]), float(r["val_loss"])] for r in csv.DictReader(file)]


def test_two_gpus__train_what_one_trains(device, image_folder, tmp_path):
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU; this takes two")
    runs = {**RUNS, **(SYNCHRONISED if device.type == "cuda" else {})}
    program = TRAIN.replace("RUNS", repr(runs)).replace("DATA", repr(str(image_folder)))
    program = program.replace("COMMON", repr({**COMMON, "device": device.type}))

    assert run_together((1, program), (2, program), folder=tmp_path) == [[0], [0, 0]]
    for name in runs:
        one, two = (losses(tmp_path / f"{name}-{count}") for count in (1, 2))
        np.testing.assert_allclose(two, one, rtol=1e-3)
