"""Images sorted into folders: none lost, doubled or replaced, whenever the command is killed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from clusters import start_command
from image_files import make_classes

from transferkit.data.archives import read_archive
from transferkit.errors import OptionError, OutputError
from transferkit.recipes.predicting.sort_into import Sorting, find_sources, opened_sorting
from transferkit.run.folder import locked
from transferkit.tables.predictions import Prediction
from transferkit.tables.sort_log import NAME, By

CLASSES = ["cat", "dog"]


def prediction(path, label="cat", error=None):
    confidence = None if error else 0.75
    return Prediction(str(path), label, confidence, (), error, abstained=label is None)


def make_heap(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"image {name}".encode())
    return [str(folder / name) for name in names]


def sort(folder, predictions, by=By.LINK, class_names=CLASSES):
    """Sort what was not sorted yet, and return the paths of that."""
    by_path = {one.path: one for one in predictions}
    with opened_sorting(folder, by) as sorting:
        sources = sorting.unsorted(sorting.without_sorted(find_sources(by_path)))
        found = [by_path[one.given] for one in sources]
        assert list(sorting.sort(sources, found, class_names)) == found
    return [one.given for one in sources]


def contents(folder):
    """Return folder/name -> content of all files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def rows(folder):
    with (folder / NAME).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("by", By)
def test_sort__puts_each_image_into_its_folder_and_lists_it(tmp_path, by):
    heap, out = tmp_path / "heap", tmp_path / "out"
    a, b, c, d = make_heap(heap, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    found = [prediction(a), prediction(b, None), prediction(c, None, "empty"), prediction(d, "dog")]

    sort(out, found, by)

    expected = {"cat/a.jpg": "a", "unsure/b.jpg": "b", "unreadable/c.jpg": "c", "dog/d.jpg": "d"}
    assert contents(out) == {path: f"image {name}.jpg" for path, name in expected.items()}
    assert rows(out)[:3] == [
        {"path": a, "folder": "cat", "file": "a.jpg", "confidence": "0.750000", "action": by,
         "reason": ""},
        {"path": b, "folder": "unsure", "file": "b.jpg", "confidence": "0.750000", "action": by,
         "reason": "its confidence is too low"},
        {"path": c, "folder": "unreadable", "file": "c.jpg", "confidence": "", "action": by,
         "reason": "empty"},
    ]  # fmt: skip
    assert len(contents(heap)) == (0 if by is By.MOVE else 4)
    assert (out / "cat/a.jpg").is_symlink() == (by is By.LINK)


@pytest.mark.parametrize("by", By)
def test_sort__numbers_images_of_the_same_name_and_replaces_nothing(tmp_path, by):
    out = tmp_path / "out"
    make_heap(out, "cat/a.jpg", "cat/a-3.jpg")
    paths = make_heap(tmp_path, "1/a.jpg", "2/a.jpg", "3/a.jpg")

    sort(out, map(prediction, paths), by)

    assert contents(out) == {
        "cat/a.jpg": "image cat/a.jpg",
        "cat/a-2.jpg": "image 1/a.jpg",
        "cat/a-3.jpg": "image cat/a-3.jpg",
        "cat/a-4.jpg": "image 2/a.jpg",
        "cat/a-5.jpg": "image 3/a.jpg",
    }


def test_sort__cuts_a_long_name_that_gets_a_number(tmp_path):
    name = "é" * 125 + "a.jpg"
    paths = make_heap(tmp_path, f"1/{name}", f"2/{name}")

    sort(tmp_path / "out", map(prediction, paths))

    assert sorted(map(len, map(os.fsencode, os.listdir(tmp_path / "out/cat")))) == [255, 255]


def test_sort__sorts_a_file_once_however_it_is_named(tmp_path, monkeypatch):
    (path,) = make_heap(tmp_path, "heap/a.jpg")
    (tmp_path / "other").symlink_to(tmp_path / "heap")
    monkeypatch.chdir(tmp_path)

    done = sort(Path("out"), map(prediction, ["heap/a.jpg", path, "other/a.jpg"]))

    assert done == ["heap/a.jpg"]
    assert [row["path"] for row in rows(tmp_path / "out")] == [path]
    assert sort(tmp_path / "out", [prediction(path)]) == []


@pytest.mark.parametrize("by", By)
def test_sort__again_sorts_only_what_is_new(tmp_path, by):
    heap, out = tmp_path / "heap", tmp_path / "out"
    sort(out, map(prediction, make_heap(heap, "a.jpg")), by)
    (out / "dog").mkdir()
    (out / "cat/a.jpg").rename(out / "dog/a.jpg")  # whoever looks at the images corrects a label

    paths = make_heap(heap, "b.jpg")
    assert sort(out, map(prediction, [str(heap / "a.jpg"), *paths]), by) == paths
    assert set(contents(out)) == {"dog/a.jpg", "cat/b.jpg"}


def test_sort__leaves_what_it_has_sorted_alone_where_it_stands_in_the_heap(tmp_path):
    make_heap(tmp_path, "a.jpg")
    out = tmp_path / "out"
    sort(out, [prediction(tmp_path / "a.jpg")], By.COPY)
    (out / "cat/a.jpg").rename(out / "cat/another name.jpg")

    inside = [prediction(path) for path in (out / "cat").iterdir()]
    assert len(inside) == 1
    assert sort(out, inside, By.COPY) == []


@pytest.mark.parametrize("by", By)
def test_sort__into_the_folder_of_the_images_and_the_one_around_it(tmp_path, by):
    heap = tmp_path / "heap"
    first, second = make_heap(heap, "a.jpg", "b.jpg")

    sort(heap, [prediction(first)], by)
    sort(tmp_path, [prediction(second)], by)

    assert (heap / "cat/a.jpg").read_text() == "image a.jpg"
    assert (tmp_path / "cat/b.jpg").read_text() == "image b.jpg"


def test_sort__lists_an_image_that_is_in_its_folder(tmp_path):
    (path,) = make_heap(tmp_path, "cat/a.jpg")

    sort(tmp_path, [prediction(path)], By.MOVE)

    assert contents(tmp_path) == {"cat/a.jpg": "image cat/a.jpg"}
    (row,) = rows(tmp_path)
    assert (row["file"], row["action"], row["reason"]) == ("a.jpg", "none", "it was there already")


def test_sort__lists_once_what_it_cannot_put_anywhere_and_tries_it_again(tmp_path):
    out, path = tmp_path / "out", str(tmp_path / "heap/no.jpg")
    for _ in range(2):
        sort(out, [prediction(path, None, "no such file or directory")])
    (row,) = rows(out)
    assert (row["folder"], row["file"], row["action"]) == ("unreadable", "", "none")

    make_heap(tmp_path / "heap", "no.jpg")
    assert sort(out, [prediction(path)]) == [path]
    assert set(contents(out)) == {"cat/no.jpg"}


def test_sort__lists_an_image_that_has_gone_since_it_was_read(tmp_path):
    sort(tmp_path / "out", [prediction(tmp_path / "gone.jpg")])

    (row,) = rows(tmp_path / "out")
    assert (row["folder"], row["reason"]) == ("unreadable", "it is not there any more")


def test_sort__makes_safe_folders_of_the_names_of_classes(tmp_path):
    names = ["../up", "unsure", "unreadable", NAME, "."]
    paths = make_heap(tmp_path / "heap", *(f"{i}.jpg" for i in range(len(names))))

    sort(tmp_path / "out", map(prediction, paths, names), class_names=names)

    assert set(contents(tmp_path / "out")) == {
        "_._up/0.jpg", "unsure-2/1.jpg", "unreadable-2/2.jpg", f"{NAME}-2/3.jpg", "_/4.jpg",
    }  # fmt: skip
    assert not (tmp_path / "up").exists()


def test_sort__copies_images_of_an_archive(tmp_path):
    (path,) = make_heap(tmp_path, "a.jpg")
    with tarfile.open(tmp_path / "heap.tar", "w") as archive:
        archive.add(path, "1/a.jpg")
        archive.add(path, "2/a.jpg")
    images = list(read_archive(tmp_path / "heap.tar").images.values())

    def sort_archive(by):
        with opened_sorting(tmp_path / "out", by) as sorting:
            sources = sorting.unsorted(find_sources(images))
            list(sorting.sort(sources, map(prediction, images), CLASSES))

    with pytest.raises(OptionError, match=r"--by link: .*/heap.tar/1/a.jpg is in a store or an ar"):
        sort_archive(By.LINK)
    sort_archive(By.COPY)
    assert contents(tmp_path / "out") == dict.fromkeys(["cat/a.jpg", "cat/a-2.jpg"], "image a.jpg")


def test_sort__copies_images_of_a_store(tmp_path):
    (path,) = make_heap(tmp_path / "heap", "a.jpg")
    address = f"file://{path}"

    with pytest.raises(OptionError, match=f"--by move: {address} is in a store"):
        sort(tmp_path / "out", [prediction(address)], By.MOVE)
    sort(tmp_path / "out", [prediction(address)], By.COPY)
    assert contents(tmp_path / "out") == {"cat/a.jpg": "image a.jpg"}
    assert rows(tmp_path / "out")[0]["path"] == address


def test_sort__lists_a_stored_image_that_has_gone_since_it_was_read(tmp_path):
    sort(tmp_path / "out", [prediction(f"file://{tmp_path}/gone.jpg")], By.COPY)

    (row,) = rows(tmp_path / "out")
    assert (row["folder"], row["file"], row["action"]) == ("unreadable", "", "none")
    assert row["reason"] == "no such file or folder"


def test_sort__gives_way_to_a_file_that_comes_at_the_same_moment(tmp_path, monkeypatch):
    make_heap(tmp_path / "out", "cat/a.jpg", "cat/a-2.jpg")
    (path,) = make_heap(tmp_path, "a.jpg")
    monkeypatch.setattr("os.path.lexists", lambda path: False)

    sort(tmp_path / "out", [prediction(path)], By.MOVE)

    (row,) = rows(tmp_path / "out")
    assert row["file"] == "a-3.jpg"
    assert contents(tmp_path / "out")["cat/a-3.jpg"] == "image a.jpg"


@pytest.mark.parametrize("place", ["file/out", "file"])
def test_sort__into_a_place_that_cannot_be_written_is_an_error(tmp_path, place):
    make_heap(tmp_path, "file")

    with pytest.raises(OutputError, match=r"cannot create .*; name another --sort-into"):
        sort(tmp_path / place, [])


def test_sort__keeps_other_processes_out(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(OutputError, match=r"another process .* name another --sort-into"),
    ):
        sort(tmp_path, [])


@pytest.mark.parametrize("by", By)
def test_sort__that_fails_says_so_and_leaves_the_image_to_the_next_command(
    tmp_path, monkeypatch, by
):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    (path,) = make_heap(tmp_path, "heap/a.jpg")
    with monkeypatch.context() as patch:
        for name in ("os.link", "os.rename", "os.symlink", "shutil.copy2"):
            patch.setattr(name, fail)
        with pytest.raises(OutputError, match=f"cannot {by} {path} into .*: No space left"):
            sort(tmp_path / "out", [prediction(path)], by)
    assert contents(tmp_path) == {"heap/a.jpg": "image heap/a.jpg"}
    assert rows(tmp_path / "out") == []

    assert sort(tmp_path / "out", [prediction(path)], by) == [path]


KILLED = """
import json, os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from test_sort_into import make_heap, prediction, sort
from transferkit.tables.sort_log import By

root, by, devices = Path(sys.argv[2]), By(sys.argv[3]), sys.argv[4] == "devices"
left = None  # events until this process is killed

def on_event(name, arguments):
    global left
    if left is not None and name.startswith(("os.", "open", "shutil.")):
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)

def link(source, path):
    if "heap" in str(source):
        raise OSError(18, "Invalid cross-device link")
    os_link(source, path)

sys.addaudithook(on_event)
if devices:
    os_link, os.link = os.link, link
number = 0
while True:
    number += 1
    folder = root / str(number)
    make_heap(folder / "heap", "1/a.jpg", "2/a.jpg", "b.jpg")
    heap = folder / "heap"
    given = [prediction(heap / "1/a.jpg"), prediction(heap / "2/a.jpg"),
             prediction(heap / "b.jpg", None, "broken")]
    child = os.fork()
    if not child:
        left = number
        sort(folder / "out", given, by)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    # As the next command does, which finds in the heap only what is there.
    sort(folder / "out", [one for one in given if os.path.exists(one.path)], by)
print(json.dumps(number))
"""


@pytest.mark.parametrize(
    ("by", "system"),
    [(By.LINK, "device"), (By.COPY, "device"), (By.MOVE, "device"), (By.MOVE, "devices")],
)
def test_sort__killed_at_any_moment_loses_and_doubles_nothing(tmp_path, by, system):
    """A fresh heap for every call of the system at which the process can be killed."""
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path), by, system]
    tests = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": tests}
    )

    assert ran.returncode == 0, ran.stderr
    count = json.loads(ran.stdout)
    assert count > 10
    expected = {"1/a.jpg": "image 1/a.jpg", "2/a.jpg": "image 2/a.jpg", "b.jpg": "image b.jpg"}
    for number in range(1, count + 1):
        heap, out = tmp_path / str(number) / "heap", tmp_path / str(number) / "out"
        assert sorted(contents(out).values()) == sorted(expected.values()), number
        assert contents(heap) == ({} if by is By.MOVE else expected), number
        listed = Counter(f"{row['folder']}/{row['file']}" for row in rows(out))
        assert listed == Counter({path: 1 for path in contents(out) if not path.startswith(".")}), (
            number
        )


def test_predict__that_is_interrupted_says_how_to_resume(
    image_folder, run_folder, tmp_path, monkeypatch, cli
):
    def interrupted(self, sources, predictions, class_names):
        yield next(predictions)
        raise KeyboardInterrupt

    monkeypatch.setattr(Sorting, "sort", interrupted)
    ran = cli("predict", image_folder, "-m", run_folder, "--sort-into", tmp_path / "out")

    assert ran.code == 130
    assert "the same command" in ran.err
    assert not (tmp_path / "out/.lock").exists()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A heap of 150 images in three folders, in which the same names occur. Read only."""
    return make_classes(tmp_path_factory.mktemp("images") / "heap", 50)


@pytest.mark.parametrize(
    ("by", "number"),
    [(By.MOVE, signal.SIGKILL), (By.COPY, signal.SIGKILL), (By.LINK, signal.SIGINT)],
)
def test_predict__stopped_while_it_sorts_resumes(images, run_folder, tmp_path, cli, by, number):
    heap, out = shutil.copytree(images, tmp_path / "heap"), tmp_path / "out"
    expected = Counter(path.read_bytes() for path in heap.rglob("*.png"))
    words = ("predict", heap, "-m", run_folder, "--sort-into", out, "--by", by)
    process = start_command(*words, "--batch-size", 1)
    while not (out / NAME).exists() or (out / NAME).read_bytes().count(b"\n") < 20:
        assert process.poll() is None, process.communicate()
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -9)

    ran = cli(*words)

    assert ran.code == 0
    assert ran.out.startswith(f"{out}: 150 images in ")
    found = [path for path in out.rglob("*.png") if path.is_file()]
    assert Counter(path.read_bytes() for path in found) == expected
    assert len(list(heap.rglob("*.png"))) == (0 if by is By.MOVE else 150)
    assert len(rows(out)) == 150
