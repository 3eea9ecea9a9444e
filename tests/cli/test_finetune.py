"""`transferkit finetune`: what it prints, and how it ends."""

import json
import re
import resource

import pytest
from image_files import make_classes
from tiny_backbone import TINY

from transferkit.cli.console import describe_time


def test_finetune__in_a_pipe_prints_plain_lines_and_the_command_to_predict(
    cli, image_folder, tmp_path
):
    run = tmp_path / "my run"
    ran = cli("finetune", image_folder, *TINY, "--epochs", 2, "-o", run)

    assert ran.code == 0
    lines = ran.out.splitlines()
    assert re.fullmatch(
        r"val accuracy \d\.\d{3} \(0\.\d+ to \d\.\d+, 95% Wilson\) of 6 images "
        r"\(majority-class baseline: 0\.333\)",
        lines[0],
    )
    assert lines[1].startswith("time: ")
    assert lines[2:] == [
        f"run: {run}",
        f"predict with it: transferkit predict IMAGE... -m '{run}'",
    ]
    heading, first, second = ran.err.splitlines()[-3:]
    assert re.split(" +", heading.strip())[:4] == ["epoch", "trained", "loss", "acc"]
    row = r" +1/2 head +\d\.\d{4} +[01]\.\d{3} +\d\.\d{4} +[01]\.\d{3}\* 1\.0e-02 +frozen +[\d.]+ s"
    assert re.fullmatch(row, first)
    assert second.startswith("    2/2 head ")
    assert max(map(len, (heading, first, second))) < 80
    assert "\x1b" not in ran.out + ran.err
    assert "trains from scratch" in ran.err


def test_finetune__dry_run_prints_the_plan(cli, image_folder, tmp_path):
    ran = cli(
        "finetune", image_folder, *TINY, "--unfreeze", "last:1", "--lr", "0.01", "--dry-run",
        "--backbone-lr", "2e-4", "-o", tmp_path / "run",
    )  # fmt: skip

    assert ran.code == 0
    cells = [[c.strip() for c in line.split("│")[1:-1]] for line in ran.out.splitlines()]
    rows = {row[0]: row[1:] for row in cells if row}
    assert rows["red"] == ["6", "2"]
    assert rows["stage3"][-2:] == ["frozen", ""]
    assert rows["stage4"][0] == "layer4"
    assert rows["stage4"][1] == rows["stage4"][2] != "0"
    assert rows["stage4"][3:] == ["2.0e-04", "1"]
    assert rows["head"][3:] == ["1.0e-02", "1"]
    assert "Phases" not in ran.out
    assert not (tmp_path / "run").exists()


def test_finetune__dry_run_prints_when_each_stage_thaws(cli, image_folder):
    ran = cli(
        "finetune", image_folder, *TINY, "--strategy", "gradual", "--freeze-epochs", 2,
        "--thaw-every", 3, "--epochs", 9, "--dry-run",
    )  # fmt: skip

    assert ran.code == 0
    stages, phases = ran.out.split("Phases")
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in phases.splitlines()]
    assert [row[:2] for row in rows if row] == [
        ["head", "1-2"],
        ["last:1", "3-5"],
        ["last:2", "6-8"],
        ["last:3", "9"],
    ]
    begins = {
        cells[1].strip(): cells[-2].strip()
        for cells in (line.split("│") for line in stages.splitlines())
        if len(cells) == 8
    }
    assert {name: begins[name] for name in ("stage1", "stage2", "stage3", "head")} == {
        "stage1": "",
        "stage2": "9",
        "stage3": "6",
        "head": "1",
    }


def test_finetune__numbers_runs_of_the_same_name(cli, image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert cli("finetune", image_folder, *TINY, "--epochs", 1).code == 0

    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "colours-test_resnet-partial",
        "colours-test_resnet-partial-2",
    ]


def test_finetune__replaces_a_run_only_on_request(cli, image_folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "metrics.json").write_text("old")
    words = ("finetune", image_folder, *TINY, "--epochs", 1, "-o", tmp_path)

    refused = cli(*words)
    assert refused.code == 1
    assert refused.err == (
        f"error: {tmp_path}: already exists and is not empty; name another --output, resume the "
        "run in it with --resume, or replace it with --overwrite\n"
    )
    failed = cli(*words, "--overwrite", "--weights", "missing.pth")
    assert failed.code == 1
    assert (tmp_path / "metrics.json").read_text() == "old"
    no_run = cli(*words, "--overwrite")
    assert no_run.code == 1
    assert "--overwrite replaces runs only, and this folder has no options.json" in no_run.err
    (tmp_path / "options.json").write_text("{}")
    assert cli(*words, "--overwrite").code == 0
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert json.loads((tmp_path / "metrics.json").read_text())["val"]["n"] == 6


@pytest.fixture
def nearly_full_device():
    """Limit files to 200 kB, as on a device that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_finetune__leaves_nothing_half_written_on_a_full_device(
    cli, image_folder, tmp_path, nearly_full_device
):
    run = tmp_path / "run"

    ran = cli("finetune", image_folder, *TINY, "--epochs", 1, "-o", run)

    assert ran.code == 1
    last = ran.err.splitlines()[-1]
    assert last.startswith(f"error: cannot write {run}/model: ")
    assert re.search(r"\(\d+ MB are needed\); nothing was changed there, choose another", last)
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoint", "history.csv", "options.json", "plan.json", "skipped.csv", "split.csv",
    ]  # fmt: skip


def test_finetune__exits_with_3_if_an_image_cannot_be_read(cli, tmp_path):
    data = make_classes(tmp_path / "data", 4)
    (data / "red" / "0.png").write_bytes(b"broken")
    (data / "red" / "notes.txt").write_text("no image, and nobody took it for one")

    ran = cli("finetune", data, *TINY, "--epochs", 1, "-o", tmp_path / "run")

    assert ran.code == 3
    assert "left out: red/0.png: not an image in a known format\n" in ran.err
    assert "left out: red/notes.txt: not an image\n" in ran.err
    assert (tmp_path / "run/model/config.json").is_file()


def test_finetune__estimates_its_time_and_shows_how_it_was_spent(cli, image_folder, tmp_path):
    ran = cli("finetune", image_folder, "-o", tmp_path / "run", "--epochs", "2", *TINY)
    dry = cli("finetune", image_folder, "--dry-run", *TINY)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    estimate = "  time  about 42 s; with as many epochs, head 42 s, last:1 2 min, full 2.5 h\n"

    assert estimate in ran.err
    assert estimate in dry.out
    assert describe_time(metrics) in ran.out.splitlines()


def test_find_lr__prints_a_suggestion_and_its_curve(cli, fewer_steps, image_folder, tmp_path):
    run = tmp_path / "r"
    words = ("-b", "test_resnet", "--weights", "none", "--image-size", 32, "--strategy", "full")
    ran = cli("finetune", image_folder, "-o", run, "--find-lr", *words)

    assert ran.code == 0
    assert "•" in ran.out
    assert "┊" in ran.out
    assert "suggestion: --lr " in ran.out
    assert f"plot: {run}/find_lr.png" in ran.out
    assert max(map(len, ran.out.split("suggestion:")[0].splitlines())) <= 75

    again = cli("finetune", image_folder, "-o", run, *words)
    assert again.code == 1
    assert "--overwrite" in again.err
    replaced = cli("finetune", image_folder, "-o", run, "--overwrite", "--epochs", 1, *words)
    assert replaced.code == 0
    assert not (run / "find_lr.png").exists()


@pytest.mark.parametrize("words", [("--epochs", 10), ("--strategy", "partial")])
def test_finetune__with_a_budget_refuses_what_it_chooses_even_as_the_default(
    cli, image_folder, words
):
    ran = cli("finetune", image_folder, "--budget", 1, *words)

    assert ran.code == 2
    assert f"--budget chooses {words[0]}; leave one of them out" in ran.err
