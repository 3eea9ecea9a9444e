"""`transferkit predict`: its formats, its table, and hostile names."""

import csv
import io
import json
import os
import re
import shutil

import pytest
from image_files import save_image

from transferkit.errors import OptionError
from transferkit.options.predict import PredictOptions


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


def test_predict__sorts_into_folders_and_says_how_many_are_where(
    cli, run_folder, image_folder, tmp_path
):
    heap, out = shutil.copytree(image_folder, tmp_path / "heap"), tmp_path / "out"
    (heap / "red/0.png").write_bytes(b"broken")
    words = ("predict", heap, "-m", run_folder, "--sort-into", out)

    ran = cli(*words)

    line = rf"{out}: 23 images in \d classes, 0 unsure, 1 unreadable; sorted.csv lists them\n"
    assert ran.code == 3
    assert re.fullmatch(line, ran.out)
    assert len(list(out.glob("*/*.png"))) == 24
    assert os.path.realpath(out / "unreadable/0.png") == str(heap / "red/0.png")

    again = cli(*words)
    assert (again.code, again.out) == (3, ran.out)
    assert "24 of 24 images are in" in again.err
    assert len(list(out.glob("*/*.png"))) == 24


def test_predict__sorts_by_moving_until_the_heap_is_empty(cli, run_folder, image_folder, tmp_path):
    heap = shutil.copytree(image_folder, tmp_path / "heap")
    words = ("predict", heap, "-m", run_folder, "--sort-into", heap, "--by", "move")
    more = ("--min-confidence", 1)

    line = f"{heap}: 0 images in 0 classes, 24 unsure, 0 unreadable; sorted.csv lists them\n"
    assert cli(*words, *more) == (0, line, "")
    assert {path.parent.name for path in heap.rglob("*.png")} == {"unsure"}
    shutil.rmtree(heap / "unsure")
    assert cli(*words, *more)[:2] == (0, line)


def test_predict__writes_all_records_beside_sorting(cli, run_folder, image_folder, tmp_path):
    records = tmp_path / "p.jsonl"
    words = ("predict", image_folder, "-m", run_folder, "--sort-into", tmp_path / "out")
    for _ in range(2):
        ran = cli(*words, "-o", records, "--overwrite")
        first, second = ran.out.splitlines()
        assert first == f"{records}: 24 predictions, 0 errors"
        assert second.startswith(f"{tmp_path / 'out'}: 24 images in ")
        assert len(records.read_text().splitlines()) == 24


def test_predict__lists_the_least_sure(cli, run_folder, image_folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"broken")
    words = ("predict", image_folder, tmp_path / "broken.png", "-m", run_folder, "--top-k", 2)

    def margin(record):
        first, second = record["top"]
        return first["probability"] - second["probability"]

    def read(ran):
        found = [json.loads(line) for line in ran.out.splitlines()]
        return [one for one in found if one["status"] == "ok"], found

    everything, _ = read(cli(*words))
    ran = cli(*words, "--least-sure", 3)
    chosen, found = read(ran)

    assert ran.code == 3
    assert [one["status"] for one in found] == ["ok", "ok", "ok", "error"]
    assert chosen == sorted(everything, key=margin)[:3]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"by": "copy"}, "--by is for --sort-into"),
        ({"sort_into": "out", "least_sure": 3}, "leave out --least-sure"),
        ({"sort_into": "out", "on": "ray", "output": "p"}, "leave out --on"),
        ({"sort_into": "out", "format": "csv"}, "--format is for records"),
        ({"sort_into": "out", "by": "move", "output": "p.csv"}, "that --by move has taken away"),
        ({"sort_into": "s3://bucket/out"}, "--sort-into: got .*, expected a path of this machine"),
        ({"least_sure": 3, "on": "ray", "output": "p"}, "--least-sure compares all records"),
        ({"least_sure": 3, "top_k": 1}, "got --top-k 1; expected 2 or more"),
        ({"least_sure": 0}, "--least-sure: got 0, expected 1 or more"),
    ],
)
def test_options__that_cannot_sort_or_choose_are_refused(more, message):
    with pytest.raises(OptionError, match=message):
        PredictOptions("images", **more)
