"""A command in several processes, started and ended as a user does it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from image_files import make_classes
from tiny_backbone import TINY

from transferkit.cli.launch import processes_to_start
from transferkit.devices import Device

COMMAND = (sys.executable, "-m", "transferkit")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
TRAIN = (*TINY, "--precision", "fp32", "--batch-size", "6", "--no-report", "--seed", "3")
LONG = ("--unfreeze", "last:1", "--bn", "eval", "--epochs", "100000", "--patience", "0")


def start(*words: object, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*map(str, words)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def running_below(process: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has ended meanwhile
        if int(parent) == process and state != "Z":
            found.append(int(folder.name))
    return sorted(found)


def is_running(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def until(done, process: "subprocess.Popen[str]") -> None:
    while not done():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.fixture
def data(tmp_path):
    folder = make_classes(tmp_path / "colours")
    (folder / "red/0.png").write_bytes(b"not an image")
    return folder


@pytest.fixture
def training(data, tmp_path):
    """A command in two processes that trains for very long, in its second epoch or later."""
    process = start(
        *COMMAND, "finetune", data, "-o", "run", "--processes", 2, *TRAIN, *LONG, folder=tmp_path
    )
    until((tmp_path / "run/checkpoint/state.json").is_file, process)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_processes__end_with_the_exit_code_and_the_output_of_one(data, tmp_path):
    words = ("finetune", data, "--epochs", "2", *TRAIN)
    process = start(*COMMAND, *words, "-o", "run", "--processes", 2, folder=tmp_path)
    out, err = process.communicate()

    assert process.returncode == 3, err
    assert out.count("val accuracy") == 1
    assert err.count("red/0.png") == 1
    assert "2, each computes 3 of the 6 images of a batch" in err
    assert "Warning" not in err

    again = start(*COMMAND, *words, "-o", "run", "--processes", 2, folder=tmp_path)
    out, err = again.communicate()
    assert (again.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("error: run: already exists and is not empty")


def test_torchrun__starts_processes_that_train_one_model(data, tmp_path):
    (data / "red/0.png").unlink()
    words = ("-m", "transferkit", "finetune", data, *TRAIN, "--epochs", "2", "-o", "run")
    process = start(*TORCHRUN, *words, folder=tmp_path)
    out, err = process.communicate()

    assert process.returncode == 0, err
    assert out.count("val accuracy") == 1
    assert (tmp_path / "run/model/model.safetensors").is_file()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_killed_process__stops_the_others_and_keeps_the_checkpoint(training, tmp_path):
    first, second = running_below(training.pid)
    os.kill(second, signal.SIGKILL)
    _, err = training.communicate()

    assert training.returncode == 1
    *_, resume, error = err.splitlines()
    assert (
        resume == f"resume with: transferkit finetune {tmp_path}/colours -o run --resume "
        "--processes 2"
    )
    assert error.startswith("error: process 2 of 2 was ended by SIGKILL, so the run was stopped")
    assert not is_running(first)
    assert (tmp_path / "run/checkpoint/state.json").is_file()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_killed_launcher__ends_its_processes_and_leaves_a_checkpoint(training, tmp_path):
    workers = running_below(training.pid)
    state = tmp_path / "run/checkpoint/state.json"
    os.kill(training.pid, signal.SIGKILL)
    training.wait()
    while any(map(is_running, workers)):
        time.sleep(0.05)

    assert len(workers) == 2
    assert json.loads(state.read_text())["steps"] >= 3


def test_ctrl_c__ends_all_with_one_line(training):
    training.send_signal(signal.SIGINT)
    _, err = training.communicate()

    assert training.returncode == 130
    assert err.splitlines()[-1] == "interrupted"
    assert err.count("resume with: ") == 1
    assert err.count("interrupted") == 1


def test_processes_to_start__are_one_without_a_gpu(monkeypatch):
    assert processes_to_start(None, Device.AUTO) == 1
    assert processes_to_start(3, Device.AUTO) == 3
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert processes_to_start("auto", Device.AUTO) == 4
    assert processes_to_start("auto", Device.CPU) == 1
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert processes_to_start("auto", Device.AUTO) == 1
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert processes_to_start(2, Device.AUTO) == 1
