"""`transferkit predict`: its formats, its table, and hostile names."""

import csv
import io
import json
import os
import re
import shutil

import pytest
from image_files import save_image


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
        "abstained": False,
        "set": None,
        "unusual": None,
        "unusual_score": None,
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


def test_predict__table_has_a_line_for_each_runner_up(cli, run_folder, image_folder):
    ran = cli("predict", image_folder / "red/0.png", "-m", run_folder, "--format", "table")
    rows = [[cell.strip() for cell in line.split("│")] for line in ran.out.splitlines()]
    shown = [row[4] for row in rows if len(row) == 6 and row[4]]

    assert [re.sub(r"[\d.]+$", "P", cell) for cell in shown] in (
        ["blue P", "green P"], ["green P", "blue P"],
    )  # fmt: skip


def test_predict__with_a_backbone_names_imagenet_categories(cli, image_folder):
    ran = cli("predict", image_folder / "red/0.png", "-b", "test_resnet", "--weights", "none",
              "--format", "csv", "--top-k", 2)  # fmt: skip
    (row,) = csv.DictReader(io.StringIO(ran.out))

    assert ran.code == 0
    assert row["label"] == row["label_1"] != row["label_2"]
    assert not row["label"].isdigit()


def test_names__that_are_hostile_are_shown_inertly_and_written_unchanged(
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
        save_image(tmp_path / "in" / os.fsdecode(name), (200, 0, 0), seed=0)
    (tmp_path / "in" / os.fsdecode(names[0])).write_bytes(b"broken")

    for suffix in ("jsonl", "parquet", "csv", "json"):
        assert (
            cli("predict", tmp_path / "in", "-m", run_folder, "-o", tmp_path / f"p.{suffix}").code
            == 3
        )
    table = cli("predict", "in", "-m", run_folder, "--format", "table").out
    lines = (tmp_path / "p.jsonl").read_text("utf-8").splitlines()

    shown = {os.path.basename(os.fsencode(json.loads(line)["path"])) for line in lines}
    assert shown == set(names)
    assert "\x1b" not in table
    assert r"esc\x1b[31m" in table
    assert "[bold]x[red].png" in table
