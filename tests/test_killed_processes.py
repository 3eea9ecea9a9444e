"""Processes killed in the middle of their work: what they saved is resumed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_backbone import TINY

import transferkit

PROGRAM = """
import json, os, signal, sys
import transferkit.recipes.extract_features, transferkit.recipes.finetune  # once for both children
from transferkit.cli import main
from transferkit.tables.spool import Spool
from transferkit.training import checkpoint

def kill_after(calls, owner, name):
    original, seen = getattr(owner, name), []
    def call(*args):
        original(*args)
        seen.append(1)
        if len(seen) == calls:
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, call)

kill_after(3, Spool, "add")
kill_after(7, checkpoint, "save_checkpoint")
for words in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.argv = ["transferkit", "-q", *words]
        main()
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, words
"""
SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32}
TRAINED = {**SMALL, "epochs": 3, "unfreeze": "last:1", "batch_size": 4}
"""Five steps an epoch: the seventh checkpoint is in the middle of the second one."""


@pytest.fixture(scope="module")
def killed(image_folder, tmp_path_factory):
    """What two killed commands left in a folder: a run, and the features of some images."""
    folder = tmp_path_factory.mktemp("killed")
    commands = [
        ["finetune", "-o", "run", "--epochs", "3", "--unfreeze", "last:1", "--batch-size", "4",
         "--checkpoint-minutes", "1e-9"],
        ["extract-features", "-o", "f.npz", "--batch-size", "1"],
    ]  # fmt: skip
    words = [[*given, str(image_folder), *TINY, "--precision", "fp32"] for given in commands]
    subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(words)], cwd=folder, check=True)
    return folder


def test_finetune__resumes_to_the_results_of_a_run_never_killed(killed, image_folder, tmp_path):
    state = json.loads((killed / "run/checkpoint/state.json").read_text())
    whole = transferkit.finetune(image_folder, tmp_path / "whole", **TRAINED)

    resumed = transferkit.finetune(image_folder, killed / "run", resume=True)

    assert (len(state["fit"]["history"]), state["steps"]) == (1, 7)
    weights, expected = (load_file(r.run / "model/model.safetensors") for r in (resumed, whole))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert np.array_equal(resumed.val_probabilities, whole.val_probabilities)
    assert not (killed / "run/checkpoint").exists()
    assert not (killed / "run/.lock").exists()


def test_extract_features__resumes_to_the_rows_of_a_command_never_killed(
    killed, image_folder, tmp_path
):
    log = (killed / "f.npz.partial/log.jsonl").read_text()
    tables = []
    for path, resume in ((tmp_path / "f.npz", False), (killed / "f.npz", True)):
        transferkit.extract_features(image_folder, path, batch_size=1, resume=resume, **SMALL)
        with np.load(path) as file:
            tables.append(dict(file))

    whole, resumed = tables
    assert log.count("\n") == 3
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)
