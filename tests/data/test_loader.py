"""Batches: in order with any number of threads, and with a list of unreadable files."""

import numpy as np
import pytest
from image_files import save_image

from transferkit.data import images
from transferkit.data.augment import Augment
from transferkit.data.loader import iterate_batches
from transferkit.data.pixels import PixelStore
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.transforms import eval_transform, train_transform

SMALL = Preprocessing(input_size=(3, 32, 32))


@pytest.fixture
def files(tmp_path):
    for i in range(11):
        save_image(tmp_path / f"{i:02}.png", (10 * i, 0, 0), seed=i)
    (tmp_path / "04.png").write_bytes(b"broken")
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_iterate_batches__keeps_the_order_and_lists_broken_files(files, workers, batch_size):
    transform = eval_transform(SMALL)

    batches = list(iterate_batches(files, transform, batch_size=batch_size, workers=workers))

    assert [row for batch in batches for row in batch.rows] == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert [f for batch in batches for f in batch.failures] == [
        (4, "not an image in a known format")
    ]
    assert sum(len(batch.pixels) for batch in batches) == 10
    assert len(batches) == -(-11 // batch_size)


def test_iterate_batches__gives_the_same_views_with_any_number_of_workers(files):
    def views(workers, seed):
        batches = iterate_batches(
            files,
            train_transform(SMALL, Augment.STRONG),
            batch_size=4,
            workers=workers,
            order=[7, 2, 9, 0],
            seeds=lambda row: (*seed, row),
        )
        return np.concatenate([batch.pixels for batch in batches])

    assert np.array_equal(views(1, (3, 1)), views(4, (3, 1)))
    assert not np.array_equal(views(1, (3, 1)), views(1, (3, 2)))


@pytest.mark.parametrize("in_file", [False, True])
def test_iterate_batches__reads_a_file_once_and_varies_it_each_time(tmp_path, monkeypatch, in_file):
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for i, file in enumerate(files):
        save_image(file, (50 * i, 0, 99), seed=i, size=(60, 80))
    transform, read = train_transform(SMALL, Augment.LIGHT), []
    store = PixelStore(10**6, tmp_path if in_file else None)
    content = images.read_bytes
    monkeypatch.setattr(images, "read_bytes", lambda path: read.append(path) or content(path))

    def epoch(number, store):
        batches = iterate_batches(
            files, transform, batch_size=3, workers=2, seeds=lambda row: (number, row), store=store
        )
        return np.concatenate([batch.pixels for batch in batches])

    kept = [epoch(number, store) for number in (1, 2)]
    assert sorted(read) == files
    assert not np.array_equal(*kept)
    assert all(np.array_equal(kept[i], epoch(i + 1, None)) for i in (0, 1))


def test_iterate_batches__collates_in_the_memory_that_it_is_given(files):
    given = []

    def allocate(shape):
        given.append(np.zeros(shape, dtype=np.uint8))
        return given[-1]

    batches = list(
        iterate_batches(
            files[:4], eval_transform(SMALL), batch_size=3, workers=1, allocate=allocate
        )
    )

    assert [memory.shape for memory in given] == [(3, 32, 32, 3), (1, 32, 32, 3)]
    assert all(b.pixels is memory for b, memory in zip(batches, given, strict=True))
    assert given[0].any()
