"""Folders as they are downloaded: which are classes, which are parts of a split."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transferkit.data.class_names import describe_unknown, lookalikes, normalized
from transferkit.data.layout import Layout, part_named, parts_among
from transferkit.data.scan import scan
from transferkit.errors import DataError
from transferkit.reporter import LeftOut


def make(root: Path, *paths: str) -> Path:
    """Write empty files; scanning looks at names only."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def read(root: Path, layout: Layout = Layout.AUTO) -> dict[str, tuple[str, str]]:
    """Return path -> (class, part) of every image."""
    index = scan(root, layout)
    labels = (index.class_names[i] for i in index.labels)
    rows = zip(index.paths, labels, index.splits, strict=True)
    return {path: (label, split) for path, label, split in rows}


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (
            "train",
            "train TRAIN Train training train_set training_set trainset seg_train train-images "
            "train_data train2017 Train1 data_train",
        ),
        (
            "val",
            "val valid Validation dev eval evaluation valset val_set validation_set val2014 "
            "seg_val",
        ),
        ("test", "test Testing tests_ test_set testset seg_test holdout hold-out Test_Images"),
    ],
)
def test_part_named__knows_the_words_with_affixes_in_any_case(part, names):
    for name in names.replace("tests_ ", "").split():
        assert part_named(name) == part, name


def test_parts_among__ignores_the_words_that_all_names_share():
    def among(*names):
        return {path.name: part for path, part in parts_among(list(map(Path, names))).items()}

    assert among("cars_test", "cars_train") == {"cars_train": "train", "cars_test": "test"}
    assert among("cars_train", "bikes") == {}
    assert among("steam_train", "model_train") == {}
    assert among("my_train", "my_cats") == {"my_train": "train"}


@pytest.mark.parametrize(
    "name", ["trains", "trainer", "attest", "cats", "set", "2017", "images", "dev-test", "été", ""]
)
def test_part_named__takes_no_other_word(name):
    assert part_named(name) == ""


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Training", None, "Testing"),
        ("training_set", None, "test_set"),
        ("train", "eval", "test"),
        ("seg_train/seg_train", None, "seg_test/seg_test"),
        ("archive/train", "archive/val", None),
        ("archive/data/Train", "archive/data/Valid", "archive/data/Test"),
        ("train/images", "val/images", None),
        ("cars_train/cars_train", None, "cars_test/cars_test"),
        ("Asl Alphabet Train", "Asl Alphabet Val", "Asl Alphabet Test"),
    ],
)
def test_scan__reads_splits_as_they_are_downloaded(tmp_path, train, val, test):
    parts = {"train": train, "val": val, "test": test}
    expected = {
        f"{folder}/{name}/1.jpg": (name, part)
        for part, folder in parts.items()
        if folder
        for name in ("a", "b")
    }
    make(tmp_path, *expected, "archive.zip", "__MACOSX/train/a/._1.jpg")

    assert read(tmp_path) == expected
    layout = scan(tmp_path).layout
    assert f"classes in {train}/" in layout
    assert (f"test in {test}/" in layout) == bool(test)
    assert (f"validation in {val}/" in layout) == bool(val)


def test_scan__takes_a_part_beside_class_folders(tmp_path):
    make(tmp_path, "cats/1.jpg", "dogs/2.jpg", "test/cats/3.jpg", "test/dogs/4.jpg")

    assert read(tmp_path) == {
        "cats/1.jpg": ("cats", ""),
        "dogs/2.jpg": ("dogs", ""),
        "test/cats/3.jpg": ("cats", "test"),
        "test/dogs/4.jpg": ("dogs", "test"),
    }
    assert scan(tmp_path).layout == "one folder per class, test in test/"


def test_scan__leaves_out_images_without_labels_beside_a_split(tmp_path):
    make(tmp_path, "seg_train/seg_train/a/1.jpg", "seg_train/seg_train/b/1.jpg",
         "seg_pred/seg_pred/9.jpg", "test/7.jpg")  # fmt: skip

    index = scan(tmp_path)

    assert set(index.splits) == {"train"}
    assert {item.path for item in index.left_out} == {"seg_pred", "test"}
    assert {item.reason for item in index.left_out} == {"images without labels"}


def test_scan__goes_down_into_a_single_folder_of_folders_only(tmp_path):
    make(tmp_path / "one", "pets/cats/1.jpg", "pets/dogs/1.jpg", "readme.txt")
    make(tmp_path / "two", "cats/1.jpg", "cats/more/2.jpg")

    assert read(tmp_path / "one") == {
        "pets/cats/1.jpg": ("cats", ""),
        "pets/dogs/1.jpg": ("dogs", ""),
    }
    assert scan(tmp_path / "one").layout == "everything in pets/"
    assert scan(tmp_path / "two").class_names == ("cats",)


def test_scan__says_that_all_classes_hold_the_same_subfolders(tmp_path):
    make(tmp_path, *(f"{a}/{b}/1.jpg" for a in ("before", "after") for b in ("monday", "tuesday")))

    index = scan(tmp_path)

    assert index.class_names == ("after", "before")
    assert "all hold the subfolders monday, tuesday; if those are the classes, name" in index.layout


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("train/1.jpg", "test/1.jpg"), r"named as parts of a split \(train, test\), but hold"),
        (("a/train/1.jpg", "a/test/1.jpg", "b/train/1.jpg", "b/test/2.jpg"), "every class is div"),
        (("bus/1.jpg", "train/side/1.jpg", "train/front/1.jpg"), "can be read in two ways"),
        (("a/1.jpg", "b/1.jpg", "test/batch1/1.jpg"), "can be read in two ways"),
        (("train/a/1.jpg", "training/a/1.jpg"), r"names a part twice \(train, training\)"),
        (("train/a/1.jpg", "val/a/1.jpg", "more/a/1.jpg"), "has more with images beside train"),
    ],
)
def test_scan__asks_where_there_are_two_readings(tmp_path, paths, message):
    make(tmp_path, *paths)

    with pytest.raises(DataError, match=message) as error:
        scan(tmp_path)

    if "twice" not in message:
        assert "--layout classes" in str(error.value)
        expected = {path.partition("/")[0] for path in paths}
        assert {label for label, _ in read(tmp_path, Layout.CLASSES).values()} == expected


def test_scan__takes_a_reading_that_is_given(tmp_path):
    make(tmp_path, "bus/1.jpg", "bus/2.jpg", "test/bus/3.jpg", "test/car/4.jpg")

    assert {label for label, _ in read(tmp_path, Layout.CLASSES).values()} == {"bus", "test"}
    assert set(read(tmp_path, Layout.SPLIT).values()) == {
        ("bus", ""), ("bus", "test"), ("car", "test"),
    }  # fmt: skip
    with pytest.raises(DataError, match=r"has no part of a split \(a\)"):
        scan(make(tmp_path / "other", "a/1.jpg"), Layout.SPLIT)


def test_scan__says_that_a_class_has_the_name_of_a_part(tmp_path):
    make(tmp_path, "bus/1.jpg", "train/1.jpg")

    assert scan(tmp_path).layout == (
        "one folder per class; images lie in train itself, so it is no part of a split"
    )


def test_scan__leaves_out_a_class_folder_that_cannot_be_read(tmp_path, secret):
    make(tmp_path, "a/1.jpg", "b/1.jpg", "secret/1.jpg")
    index = scan(tmp_path)

    assert index.class_names == ("a", "b")
    assert [item for item in index.left_out if item.unreadable] == [
        LeftOut("secret", "permission denied", unreadable=True)
    ]


def in_form(form: str, *names: str) -> list[str]:
    return [unicodedata.normalize(form, name) for name in names]


def test_scan__compares_names_in_one_unicode_form(tmp_path):
    for part, form in (("train", "NFC"), ("val", "NFD")):
        make(tmp_path, *(f"{part}/{name}/1.jpg" for name in in_form(form, "café", "thé")))

    assert scan(tmp_path).class_names == ("café", "thé")
    assert set(read(tmp_path).values()) == {
        (name, part) for name in ("café", "thé") for part in ("train", "val")
    }


def test_scan__joins_both_forms_of_a_name_and_says_so(tmp_path):
    make(tmp_path, *(f"{name}/{i}.jpg" for i, form in enumerate(("NFC", "NFD"))
                     for name in in_form(form, "café", "thé")))  # fmt: skip

    index = scan(tmp_path)

    assert index.class_names == ("café", "thé")
    assert len(index) == 4
    assert "café, thé: several folders in different Unicode forms" in index.layout


def test_scan__says_that_names_differ_only_in_case(tmp_path):
    make(tmp_path, "cats/1.jpg", "Cats/1.jpg", "dogs/1.jpg")

    assert scan(tmp_path).layout == "classes that differ only in case or spaces: Cats and cats"


def test_class_names__are_matched_without_case_and_spaces():
    assert lookalikes(["Cats ", "dogs", "cats"]) == [("Cats ", "cats")]
    assert describe_unknown(["Cats ", "cat"], ["dogs", "cats"]) == [
        "'Cats ', where 'cats' is known", "cat",
    ]  # fmt: skip
    assert normalized(unicodedata.normalize("NFD", "é")) == "é"


NAMES = st.sampled_from(
    ["train", "Testing", "val", "seg_train", "a", "b", "chats", "été", "É", "猫", "test", "x y"]
)
TREE = st.recursive(
    st.sampled_from(["image", "text", "empty", "link", "loop", "broken"]),
    lambda inside: st.dictionaries(NAMES, inside, max_size=4),
    max_leaves=14,
)


def write(tree: object, path: Path, root: Path) -> None:
    """Write a folder: with an image, a link to a folder of its own, to the root, and so on."""
    if tree == "image":
        make(path, "1.jpg")
    elif tree == "link":
        elsewhere = make(root.parent / f"elsewhere{len(list(root.parent.iterdir()))}", "1.jpg")
        path.symlink_to(elsewhere)
    elif tree == "loop":
        path.symlink_to(root)
    elif tree == "broken":
        path.symlink_to(path)
    elif tree == "text":
        make(path, "notes.txt")
    else:
        path.mkdir(parents=True, exist_ok=True)
        for name, inside in tree.items() if isinstance(tree, dict) else ():
            write(inside, path / name, root)


class Slow:
    """The documented rules, read off nested dictionaries of folders one sentence at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def images(self, folder: Path) -> list[Path]:
        found = []
        for path in sorted(folder.iterdir()):
            if path.is_dir() and path.resolve() != self.root.resolve():
                found += self.images(path)
            elif path.suffix == ".jpg":
                found.append(path)
        return found

    def folders(self, folder: Path) -> list[Path]:
        inside = [f for f in sorted(folder.iterdir()) if f.is_dir()]
        return [f for f in inside if f.resolve() != self.root.resolve() and self.images(f)]

    def loose(self, folder: Path) -> bool:
        return any(p.suffix == ".jpg" for p in folder.iterdir())

    def is_part(self, folder: Path) -> bool:
        return bool(part_named(folder.name)) and not self.loose(folder)

    def down(self, folder: Path, top: bool) -> Path:
        inside = self.folders(folder)
        if len(inside) != 1 or self.loose(folder) or self.loose(inside[0]):
            return folder
        if top and part_named(inside[0].name):
            return folder
        return self.down(inside[0], top)

    def classes(self) -> list[tuple[Path, str]] | None:
        """Return (class folder, part); None where the rules ask or refuse."""
        inside = self.folders(self.down(self.root, True))
        parts = [f for f in inside if self.is_part(f)]
        flat = [f for f in inside if part_named(f.name) and f not in parts]
        others = [f for f in inside if f not in parts and f not in flat]
        kinds = [part_named(f.name) for f in parts]
        if not parts:
            return self.all_classes(inside, flat)
        if len(set(kinds)) < len(kinds) or ("train" in kinds and others):
            return None
        labels = {normalized(f.name) for f in others}
        for part in parts:
            if others and not labels & {normalized(f.name) for f in self.folders(part)}:
                return None
        found = [(f, "") for f in others]
        for part, kind in zip(parts, kinds, strict=True):
            found += [(f, kind) for f in self.folders(self.down(part, False))]
        return found

    def all_classes(self, inside: list[Path], flat: list[Path]) -> list[tuple[Path, str]] | None:
        if len(inside) > 1 and len(flat) == len(inside):
            return None
        below = [{normalized(f.name) for f in self.folders(c)} for c in inside]
        same = len(inside) > 1 and len(below[0]) > 1 and all(b == below[0] for b in below)
        if same and not any(map(self.loose, inside)) and all(map(part_named, below[0])):
            return None
        return [(f, "") for f in inside]


@settings(max_examples=150, deadline=None)
@given(tree=st.dictionaries(NAMES, TREE, max_size=5))
def test_scan__equals_a_slow_reading_of_its_rules(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("tree") / "root"
    root.mkdir()
    write(tree, root, root)
    slow = Slow(root)
    expected = slow.classes()

    try:
        found = read(root)
    except DataError:
        assert not expected
        return

    assert expected is not None
    assert found == {
        image.relative_to(root).as_posix(): (normalized(folder.name), part)
        for folder, part in expected
        for image in slow.images(folder)
    }
