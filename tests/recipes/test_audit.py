"""An audit, through Python and the command line: what is planted in a folder is named."""

import csv
import json
import re
import shlex
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from image_files import COLOURS, make_classes, save_image
from PIL import Image
from tiny_backbone import TINY

import transferkit
from transferkit.errors import DataError, OptionError, OutputError
from transferkit.recipes.auditing import compute_features, read_images
from transferkit.tables.audit_findings import COLUMNS, Kind

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "workers": 1}
EDGES = {"backbone": "edges8", "workers": 1}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "audit.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """Images of three colours, with one defect of each kind. Read only."""
    root = make_classes(tmp_path_factory.mktemp("planted") / "colours", 30)
    (root / "blue/empty.png").touch()
    shutil.copy(root / "green/3.png", root / "green/again.png")
    shutil.copy(root / "green/4.png", root / "red/green.png")
    shutil.move(root / "red/7.png", root / "blue/red.png")
    Image.new("RGB", (40, 36), (90, 90, 90)).save(root / "red/blank.png")
    ramp = np.broadcast_to(np.linspace(0, 255, 40)[:, None], (36, 40, 3))
    Image.fromarray(ramp.astype(np.uint8)).save(root / "red/blurred.png")
    darkness = np.random.default_rng(9).integers(0, 26, (36, 40, 3), dtype=np.uint8)
    Image.fromarray(darkness).save(root / "green/dark.png")
    save_image(root / "blue/long.png", COLOURS["blue"], seed=901, size=(300, 36))
    save_image(root / "blue/tiny.png", COLOURS["blue"], seed=902, size=(14, 12))
    for i in range(4):
        save_image(root / "yellow" / f"{i}.png", (200, 200, 40), seed=950 + i)
    return root


@pytest.fixture(scope="module")
def found(planted, tmp_path_factory):
    """The audit of `planted`. Read only."""
    return transferkit.audit(planted, tmp_path_factory.mktemp("audits") / "audit", **SMALL)


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        (Kind.UNREADABLE, ["blue/empty.png"]),
        (
            Kind.COPY,
            ["green/4.png", "red/green.png", "green/3.png", "green/again.png"],
        ),
        (Kind.BLANK, ["red/blank.png"]),
        (Kind.DARK, ["green/dark.png"]),
        (Kind.BLURRED, ["red/blurred.png"]),
        (Kind.TINY, ["blue/tiny.png"]),
        (Kind.LONG, ["blue/long.png"]),
        (Kind.BRIGHT, []),
    ],
)
def test_audit__names_what_is_planted_and_nothing_else(found, kind, paths):
    assert [finding.path for finding in found.of_kind(kind)] == paths


def test_audit__names_the_wrong_label_and_the_right_one(found):
    (label,) = [one for one in found.of_kind(Kind.LABEL) if one.path == "blue/red.png"]

    assert label.suggested_label == "red"
    assert label.score >= 0.8


def test_audit__names_the_small_class(found):
    assert [finding.detail for finding in found.of_kind(Kind.SMALL)] == ["yellow: 4 images"]


def test_audit__writes_a_row_for_each_finding(found):
    rows = rows_of(found.folder)

    assert tuple(rows[0]) == COLUMNS
    assert [(row["path"], row["kind"]) for row in rows] == [
        (finding.path, finding.kind) for finding in found.findings
    ]
    assert sorted(path.name for path in found.folder.iterdir()) == ["audit.csv", "audit.html"]


def test_audit__has_a_rule_for_each_kind(found):
    assert list(found.rules) == list(Kind)


def test_audit__changes_nothing_in_the_dataset_and_repeats_itself(planted, found, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in planted.rglob("*")}
    again = transferkit.audit(planted, tmp_path / "audit", **SMALL)

    assert again.findings == found.findings
    assert {path: path.stat().st_mtime_ns for path in planted.rglob("*")} == before


def test_audit__takes_its_features_from_the_cache(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path / "cache"))
    first = transferkit.audit(few_images, tmp_path / "first", **SMALL)
    monkeypatch.setattr(
        compute_features, "frozen_features", refusing(compute_features.frozen_features)
    )
    monkeypatch.setattr("transferkit.data.image_measures.read_bytes", None)

    assert transferkit.audit(few_images, tmp_path / "again", **SMALL).findings == first.findings


def refusing(frozen_features):
    """Return a function that returns frozen layers which compute nothing."""

    def of(*args):
        layers = frozen_features(*args)
        object.__setattr__(layers, "compute", None)
        return layers

    return of


def test_audit__tells_copies_across_train_and_val(tmp_path):
    for part in ("train", "val"):
        make_classes(tmp_path / "data" / part, 4)
    for path in (tmp_path / "data/val").rglob("*.png"):
        path.rename(path.with_stem(f"v{path.stem}"))
    found = transferkit.audit(tmp_path / "data", tmp_path / "audit", **EDGES)

    assert len(found.of_kind(Kind.COPY)) == 24
    assert all("across train and val" in one.detail for one in found.of_kind(Kind.COPY))


def test_audit__keeps_groups_together(image_folder, tmp_path, monkeypatch):
    given = {}
    real = "transferkit.recipes.auditing.find_label_errors.held_out_probabilities"
    monkeypatch.setattr(
        real,
        lambda features, labels, **rest: given.update(rest) or np.full((len(labels), 3), 1 / 3),
    )
    transferkit.audit(image_folder, tmp_path / "audit", group_by=r"/(\d)", **EDGES)

    assert len(np.unique(given["groups"])) == 8


def contents_of(page: Path) -> dict:
    """Return what the script of an audit's page reads."""
    (text,) = re.findall('id="contents">(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(text)


def test_page__shows_each_image_with_its_thumbnail_and_typical_images_of_both_classes(found):
    images = contents_of(found.folder / "audit.html")["images"]
    drawn = {image["path"] for image in images if image["thumbnail"].startswith("data:image/jpeg")}
    typical = {image["path"] for image in images} - {finding.path for finding in found.findings}

    assert drawn == {image["path"] for image in images} - {"blue/empty.png"}
    assert {path.split("/")[0] for path in typical} >= {"blue", "red"}


def test_page__knows_earlier_decisions(planted, tmp_path):
    before = tmp_path / "before.csv"
    before.write_text("path,action,label\nblue/red.png,relabel,red\ngreen/again.png,exclude,\n")
    again = transferkit.audit(planted, tmp_path / "audit", decisions=before, **SMALL)

    assert contents_of(again.folder / "audit.html")["decisions"] == [
        {"path": "blue/red.png", "action": "relabel", "label": "red", "sha256": ""},
        {"path": "green/again.png", "action": "exclude", "label": "", "sha256": ""},
    ]


def test_page__saves_decisions_that_training_honours(planted, found, browser, tmp_path):
    page = browser.new_page()
    page.goto((found.folder / "audit.html").as_uri())
    page.get_by_label("Filter").fill("blue/red.png")
    page.locator("#label article:visible").get_by_label("relabel to").check()
    page.get_by_label("Filter").fill("")
    for kind, path in (("blank", "red/blank.png"), ("unreadable", "blue/empty.png")):
        card = page.locator(f'#{kind} article[aria-label="{path}"]')
        card.scroll_into_view_if_needed()
        card.get_by_label("exclude").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save decisions.csv").click()
    download.value.save_as(tmp_path / "decisions.csv")
    page.close()
    transferkit.finetune(
        planted,
        tmp_path / "run",
        **{**SMALL, "decisions": tmp_path / "decisions.csv", "epochs": 1, "batch_size": 16},
    )
    with (tmp_path / "run" / "split.csv").open(newline="", encoding="utf-8") as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file)}

    assert labels["blue/red.png"] == "red"
    assert not {"red/blank.png", "blue/empty.png"} & labels.keys()
    assert (tmp_path / "run" / "skipped.csv").read_text().count("excluded by decisions.csv") == 2


def test_audit__of_a_single_class_finds_what_it_can(tmp_path):
    save_images = [save_image(tmp_path / f"data/a/{i}.png", (9, 99, 9), seed=i) for i in range(6)]
    found = transferkit.audit(tmp_path / "data", tmp_path / "audit", **EDGES)

    assert found.images == len(save_images)
    assert found.rules[Kind.LABEL] == "not looked for: too few images or classes"


def test_audit__replaces_an_audit_only_if_told_to(few_images, tmp_path):
    transferkit.audit(few_images, tmp_path / "audit", **EDGES)
    with pytest.raises(OutputError, match="name another --output or replace it with --overwrite"):
        transferkit.audit(few_images, tmp_path / "audit", **EDGES)

    transferkit.audit(few_images, tmp_path / "audit", overwrite=True, **EDGES)


def test_audit__refuses_maps_and_unreadable_images_if_told_to(planted, tmp_path):
    with pytest.raises(OptionError, match="--pool none: gives feature maps, expected vectors"):
        transferkit.audit(planted, tmp_path / "audit", pool="none")
    with pytest.raises(DataError, match=r"1 images cannot be used: blue/empty.png"):
        transferkit.audit(planted, tmp_path / "audit", on_bad_image="fail", **EDGES)

    assert not (tmp_path / "audit").exists()


def test_command__prints_each_kind_in_80_columns_and_exits_for_unreadable_images(
    planted, cli, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("transferkit.cli.console._PIPE_WIDTH", 80)
    ran = cli("audit", planted, *TINY, "--workers", 1)
    lines = ran.out.splitlines()

    assert ran.code == 3
    assert lines[0] == "101 images of 4 classes"
    assert lines[1] == "unreadable      1  cannot be decoded to its end"
    assert lines[2] == " " * 19 + "blue/empty.png: an empty file"
    assert lines[3].startswith("      copy      4  the same file, or")
    assert [line.split(":")[0].strip() for line in lines[4:8:2]] == ["green/4.png", "green/3.png"]
    assert max(map(len, lines)) <= 80
    assert lines[-2:] == [
        "findings: runs/colours-audit/audit.csv",
        "page: runs/colours-audit/audit.html",
    ]
    assert len(rows_of(tmp_path / "runs/colours-audit")) > 8


def test_command__of_readable_images_exits_with_0(few_images, cli, tmp_path):
    ran = cli("audit", few_images, "-b", "edges8", "-o", tmp_path / "audit")

    assert (ran.code, ran.err) == (0, "")


def test_audit__finds_swapped_labels_of_photographs(shared, tmp_path):
    """Of two breeds that are easily told apart, 6 of 120 labels are swapped."""
    breeds = ("Russian_Blue", "Siamese")
    for breed, other in zip(breeds, reversed(breeds), strict=True):
        for i, path in enumerate(sorted((shared / "data/cats" / breed).iterdir())[:60]):
            target = tmp_path / "cats" / (other if i < 3 else breed) / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    weights = shared / "weights/resnet18.safetensors"
    found = transferkit.audit(
        tmp_path / "cats", tmp_path / "audit", backbone="resnet18", weights=str(weights)
    )

    named = [finding.path for finding in found.of_kind(Kind.LABEL)]
    swapped = [path for path in named if path.split("/")[0] not in path.split("/")[1]]
    assert len(swapped) >= 5
    assert len(named) <= 8
    assert found.of_kind(Kind.SHORTCUT) == ()


def test_read_images__does_not_divide(image_folder):
    from transferkit.options.audit import AuditOptions
    from transferkit.reporter import SILENT

    dataset = read_images.read_images(AuditOptions(image_folder), SILENT)

    assert set(dataset.splits) == {"train"}


def test_audit__of_a_table_tells_how_to_read_it_again(few_images, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = sorted(path.relative_to(few_images).as_posix() for path in few_images.glob("*/*.*"))
    table = tmp_path / "my labels.csv"
    table.write_text("image,kind\n" + "".join(f"{path},{path.split('/')[0]}\n" for path in paths))
    reading = ["--path-column", "image", "--label-column", "kind", "--root", str(few_images)]
    assert cli("audit", table, *reading, "-b", "edges8", "-o", tmp_path / "audit").code == 0
    page = unescape((tmp_path / "audit/audit.html").read_text("utf-8"))
    (command,) = re.findall("<pre.*>transferkit (.*) --decisions decisions.csv</pre>", page)

    assert shlex.split(command) == ["finetune", str(table), *reading]
    assert cli(*shlex.split(command), "-b", "edges8", "--dry-run").code == 0
