"""Scanning: which files are images of which class, and what is left out."""

import tarfile
from pathlib import Path

import pytest
from image_files import make_classes, save_image
from tar_files import write_tar

from transferkit.data.images import ImageError, read_bytes
from transferkit.data.label_table import TableReading
from transferkit.data.layout import Layout
from transferkit.data.scan import locate, name_of, scan
from transferkit.errors import DataError
from transferkit.places import Url, place
from transferkit.reporter import LeftOut


def reasons(index):
    return {item.path: item.reason for item in index.left_out}


GROUPED = TableReading(group=None)


def test_scan__lists_images_sorted_by_path(tmp_path):
    for name in ("b/10.png", "b/9.png", "a/x/deep.PNG", "B/1.png"):
        save_image(tmp_path / name, (1, 2, 3), seed=0)

    index = scan(tmp_path)

    assert index.class_names == ("B", "a", "b")
    assert index.paths == ("B/1.png", "a/x/deep.PNG", "b/10.png", "b/9.png")
    assert index.labels.tolist() == [0, 1, 2, 2]


def write_table(file, rows, columns="path,label"):
    file.write_text("\n".join([columns, *rows]) + "\n")
    return file


def test_scan__reads_a_table_as_the_folder_of_its_images(tmp_path):
    folder = scan(make_classes(tmp_path / "data", 2))
    rows = [f"{path},{path.split('/')[0]}" for path in reversed(folder.paths)]

    table = scan(
        write_table(tmp_path / "labels.csv", rows), reading=TableReading(root=tmp_path / "data")
    )

    assert table.paths == folder.paths
    assert table.labels.tolist() == folder.labels.tolist()
    assert (table.root, table.class_names, table.splits, table.files, table.groups) == (
        *(folder.root, folder.class_names, folder.splits, folder.files, folder.groups),
    )
    assert table.layout == "table labels.csv: path from path, label from label"


def test_scan__reads_splits_groups_and_lookalikes_of_a_table(tmp_path):
    make_classes(tmp_path, 1)
    columns = "path,label,split,group"
    rows = ["red/0.png,Red,Training,p1", "blue/0.png,red,test,p2", "gone.png,blue,,p3"]

    index = scan(write_table(tmp_path / "labels.csv", rows, columns), reading=GROUPED)

    assert index.paths == ("blue/0.png", "gone.png", "red/0.png")
    assert index.splits == ("test", "", "train")
    assert index.groups == ("p2", "p3", "p1")
    assert index.layout.endswith("classes that differ only in case or spaces: Red and red")
    assert index.only("train").groups == ("p1",)


def test_scan__of_a_table_says_where_it_looked_if_no_image_is_there(tmp_path):
    file = write_table(tmp_path / "labels.csv", ["a.jpg,x", "b.jpg,y"])

    with pytest.raises(DataError, match=r"none of its 2 images is there: .*/a\.jpg, .*with --root"):
        scan(file)
    with pytest.raises(DataError, match=r"missing\.csv: cannot be read as a table \(No such file"):
        scan(tmp_path / "missing.csv")


def test_locate__finds_images_of_a_table_wherever_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_classes(tmp_path / "data", 1)
    make_classes(tmp_path / "here", 1)
    write_tar(tmp_path / "data/shard.tar", {"x.png": (tmp_path / "here/red/0.png").read_bytes()})
    rows = [
        "red/0.png,a",
        "../here/blue/0.png,b",
        f"{tmp_path}/here/red/0.png,a",
        "shard.tar/x.png,b",
    ]

    index = scan(write_table(Path("data/labels.csv"), rows))

    assert [read_bytes(one) for one in locate(Path("data/labels.csv"), index.paths)] == [
        read_bytes(one) for one in index.files
    ]
    assert locate(Path("data"), index.paths) == list(index.files)


def test_scan__reads_a_table_in_a_store_and_knows_its_files_by_one_listing(s3, tmp_path):
    make_classes(tmp_path / "data", 1)
    photos = s3.put(tmp_path / "data", "photos")
    rows = ["photos/red/0.png,red", f"{photos}/blue/0.png,blue", f"{tmp_path}/data/green/0.png,g"]
    (s3.bucket / "labels.csv").put(write_table(tmp_path / "labels.csv", rows))

    index = scan(s3.bucket / "labels.csv")

    local, blue, red = index.files
    assert (index.root, index.paths[1:]) == (s3.bucket, ("photos/blue/0.png", "photos/red/0.png"))
    assert local == tmp_path / "data/green/0.png"
    assert (blue.place, red.place) == (photos / "blue/0.png", photos / "red/0.png")
    assert blue.state == (photos / "blue/0.png").state()
    assert [read_bytes(one) for one in locate(s3.bucket, index.paths)] == [
        read_bytes(one) for one in index.files
    ]


def test_scan__names_what_it_leaves_out(tmp_path):
    make_classes(tmp_path, 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "red" / "notes.txt").write_text("x")
    (tmp_path / "red" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "red" / ".thumbs").mkdir()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "loose.png").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text("x")

    index = scan(tmp_path)

    assert index.class_names == ("blue", "green", "red")
    assert reasons(index) == {
        "empty": "no images in it",
        "red/notes.txt": "not an image",
        "red/.hidden.png": "hidden",
        "red/.thumbs": "hidden",
        ".ipynb_checkpoints": "hidden",
        "loose.png": "not in a class folder",
        "labels.csv": "not an image",
    }


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_scan__reads_a_dataset_that_is_already_split(tmp_path, val):
    make_classes(tmp_path / "train", 2)
    make_classes(tmp_path / val, 1)
    make_classes(tmp_path / "test", 1)

    index = scan(tmp_path)

    assert index.class_names == ("blue", "green", "red")
    assert [index.splits.count(name) for name in ("train", "val", "test")] == [6, 3, 3]


def test_scan__a_class_called_test_is_a_class(tmp_path):
    for name in ("test", "train", "bus"):
        save_image(tmp_path / name / "1.png", (1, 2, 3), seed=0)

    assert scan(tmp_path).class_names == ("bus", "test", "train")


def test_scan__refuses_images_beside_a_split(tmp_path):
    make_classes(tmp_path / "train", 1)
    make_classes(tmp_path / "val", 1)
    (tmp_path / "__MACOSX").mkdir()
    assert len(scan(tmp_path)) == 6
    save_image(tmp_path / "extra" / "1.png", (1, 2, 3), seed=0)

    with pytest.raises(DataError, match="has extra with images beside train, val"):
        scan(tmp_path)


def test_scan__reads_train_alone(tmp_path):
    make_classes(tmp_path / "train", 2)

    assert set(scan(tmp_path).splits) == {"train"}


def test_scan__refuses_a_split_named_twice(tmp_path):
    for name in ("train", "val", "valid"):
        make_classes(tmp_path / name, 1)

    with pytest.raises(DataError, match=r"names a part twice \(train, val, valid\)"):
        scan(tmp_path)


def test_scan__gives_no_image_a_second_label_through_a_link(tmp_path):
    make_classes(tmp_path, 1)
    (tmp_path / "red" / "up").symlink_to(tmp_path)
    (tmp_path / "red" / "sibling").symlink_to(tmp_path / "blue")
    (tmp_path / "same").symlink_to(tmp_path / "green")

    index = scan(tmp_path)

    assert index.paths == ("blue/0.png", "green/0.png", "red/0.png")
    assert {path for path in reasons(index)} == {"red/up", "red/sibling", "same"}


def test_without__drops_a_class_that_has_no_image_left(tmp_path):
    index = scan(make_classes(tmp_path, 1))

    kept = index.without((LeftOut("blue/0.png", "broken", unreadable=True),))

    assert kept.class_names == ("green", "red")
    assert kept.labels.tolist() == [0, 1]
    assert kept.left_out[-1].path == "blue"


def test_scan__follows_links_once(tmp_path):
    make_classes(tmp_path / "data", 1)
    save_image(tmp_path / "elsewhere" / "2.png", (1, 2, 3), seed=0)
    (tmp_path / "data/red/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/red/loop").symlink_to(tmp_path / "data/red")

    index = scan(tmp_path / "data")

    assert "red/linked/2.png" in index.paths
    assert reasons(index) == {"red/loop": "a link to a folder already read"}


def test_scan__names_a_folder_without_permission(tmp_path, secret):
    make_classes(tmp_path, 1)
    save_image(tmp_path / "red" / "secret" / "1.png", (1, 2, 3), seed=0)
    assert scan(tmp_path).left_out == (LeftOut("red/secret", "permission denied", unreadable=True),)


def test_scan__says_what_is_wrong_with_a_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder with one subfolder of images per class"):
        scan(tmp_path / "nothing")
    with pytest.raises(DataError, match="no images in it; expected one subfolder per class"):
        scan(tmp_path)
    save_image(tmp_path / "loose.png", (1, 2, 3), seed=0)
    with pytest.raises(DataError, match=r"its images \(loose.png\) are not in class folders"):
        scan(tmp_path)
    with pytest.raises(DataError, match="is a file, expected a folder"):
        scan(tmp_path / "loose.png")


def same_but_for_places(one, other):
    """Check that two indexes hold the same images under the same names."""
    assert one.paths == other.paths
    assert one.class_names == other.class_names
    assert one.labels.tolist() == other.labels.tolist()
    assert one.splits == other.splits
    assert one.layout == other.layout


def test_scan__reads_a_folder_in_a_store_as_one_of_this_machine(tmp_path, s3):
    make_classes(tmp_path / "data/Training", 2)
    make_classes(tmp_path / "data/test_set", 1)
    (tmp_path / "data/Training/red/notes.txt").write_text("x")
    (tmp_path / "data/.hidden.png").write_text("x")
    url = s3.put(tmp_path / "data", "photos")

    here, there = scan(tmp_path / "data"), scan(url)

    same_but_for_places(there, here)
    assert reasons(there) == reasons(here)
    assert [read_bytes(file) for file in there.files] == [read_bytes(file) for file in here.files]
    assert all(file.state for file in there.files)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no such folder with one subfolder of images per class"),
        (["1.png"], r"its images \(1.png\) are not in class folders; make .* photos/<class>"),
        (["a/notes.txt"], "no images in it; expected one subfolder per class"),
        (["val/a/1.png", "dog/1.png"], "can be read in two ways: as the classes dog, val"),
    ],
)
def test_scan__says_what_is_wrong_in_a_store(tmp_path, names, message):
    url = Url(f"memory://{tmp_path.name}/photos")
    (tmp_path / "file").write_bytes(b"x")
    for name in names:
        (url / name).put(tmp_path / "file")

    with pytest.raises(DataError, match=f"{url}: {message}"):
        scan(url)


def test_scan__reads_a_folder_out_of_its_archive(tmp_path):
    folder = make_classes(tmp_path / "data", 2)
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(folder, "data")

    index, expected = scan(tmp_path / "photos.tar"), scan(folder)

    assert index.paths == tuple(f"photos.tar/data/{path}" for path in expected.paths)
    assert index.labels.tolist() == expected.labels.tolist()
    assert [read_bytes(one) for one in index.files] == [read_bytes(one) for one in expected.files]
    assert index.layout == "6 images in 1 archive; everything in data/"


def write_shards(root, names):
    """Write archives of two samples each, of the classes 0 and 1, and one without a label."""
    for name in names:
        samples = {"0.jpg": b"a", "0.cls": b"0", "1.jpg": b"b", "1.cls": b"1", "2.jpg": b"c"}
        write_tar(root / name, samples)
    return root


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["a-0000.tar", "a-0001.tar"], ["", ""]),
        (["pets-train-0000.tar", "pets-val-0000.tar"], ["train", "val"]),
        (["train/x-0.tar", "validation/x-0.tar"], ["train", "val"]),
    ],
)
def test_scan__reads_samples_of_archives(tmp_path, names, splits):
    index = scan(write_shards(tmp_path, names))

    assert index.paths == tuple(f"{name}/{number}.jpg" for name in names for number in range(2))
    assert index.class_names == ("0", "1")
    assert index.labels.tolist() == [0, 1, 0, 1]
    assert index.splits == tuple(split for split in splits for _ in range(2))
    assert [read_bytes(file) for file in index.files] == [b"a", b"b"] * 2
    why = "no label, which a .cls file beside it would hold"
    assert reasons(index) == {f"{name}/2.jpg": why for name in names}


def test_scan__takes_archives_beside_class_folders_for_no_images(tmp_path):
    make_classes(tmp_path, 1)
    write_shards(tmp_path, ["more.tar"])

    index = scan(tmp_path)

    assert len(index) == 3
    assert reasons(index) == {"more.tar": "not an image"}


def test_scan__says_what_archives_without_labels_lack(tmp_path):
    write_tar(tmp_path / "x.tar", {"notes.txt": b"x"})

    with pytest.raises(DataError, match=r"x\.tar: no image with a label; expected samples such as"):
        scan(tmp_path)


def test_scan__can_take_the_names_of_archives_for_no_parts(tmp_path):
    write_shards(tmp_path, ["pets-train-0000.tar", "pets-val-0000.tar"])

    assert set(scan(tmp_path, Layout.CLASSES).splits) == {""}


def test_scan__takes_a_second_pattern_of_archives_for_validation(tmp_path):
    write_shards(tmp_path, ["train-0000.tar", "train-0001.tar", "val-0000.tar"])

    training = scan(tmp_path / "train-{0000..0001}.tar")
    index = training.with_validation(scan(tmp_path / "val-*.tar"))

    assert index.splits == ("train",) * 4 + ("val",) * 2
    assert [read_bytes(file) for file in index.files] == [b"a", b"b"] * 3


def test_scan__tells_of_names_in_a_store_that_are_no_paths(s3, tmp_path):
    url = s3.put(make_classes(tmp_path / "data", 1), "photos")
    for name in ("/red/1.png", "red//2.png"):
        Url(f"{url}/{name}").put(tmp_path / "data/red/0.png")

    index = scan(url)

    assert len(index) == 3
    why = "a part of its name is empty"
    assert reasons(index) == {"/red/1.png": why, "red//2.png": why}


@pytest.mark.parametrize("name", ["photos [1]", "a*b", "what?", "a {1,2}", "photos.tar"])
def test_scan__reads_folders_with_signs_of_patterns_in_their_names(tmp_path, name):
    url = Url(f"memory://{tmp_path.name}/{name}")
    folder = make_classes(tmp_path / name, 1)
    for file in folder.rglob("*.png"):
        (url / file.relative_to(folder).as_posix()).put(file)

    for data in (folder, *([url] if name != "photos.tar" else [])):
        index = scan(data)
        files = locate(data, index.paths)
        assert [read_bytes(file) for file in files] == [read_bytes(file) for file in index.files]
        assert name_of(data) == name


def test_locate__finds_images_by_their_paths(tmp_path, s3):
    folder = make_classes(tmp_path / "data", 1)
    write_shards(tmp_path / "tars", ["a.tar", "B.TAR", "x.tar/c.tar"])
    store = s3.put(folder, "photos")

    for data in (folder, store, tmp_path / "tars", tmp_path / "tars/*.tar"):
        index = scan(data)
        found = [read_bytes(file) for file in locate(data, index.paths)]
        assert found == [read_bytes(file) for file in index.files]


def test_locate__gives_a_place_that_cannot_be_read_for_what_is_gone(tmp_path):
    write_shards(tmp_path, ["a.tar"])

    for path in ("a.tar/9.jpg", "b.tar/0.jpg", "red/0.jpg"):
        (gone,) = locate(tmp_path, [path])
        with pytest.raises(ImageError, match=r"no such file|not a directory"):
            read_bytes(gone)


def test_names_of_datasets__are_those_of_their_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["s3://bucket/photos/", "photos/a-{0..3}.tar", "photos/*.tar", "photos/x.tar", "photos"]

    assert {name_of(place(name)) for name in names} == {"photos"}
    assert name_of(Path()) == tmp_path.name
    assert {name_of(place(name)) for name in ("s3://b/cats.csv", "x/cats.parquet")} == {"cats"}
