"""Weights files: read without running code, whatever program saved them."""

import argparse
import pickle
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from transferkit.errors import WeightsError
from transferkit.models.weights_file import read_weights


class Malicious:
    """An object that runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a weights file was run')",))


@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.safetensors"])
def test_read_weights__never_runs_a_pickle(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps({"conv1.weight": Malicious()}))

    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_weights(tmp_path / name)


def test_read_weights__says_what_is_wrong_with_a_file(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "half.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")

    with pytest.raises(WeightsError, match="no such weights file"):
        read_weights(tmp_path / "nothing.pth")
    with pytest.raises(WeightsError, match="holds no table of named tensors"):
        read_weights(tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_weights(tmp_path / "half.safetensors")


TENSORS = {"conv.weight": torch.ones(2, 2), "conv.bias": torch.zeros(2)}
OTHERS = {name: tensor + 5 for name, tensor in TENSORS.items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(model="resnet18", lr=0.1, output=PurePosixPath("runs")),
        SimpleNamespace(lr=0.1),
        {"args": {"data": Path("photos"), "nested": [argparse.Namespace(a=argparse.Namespace())]}},
        PureWindowsPath("C:/photos"),
        np.float64(0.7),
        np.int64(3),
        np.bool_(True),
        {"history": [np.float32(0.5)], "confusion": np.eye(3)},
        np.array(["cats", "dogs"]),
        {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}},
    ],
    ids=repr,
)
def test_read_weights__takes_tensors_beside_records_of_the_training(tmp_path, beside):
    torch.save({"epoch": 4, "args": beside, "state_dict": TENSORS}, tmp_path / "w.pth.tar")
    torch.save({"beside": beside, **TENSORS}, tmp_path / "flat.pth")

    assert same(read_weights(tmp_path / "w.pth.tar").tensors, TENSORS)
    assert same(read_weights(tmp_path / "flat.pth").tensors, TENSORS)


@pytest.mark.parametrize(
    "names", [("numpy.core", "numpy._core"), ("numpy._core", "numpy.core")], ids=["1", "2"]
)
def test_read_weights__knows_the_names_of_both_versions_of_numpy(tmp_path, names):
    ours, theirs = names
    torch.save({"best": np.float64(1), "model": TENSORS}, tmp_path / "w.pth", pickle_protocol=2)
    with ZipFile(tmp_path / "w.pth") as old, ZipFile(tmp_path / "other.pth", "w") as new:
        for item in old.infolist():
            new.writestr(item, old.read(item).replace(ours.encode(), theirs.encode()))

    assert same(read_weights(tmp_path / "other.pth").tensors, TENSORS)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": TENSORS},
        {"model": TENSORS, "optimizer": {"state": {}}, "epoch": 3},
        {"model": {"state_dict": TENSORS}},
        {"net": TENSORS, "accuracy": 0.9},
        {"module": TENSORS, "global_step": torch.tensor(7)},
        {"state_dict": TENSORS, "state_dict_ema": None},
        {"model": TENSORS, "ema": {"decay": 0.99}},
    ],
    ids=lambda content: " ".join(content),
)
def test_read_weights__finds_the_table_in_a_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")

    found = read_weights(tmp_path / "w.pth")

    assert same(found.tensors, TENSORS)
    assert not found.is_averaged


@pytest.mark.parametrize(
    ("averaged", "trained"),
    [("state_dict_ema", "state_dict"), ("model_ema", "model"), ("teacher", "student")],
)
def test_read_weights__prefers_the_average(tmp_path, averaged, trained):
    torch.save({trained: OTHERS, averaged: TENSORS}, tmp_path / "w.pth")

    found = read_weights(tmp_path / "w.pth")

    assert same(found.tensors, TENSORS)
    assert (found.table, found.is_averaged) == (averaged, True)


def test_read_weights__ends_where_a_checkpoint_contains_itself(tmp_path):
    content = {"epoch": 3}
    content["model"] = content
    torch.save(content, tmp_path / "w.pth")

    with pytest.raises(WeightsError, match="holds no table of named tensors"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["argparse.ArgumentParser", "pathlib.Path.unlink", "numpy.load"])
def test_read_weights__allows_no_other_name(tmp_path, name):
    torch.save({"args": argparse.Namespace(), "model": TENSORS}, tmp_path / "w.pth")
    module, _, attribute = name.rpartition(".")
    with ZipFile(tmp_path / "w.pth") as old, ZipFile(tmp_path / "other.pth", "w") as new:
        for item in old.infolist():
            there = f"c{module}\n{attribute}\n".encode()
            new.writestr(item, old.read(item).replace(b"cargparse\nNamespace\n", there))

    with pytest.raises(WeightsError, match=f"holds {name}, and loading that would run"):
        read_weights(tmp_path / "other.pth")
