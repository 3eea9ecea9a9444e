"""Images at a new path: whole, and never in place of another file."""

import errno
import os

import pytest

from transferkit.data.delivery import UNFINISHED, deliver, require_deliverable, settle
from transferkit.data.images import ImageError, StoredImage
from transferkit.errors import OptionError
from transferkit.places import Url
from transferkit.tables.sort_log import By


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "heap/a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"an image")
    os.utime(path, (1000, 1000))
    (tmp_path / "cat").mkdir()
    return path


@pytest.fixture
def without_links(monkeypatch):
    """A file system on which a file has one name."""

    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)


@pytest.fixture
def devices(monkeypatch):
    """A heap on another device than the folders."""

    def link(source, path):
        if "heap" in str(source):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(source, path)

    real = os.link
    monkeypatch.setattr("os.link", link)


SYSTEMS = [None, "without_links", "devices"]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("by", By)
def test_deliver__puts_an_image_at_its_path(image, tmp_path, request, by, system):
    if system:
        request.getfixturevalue(system)
    path = tmp_path / "cat/b.jpg"

    deliver(image, path, by)

    assert path.read_bytes() == b"an image"
    assert path.stat().st_mtime == 1000
    assert path.is_symlink() == (by is By.LINK)
    assert image.exists() == (by is not By.MOVE)
    assert os.listdir(path.parent) == ["b.jpg"]
    assert settle(image, path, by)
    assert path.read_bytes() == b"an image"


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("by", By)
def test_deliver__replaces_nothing(image, tmp_path, request, by, system):
    if system:
        request.getfixturevalue(system)
    path = tmp_path / "cat/a.jpg"
    path.symlink_to("nowhere")

    with pytest.raises(FileExistsError):
        deliver(image, path, by)

    assert os.readlink(path) == "nowhere"
    assert image.read_bytes() == b"an image"
    assert os.listdir(path.parent) == ["a.jpg"]


def test_deliver__links_relatively_to_the_file_itself(image, tmp_path):
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "short").symlink_to(tmp_path / "elsewhere/deep")
    (tmp_path / "alias.jpg").symlink_to(image)

    deliver(tmp_path / "alias.jpg", tmp_path / "short/a.jpg", By.LINK)

    assert os.readlink(tmp_path / "short/a.jpg") == "../../heap/a.jpg"
    assert (tmp_path / "short/a.jpg").read_bytes() == b"an image"


def test_deliver__copies_from_archives(image, tmp_path):
    image.write_bytes(b"....an image....")

    deliver(StoredImage(image, "", "a.jpg", 4, 8), tmp_path / "cat/a.jpg", By.COPY)

    assert (tmp_path / "cat/a.jpg").read_bytes() == b"an image"


def test_deliver__of_what_cannot_be_read_is_an_error_of_the_image(image, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ImageError, match="permission denied"):
        deliver(image, tmp_path / "cat/a.jpg", By.COPY)
    with pytest.raises(ImageError, match="no such file"):
        deliver(StoredImage(tmp_path / "no.tar", "", "a", 4, 8), tmp_path / "cat/a.jpg", By.COPY)
    assert os.listdir(tmp_path / "cat") == []


@pytest.mark.parametrize("system", [None, "devices"])
def test_deliver__leaves_an_image_that_cannot_be_removed_where_it_is(
    image, tmp_path, request, monkeypatch, system
):
    if system:
        request.getfixturevalue(system)

    def unlink(path, *_, **__):
        if str(path) == str(image):
            raise PermissionError(errno.EACCES, "Permission denied")
        real(path)

    real = os.unlink
    monkeypatch.setattr("os.unlink", unlink)
    with pytest.raises(PermissionError):
        deliver(image, tmp_path / "cat/a.jpg", By.MOVE)
    assert image.read_bytes() == b"an image"
    assert os.listdir(tmp_path / "cat") == []


def test_deliver__to_a_full_device_leaves_nothing(image, tmp_path, monkeypatch, devices):
    def write_half(source, path):
        path.write_bytes(b"an i")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copy2", write_half)
    for by in (By.COPY, By.MOVE):
        with pytest.raises(OSError, match="No space left"):
            deliver(image, tmp_path / "cat/a.jpg", by)
    assert image.read_bytes() == b"an image"
    assert os.listdir(tmp_path / "cat") == []


def test_settle__finishes_a_move_between_its_two_steps(image, tmp_path):
    path = tmp_path / "cat/a.jpg"
    assert not settle(image, path, By.MOVE)
    assert image.exists()

    os.link(image, path)
    (tmp_path / "cat" / UNFINISHED).write_bytes(b"an i")
    assert settle(image, path, By.MOVE)
    assert path.read_bytes() == b"an image"
    assert not image.exists()
    assert os.listdir(tmp_path / "cat") == ["a.jpg"]


def test_settle__keeps_an_image_whose_path_was_taken_by_another(image, tmp_path):
    path = tmp_path / "cat/a.jpg"
    path.write_bytes(b"another!")

    assert not settle(image, path, By.MOVE)
    assert (image.read_bytes(), path.read_bytes()) == (b"an image", b"another!")


@pytest.mark.parametrize("by", [By.LINK, By.MOVE])
def test_require_deliverable__says_what_can_only_be_copied(by):
    stored = StoredImage(Url("s3://bucket/a.jpg"))

    require_deliverable(stored, By.COPY)
    with pytest.raises(OptionError, match=f"--by {by}: s3://bucket/a.jpg is in a store or an"):
        require_deliverable(stored, by)


def test_require_deliverable__moves_no_links(image, tmp_path):
    (tmp_path / "alias.jpg").symlink_to(image)

    require_deliverable(tmp_path / "alias.jpg", By.LINK)
    with pytest.raises(OptionError, match=r"alias\.jpg is a link"):
        require_deliverable(tmp_path / "alias.jpg", By.MOVE)
