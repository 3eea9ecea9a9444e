"""Whole commands on a table of paths and labels, which do what they do on a folder."""

import csv
import json

import numpy as np
import pytest

import transferkit
from transferkit.data.scan import scan
from transferkit.errors import DataError, OutputError
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes import extract_features as recipe
from transferkit.recipes.exporting.run_images import run_images
from transferkit.recipes.finetune import finetune

SHORT = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "batch_size": 6}
TRAINED = {**SHORT, "strategy": "full", "epochs": 2}
COMPARED = {"strategy": ("partial", "knn"), "seeds": 1, "epochs": 1, **SHORT, "cache": "memory"}


def write_table(file, rows, columns="path,label"):
    file.write_text("\n".join([columns, *rows]) + "\n")
    return file


def rows_of(folder):
    return [f"{path},{path.split('/')[0]}" for path in scan(folder).paths]


@pytest.fixture(scope="module")
def table(image_folder, tmp_path_factory):
    """A table of `image_folder`, in another folder, in another order."""
    file = tmp_path_factory.mktemp("tables") / "colours.csv"
    return write_table(file, sorted(rows_of(image_folder), key=lambda row: row[::-1]))


@pytest.fixture(scope="module")
def runs(table, image_folder, tmp_path_factory):
    """Two runs with the same options: on the table, and on its folder."""
    folder = tmp_path_factory.mktemp("runs")
    transferkit.finetune(table, folder / "table", root=image_folder, **TRAINED)
    transferkit.finetune(image_folder, folder / "folder", **TRAINED)
    return folder / "table", folder / "folder"


def model_of(run):
    return (run / "model/model.safetensors").read_bytes()


def test_finetune__on_a_table_is_finetune_on_the_folder(runs, table, image_folder):
    ours, its = runs
    options = json.loads((ours / "options.json").read_text())

    assert model_of(ours) == model_of(its)
    for name in ("split.csv", "skipped.csv", "model/config.json"):
        assert (ours / name).read_bytes() == (its / name).read_bytes(), name
    assert options["data_sha256"] == json.loads((its / "options.json").read_text())["data_sha256"]
    assert (options["data"], options["root"]) == (str(table), str(image_folder))
    plan = dict(json.loads((ours / "plan.json").read_text())["settings"])
    assert plan["layout"] == "table colours.csv: path from path, label from label"


def test_finetune__on_a_table_in_a_store_is_finetune_on_the_folder(
    runs, s3, table, image_folder, tmp_path, pages
):
    s3.put(image_folder, "photos")
    (s3.bucket / "tables/colours.csv").put(table)

    transferkit.finetune(
        str(s3.bucket / "tables/colours.csv"),
        tmp_path / "run",
        root=str(s3.bucket / "photos"),
        **TRAINED,
    )

    assert model_of(tmp_path / "run") == model_of(runs[0])
    assert "missing or have changed" not in (tmp_path / "run/report.html").read_text("utf-8")


def test_report_and_export__find_the_images_of_a_table(runs, table, cli, tmp_path, pages):
    run = runs[0]

    ran = cli("report", run, "-o", tmp_path / "page.html")
    assert (ran.code, "missing" in ran.err) == (0, False)
    images = run_images(run, ("blue", "green", "red"), None)
    assert (len(images.val), len(images.train), images.why_not) == (6, 18, "")
    wrong = cli("report", run, "-o", tmp_path / "other.html", "--data", table)
    assert "are missing or have changed" in wrong.err


def test_extract_features__on_a_table_is_that_on_the_folder(table, image_folder, tmp_path):
    arguments = {"backbone": "test_resnet", "weights": "none", "image_size": 32}
    transferkit.extract_features(table, tmp_path / "t.npz", root=image_folder, **arguments)
    transferkit.extract_features(image_folder, tmp_path / "f.npz", **arguments)

    with np.load(tmp_path / "t.npz") as ours, np.load(tmp_path / "f.npz") as its:
        assert all(np.array_equal(ours[name], its[name]) for name in its)


def test_extract_features__resumes_no_table_with_other_labels(image_folder, tmp_path, monkeypatch):
    table = write_table(tmp_path / "labels.csv", rows_of(image_folder))
    options = {"root": image_folder, "backbone": "test_resnet", "weights": "none"}
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "write_features", interrupt)
        with pytest.raises(KeyboardInterrupt):
            transferkit.extract_features(table, tmp_path / "t.npz", **options)
    table.write_text(table.read_text().replace("red/1.png,red", "red/1.png,blue"))

    with pytest.raises(OutputError, match="files"):
        transferkit.extract_features(table, tmp_path / "t.npz", resume=True, **options)


def interrupt(*_):
    raise KeyboardInterrupt


def test_evaluate__on_a_table_is_that_on_the_folder(runs, table, image_folder):
    metrics = transferkit.evaluate(table, runs[1], root=image_folder)

    assert metrics == transferkit.evaluate(image_folder, runs[1])


def test_compare__on_a_table_is_compare_on_the_folder(table, image_folder, tmp_path):
    transferkit.compare(table, tmp_path / "table", root=image_folder, **COMPARED)
    transferkit.compare(image_folder, tmp_path / "folder", **COMPARED)

    for run in ("partial-test_resnet-seed0", "knn-test_resnet-seed0"):
        ours, its = (tmp_path / name / "runs" / run / "model" for name in ("table", "folder"))
        assert {file.name for file in ours.iterdir()} == {file.name for file in its.iterdir()}
        for file in ours.glob("*.safetensors"):
            assert file.read_bytes() == (its / file.name).read_bytes()
    resumed = transferkit.compare(table, tmp_path / "table", resume=True, **COMPARED)
    assert not resumed.resume_hint


def test_finetune__repeats_the_split_of_a_run_by_its_split_csv(runs, image_folder, tmp_path):
    table = runs[0] / "split.csv"

    transferkit.finetune(table, tmp_path / "run", root=image_folder, epochs=1, **SHORT)

    assert (tmp_path / "run/split.csv").read_bytes() == table.read_bytes()


def test_finetune__keeps_the_groups_of_a_table_together(image_folder, tmp_path):
    rows = [
        f"{image_folder}/{row},film{number % 6}" for number, row in enumerate(rows_of(image_folder))
    ]
    table = write_table(tmp_path / "films.csv", rows, "path,label,group")

    def records(name, **options):
        transferkit.finetune(table, tmp_path / name, epochs=1, **SHORT, **options)
        with (tmp_path / name / "split.csv").open() as lines:
            return list(csv.DictReader(lines))

    by_column = records("column")

    assert {len({r["split"] for r in by_column if r["group"] == f"film{n}"}) for n in range(6)} == {
        1
    }
    assert by_column == records("table", groups=table)
    assert by_column != records("none", group_column="none")


def test_finetune__reads_no_groups_of_a_table_if_others_are_named(image_folder, tmp_path):
    rows = [f"{image_folder}/{row}," for row in rows_of(image_folder)]
    table = write_table(tmp_path / "labels.csv", rows, "path,label,group")

    with pytest.raises(DataError, match="has no group in 24 of 24 rows"):
        transferkit.finetune(table, tmp_path, dry_run=True, **SHORT)
    for others in ({"group_by": r"(\d)\.png"}, {"group_column": "none"}):
        plan = transferkit.finetune(table, tmp_path, dry_run=True, **others, **SHORT).plan
        assert plan.classes["red"][1] > 0


def test_finetune__trains_and_validates_by_two_tables(image_folder, tmp_path):
    rows = rows_of(image_folder)
    train = write_table(tmp_path / "train.csv", rows[::2])
    val = write_table(tmp_path / "val.csv", rows[1::2])

    plan = transferkit.finetune(
        train, tmp_path / "run", root=image_folder, val=val, dry_run=True, **SHORT
    ).plan

    assert plan.classes == dict.fromkeys(("blue", "green", "red"), (4, 4, 0))


def test_evaluate__takes_the_test_part_of_a_table(runs, image_folder, tmp_path, cli):
    rows = [f"{row},{'test' if number % 4 else 'train'}"
            for number, row in enumerate(rows_of(image_folder))]  # fmt: skip
    table = write_table(tmp_path / "labels.tsv", [row.replace(",", "\t") for row in rows],
                        "path\tlabel\tsplit")  # fmt: skip

    ran = cli("evaluate", table, "--root", image_folder, "-m", runs[0])

    assert json.loads(ran.out)["n"] == 18
    assert f"evaluating the test part of {image_folder}" in ran.err
    assert "split from split" in ran.err
    ran = cli("evaluate", table, "--root", image_folder, "-m", runs[0], "--split-column", "none")
    assert json.loads(ran.out)["n"] == 24


def test_finetune__leaves_out_images_that_a_table_names_in_vain(image_folder, tmp_path):
    rows = [f"{image_folder}/{row}" for row in rows_of(image_folder)]
    table = write_table(tmp_path / "labels.csv", [*rows, "gone.png,red", rows[0]])

    result = transferkit.finetune(table, tmp_path / "run", dry_run=True, **SHORT)

    assert [(one.path, one.reason) for one in result.plan.left_out] == [
        (rows[0].partition(",")[0], "named again by the table, used once"),
        ("gone.png", "no such file or directory"),
    ]
    with pytest.raises(DataError, match=r"1 images cannot be used: gone\.png \(no such file"):
        transferkit.finetune(table, tmp_path, dry_run=True, on_bad_image="fail", **SHORT)


def test_resume__reads_the_table_as_the_run_began_and_refuses_other_labels(image_folder, tmp_path):
    table = write_table(tmp_path / "labels.csv", rows_of(image_folder), "where,what")
    options = {**SHORT, "epochs": 2, "strategy": "full", "report": False}
    columns = {"root": image_folder, "path_column": "where", "label_column": "what"}
    paused = FinetuneOptions(table, tmp_path / "paused", **columns, **options)
    finetune(paused, should_stop=lambda row: True)
    whole = table.read_text()

    table.write_text(whole.replace("red/1.png,red", "red/1.png,blue"))
    with pytest.raises(DataError, match=r"1 labels have changed .*: red/1\.png \(red, now blue\)"):
        transferkit.finetune(table, tmp_path / "paused", resume=True)
    table.write_text(whole)
    transferkit.finetune(table, tmp_path / "paused", resume=True)
    transferkit.finetune(table, tmp_path / "straight", **columns, **options)

    assert model_of(tmp_path / "paused") == model_of(tmp_path / "straight")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("DIR", "--label-column", "breed"), "--label-column is for a table, {} is none; leave"),
        (("DIR", "--group-column", "none"), "--group-column is for a table, {} is none; leave it"),
        (("DIR", "--root", "x"), "name a file that ends in .csv, .tsv, .parquet"),
        (("x.csv", "--layout", "classes"), "--layout is for folders, x.csv is a table; leave it"),
        (
            ("x.csv", "--groups", "g.csv", "--group-column", "film"),
            "--groups and --group-column both name the groups; leave one out",
        ),
    ],
)
def test_options__of_tables_and_folders_are_told_apart(words, message, image_folder, tmp_path, cli):
    words = [image_folder if word == "DIR" else word for word in words]

    ran = cli("finetune", *words, "-o", tmp_path / "run")

    assert ran.code == 2
    assert message.format(image_folder) in ran.err


def test_errors_of_tables__are_one_line(tmp_path, cli):
    table = write_table(tmp_path / "labels.csv", ["a.jpg,x"], "file,breed")

    ran = cli("finetune", table, "-o", tmp_path / "run")

    assert ran.code == 1
    assert ran.err == (
        f"error: {table}: has no column named label, class, target, category; it has file, breed; "
        "name the one that holds the label with --label-column\n"
    )
