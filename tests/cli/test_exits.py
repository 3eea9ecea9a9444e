"""Exit codes: bad input gives one line, and misuse points to --help."""

import shutil

import pytest
from image_files import make_classes, save_image
from tiny_backbone import TINY


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["finetune", "nowhere"], 1, "nowhere: no such folder with one subfolder"),
        (["finetune", "empty"], 1, "empty: no images in it; expected one subfolder per class"),
        (["finetune", "one"], 1, "one: got one class (red), expected two or more"),
        (
            ["finetune", "single"],
            1,
            "single: no class has two different readable images, expected one to train on",
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
        (["predict", "a.txt", "-m", "x", "-b", "y"], 2, "--model has its own backbone and weights"),
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
    save_image(tmp_path / "one/red/1.png", (1, 2, 3), seed=0)
    shutil.copytree(tmp_path / "colours", tmp_path / "single")
    for image in (tmp_path / "single").rglob("[01].png"):
        image.unlink()
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
