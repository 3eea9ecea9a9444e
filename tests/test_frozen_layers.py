"""Outputs of frozen layers: computed once, and the same from every cache."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from image_files import save_image
from notices import Notices

from transferkit.data.augment import Augment
from transferkit.data.normalization import normalize
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.views import PLAIN, Views
from transferkit.devices import Cache
from transferkit.errors import DataError
from transferkit.frozen_layers import FrozenLayers, FrozenRows
from transferkit.reporter import SILENT
from transferkit.row_cache import cache_folder

NAMES = [f"{i:064x}" for i in range(6)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path / "cache"))


def frozen_rows(root, cache, *, names=None, augment=Augment.LIGHT, seen=None, reporter=SILENT):
    """Return rows that hold the mean colour of five images."""
    for i in range(5):
        if not (root / f"{i}.png").exists():
            save_image(root / f"{i}.png", (40 * i, 10, 200), seed=i)
    views = Views(
        files=sorted(root.glob("*.png")),
        names=names or NAMES[:5],
        preprocessing=Preprocessing(input_size=(3, 32, 32)),
        augment=augment,
        seed=3,
        batch_size=2,
        workers=2,
    )

    def compute(pixels):
        images = normalize(torch.from_numpy(pixels), views.preprocessing)
        if seen is not None:
            seen.append(len(images))
        return images.mean(dim=(2, 3)).bfloat16()

    def check(failures):
        for _, reason in failures:
            raise DataError(reason)

    layers = FrozenLayers(compute, torch.device("cpu"), (3,), torch.bfloat16, {"what": "mean"})
    return FrozenRows(layers, views, cache, limit=10**9, check=check, reporter=reporter)


def table(rows, view, order=(3, 0, 4, 1, 2)):
    return torch.cat([values for _, values in rows.numbered(view, np.array(order))])


@pytest.mark.parametrize("view", [PLAIN, 2])
def test_frozen_rows__are_the_same_from_every_cache(tmp_path, view):
    off, memory, disk = (
        table(frozen_rows(tmp_path, cache), view) for cache in (Cache.OFF, Cache.MEMORY, Cache.DISK)
    )

    assert off.dtype is torch.bfloat16
    assert torch.equal(memory, off)
    assert torch.equal(disk, off)


def test_frozen_rows__are_computed_once_for_this_and_later_runs(tmp_path):
    seen = []
    rows = frozen_rows(tmp_path, Cache.DISK, seen=seen)
    table(rows, PLAIN, (0, 1, 2))
    table(rows, PLAIN)
    table(rows, PLAIN)
    assert sum(seen) == 5
    table(frozen_rows(tmp_path, Cache.DISK, seen=seen), PLAIN)
    assert sum(seen) == 5
    table(rows, 1)
    assert sum(seen) == 10


def test_frozen_rows__of_an_interrupted_run_serve_the_next(tmp_path):
    seen = []
    rows = frozen_rows(tmp_path, Cache.DISK, seen=seen)

    def interrupted(images, compute=rows.layers.compute):
        if sum(seen) >= 4:
            raise KeyboardInterrupt
        return compute(images)

    rows.layers = replace(rows.layers, compute=interrupted)
    with pytest.raises(KeyboardInterrupt):
        table(rows, PLAIN)
    assert sum(seen) == 4
    table(frozen_rows(tmp_path, Cache.DISK, seen=seen), PLAIN)
    assert sum(seen) == 5


def test_frozen_rows__are_written_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("transferkit.frozen_layers._WRITE_BYTES", 1)
    table(frozen_rows(tmp_path, Cache.DISK), PLAIN)
    (folder,) = cache_folder().iterdir()

    assert len(list(folder.glob("*.rows.npy"))) == 3  # batches of two, two and one


def test_frozen_rows__belong_to_an_image_and_not_to_its_place(tmp_path):
    before = table(frozen_rows(tmp_path, Cache.DISK), 1, (4,))
    for i in range(4):
        (tmp_path / f"{i}.png").unlink()
    seen = []
    (tmp_path / "4.png").rename(tmp_path / "0.png")
    for i in range(1, 5):
        save_image(tmp_path / f"{i}.png", (0, 0, 0), seed=i)
    names = [NAMES[4], *(f"{i:064x}" for i in range(90, 94))]

    after = table(frozen_rows(tmp_path, Cache.DISK, names=names, seen=seen), 1, (0,))

    assert torch.equal(before, after)
    assert not seen


def test_frozen_rows__stay_in_memory_if_the_disk_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path / "file"))
    notices = Notices()
    rows = frozen_rows(tmp_path, Cache.DISK, reporter=notices)

    assert torch.equal(table(rows, PLAIN), table(frozen_rows(tmp_path, Cache.OFF), PLAIN))
    assert "cached in memory instead" in notices.all[0]


def test_frozen_rows__name_an_image_that_can_no_longer_be_read(tmp_path):
    rows = frozen_rows(tmp_path, Cache.MEMORY)
    (tmp_path / "3.png").write_bytes(b"gone")

    with pytest.raises(DataError, match="not an image"):
        table(rows, PLAIN)
