"""Transforms: equal to timm's for evaluation, and seeded augmentation for training."""

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from transferkit.data.augment import Augment
from transferkit.data.preprocessing import Preprocessing, Resize
from transferkit.data.transforms import eval_transform, normalize, train_transform

SMALL = Preprocessing(input_size=(3, 32, 32))


def smooth(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def test_train_transform__prepares_large_images_smaller_and_leaves_small_ones():
    transform = train_transform(SMALL, Augment.LIGHT)

    assert transform.prepare(smooth(400, 300)).shape == (48, 64, 3)
    assert transform.prepare(smooth(45, 40)).shape == (40, 45, 3)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("resize", list(Resize))
@pytest.mark.parametrize("size", [(60, 40), (40, 60), (20, 20), (300, 11)])
def test_eval_transform__equals_timms(resize, size):
    record = SMALL.changed(image_size=None, resize=resize)
    image = noise(*size)

    ours = eval_transform(record)(image, None)
    theirs = create_transform(**record.to_config(), is_training=False, use_prefetcher=True)(image)

    assert ours.shape == (3, 32, 32)
    # The filters of torch and pillow round differently.
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


def test_train_transform__without_augmentation_is_that_of_evaluation():
    image = noise(50, 40)
    random = np.random.default_rng(0)

    expected = eval_transform(SMALL)(image, random)

    assert np.array_equal(train_transform(SMALL, Augment.NONE)(image, random), expected)


def test_normalize__subtracts_mean_and_divides_by_std():
    record = Preprocessing(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    pixels = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)

    assert normalize(pixels, record).flatten().tolist() == [1.0, 1.0, 0.0]


def test_eval_transform__pads_where_the_crop_is_more_than_the_image():
    record = Preprocessing(input_size=(3, 48, 48), crop_pct=1.15)
    transform = eval_transform(record)
    image = Image.fromarray(np.full((60, 80, 3), 200, dtype=np.uint8))

    pixels = transform(image, np.random.default_rng(0))

    assert pixels.shape == (3, 48, 48)
    assert pixels[0, 0, 0] == 0
    assert pixels[0, 24, 24] == 200


@pytest.mark.parametrize("size", [(60, 80), (80, 60), (31, 90)])
def test_train_transform__pads_to_the_shape_of_the_network(size):
    record = Preprocessing(input_size=(3, 48, 96), crop_mode="border")
    transform = train_transform(record, Augment.LIGHT)
    image = Image.fromarray(np.full((*size, 3), 200, dtype=np.uint8))

    height, width, _ = transform.prepare(image).shape

    assert abs(height * 2 - width) <= 2
