"""Writing files: completely or not at all."""

import json
from functools import partial

import pytest

from transferkit.errors import OutputError
from transferkit.files import whole_file, whole_folder, write_json


def test_write_json__leaves_the_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"name": "Bengal ü"})

    assert json.loads((tmp_path / "new" / "a.json").read_text("utf-8")) == {"name": "Bengal ü"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


@pytest.mark.parametrize("whole", [whole_file, partial(whole_folder, last="x")])
def test_whole__keeps_the_old_content_if_writing_fails(tmp_path, whole):
    target = tmp_path / "target"

    def write(content, error=None):
        with whole(target) as temporary:
            (temporary / "x" if whole is not whole_file else temporary).write_text(content)
            if error:
                raise error

    write("old")
    with pytest.raises(OutputError, match=r"cannot write .*target: No space left on device"):
        write("half", OSError(28, "No space left on device"))

    assert (target / "x" if whole is not whole_file else target).read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_whole_folder__replaces_a_folder(tmp_path):
    for content in ("one", "two"):
        with whole_folder(tmp_path / "out", last="x") as folder:
            (folder / content).write_text(content)

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["two"]


def test_whole_file__takes_the_longest_file_name(tmp_path):
    write_json(tmp_path / ("n" * 255), 1)

    assert (tmp_path / ("n" * 255)).read_text() == "1\n"
