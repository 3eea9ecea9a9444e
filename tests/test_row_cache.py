"""The cache of rows on disk: its folder, its entries, and their removal."""

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from transferkit.row_cache import (
    CacheEntry,
    cache_folder,
    list_entries,
    make_room,
    remove_entries,
)

NAMES = [f"{i:064x}" for i in range(6)]
ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep caches elsewhere")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TRANSFERKIT_CACHE": "/mine", "XDG_CACHE_HOME": "/xdg"}, "/mine"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/transferkit"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/transferkit"),
    ],
)
def test_cache_folder__is_where_users_keep_caches_unless_a_variable_names_another_folder(
    monkeypatch, variables, expected
):
    for name in ("TRANSFERKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)

    assert cache_folder() == Path(expected)


def entry(what="layers", shape=(2,), **more):
    return CacheEntry({"what": what, **more}, np.dtype(np.float32), shape)


def test_entry__returns_rows_by_name_in_any_order_and_after_reopening():
    first = entry()
    first.add(NAMES[:4], ROWS[:4])
    first.add(NAMES[4:], ROWS[4:])

    for known in (first, entry()):
        assert np.array_equal(known.gather([NAMES[5], NAMES[0]]), ROWS[[5, 0]])
        assert NAMES[3] in known
        assert "f" * 64 not in known


@pytest.mark.parametrize("other", [{"what": "others"}, {"weights": "x"}, {"shape": (3,)}])
def test_entry__does_not_serve_another_computation(other):
    entry().add(NAMES, ROWS)

    assert NAMES[0] not in entry(**other)


def test_entry__never_runs_a_pickle():
    class Runs:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was run",))

    entry().add(NAMES, ROWS)
    (place,) = cache_folder().iterdir()
    for file in place.glob("*.npy"):
        np.save(file, np.array([Runs()], dtype=object), allow_pickle=True)

    assert NAMES[0] not in entry()


def test_entry__skips_damaged_and_unfinished_files():
    entry().add(NAMES[:3], ROWS[:3])
    entry().add(NAMES[3:], ROWS[3:])
    (place,) = cache_folder().iterdir()
    one, other = sorted(place.glob("*.rows.npy"))
    one.write_bytes(one.read_bytes()[:-3])
    (place / "x.rows.npy").write_bytes(b"no names yet")
    (place / "y.names.npy").write_bytes(b"\x80\x04cposix\nsystem\n.")
    known = entry()

    assert sum(name in known for name in NAMES) == 3
    assert other.exists()


def test_entry__keeps_rows_that_several_threads_add_at_once():
    adding = [
        threading.Thread(target=lambda i=i: entry().add(NAMES[i : i + 1], ROWS[i : i + 1]))
        for i in range(6)
    ]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()

    assert np.array_equal(entry().gather(NAMES), ROWS)


def test_make_room__removes_the_least_recently_used_first_and_keeps_the_current_one():
    for age, what in enumerate(["newest", "old", "oldest"]):
        entry(what).add(NAMES, ROWS)
        (about,) = (cache_folder() / entry(what).key).glob("about.json")
        os.utime(about, (1e9 - age, 1e9 - age))
    size = list_entries()[0].size

    assert [gone.what for gone in make_room(2 * size + 100, keep="")] == ["oldest"]
    assert [gone.what for gone in make_room(0, keep=entry("old").key)] == ["newest"]
    assert [kept.what for kept in list_entries()] == ["old"]


def test_entries__are_listed_and_removed():
    entry("first").add(NAMES, ROWS)
    entry("second").add(NAMES[:1], ROWS[:1])
    found = {one.what: one for one in list_entries()}

    assert {what: one.rows for what, one in found.items()} == {"first": 6, "second": 1}
    remove_entries([found["first"].key])
    assert [one.what for one in list_entries()] == ["second"]
