"""The command line as people type it: what it prints where, and its exit codes."""

import csv
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import TINY, make_classes, save_picture

COMMANDS = [
    *("finetune", "extract-features", "predict", "evaluate", "explain", "report", "compare"),
    *("backbones", "inspect", "cache"),
]


def test_version(cli):
    from transferkit import __version__

    assert cli("--version") == (0, f"transferkit {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help__has_an_example(cli, command):
    ran = cli(command, "--help")

    assert ran.code == 0
    assert f"Example: transferkit {command} " in ran.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help__breaks_lines_where_the_terminal_ends(cli, monkeypatch, command):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 40)
    prose = cli(command, "--help").out.partition("╭")[0]
    lines = [line.strip() for line in prose.splitlines()]
    broken = [(line, after) for line, after in pairwise(lines) if line and after]

    assert broken
    for line, after in broken:
        assert len(line) + len(" " + after.split()[0]) > 40 - len("  "), line


def test_finetune__in_a_pipe_is_plain_lines_and_a_command_that_predicts(
    cli, image_folder, tmp_path
):
    run = tmp_path / "my run"
    ran = cli("finetune", image_folder, *TINY, "--epochs", 2, "-o", run)

    assert ran.code == 0
    lines = ran.out.splitlines()
    assert re.fullmatch(
        r"val accuracy \d\.\d{3} \(0\.\d+ to \d\.\d+, 95% Wilson\) of 6 images "
        r"\(always the most frequent class: 0\.333\)",
        lines[0],
    )
    assert lines[1].startswith("time: ")
    assert lines[2:] == [
        f"run: {run}",
        f"predict with it: transferkit predict IMAGE... -m '{run}'",
    ]
    epochs = [line for line in ran.err.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == 2
    assert re.match(r"epoch 1/2 head    train loss \d\.\d{4} accuracy \d\.\d{3}  val ", epochs[0])
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


def test_finetune__dry_run_tells_what_thaws_when(cli, image_folder):
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


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet__silences_standard_error(cli, image_folder, tmp_path, place):
    words = ["finetune", image_folder, *TINY, "--epochs", 1, "-o", tmp_path / "run"]
    ran = cli(*(["--quiet", *words] if place == "before" else [*words, "--quiet"]))

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("val accuracy ")


def test_finetune__names_a_run_and_the_next_one(cli, image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert cli("finetune", image_folder, *TINY, "--epochs", 1).code == 0

    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "colours-test_resnet-partial",
        "colours-test_resnet-partial-2",
    ]


def test_finetune__keeps_a_run_that_is_there(cli, image_folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "metrics.json").write_text("old")
    words = ("finetune", image_folder, *TINY, "--epochs", 1, "-o", tmp_path)

    refused = cli(*words)
    assert refused.code == 1
    assert refused.err == (
        f"error: {tmp_path}: is there already and not empty; name another --output, go on with "
        "the run in it with --resume, or replace it with --overwrite\n"
    )
    failed = cli(*words, "--overwrite", "--weights", "missing.pth")
    assert failed.code == 1
    assert (tmp_path / "metrics.json").read_text() == "old"
    no_run = cli(*words, "--overwrite")
    assert no_run.code == 1
    assert "--overwrite replaces runs, and this folder holds no options.json" in no_run.err
    (tmp_path / "options.json").write_text("{}")
    assert cli(*words, "--overwrite").code == 0
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert json.loads((tmp_path / "metrics.json").read_text())["val"]["n"] == 6


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["finetune", "nowhere"], 1, "nowhere: no such folder with one subfolder"),
        (["finetune", "empty"], 1, "empty: no images in it; expected one subfolder a class"),
        (["finetune", "one"], 1, "one: got one class (red), expected two or more"),
        (
            ["finetune", "single"],
            1,
            "single: got fewer than two different readable images in green",
        ),
        (["finetune", "colours", "-b", "resnet81"], 1, "unknown backbone 'resnet81'; did you mean"),
        (["finetune", "colours", "-b", "local-dir:empty"], 1, "empty: no config.json in it"),
        (["finetune", "colours", "--weights", "no.pth"], 1, "no.pth: no such weights file"),
        (["finetune", "colours", "--weights", "bad.pth"], 1, "bad.pth: cannot be read as weights"),
        (["finetune", "colours", "--lr", "-1"], 2, "--lr: got -1.0, expected more than 0"),
        (["finetune", "colours", "--lr", "nan"], 2, "--lr: got nan, expected more than 0"),
        (
            ["finetune", "colours", "--val-fraction", "1"],
            2,
            "--val-fraction: got 1.0, expected more",
        ),
        (["finetune", "colours", "--epochs", "0"], 2, "--epochs: got 0, expected 1 or more"),
        (["finetune", "colours", "--unfreeze", "tail"], 2, "--unfreeze: got 'tail', expected head"),
        (["finetune", "colours", *TINY, "--unfreeze", "last:99"], 2, "the backbone has 5 stages"),
        (
            ["finetune", "colours", "--strategy", "full", "--unfreeze", "last:1"],
            2,
            "is for --strategy",
        ),
        (["finetune", "colours", "-o", "a.txt"], 1, "a.txt: is a file, expected a folder"),
        (["finetune", "colours", "--precision", "fp16", *TINY], 2, "--precision: fp16 needs a GPU"),
        (["extract-features", "colours", "-o", "f.npy", *TINY], 2, "--output: got f.npy, expected"),
        (["predict", "a.txt", "-m", "nowhere"], 1, "nowhere: no such run; expected the folder"),
        (["predict", "a.txt", "-m", "empty"], 1, "empty: a folder without a model"),
        (["predict", "a.txt"], 2, "--model, --backbone: expected exactly one"),
        (
            ["predict", "a.txt", "-b", "test_resnet", "--format", "parquet"],
            2,
            "parquet needs a file",
        ),
        (["evaluate", "colours", "-m", "nowhere"], 1, "nowhere: no such run"),
        (["backbones", "resnet81"], 1, "unknown backbone 'resnet81'; did you mean"),
    ],
)
def test_bad_input__is_one_line_and_an_exit_code(cli, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    make_classes(tmp_path / "colours", 3)
    save_picture(tmp_path / "one/red/1.png", (1, 2, 3), seed=0)
    shutil.copytree(tmp_path / "colours", tmp_path / "single")
    for name in ("0.png", "1.png"):
        (tmp_path / "single/green" / name).unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "bad.pth").write_bytes(b"\x80\x02garbage")

    ran = cli(*words)

    assert ran.code == code
    assert ran.out == ""
    (error,) = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert message in error


@pytest.mark.parametrize(
    "words",
    [
        ["finetune"],
        ["finetun", "x"],
        ["finetune", "x", "--strategy", "sideways"],
        ["finetune", "x", "--epochs", "many"],
        ["finetune", "x", "--workers", "lots"],
        ["extract-features", "x"],
        ["--nonsense"],
    ],
)
def test_misuse__exits_with_2_and_points_to_help(cli, words):
    ran = cli(*words)

    assert ran.code == 2
    assert "Try 'transferkit" in ran.err


def test_finetune__a_full_device_leaves_nothing_half_written(image_folder, tmp_path):
    """A limit on file sizes stands in for a full disk: the weights no longer fit."""
    run = tmp_path / "run"
    words = ["finetune", str(image_folder), *TINY, "--epochs", "1", "-o", str(run)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    ran = subprocess.run(
        [sys.executable, "-m", "transferkit", *words],
        capture_output=True, text=True, preexec_fn=limit, timeout=120,
    )  # fmt: skip

    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith(f"error: cannot write {run}/model: ")
    assert re.search(r"\(\d+ MB are needed\); nothing was changed there, choose another", last)
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoint", "history.csv", "options.json", "plan.json", "skipped.csv", "split.csv",
    ]  # fmt: skip


def test_predict__writes_jsonl_in_a_pipe_and_exits_with_3_for_a_broken_input(
    cli, run_folder, image_folder, tmp_path
):
    (tmp_path / "broken.jpg").write_bytes(b"broken")

    ran = cli("predict", image_folder / "red/0.png", tmp_path / "broken.jpg", "-m", run_folder)

    good, bad = (json.loads(line) for line in ran.out.splitlines())
    assert ran.code == 3
    assert (good["status"], len(good["top"])) == ("ok", 3)
    assert bad == {
        "path": str(tmp_path / "broken.jpg"),
        "status": "error",
        "label": None,
        "confidence": None,
        "top": [],
        "error": "not an image in a known format",
    }


def test_predict__reads_paths_from_standard_input(cli, run_folder, image_folder, monkeypatch):
    paths = [str(image_folder / f"red/{i}.png") for i in (2, 1)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(paths) + "\n"))

    ran = cli("predict", "-", "-m", run_folder)

    assert [json.loads(line)["path"] for line in ran.out.splitlines()] == paths


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "parquet"])
def test_predict__writes_the_format_of_the_suffix(cli, run_folder, image_folder, tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"

    ran = cli("predict", image_folder, "-m", run_folder, "-o", path)

    assert ran == (0, f"{path}: 24 predictions, 0 errors\n", "")
    assert path.stat().st_size > 500


def test_predict__table_shows_names_inertly(cli, run_folder, image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(image_folder / "red/0.png", "[bold]x[red].png")

    ran = cli("predict", "[bold]x[red].png", "-m", run_folder, "--format", "table")

    assert "[bold]x[red].png" in ran.out


def test_predict__table_has_a_line_for_each_of_the_next_classes(cli, run_folder, image_folder):
    ran = cli("predict", image_folder / "red/0.png", "-m", run_folder, "--format", "table")
    rows = [[cell.strip() for cell in line.split("│")] for line in ran.out.splitlines()]
    told = [row[4] for row in rows if len(row) == 6 and row[4]]

    assert [re.sub(r"[\d.]+$", "P", cell) for cell in told] in (
        ["blue P", "green P"], ["green P", "blue P"],
    )  # fmt: skip


def test_predict__with_a_backbone_names_imagenet_categories(cli, image_folder):
    ran = cli("predict", image_folder / "red/0.png", "-b", "test_resnet", "--weights", "none",
              "--format", "csv", "--top-k", 2)  # fmt: skip
    (row,) = csv.DictReader(io.StringIO(ran.out))

    assert ran.code == 0
    assert row["label"] == row["label_1"] != row["label_2"]
    assert not row["label"].isdigit()


def test_extract_features__says_what_it_wrote(cli, image_folder, tmp_path):
    ran = cli("extract-features", image_folder, *TINY, "-o", tmp_path / "f.csv")

    assert ran == (0, f"{tmp_path}/f.csv: 24 images x 512 features of test_resnet\n", "") or (
        ran.code == 0
        and re.fullmatch(r".*f\.csv: 24 images x \d+ features of test_resnet\n", ran.out)
    )


def test_extract_features__exits_with_3_when_something_was_left_out(cli, tmp_path):
    data = make_classes(tmp_path / "data", 2)
    (data / "red" / "0.png").write_bytes(b"")

    ran = cli("extract-features", data, *TINY, "-o", tmp_path / "f.npz")

    assert ran.code == 3
    assert ran.err == "left out: red/0.png: an empty file\n"


def test_finetune__exits_with_3_when_an_image_cannot_be_read(cli, tmp_path):
    data = make_classes(tmp_path / "data", 4)
    (data / "red" / "0.png").write_bytes(b"broken")
    (data / "red" / "notes.txt").write_text("no image, and nobody took it for one")

    ran = cli("finetune", data, *TINY, "--epochs", 1, "-o", tmp_path / "run")

    assert ran.code == 3
    assert "left out: red/0.png: not an image in a known format\n" in ran.err
    assert "left out: red/notes.txt: not an image\n" in ran.err
    assert (tmp_path / "run/model/config.json").is_file()


def test_names__that_are_hostile_are_shown_inertly_and_come_back_whole(
    cli, run_folder, tmp_path, monkeypatch
):
    # The table folds long paths anywhere.
    monkeypatch.chdir(tmp_path)
    names = [
        b"esc\x1b[31m.png",
        b"line\nbreak.png",
        b"[bold]x[red].png",
        b"\xff\xfe.png",
        b"=1+1.png",
    ]
    for name in names:
        save_picture(tmp_path / "in" / os.fsdecode(name), (200, 0, 0), seed=0)
    (tmp_path / "in" / os.fsdecode(names[0])).write_bytes(b"broken")

    for suffix in ("jsonl", "parquet", "csv", "json"):
        assert (
            cli("predict", tmp_path / "in", "-m", run_folder, "-o", tmp_path / f"p.{suffix}").code
            == 3
        )
    table = cli("predict", "in", "-m", run_folder, "--format", "table").out
    lines = (tmp_path / "p.jsonl").read_text("utf-8").splitlines()

    told = {os.path.basename(os.fsencode(json.loads(line)["path"])) for line in lines}
    assert told == set(names)
    assert "\x1b" not in table
    assert r"esc\x1b[31m" in table
    assert "[bold]x[red].png" in table


def test_evaluate__counts_what_the_model_was_trained_on(cli, run_folder, image_folder, tmp_path):
    with (run_folder / "split.csv").open() as file:
        splits = {row["path"]: row["split"] for row in csv.DictReader(file)}
    trained = [path for path, split in splits.items() if split == "train"]
    held_out = [path for path, split in splits.items() if split == "val"]
    for number, path in enumerate([*trained[:2], *held_out]):
        copy = tmp_path / "data" / Path(path).parent / f"renamed{number}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image_folder / path, copy)
    (copy.parent / "broken.png").write_bytes(b"broken")
    told = f"2 of {2 + len(held_out)} images are among those that the model was trained on"

    for model in (run_folder, run_folder / "model"):
        assert told in cli("evaluate", tmp_path / "data", "-m", model).err

    for copy in (tmp_path / "data").rglob("renamed[01].png"):
        copy.unlink()
    assert "trained on" not in cli("evaluate", tmp_path / "data", "-m", run_folder).err


def test_evaluate__of_a_model_alone_says_nothing_of_its_training(
    cli, run_folder, image_folder, tmp_path
):
    shutil.copytree(run_folder / "model", tmp_path / "moved")

    assert cli("evaluate", image_folder, "-m", tmp_path / "moved").err == ""


def test_evaluate__keeps_its_figures_when_images_go_meanwhile(
    cli, run_folder, image_folder, monkeypatch
):
    def gone(file):
        raise FileNotFoundError(file)

    monkeypatch.setattr("transferkit.recipes.evaluate.file_digest", gone)

    ran = cli("evaluate", image_folder, "-m", run_folder)

    assert json.loads(ran.out)["n"] == 24
    assert ran.err.startswith("24 images were measured and cannot be read any more")


def test_evaluate__is_json_in_a_pipe_and_a_file_on_request(cli, run_folder, image_folder, tmp_path):
    piped = cli("evaluate", image_folder, "-m", run_folder)
    written = cli("evaluate", image_folder, "-m", run_folder, "-o", tmp_path / "m.json")

    metrics = json.loads(piped.out)
    assert metrics == json.loads((tmp_path / "m.json").read_text())
    assert written.out.startswith(f"{tmp_path}/m.json: accuracy {metrics['accuracy']:.3f} (")
    assert written.out.endswith(", 95% Wilson) of 24 images\n")


def test_backbones__lists_and_searches(cli):
    every = cli("backbones").out.splitlines()
    vgg = cli("backbones", "vgg1?").out.splitlines()

    assert len(every) > 1000
    assert vgg == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert "torchvision:alexnet" in cli("backbones", "alex").out.splitlines()


def test_cache__lists_and_clears_what_runs_have_left(cli, image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path / "cache"))
    cli("finetune", image_folder, "-o", tmp_path / "run", "--epochs", "2", *TINY)
    header, *lines = cli("cache").out.splitlines()
    (line,) = (line for line in lines if '"test_resnet, what is frozen",24,' in line)
    key = line.split(",")[0]

    assert header == "entry,what,rows,MB,last used"
    assert [line for line in lines if f"images of {image_folder}, checked" in line]
    assert key in cli("cache", key).out
    assert cli("cache", "nonsense").err.startswith("error: unknown cache entry 'nonsense'")
    assert cli("cache", key, "--clear").out.startswith("removed 1 entries")
    assert len(cli("cache").out.splitlines()) == 2
    assert cli("cache", "--clear").out.startswith("removed 1 entries")
    assert cli("cache").out.splitlines() == [header]
    assert cli("cache", "--clear").out == "removed 0 entries, 0.0 MB\n"


def test_commands__open_no_connection_when_every_name_is_local(
    cli, image_folder, run_folder, tmp_path, monkeypatch
):
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(f"socket.socket.{name}", lambda *_: pytest.fail("a connection"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a name looked up"))

    codes = [
        cli(*words).code
        for words in (
            ("finetune", image_folder, "-b", "edges8", "--epochs", 1, "-o", tmp_path / "run"),
            ("finetune", image_folder, "-b", f"local-dir:{run_folder}/model", "--image-size", 32,
             "--strategy", "features", "-o", tmp_path / "svm"),
            ("predict", image_folder / "red/0.png", "-m", tmp_path / "svm"),
            ("evaluate", image_folder, "-m", run_folder, "-o", tmp_path / "metrics.json"),
            ("extract-features", image_folder, "-m", run_folder, "-o", tmp_path / "f.npz"),
            ("backbones", "--local"),
            ("inspect", "resnet18"),
        )
    ]  # fmt: skip

    assert codes == [0] * 7


def test_finetune__says_how_long_it_will_take_and_where_the_time_went(cli, image_folder, tmp_path):
    ran = cli("finetune", image_folder, "-o", tmp_path / "run", "--epochs", "2", *TINY)
    dry = cli("finetune", image_folder, "--dry-run", *TINY)

    assert re.search(r"^ +time  about \d", ran.err, re.MULTILINE)
    assert re.search(r"^time: .*frozen layers \d.*training images a second$", ran.out, re.MULTILINE)
    others = r"; with as many epochs, head [\d.]+ \w+, last:1 [\d.]+ \w+, full [\d.]+ \w+$"
    assert re.search(r"time  about [\d.]+ \w+" + others, dry.out, re.MULTILINE)
