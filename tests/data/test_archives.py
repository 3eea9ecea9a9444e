"""Images in tar archives: found by one pass over them, and read where they are."""

import tarfile

import pytest
from image_files import make_classes
from tar_files import write_tar

from transferkit.data.archives import _without_braces, named_archives, read_archive
from transferkit.data.images import ImageError, StoredImage, read_bytes
from transferkit.errors import DataError
from transferkit.places import Url


def test_read_archive__finds_images_and_labels(tmp_path):
    files = {
        "./a/1.left.jpg": b"first",
        "./a/1.right.JPG": b"second",
        "a/1.cls": b" cat\n",
        "a/2.png": b"third",
        "a/2.json": b"{}",
        "notes.txt": b"x",
        "._1.png": b"of another system",
        "a/._1.cls": b"\xff",
    }
    archive = read_archive(write_tar(tmp_path / "x.tar", files))

    assert list(archive.images) == ["a/1.left.jpg", "a/1.right.JPG", "a/2.png"]
    contents = [read_bytes(image) for image in archive.images.values()]
    assert contents == [b"first", b"second", b"third"]
    assert [archive.label_of(name) for name in archive.images] == ["cat", "cat", None]
    assert str(archive.images["a/2.png"]) == f"{tmp_path}/x.tar/a/2.png"
    assert {one.path: one.reason for one in archive.left_out} == {
        "a/2.json": "not an image",
        "notes.txt": "not an image",
        "._1.png": "hidden",
        "a/._1.cls": "hidden",
    }


def test_read_archive__reads_names_and_labels_as_they_are_written(tmp_path):
    files = {
        "/a/1.png": b"first",
        "a/1.cls": "\ufeffcat\r\n".encode(),
        "a//2.png": b"second",
        "././a/2.cls": b"cat",
    }
    archive = read_archive(write_tar(tmp_path / "x.tar", files))

    assert list(archive.images) == ["a/1.png", "a/2.png"]
    assert {archive.label_of(name) for name in archive.images} == {"cat"}


@pytest.mark.parametrize(("label", "why"), [(b"\xff\xfe", "can't decode"), (b"x" * 1001, "longer")])
def test_read_archive__names_a_label_that_is_none(tmp_path, label, why):
    path = write_tar(tmp_path / "x.tar", {"a/1.png": b"x", "a/1.cls": label})

    with pytest.raises(DataError, match=rf"x.tar/a/1.cls: is no label \(.*{why}.*\); expected"):
        read_archive(path)


def test_read_archive__follows_hard_links_and_leaves_out_others(tmp_path):
    """Tar writes a file with two names once, and a link."""
    make_classes(tmp_path / "data", 1)
    (tmp_path / "data/red/1.png").hardlink_to(tmp_path / "data/red/0.png")
    (tmp_path / "data/red/link.png").symlink_to("0.png")
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        file.add(tmp_path / "data", "data")

    archive = read_archive(tmp_path / "x.tar")

    names = [f"data/{name}" for name in ("blue/0.png", "green/0.png", "red/0.png", "red/1.png")]
    assert sorted(archive.images) == names
    assert len({read_bytes(archive.images[name]) for name in names[2:]}) == 1
    assert [one.path for one in archive.left_out] == ["data/red/link.png"]


def test_read_archive__in_a_store_is_read_in_pieces_and_indexed_once(s3, tmp_path, monkeypatch):
    monkeypatch.setattr("transferkit.places._BLOCK", 2**16)
    contents = {f"{number:03}.jpg": bytes([number]) * 5000 for number in range(200)}
    file = write_tar(tmp_path / "x.tar", contents)
    url = s3.bucket / "x.tar"
    url.put(file)

    s3.gate.asked = 0
    here, there = read_archive(file), read_archive(url)
    in_pieces = s3.gate.asked
    assert list(there.images) == list(here.images)
    assert read_archive(url) == there
    assert in_pieces >= file.stat().st_size // 2**16
    assert s3.gate.asked == in_pieces + 1

    assert read_bytes(there.images["123.jpg"]) == bytes([123]) * 5000
    s3.gate.faults = ["cut", "503"]
    assert read_bytes(there.images["007.jpg"]) == bytes([7]) * 5000
    url.put(write_tar(file, {"1.jpg": b"new"}))
    assert list(read_archive(url).images) == ["1.jpg"]


@pytest.mark.parametrize("kind", ["missing", "cut", "compressed", "other"])
def test_read_archive__says_what_is_wrong(tmp_path, kind):
    path = tmp_path / "x.tar"
    whole = write_tar(tmp_path / "whole.tar", {"1.jpg": b"0" * 9000, "2.jpg": b"0" * 9000})
    if kind == "cut":
        path.write_bytes(whole.read_bytes()[:12000])
    elif kind == "compressed":
        with tarfile.open(path, "w:gz") as archive:
            archive.add(whole, "1.jpg")
    elif kind == "other":
        path.write_bytes(b"no archive" * 1000)

    with pytest.raises(DataError, match=r"x.tar: cannot be read as a tar archive \(.+\); expected"):
        read_archive(path)


def test_an_image_that_its_archive_lost__is_an_error_of_the_image(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"1.jpg": b"0" * 9000})
    image = read_archive(path).images["1.jpg"]
    path.unlink()

    with pytest.raises(ImageError, match="no such file"):
        read_bytes(image)
    with pytest.raises(ImageError, match="no such file"):
        read_bytes(StoredImage(Url("memory://nothing/1.jpg")))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{0..2}.tar", ["a-0.tar", "a-1.tar", "a-2.tar"]),
        ("a-{09..10}.tar", ["a-09.tar", "a-10.tar"]),
        ("{x,y}/{0..1}.tar", ["x/0.tar", "x/1.tar", "y/0.tar", "y/1.tar"]),
        ("{one}.tar", ["one.tar"]),
    ],
)
def test_braces__stand_for_several_names(pattern, expected):
    assert _without_braces(pattern) == expected


def test_named_archives__are_those_of_a_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a-0.tar", "a-1.tar", "b.tar", "{c}.tar"):
        write_tar(tmp_path / name, {})
    (tmp_path / "folder.tar").mkdir()
    here = type(tmp_path)

    def named(text):
        return [str(one) for one in named_archives(here(text))]

    assert named("a-*.tar") == named("a-{0..1}.tar") == ["a-0.tar", "a-1.tar"]
    assert named("b.tar") == ["b.tar"]
    assert named("{c}.tar") == ["{c}.tar"]
    assert named("folder.tar") == named("photos") == named("photo.jpg") == []
    with pytest.raises(DataError, match=r"z-\*.tar: there is no such archive"):
        named("z-*.tar")


def test_named_archives__are_those_of_a_pattern_in_a_store(s3, tmp_path):
    file = write_tar(tmp_path / "x.tar", {})
    for number in range(3):
        (s3.bucket / f"x-{number}.tar").put(file)

    every = [s3.bucket / f"x-{number}.tar" for number in range(3)]
    assert named_archives(s3.bucket / "x-*.tar") == every
    assert named_archives(s3.bucket / "x-{0..2}.tar") == every
