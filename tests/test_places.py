"""Addresses in stores: their parts, and what is done when a store fails."""

import sys
from pathlib import Path
from threading import Event

import pytest
from image_files import make_classes

from transferkit import places
from transferkit.data.scan import scan
from transferkit.data.threads import map_in_order
from transferkit.errors import DataError, OutputError, StoreError
from transferkit.files import require_new, whole_file
from transferkit.places import Url, asking_until, is_pattern, is_url, place
from transferkit.recipes.shared.inputs import expand_inputs


def test_urls__have_the_parts_of_paths():
    url = Url("s3://photos/cats/1.JPG/")

    assert url == "s3://photos/cats/1.JPG"
    assert (url.name, url.suffix, url.parent) == ("1.JPG", ".JPG", "s3://photos/cats")
    assert url.parent / "2.jpg" == "s3://photos/cats/2.jpg"
    assert Url("filecache::s3://photos/cats").parent == "filecache::s3://photos"


@pytest.mark.parametrize("text", ["photos", "/photos", "C:\\photos", "://photos", "s3:/photos"])
def test_place__takes_text_without_a_protocol_for_a_path(text):
    assert place(text) == Path(text)
    with pytest.raises(ValueError, match="expected an address such as s3://bucket/folder"):
        Url(text)


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        ("file:///tmp/photos/1.jpg", "file:///tmp/photos"),
        ("https://host/photos/1.jpg", "https://host/photos"),
        ("s3://bucket/http://x/1.jpg", "s3://bucket/http:/x"),
    ],
)
def test_urls__keep_what_stands_before_their_paths(text, parent):
    assert Url(text).parent == parent


def test_is_url__is_no_name_that_holds_a_protocol():
    assert not is_url("photos/http://x")
    assert is_url("filecache::s3://photos")


def test_is_pattern__is_no_query_of_a_web_address():
    assert not is_pattern(Url("https://host/1.jpg?token=1"))
    assert is_pattern(Url("s3://bucket/?.jpg"))


def test_files_of_this_machine__may_be_addressed(tmp_path):
    make_classes(tmp_path, 1)
    url = Url(f"file://{tmp_path}")

    assert sorted(url.files()) == ["blue/0.png", "green/0.png", "red/0.png"]
    (found,) = (url / "red/*.png").matches()
    assert found.read_bytes() == (tmp_path / "red/0.png").read_bytes()


def test_s3__without_the_bucket_holds_nothing(s3):
    missing = Url("s3://no-such-bucket/photos")

    assert missing.files() == {}
    assert missing.matches() == []
    assert not missing.exists()
    with pytest.raises(DataError, match="no such folder"):
        scan(missing)


def test_s3__that_denies_a_look_is_one_error(s3, monkeypatch):
    import s3fs

    def deny(*args, **kwargs):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3fs.S3FileSystem, "find", deny)

    with pytest.raises(StoreError, match=r"may not be looked up \(permission denied\); check your"):
        s3.bucket.files()


def test_s3__reads_odd_names(s3, tmp_path):
    file = tmp_path / "file"
    for number, name in enumerate(["a::b.png", "x[1].png", "x1.png", "a*b.png", "a b#é+%20.png"]):
        file.write_bytes(bytes([number]))
        (s3.bucket / name).put(file)
        assert (s3.bucket / name).read_bytes() == bytes([number])

    expected = [f"{s3.bucket}/{name}" for name in ("a b#é+%20.png", "a*b.png", "a::b.png")]
    found = expand_inputs([f"{s3.bucket}/*.png"], [])
    assert list(map(str, found)) == [*expected, s3.bucket / "x1.png", s3.bucket / "x[1].png"]
    assert list(map(str, expand_inputs([s3.bucket / "x[1].png"], []))) == [s3.bucket / "x[1].png"]


def test_s3__keeps_a_folder_when_a_file_of_its_name_is_removed(s3, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for name in ("a", "a/1.png"):
        (s3.bucket / name).put(tmp_path / "file")

    (s3.bucket / "a").unlink()

    assert list(s3.bucket.files()) == ["a/1.png"]


def test_an_error_that_stays__is_not_waited_for(monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def fail(*args, **kwargs):
        raise IsADirectoryError("photos")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    with pytest.raises(StoreError, match=r"photos: cannot be read \(photos; tried 1 time\)"):
        Url("memory://photos").read_bytes()


def test_a_store_that_tells_no_sizes__is_read_all_the_same(tmp_path, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    (tmp_path / "1.bin").write_bytes(b"0123")
    folder = Url(f"memory://{tmp_path.name}")
    (folder / "1.bin").put(tmp_path / "1.bin")
    info, find = MemoryFileSystem.info, MemoryFileSystem.find
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *a, **k: {**info(*a, **k), "size": None})
    monkeypatch.setattr(
        MemoryFileSystem,
        "find",
        lambda *a, **k: {name: {**e, "size": None} for name, e in find(*a, **k).items()},
    )

    assert folder.files()["1.bin"].size is None
    with (folder / "1.bin").open("rb") as file:
        assert file.read() == b"0123"


def test_stores__keep_files(tmp_path):
    (tmp_path / "1.txt").write_bytes(b"0123456789")
    folder = Url("memory://keeps/folder")

    (folder / "a/1.txt").put(tmp_path / "1.txt")
    (folder / "b.txt").put(tmp_path / "1.txt")

    sizes = {name: file.size for name, file in folder.files().items()}
    assert sizes == {"a/1.txt": 10, "b.txt": 10}
    assert (folder / "*.txt").matches() == [folder / "b.txt"]
    assert (folder / "b.txt").read_bytes(2, 5) == b"234"
    assert folder.is_dir()
    assert (folder / "b.txt").is_file()
    with (folder / "b.txt").open("rb") as file:
        file.seek(-3, 2)
        assert (file.read(2), file.tell(), file.read(), file.read()) == (b"78", 9, b"9", b"")
    folder.remove()
    assert not folder.exists()
    assert folder.files() == {}
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        (folder / "b.txt").read_bytes()


def test_s3__tells_a_state_that_changes_with_the_content(s3, tmp_path):
    file = tmp_path / "1.txt"
    states = []
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        (s3.bucket / "1.txt").put(file)
        states.append((s3.bucket / "1.txt").state())
        assert s3.bucket.files()["1.txt"].state == states[-1]

    assert states[0] != states[1]
    assert states[0] == states[2]


@pytest.mark.parametrize("fault", ["503", "stall", "cut"])
def test_s3__is_asked_again_when_it_fails(s3, tmp_path, fault):
    content = bytes(range(256)) * 40
    (tmp_path / "1.bin").write_bytes(content)
    url = s3.bucket / "1.bin"
    url.put(tmp_path / "1.bin")

    s3.gate.faults = [fault, fault]
    assert url.read_bytes() == content
    s3.gate.faults = [fault]
    assert url.read_bytes(1000, 2000) == content[1000:2000]
    s3.gate.faults = [fault]
    with url.open("rb") as file:
        assert file.read() == content
    s3.gate.faults = [fault]
    assert list(s3.bucket.files()) == ["1.bin"]
    s3.gate.faults = [fault]
    url.put(tmp_path / "1.bin")
    assert url.read_bytes() == content


@pytest.mark.parametrize(
    ("fault", "why"), [("503", "Service Unavailable"), ("stall", "timeout"), ("cut", "not comp")]
)
def test_s3__that_goes_on_failing_is_one_error(s3, tmp_path, fault, why):
    (tmp_path / "1.bin").write_bytes(b"0" * 1000)
    url = s3.bucket / "1.bin"
    url.put(tmp_path / "1.bin")

    s3.gate.always = fault
    with pytest.raises(StoreError, match=f"1.bin: cannot be read .*{why}.*tried 4 times") as error:
        url.read_bytes()

    assert "\n" not in str(error.value)


def test_s3__keeps_the_old_file_when_a_new_one_cannot_be_written(s3, tmp_path):
    url = s3.bucket / "table.csv"
    with whole_file(url) as temporary:
        temporary.write_text("old")

    s3.gate.always = "503"
    with pytest.raises(StoreError, match=r"table.csv: cannot be written"), whole_file(url) as file:
        file.write_text("new")
    s3.gate.always = ""

    assert url.read_text("utf-8") == "old"
    assert list(s3.bucket.files()) == ["table.csv"]


def test_whole_file__stores_nothing_when_the_block_fails(s3):
    def write_half():
        with whole_file(s3.bucket / "table.csv") as file:
            file.write_text("half")
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        write_half()

    assert s3.bucket.files() == {}


def test_require_new__protects_files_in_a_store(s3, tmp_path):
    (tmp_path / "1.csv").write_text("x")
    (s3.bucket / "1.csv").put(tmp_path / "1.csv")

    require_new(s3.bucket / "2.csv", overwrite=False)
    require_new(s3.bucket / "1.csv", overwrite=True)
    with pytest.raises(OutputError, match=r"1\.csv: already exists"):
        require_new(s3.bucket / "1.csv", overwrite=False)


def test_a_store_without_its_package__says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)

    with pytest.raises(StoreError, match=r"gs://b/x: .*pip install 'transferkit\[gs\]'"):
        Url("gs://b/x").read_bytes()


def test_an_unknown_protocol__is_an_error():
    with pytest.raises(StoreError, match="s4://b/x: Protocol not known: s4; expected a path, or"):
        Url("s4://b/x").read_bytes()


def test_settings_for_s3__give_way_to_those_of_fsspec(s3_gate, monkeypatch):
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"read_timeout": 7}})

    store, _ = places._store_of(Url("s3://bucket/x"))

    assert store.config_kwargs == {"read_timeout": 7}


def test_a_thread_that_is_to_stop__asks_a_failing_store_no_more(s3, tmp_path):
    s3.gate.always = "503"
    stopped = Event()
    stopped.set()

    with asking_until(stopped), pytest.raises(StoreError, match=r"tried 1 time\)"):
        (s3.bucket / "1.bin").read_bytes()


def test_threads_that_read__are_to_stop_when_nobody_waits_for_them():
    reading = map_in_order(lambda _: places._patience.stopped, range(9), workers=1, ahead=3)
    stopped = next(reading)
    assert not stopped.is_set()

    reading.close()

    assert stopped.is_set()
