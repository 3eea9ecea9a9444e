"""Checking: images are read once, and results are cached until files change."""

import shutil

import pytest
from image_files import make_classes, save_image
from notices import Notices

import transferkit
from transferkit.data import check
from transferkit.data.scan import scan
from transferkit.errors import DataError
from transferkit.reporter import SILENT, SilentReporter
from transferkit.row_cache import cache_folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path):
    return make_classes(tmp_path / "data", 3)


@pytest.fixture
def counts(monkeypatch):
    """Count the files that are read and the images that are decoded."""
    counts = {"read": 0, "decoded": 0}

    def counted(name, function):
        def call(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(check, "read_bytes", counted("read", check.read_bytes))
    monkeypatch.setattr(check, "decode_image", counted("decoded", check.decode_image))
    # Files that a test has just written would be too recent to trust.
    monkeypatch.setattr(check, "_SETTLED_NS", 0)
    return counts


def look(root, **options):
    return check.check_images(scan(root), workers=2, reporter=SILENT, **options)


def test_check_images__reads_nothing_twice(data, counts):
    first = look(data, remember=True)
    assert counts == {"read": 9, "decoded": 9}
    second = look(data, remember=True)

    assert counts == {"read": 9, "decoded": 9}
    assert second.sha256 == first.sha256
    assert (second.signatures == first.signatures).all()


def test_check_images__decodes_no_content_twice(data, counts):
    first = look(data, remember=True)
    for file in data.rglob("*.png"):
        shutil.copy(file, file.with_name("renamed " + file.name))
        file.unlink()
    second = look(data, remember=True)

    assert counts == {"read": 18, "decoded": 9}
    assert second.sha256 == first.sha256


def test_check_images__notices_a_file_that_changed(data, counts):
    look(data, remember=True)
    save_image(data / "red/0.png", (9, 9, 9), seed=77)
    (data / "red/1.png").write_bytes(b"broken now")
    second = look(data, remember=True)

    assert counts == {"read": 11, "decoded": 11}
    assert [item.path for item in second.index.left_out] == ["red/1.png"]


def test_check_images__trusts_no_file_written_a_moment_ago(data, counts, monkeypatch):
    monkeypatch.setattr(check, "_SETTLED_NS", 3600 * 10**9)
    look(data, remember=True)
    look(data, remember=True)

    assert counts == {"read": 18, "decoded": 9}


def test_check_images__remembers_nothing_by_default(data, counts):
    look(data)
    look(data)

    assert counts == {"read": 18, "decoded": 18}
    assert not cache_folder().exists()


def test_check_images__keeps_its_results_when_stopped(data, counts):
    class StopsAfterFour(SilentReporter):
        seen = 0

        def progress(self, description, total):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def advance(self, count, detail=""):
            self.seen += count
            if self.seen == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check.check_images(scan(data), workers=1, reporter=StopsAfterFour(), remember=True)
    before = counts["decoded"]
    look(data, remember=True)

    assert counts["decoded"] - before == 5


def test_check_images__succeeds_without_a_cache_and_says_so(data, monkeypatch):
    notices = Notices()
    monkeypatch.setenv("TRANSFERKIT_CACHE", "/proc/nowhere")
    found = check.check_images(scan(data), workers=1, reporter=notices, remember=True)

    assert len(found.sha256) == 9
    assert notices.all[0].endswith("the next run will check all images again")


def test_finetune__takes_truncated_jpegs_only_if_allowed(data, tmp_path):
    save_image(tmp_path / "whole.jpg", (250, 0, 0), seed=5, size=(64, 64))
    cut = (tmp_path / "whole.jpg").read_bytes()[:900]
    (data / "red/cut.jpg").write_bytes(cut)
    options = {"backbone": "edges8", "epochs": 1}

    strict = transferkit.finetune(data, tmp_path / "1", **options)
    lenient = transferkit.finetune(data, tmp_path / "2", allow_truncated=True, **options)

    assert (tmp_path / "1/skipped.csv").read_text().startswith("path,reason\nred/cut.jpg,")
    assert (tmp_path / "2/skipped.csv").read_text() == "path,reason\n"
    assert strict.plan.classes["red"] != lenient.plan.classes["red"]
    with pytest.raises(DataError, match=r"1 images cannot be used: red/cut.jpg \(.*truncated"):
        transferkit.finetune(data, tmp_path / "3", on_bad_image="fail", **options)
    records = [
        transferkit.predict([str(data / "red/cut.jpg")], model=str(tmp_path / "1"), **more)[0]
        for more in ({}, {"allow_truncated": True})
    ]
    assert [record.error is None for record in records] == [False, True]


def test_state__of_a_new_or_missing_file_is_none(data):
    save_image(data / "red/0.png", (1, 2, 3), seed=4)

    assert check._state(data / "red/0.png") is None  # just written
    assert check._state(data / "red/missing.png") is None
