"""The spool: an interruption at any moment loses only the current batch."""

import numpy as np
import pytest

from transferkit.errors import OutputError
from transferkit.tables.spool import Spool

IDENTITY = {"backbone": "x", "layers": ("pooled",)}
ROWS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def open_spool(folder, *, resume=False, identity=IDENTITY) -> Spool:
    return Spool.open(folder, identity, (3,), resume=resume)


def fill_spool(folder) -> Spool:
    spool = open_spool(folder)
    spool.add(ROWS[:2], {2: "broken"})
    spool.add(ROWS[2:4], {})
    return spool


def test_spool__gives_rows_back_in_slices(tmp_path):
    spool = fill_spool(tmp_path / "s")

    assert (spool.done, spool.reasons, spool.rows.shape) == (5, {2: "broken"}, (4, 3))
    assert np.array_equal(spool.rows[slice(0, 4)], ROWS[:4])
    assert np.array_equal(spool.rows[slice(1, 3)], ROWS[1:3])
    spool.remove()
    assert not (tmp_path / "s").exists()


def test_spool__resumes_where_it_stopped(tmp_path):
    fill_spool(tmp_path / "s")
    spool = open_spool(tmp_path / "s", resume=True)
    spool.add(ROWS[4:], {5: "gone"})

    assert (spool.done, spool.reasons) == (9, {2: "broken", 5: "gone"})
    assert np.array_equal(spool.rows[slice(0, 7)], ROWS)


@pytest.mark.parametrize(
    ("file", "damage", "done"),
    [
        ("rows.f32", lambda data: data + b"\0" * 17, 5),  # rows without their log line
        ("log.jsonl", lambda data: data + b"[9, [", 5),  # an incomplete log line
        ("log.jsonl", lambda data: data[: data.index(b"\n") + 3], 3),
        ("rows.f32", lambda data: data[:30], 3),  # a log line without its rows
        ("rows.f32", lambda data: b"", 0),
    ],
)
def test_spool__does_not_count_an_incomplete_batch_as_finished(tmp_path, file, damage, done):
    fill_spool(tmp_path / "s")
    path = tmp_path / "s" / file
    path.write_bytes(damage(path.read_bytes()))

    spool = open_spool(tmp_path / "s", resume=True)

    assert spool.done == done
    count = done - len(spool.reasons)
    assert np.array_equal(spool.rows[slice(0, count)], ROWS[:count])
    spool.add(ROWS[count : count + 1], {})
    assert np.array_equal(spool.rows[slice(count, count + 1)], ROWS[count : count + 1])


def test_spool__does_not_resume_rows_of_another_extraction(tmp_path):
    fill_spool(tmp_path / "s")

    with pytest.raises(OutputError, match="begun with other layers; give the same options"):
        open_spool(tmp_path / "s", resume=True, identity={**IDENTITY, "layers": ("stem",)})
    assert open_spool(tmp_path / "s", resume=False).done == 0


@pytest.mark.parametrize(
    ("file", "content"),
    [("identity.json", "{"), ("identity.json", "5"), ("log.jsonl", "x\n"), ("identity.json", None)],
)
def test_spool__refuses_a_damaged_spool_and_keeps_any_other_folder(tmp_path, file, content):
    fill_spool(tmp_path / "s")
    path = tmp_path / "s" / file
    path.unlink() if content is None else path.write_text(content)

    with pytest.raises(OutputError, match=r"is damaged .* start over with --overwrite"):
        open_spool(tmp_path / "s", resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.txt").write_text("kept")
    with pytest.raises(OutputError, match="is not an unfinished extraction"):
        open_spool(tmp_path / "mine")
    assert (tmp_path / "mine" / "x.txt").exists()


def test_spool__keeps_finished_rows_on_a_full_device(tmp_path, monkeypatch):
    spool = fill_spool(tmp_path / "s")
    (tmp_path / "s" / "rows.f32").rename(tmp_path / "kept")
    (tmp_path / "s" / "rows.f32").symlink_to("/dev/full")

    with pytest.raises(OutputError, match="No space left on device; the finished rows are kept"):
        spool.add(ROWS[4:], {})
    assert spool.done == 5
