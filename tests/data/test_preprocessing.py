"""The record of preprocessing, the transforms built from it, and the loader."""

import numpy as np
import pytest
import torch
from conftest import save_picture
from PIL import Image
from timm.data import create_transform

from transferkit.data.augment import Augment, random_crop_box
from transferkit.data.loader import iterate_batches
from transferkit.data.preprocessing import Preprocessing, Resize
from transferkit.data.transforms import eval_transform, normalize, train_transform

SMALL = Preprocessing(input_size=(3, 32, 32))


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_preprocessing__survives_json_lists_and_strange_keys():
    record = Preprocessing(input_size=(3, 96, 128), mean=(0.5, 0.5, 0.5), crop_mode="border")

    assert Preprocessing.from_config({**record.to_config(), "url": "x", "std": None}) == record


@pytest.mark.parametrize("resize", list(Resize))
@pytest.mark.parametrize("size", [(60, 40), (40, 60), (20, 20), (300, 11)])
def test_eval_transform__is_timms_own(resize, size):
    record = SMALL.changed(image_size=None, resize=resize)
    image = noise(*size)

    ours = eval_transform(record)(image, None)
    theirs = create_transform(**record.to_config(), is_training=False, use_prefetcher=True)(image)

    assert ours.shape == (3, 32, 32)
    # Torch's filters and pillow's differ by roundings.
    assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= (2 if resize == "crop" else 0)


@pytest.mark.parametrize("augment", [Augment.LIGHT, Augment.STRONG])
@pytest.mark.parametrize("size", [(60, 40), (1, 1), (500, 3)])
def test_train_transform__depends_on_its_generator_alone(augment, size):
    transform = train_transform(SMALL, augment)
    image = noise(*size)

    views = [transform(image, np.random.default_rng(seed)) for seed in (0, 0, *range(1, 40))]

    assert {view.shape for view in views} == {(3, 32, 32)}
    assert {view.dtype for view in views} == {np.dtype(np.uint8)}
    assert np.array_equal(views[0], views[1])
    assert any(not np.array_equal(views[0], view) for view in views[2:])


def test_train_transform__without_augmentation_is_the_fixed_one():
    image = noise(50, 40)
    random = np.random.default_rng(0)

    expected = eval_transform(SMALL)(image, random)

    assert np.array_equal(train_transform(SMALL, Augment.NONE)(image, random), expected)


def test_random_crop_box__stays_inside_and_keeps_area_and_aspect():
    random = np.random.default_rng(0)
    for _ in range(300):
        left, top, right, bottom = random_crop_box(90, 60, random)
        width, height = right - left, bottom - top
        assert 0 <= left < right <= 90
        assert 0 <= top < bottom <= 60
        assert width * height >= 0.33 * 90 * 60
        assert 0.72 < width / height < 1.39


def test_random_crop_box__takes_the_middle_of_a_picture_too_narrow():
    assert random_crop_box(1000, 30, np.random.default_rng(0)) == (480, 0, 520, 30)


def test_normalize__subtracts_mean_and_divides_by_std():
    record = Preprocessing(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    pixels = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)

    assert normalize(pixels, record).flatten().tolist() == [1.0, 1.0, 0.0]


@pytest.fixture
def files(tmp_path):
    for i in range(11):
        save_picture(tmp_path / f"{i:02}.png", (10 * i, 0, 0), seed=i)
    (tmp_path / "04.png").write_bytes(b"broken")
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_iterate_batches__keeps_the_order_and_tells_what_is_broken(files, workers, batch_size):
    transform = eval_transform(SMALL)

    batches = list(iterate_batches(files, transform, batch_size=batch_size, workers=workers))

    assert [row for batch in batches for row in batch.rows] == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert [f for batch in batches for f in batch.failures] == [
        (4, "not an image in a known format")
    ]
    assert sum(len(batch.pixels) for batch in batches) == 10
    assert len(batches) == -(-11 // batch_size)


def test_iterate_batches__gives_the_same_views_whatever_the_workers(files):
    def views(workers, seed):
        batches = iterate_batches(
            files,
            train_transform(SMALL, Augment.STRONG),
            batch_size=4,
            workers=workers,
            order=[7, 2, 9, 0],
            seeds=lambda row: (*seed, row),
        )
        return torch.cat([batch.pixels for batch in batches])

    assert torch.equal(views(1, (3, 1)), views(4, (3, 1)))
    assert not torch.equal(views(1, (3, 1)), views(1, (3, 2)))
